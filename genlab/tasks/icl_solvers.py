"""How far solvers of in-context modular arithmetic come at each shot: z = a x + b y mod p, pairs drawn from a set.

Each gives the probability of a right answer to the query after `shots` triples whose pairs, like the query's, are
drawn evenly from `pairs`, int[pair, 2]. Where a solver does not know, it guesses one of the p numbers.
"""

from __future__ import annotations

import numpy as np

from genlab.tasks.base import Bools, Floats, Ints

__all__ = ["copying", "looking_up", "ratio_matching", "regression", "simplest_solver"]


def copying(pairs: Ints, p: int, shots: int) -> float:
    """Knows the answer where the query itself is among the shots.

    >>> copying(np.array([[1, 0], [0, 1]]), p=5, shots=1)                 # 1/2 + 1/2 * 1/5
    0.6
    """
    return _guessing(1 - (1 - 1 / len(pairs)) ** shots, p)


def ratio_matching(pairs: Ints, p: int, shots: int) -> float:
    """Knows the answer where the query is a multiple of one of the shots.

    >>> ratio_matching(np.array([[1, 0], [2, 0], [0, 1]]), p=5, shots=1)  # 2/3 * 2/3 + 1/3 * 1/3, or a guess
    0.6444444444444444
    """
    lines, zero = _lines(pairs, p)
    on_line = lines / len(pairs)
    # The zero vector is 0 times any pair, and its answer is 0 in any task.
    return _guessing(zero / len(pairs) + float(np.sum(on_line * (1 - (1 - on_line) ** shots))), p)


def regression(pairs: Ints, p: int, shots: int) -> float:
    """Knows the answer where it follows from the shots: two of them span the plane, or the query is on their line.

    >>> regression(np.array([[1, 0], [0, 1]]), p=5, shots=1) == copying(np.array([[1, 0], [0, 1]]), p=5, shots=1)
    True
    """
    lines, zero = _lines(pairs, p)
    on_line, at_zero = lines / len(pairs), zero / len(pairs)
    # All shots are on one line (or are zero) and the query is not; or all shots are zero and the query is not.
    stuck_on_line = ((on_line + at_zero) ** shots - at_zero**shots) * (1 - on_line - at_zero)
    unknown = float(np.sum(stuck_on_line)) + at_zero**shots * (1 - at_zero)
    return _guessing(1 - unknown, p)


def _guessing(known: float, p: int) -> float:
    return known + (1 - known) / p


def _lines(pairs: Ints, p: int) -> tuple[Ints, int]:
    """How many pairs are on each line through zero, without zero itself, int[line], and how many are zero."""
    x, y = pairs[:, 0], pairs[:, 1]
    inverse = np.array([pow(d, p - 2, p) for d in range(p)])
    slope = np.where(x > 0, y * inverse[x] % p, p)
    nonzero = (x > 0) | (y > 0)
    return np.bincount(slope[nonzero], minlength=p + 1), int(np.sum(~nonzero))


def looking_up(vectors: Ints, pairs: Ints, p: int, most_shots: int) -> Floats:
    """Knows the tasks int[task, 2] that may occur, each as likely: float[shots], by simulation from a fixed seed.

    Of the tasks that fit the shots it answers what most of them give. The standard error is 0.01 or less where the
    number of contexts, which shrinks with that of tasks, is 1,000 and above.
    """
    rng = np.random.default_rng(0)
    n = max(100, min(4000, 1_000_000 // len(vectors)))
    true = rng.integers(0, len(vectors), n)
    fits = np.ones((n, len(vectors)), bool)
    scores: list[float] = []
    for _ in range(most_shots + 1):
        # The next pair is the query after the shots so far, and then the next shot: a fair draw for both.
        x, y = pairs[rng.integers(0, len(pairs), n)].T
        z = (np.outer(x, vectors[:, 0]) + np.outer(y, vectors[:, 1])) % p
        votes = np.bincount((np.arange(n)[:, None] * p + z)[fits], minlength=n * p).reshape(n, p)
        scores.append(float(np.mean(votes.max(axis=1) / votes.sum(axis=1))))
        fits &= z == z[np.arange(n), true][:, None]
        if fits.sum() == n:  # every context has told its task
            break
    return np.append(scores, np.ones(most_shots + 1 - len(scores)))


def simplest_solver(shots: Ints, shown: Bools, query: Ints, p: int) -> Ints:
    """The simplest solver that knows each answer: 1 copying, 2 ratio matching, 3 regression, 0 none: int[n].

    Args:
        shots: pairs int[n, shot, 2], of which `shown`, bool[n, shot], are there.
        query: int[n, 2].
    """
    x, y = shots[..., 0], shots[..., 1]
    nonzero = shown & ((x > 0) | (y > 0))
    copied = (shown & (shots == query[:, None]).all(axis=2)).any(axis=1)
    on_line = (x * query[:, 1:] - y * query[:, :1]) % p == 0
    multiple = (nonzero & on_line).any(axis=1) | ~query.any(axis=1)
    # Two shots span the plane if some shot is not on the line of the first that is not zero.
    first = np.take_along_axis(shots, np.argmax(nonzero, axis=1)[:, None, None], axis=1)
    spans = (shown & ((x * first[..., 1] - y * first[..., 0]) % p != 0)).any(axis=1)
    return np.select([copied, multiple, spans], [1, 2, 3], 0)
