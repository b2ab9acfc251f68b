"""Ensembles of runs: the answer that most of them give, from the answers that the store keeps.

Members vote with whole answers (plurality), all alike; ties are broken at random, in expectation. What
a vote can gain is bounded by how differently members are wrong (Krogh and Vedelsby 1995; for shifted data, whether
members follow different rules: Lee et al. 2022, Diversify and Disambiguate, arXiv 2202.03418).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
"""Hash of the answer of each run to each example, [run, example]."""
Bools = NDArray[np.bool_]
MOST = 256
"""Sets of members that are averaged over."""


def plurality(answers: Hashes, right: Bools) -> NDArray[np.float64]:
    """The probability that the most frequent answer is right, float64[example]; ties are broken uniformly.

    Args:
        answers: hash of each member's answer, [member, example]; right: whether it is right.

    >>> answers = np.array([[7, 7, 7], [7, 8, 8], [9, 9, 8]], np.uint64)
    >>> plurality(answers, answers == 7).round(3).tolist()
    [1.0, 0.333, 0.0]
    """
    votes = (answers[:, None] == answers[None]).sum(1)  # of each member's answer, [member, example]
    leading = votes == votes.max(0)
    # An answer with v votes is listed v times among the leading ones, and so is every other: a mean over members is
    # one over answers.
    return (leading & right).sum(0) / leading.sum(0)


@dataclass(frozen=True)
class Votes:
    """Sets of members of one size on one evaluation set, means over sets.

    Attributes:
        vote: fraction of examples that the vote gets right.
        single: that of a member.
        best: that of the member which is best inside (of several, their mean).
        oracle: fraction of examples that at least one member gets right.
        disagreement: fraction of examples on which two members differ, mean over pairs; of one member, NaN.
        same_error: of two members that are both wrong, how often with the same answer; NaN if there is no such pair.
    """

    vote: float
    single: float
    best: float
    oracle: float
    disagreement: float
    same_error: float


def member_sets(runs: int, size: int, seed: int = 0) -> NDArray[np.int64]:
    """Sets of `size` of the runs, int64[set, size]: all of them, or 256 drawn at random if there are more.

    >>> member_sets(3, 2).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    if comb(runs, size) <= MOST:
        return np.array(list(combinations(range(runs), size)), dtype=np.int64)
    rng = np.random.default_rng([16, seed])
    return np.stack([np.sort(rng.choice(runs, size, replace=False)) for _ in range(MOST)])


@dataclass(frozen=True)
class Pairs:
    """Of every pair of runs, [run, run].

    Attributes:
        differ: fraction of different answers.
        both_wrong: examples that both get wrong; alike: of these, those with the same answer.
    """

    differ: NDArray[np.float64]
    both_wrong: NDArray[np.int64]
    alike: NDArray[np.int64]

    def among(self, runs: Bools) -> Pairs:
        """The same of some of the runs, bool[run]."""
        at = np.ix_(runs, runs)
        return Pairs(self.differ[at], self.both_wrong[at], self.alike[at])


def votes(
    answers: Hashes, right: Bools, inside: NDArray[np.float64], sets: NDArray[np.int64], compared: Pairs
) -> Votes:
    """Measure sets of members on one evaluation set.

    Args:
        answers: hash of each run's answer, [run, example]; right: whether it is right.
        inside: accuracy inside of each run, by which the best member is chosen.
        sets: int64[set, size].
        compared: `pairs` of the answers.
    """
    accuracy = right.mean(1)
    rows: list[list[float]] = []
    for members in sets:
        leading = members[inside[members] == inside[members].max()]
        two = np.array(list(combinations(members.tolist(), 2)), dtype=int).reshape(-1, 2).T
        wrong = compared.both_wrong[two[0], two[1]].sum()
        rows.append(
            [
                float(plurality(answers[members], right[members]).mean()),
                float(accuracy[members].mean()),
                float(accuracy[leading].mean()),
                float(right[members].any(0).mean()),
                float(compared.differ[two[0], two[1]].mean()) if two.size else np.nan,
                float(compared.alike[two[0], two[1]].sum() / wrong) if wrong else np.nan,
            ]
        )
    table = np.array(rows)
    known = [column[~np.isnan(column)] for column in table.T]
    return Votes(*(float(column.mean()) if len(column) else float("nan") for column in known))


def pairs(answers: Hashes, right: Bools) -> Pairs:
    """Compare the answers of every two runs."""
    differ = np.stack([(answers != own).mean(1) for own in answers])
    wrong = np.stack([(~right & ~own).sum(1) for own in right])
    alike = np.stack([(~right & ~own & (answers == said)).sum(1) for own, said in zip(right, answers, strict=True)])
    return Pairs(differ, wrong, alike)


def jackknife(values: NDArray[np.float64], whole: float) -> tuple[float, float] | None:
    """95 % t interval of a statistic by the values that it takes without one of the runs each; None below 5 runs.

    Args:
        values: float64[run], the statistic without that run; whole: with all.

    >>> low, high = jackknife(np.array([1.0, 1.1, 0.9, 1.0, 1.0]), 1.0)
    >>> round(low, 2), round(high, 2)
    (0.65, 1.35)
    """
    from scipy.stats import t

    n = len(values)
    if n < 5:
        return None
    error = float(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()))
    half = float(t.ppf(0.975, n - 1)) * error
    return whole - half, whole + half
