"""Intervals and tests: runs as the unit inside settings, settings as the unit across them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

__all__ = [
    "FEWEST",
    "Interval",
    "bootstrap_interval",
    "multiplicities",
    "setting_interval",
    "sign_flip",
    "twin_variance",
    "words",
]

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
