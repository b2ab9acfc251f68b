"""Scores of forecasts, within settings and never pooled over them.

Ranking is scored by comparing runs of one setting and one fold. A pair of runs is comparable if it is known that the
outcome of the first is larger. For yes/no outcomes the fraction of pairs in the right order is the AUROC (Mann and
Whitney 1947); for a furthest length that may be censored it is Harrell's concordance (Harrell et al. 1982). Numbers
are scored by Spearman's correlation. Pooling over settings is biased: an uninformative forecast can score .18,
because each fold's own outcomes are missing from the data its forecast was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from genlab.forecast.targets import Kind


@dataclass(frozen=True)
class Block:
    """Test runs that may be compared: those of one setting in one fold.

    Attributes:
        setting: the setting.
        rows: int[n], indices of the test rows.
        value: float[n], the outcome.
        better: bool[n, n], `better[i, j]` if the outcome of i is known to be above that of j; None for numbers.
    """

    setting: str
    rows: np.ndarray
    value: np.ndarray
    better: np.ndarray | None


def known_order(value: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """bool[n, n]: whether the outcome of i is known to be above that of j, which it never is if j is censored.

    >>> known_order(np.array([50.0, 20.0, 20.0]), np.array([True, False, True])).astype(int).tolist()
    [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    return (value[:, None] > value[None, :]) & ~censored[None, :]


def blocks_of(
    kind: Kind, value: np.ndarray, censored: np.ndarray, setting: np.ndarray, fold: np.ndarray
) -> list[Block]:
    """Return the blocks of test rows.

    Blocks without a comparable pair, or with fewer than 3 distinct numbers, are left out.
    """
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
    """Return AUROC, concordance or Spearman's correlation of a block, and its weight: pairs (or runs).

    Args:
        block: the runs to compare.
        score: float[test], the ranking score of the forecast.
        weights: float[draw, test], multiplicity of each row in each bootstrap draw; default one each.

    Returns:
        float[draw] each; a draw without a comparable pair has weight 0 and value 0.

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
    """Return the first-order contribution of each run of a block to the error of its score, float[n].

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


def mean_scores(kind: Kind, forecast: np.ndarray, value: np.ndarray, censored: np.ndarray) -> dict[str, float]:
    """Return errors of forecasts over all test runs: Brier and log score, or R^2 and mean absolute error.

    R^2 is relative to the mean of the test outcomes, and can be negative. A censored furthest length counts as an
    error only if the forecast is below it.
    """
    if kind == "yes/no":
        log = -np.mean(np.where(value == 1, np.log(forecast), np.log1p(-forecast)))
        return {"brier": float(np.mean((forecast - value) ** 2)), "log": float(log)}
    error = np.where(censored, np.maximum(value - forecast, 0), np.abs(forecast - value))
    spread = float(np.sum((value - value.mean()) ** 2))
    squares = float(np.sum(error**2))
    return {"r2": 1 - squares / spread if spread > 0 else float("nan"), "mae": float(error.mean())}


# -- Intervals and tests

FEWEST = 6
"""Minimum number of settings for an interval over settings: with 5, the smallest two-sided sign-flip p is 1/16."""
_EXACT = 20
"""With fewer settings, all sign flips are enumerated."""
_FLIPS = 20_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, or without one if there are too few settings.

    Attributes:
        value: the estimate.
        low, high: ends of the interval, or None.
        how: method of the interval, or why there is none.
    """

    value: float
    low: float | None
    high: float | None
    how: str


def setting_interval(values: np.ndarray, twins: float = 0.0, groups: int | None = None) -> Interval:
    """Return the mean over settings with Student's t interval on K - 1 degrees of freedom; none under 6 settings.

    Settings are equally weighted, whatever their number of pairs: the t interval keeps its level with unequal
    variances (Ibragimov and Mueller 2010).

    Args:
        values: float[setting].
        twins: variance shared between settings because their runs share seeds (`twin_variance`).
        groups: number of groups of runs that share seeds; if smaller than the number of settings, it determines the
            degrees of freedom.
    """
    count = len(values)
    mean = float(np.mean(values)) if count else float("nan")
    free = min(count, groups if groups is not None and twins > 0 else count) - 1
    if count < FEWEST or free < 1:
        return Interval(mean, None, None, f"no interval: {count} settings, {FEWEST} are needed")
    error = np.sqrt(np.var(values, ddof=1) / count + twins)
    half = float(student.ppf(0.975, free) * error)
    return Interval(mean, mean - half, mean + half, f"t over {count} settings, {free} degrees of freedom")


def twin_variance(influence: np.ndarray, group: np.ndarray) -> float:
    """Return the additional variance of a mean over settings due to seeds that runs of several settings share.

    Settings are then dependent: a seed that does well by chance does so in all of them. This is the two-way clustered
    variance (Cameron, Gelbach and Miller 2011) minus the part that a t interval over settings already includes.

    Args:
        influence: float[run], contribution of each run to the error of the mean over settings.
        group: int[run], the seeds of each run.

    >>> twin_variance(np.array([0.1, -0.2, 0.3]), np.array([0, 1, 2]))
    0.0
    """
    codes = np.unique(group, return_inverse=True)[1].reshape(-1)
    sums = np.bincount(codes, weights=influence)
    return max(0.0, float(np.sum(sums**2) - np.sum(influence**2)))


def sign_flip(values: np.ndarray, rng: np.random.Generator) -> float:
    """Return the two-sided p-value of a zero mean over settings, by sign flips (20,000 random ones from 20 settings).

    >>> sign_flip(np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.1]), np.random.default_rng(0))
    0.03125
    """
    count = len(values)
    if count < _EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float(np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-12))
    signs = rng.choice([-1.0, 1.0], size=(_FLIPS, count))
    return float((1 + np.sum(np.abs(signs @ values) >= abs(values.sum()) - 1e-12)) / (1 + _FLIPS))


def bootstrap_interval(value: float, draws: np.ndarray, groups: int) -> Interval:
    """Return a percentile bootstrap interval over runs, widened to 95 % in small samples (Hesterberg 2015).

    Args:
        value: the estimate.
        draws: the statistic in each draw; NaN if undefined.
        groups: effective number of runs.
    """
    kept = draws[~np.isnan(draws)]
    if len(kept) < 100 or groups < 2:
        return Interval(value, None, None, "no interval: too few runs of both outcomes")
    tail = float(norm.cdf(-np.sqrt(groups / (groups - 1)) * student.ppf(0.975, groups - 1)))
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(value, float(low), float(high), f"bootstrap over runs, {len(kept)} draws")


def multiplicities(group: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """float[draw, run]: multiplicity of each run in each bootstrap draw; twins are drawn together."""
    codes = np.unique(group, return_inverse=True)[1].reshape(-1)
    count = int(codes.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return drawn[:, codes].astype(float)


def words(interval: Interval, digits: int = 3) -> str:
    """Format as `+0.120 (+0.020 to +0.220)`, or the value alone; `-` if there is none.

    >>> words(Interval(0.12, 0.02, 0.22, "")), words(Interval(0.12, None, None, ""))
    ('+0.120 (+0.020 to +0.220)', '+0.120')
    >>> words(Interval(np.nan, None, None, ""))
    '-'
    """
    if np.isnan(interval.value):
        return "-"
    numbers: Sequence[float | None] = (interval.value, interval.low, interval.high)
    shown = [f"{n:+.{digits}f}" for n in numbers if n is not None]
    return shown[0] if len(shown) < 3 else f"{shown[0]} ({shown[1]} to {shown[2]})"
