"""How good forecasts are: within settings, never pooled over them.

Ranking is scored by comparing runs of one setting and one fold. A pair of runs is one whose order is known: the
outcome of the first is larger. For yes/no outcomes the share of pairs in the right order is the AUROC (Mann and
Whitney 1947); for a furthest length that may be censored it is Harrell's concordance (Harrell et al. 1982). Numbers
are scored by Spearman's correlation. Pooled over settings, an uninformative forecast can score .18: each fold's own
outcomes are missing from what its forecast was made from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from genlab.forecast.targets import Kind

__all__ = ["Block", "blocks_of", "influence", "known_order", "mean_scores", "ranking"]


@dataclass(frozen=True)
class Block:
    """Test runs that may be compared: those of one setting in one fold.

    Attributes:
        setting: which setting.
        rows: int[n], their places among the test rows.
        value: float[n], the outcome.
        better: bool[n, n], `better[i, j]` where the outcome of i is known to be above that of j; None for numbers.
    """

    setting: str
    rows: np.ndarray
    value: np.ndarray
    better: np.ndarray | None


def known_order(value: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """bool[n, n]: is the outcome of i known to be above that of j? No where j's is only known to be at least so much.

    >>> known_order(np.array([50.0, 20.0, 20.0]), np.array([True, False, True])).astype(int).tolist()
    [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    return (value[:, None] > value[None, :]) & ~censored[None, :]


def blocks_of(
    kind: Kind, value: np.ndarray, censored: np.ndarray, setting: np.ndarray, fold: np.ndarray
) -> list[Block]:
    """The blocks of test rows; those without a pair of known order (or fewer than 3 numbers that differ) left out."""
    found: list[Block] = []
    keys = np.array([f"{s}\0{f}" for s, f in zip(setting, fold, strict=True)], dtype=object)
    for key in dict.fromkeys(keys.tolist()):
        rows = np.flatnonzero(keys == key)
        own = value[rows]
        better = None if kind == "number" else known_order(own, censored[rows])
        if better.any() if better is not None else len(np.unique(own)) > 2:
            found.append(Block(str(setting[rows[0]]), rows, own, better))
    return found


def ranking(block: Block, score: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """AUROC, concordance or Spearman's correlation of a block, and its weight: pairs (or runs).

    Args:
        score: float[test], what the forecast ranks by.
        weights: float[draw, test], how often a bootstrap drew each row; default once each.

    Returns:
        float[draw] each; a draw in which no pair is left has weight 0 and value 0.

    >>> yes = np.array([1.0, 0.0, 1.0, 0.0])
    >>> block = blocks_of("yes/no", yes, np.zeros(4, bool), np.array(["a"] * 4), np.zeros(4))[0]
    >>> value, pairs = ranking(block, np.array([0.9, 0.8, 0.7, 0.1]))
    >>> float(value[0]), float(pairs[0])
    (0.75, 4.0)
    """
    own = score[block.rows]
    w = np.ones((1, len(own))) if weights is None else weights[:, block.rows]
    if block.better is None:
        return _spearman(own, block.value, w)
    right = block.better * _order(own)
    weight = ((w @ block.better) * w).sum(axis=1)
    return np.divide(((w @ right) * w).sum(axis=1), weight, out=np.zeros(len(w)), where=weight > 0), weight


def influence(block: Block, score: np.ndarray) -> np.ndarray:
    """float[n]: what each run of a block adds to the error of its score, to first order.

    The sum of squares estimates the variance of the score (for the AUROC: DeLong et al. 1988).
    """
    own = score[block.rows]
    value = float(ranking(block, score)[0][0])
    if block.better is None:
        u, v = _standard(rankdata(own)), _standard(rankdata(block.value))
        return (u * v - value * (u**2 + v**2) / 2) / len(own)
    off = block.better * (_order(own) - value)
    return (off.sum(axis=1) + off.sum(axis=0)) / block.better.sum()


def _order(score: np.ndarray) -> np.ndarray:
    """1 where the score of i is above that of j, 1/2 where they are equal."""
    return (score[:, None] > score[None, :]) + 0.5 * (score[:, None] == score[None, :])


def _spearman(score: np.ndarray, value: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = w.sum(axis=1)
    u, v = rankdata(score), rankdata(value)
    w = np.divide(w, n[:, None], out=np.zeros_like(w), where=n[:, None] > 0)
    mean_u, mean_v = w @ u, w @ v
    spread = (w @ u**2 - mean_u**2) * (w @ v**2 - mean_v**2)
    both = w @ (u * v) - mean_u * mean_v
    return np.divide(both, np.sqrt(np.maximum(spread, 0)), out=np.zeros(len(w)), where=spread > 1e-12), n


def _standard(x: np.ndarray) -> np.ndarray:
    spread = x.std()
    return (x - x.mean()) / spread if spread > 0 else np.zeros(len(x))


def mean_scores(kind: Kind, said: np.ndarray, value: np.ndarray, censored: np.ndarray) -> dict[str, float]:
    """How far forecasts are from outcomes, over all test runs: Brier and log score, or R^2 and mean absolute error.

    R^2 is against the mean of the test outcomes, and can be below 0. A furthest length that is censored counts as
    wrong only where the forecast is below it.
    """
    if kind == "yes/no":
        log = -np.mean(np.where(value == 1, np.log(said), np.log1p(-said)))
        return {"brier": float(np.mean((said - value) ** 2)), "log": float(log)}
    error = np.where(censored, np.maximum(value - said, 0), np.abs(said - value))
    spread = float(np.sum((value - value.mean()) ** 2))
    squares = float(np.sum(error**2))
    return {"r2": 1 - squares / spread if spread > 0 else float("nan"), "mae": float(error.mean())}
