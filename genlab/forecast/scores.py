"""How good forecasts are: within settings, never pooled over them.

Ranking is scored by comparing runs of one setting and one fold. A pair of runs is one whose order is known: the
outcome of the first is larger. For yes/no outcomes the share of pairs in the right order is the AUROC (Mann and
Whitney 1947); for a furthest length that may be censored it is Harrell's concordance (Harrell et al. 1982). Numbers
are scored by Spearman's correlation. Pooled over settings, an uninformative forecast can score .18: each fold's own
outcomes are missing from what its forecast was made from.
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


# -- Intervals and tests: runs as the unit inside settings, settings as the unit across them

FEWEST = 6
"""Settings below which no interval over settings is given: the smallest two-sided p of 5 sign flips is 1/16."""
_EXACT = 20
"""Settings below which all sign flips are gone through."""
_FLIPS = 20_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, or without one where there are too few settings.

    Attributes:
        how: how the interval was made, or why there is none.
    """

    value: float
    low: float | None
    high: float | None
    how: str


def setting_interval(values: np.ndarray, twins: float = 0.0, groups: int | None = None) -> Interval:
    """Mean over settings, with Student's t on K - 1 degrees of freedom; none under 6 settings.

    Each setting counts once, however many pairs it has: with unequal variances this t interval holds its level
    (Ibragimov and Mueller 2010).

    Args:
        values: float[setting].
        twins: variance that settings share because their runs share seeds (`twin_variance`).
        groups: groups of runs that share seeds; with fewer of them than settings they set the degrees of freedom.
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
    """What the variance of a mean over settings gains because runs in several settings share seeds.

    Settings are then not independent: a seed that does well by chance does so in all of them. This is the two-way
    clustered variance (Cameron, Gelbach and Miller 2011) less the part that a t interval over settings holds already.

    Args:
        influence: float[run], what each run adds to the error of the mean over settings.
        group: int[run], the seeds of each run.

    >>> twin_variance(np.array([0.1, -0.2, 0.3]), np.array([0, 1, 2]))
    0.0
    """
    codes = np.unique(group, return_inverse=True)[1].reshape(-1)
    sums = np.bincount(codes, weights=influence)
    return max(0.0, float(np.sum(sums**2) - np.sum(influence**2)))


def sign_flip(values: np.ndarray, rng: np.random.Generator) -> float:
    """Two-sided p that a mean over settings is 0: its size among all sign flips (20,000 of them from 20 settings on).

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
    """The middle of a statistic over bootstrap draws of runs, widened to 95 % at small samples (Hesterberg 2015).

    Args:
        draws: the statistic in each draw; NaN where it does not exist.
        groups: how many units the statistic rests on.
    """
    kept = draws[~np.isnan(draws)]
    if len(kept) < 100 or groups < 2:
        return Interval(value, None, None, "no interval: too few runs of both outcomes")
    tail = float(norm.cdf(-np.sqrt(groups / (groups - 1)) * student.ppf(0.975, groups - 1)))
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(value, float(low), float(high), f"bootstrap over runs, {len(kept)} draws")


def multiplicities(group: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """float[draw, run]: how often each run is in a bootstrap draw; runs that share seeds are drawn together."""
    codes = np.unique(group, return_inverse=True)[1].reshape(-1)
    count = int(codes.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return drawn[:, codes].astype(float)


def words(interval: Interval, digits: int = 3) -> str:
    """`+0.120 (+0.020 to +0.220)`, or the value alone.

    >>> words(Interval(0.12, 0.02, 0.22, "")), words(Interval(0.12, None, None, ""))
    ('+0.120 (+0.020 to +0.220)', '+0.120')
    """
    numbers: Sequence[float | None] = (interval.value, interval.low, interval.high)
    shown = [f"{n:+.{digits}f}" for n in numbers if n is not None]
    return shown[0] if len(shown) < 3 else f"{shown[0]} ({shown[1]} to {shown[2]})"
