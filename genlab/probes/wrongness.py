"""How well a score says which answers are wrong: ranking, detection at a threshold, and answering less often. numpy.

In all of them a higher score means *more likely wrong*, and NaN means that the question has no answer: none of the
answers is wrong, or all are (`risk_coverage` has an answer there too), or a score is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEASURES", "aupr", "auroc", "autc", "fpr95", "risk_coverage"]

Scores = NDArray[np.floating]
Wrong = NDArray[np.bool_]


def auroc(score: Scores, wrong: Wrong) -> float:
    """The probability that a wrong answer scores higher than a right one; ties count half.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    if _open(score, wrong):
        return float("nan")
    from scipy.stats import rankdata

    bad, good = int(wrong.sum()), int((~wrong).sum())
    return float((rankdata(score)[wrong].sum() - bad * (bad + 1) / 2) / (bad * good))


def aupr(score: Scores, wrong: Wrong) -> float:
    """Average precision in finding the wrong answers, answers of one score taken together.

    >>> aupr(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, False, True]))
    0.8333333333333333
    """
    if _open(score, wrong):
        return float("nan")
    flagged, hits = _flagged(score, wrong)
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / flagged))


def fpr95(score: Scores, wrong: Wrong) -> float:
    """The fraction of right answers flagged at the strictest threshold that flags 95 % of the wrong ones.

    >>> fpr95(np.array([0.1, 0.2, 0.3, 0.9]), np.array([False, False, True, True]))
    0.0
    """
    if _open(score, wrong):
        return float("nan")
    flagged, hits = _flagged(score, wrong)
    first = int(np.argmax(hits >= 0.95 * hits[-1]))
    return float((flagged[first] - hits[first]) / (~wrong).sum())


def autc(score: Scores, wrong: Wrong) -> float:
    """Area under the threshold curve: mean of the two error rates over all thresholds of the score put into [0, 1].

    0 is perfect. Two scores of one AUROC differ here by how far apart they hold right and wrong (Humblot-Renaux et
    al. 2023, arXiv 2306.14658).

    >>> autc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([False, False, True, True]))
    0.0
    """
    low, high = float(score.min()), float(score.max())
    if _open(score, wrong) or low == high:
        return float("nan")
    scaled = (score - low) / (high - low)
    # Over a uniform threshold t a right answer of score s is flagged (t < s) s of the time, a wrong one missed 1 - s.
    return float((scaled[~wrong].mean() + (1 - scaled[wrong]).mean()) / 2)


def risk_coverage(score: Scores, wrong: Wrong) -> float:
    """Area under risk against coverage: the mean fraction of wrong answers among the k least suspect, over all k.

    Ties are taken at their expectation (Geifman and El-Yaniv 2017, arXiv 1705.08500).

    >>> round(risk_coverage(np.array([0.1, 0.2, 0.9]), np.array([False, False, True])), 4)
    0.1111
    """
    if np.isnan(score).any():
        return float("nan")
    _, group = np.unique(score, return_inverse=True)
    among = np.bincount(group, weights=wrong.astype(float)) / np.bincount(group)
    expected = among[group][np.argsort(group, kind="stable")]
    return float(np.mean(np.cumsum(expected) / np.arange(1, len(score) + 1)))


def _open(score: Scores, wrong: Wrong) -> bool:
    """Whether nothing can be told apart: answers of one kind alone, or a score that is no number."""
    return bool(wrong.all() or not wrong.any() or np.isnan(score).any())


def _flagged(score: Scores, wrong: Wrong) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """At each threshold, from strict to lenient: how many answers are flagged, and how many of them are wrong."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    return last + 1.0, np.cumsum(wrong[order])[last].astype(float)


MEASURES: Mapping[str, Callable[[Scores, Wrong], float]] = MappingProxyType(
    {"auroc": auroc, "aupr": aupr, "fpr95": fpr95, "autc": autc, "risk_coverage": risk_coverage}
)
"""Name -> measure."""
