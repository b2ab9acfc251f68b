"""One forecast against another on the same runs: the paired difference of their scores, with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from genlab.forecast.predictions import Predictions
from genlab.forecast.scores import (
    Block,
    Interval,
    bootstrap_interval,
    influence,
    known_order,
    multiplicities,
    ranking,
    setting_interval,
    sign_flip,
    twin_variance,
)
from genlab.forecast.targets import Kind

_DRAWS = 2000


@dataclass(frozen=True)
class Difference:
    """What one forecast gains over another in ranking runs within settings.

    Attributes:
        interval: over settings (each counts once) or over runs (pairs count once).
        weighted: the difference weighted by pairs.
        settings: setting -> its own difference.
        p: sign flips over settings, where no seeds are shared between them.
    """

    of: str
    over: str
    interval: Interval
    weighted: float
    settings: dict[str, float]
    p: float | None


def per_setting(blocks: list[Block], score: np.ndarray) -> dict[str, tuple[float, float]]:
    """Setting -> (AUROC, concordance or Spearman within it, its pairs or runs)."""
    sums: dict[str, list[float]] = {}
    for block in blocks:
        value, weight = ranking(block, score)
        total = sums.setdefault(block.setting, [0.0, 0.0])
        total[0] += float(value[0] * weight[0])
        total[1] += float(weight[0])
    return {setting: (total / weight, weight) for setting, (total, weight) in sums.items() if weight}


def overall(blocks: list[Block], score: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """float[draw]: the score within settings and folds, weighted by pairs (or runs); NaN where there is none."""
    draws = 1 if weights is None else len(weights)
    total, weight = np.zeros(draws), np.zeros(draws)
    for block in blocks:
        value, own = ranking(block, score, weights)
        total, weight = total + value * own, weight + own
    return np.divide(total, weight, out=np.full(draws, np.nan), where=weight > 0)


def difference(found: Predictions, of: str, over: str, across_settings: bool, rng: np.random.Generator) -> Difference:
    """What the predictor `of` gains over the predictor `over`.

    Args:
        across_settings: settings are the unit (they were held out); else runs are, with those that share seeds drawn
            together.
    """
    first, second = found.rank[of], found.rank[over]
    a, b = per_setting(found.blocks, first), per_setting(found.blocks, second)
    settings = {setting: a[setting][0] - b[setting][0] for setting in a}
    gaps = np.array(list(settings.values()))
    weighted = float((overall(found.blocks, first) - overall(found.blocks, second))[0])
    p = None
    if across_settings and len(a) > 1:
        shared = twin_variance(_influence(found, first, second), found.twins)
        interval = setting_interval(gaps, shared, len(np.unique(found.twins)))
        p = sign_flip(gaps, rng) if interval.low is not None and shared == 0 else None
    else:
        interval = over_runs(
            found, lambda drawn: overall(found.blocks, first, drawn) - overall(found.blocks, second, drawn), rng
        )
    return Difference(of, over, interval, weighted, settings, p)


def over_runs(
    found: Predictions, score: Callable[[np.ndarray | None], np.ndarray], rng: np.random.Generator
) -> Interval:
    """A score with its bootstrap interval over runs, those that share seeds drawn together.

    Args:
        score: float[draw] from how often each draw holds each run (None: each once).
    """
    drawn = multiplicities(found.twins, _DRAWS, rng)
    return bootstrap_interval(float(score(None)[0]), score(drawn), _units(found))


def _units(found: Predictions) -> int:
    """How many runs a bootstrap rests on: groups of shared seeds, and of yes/no outcomes twice the rarer one."""
    groups = len(np.unique(found.twins))
    if found.kind != "yes/no":
        return groups
    return min(groups, 2 * int(min(found.value.sum(), (1 - found.value).sum())))


def _influence(found: Predictions, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float[test]: what each test row adds to the error of the mean over settings of the difference."""
    weights = {setting: weight for setting, (_, weight) in per_setting(found.blocks, first).items()}
    added = np.zeros(len(found.row))
    for block in found.blocks:
        own = float(ranking(block, first)[1][0]) / weights[block.setting] / len(weights)
        added[block.rows] += own * (influence(block, first) - influence(block, second))
    return added


# -- Many signals tried: is the best of them better than the best of as many that say nothing?


@dataclass(frozen=True)
class Tried:
    """A signal that was tried.

    Attributes:
        p: two-sided, of this signal alone.
        p_all: the same, with the maximum over all signals tried taken in every permutation.
    """

    name: str
    z: float
    p: float
    p_all: float


def try_all(
    names: list[str],
    signals: np.ndarray,
    kind: Kind,
    value: np.ndarray,
    censored: np.ndarray,
    setting: np.ndarray,
    twins: np.ndarray,
    rng: np.random.Generator,
    draws: int = 2000,
) -> list[Tried]:
    """Permute outcomes within settings; the statistic is a rank sum within settings, as large as the AUROC is.

    A shuffle over all runs would call a signal that only tells the settings apart a good one. Runs that share seeds
    are moved together in all settings, so that what they share is kept; the maximum is Westfall and Young's (1993).

    Args:
        signals: float[run, signal]; a missing value ranks in the middle.
        value, censored, setting, twins: one a run.

    Returns:
        One a signal, in the order of `names`; a signal that is constant within every setting has z 0 and p 1.
    """
    gain, ranks = np.zeros(len(value)), np.zeros_like(signals)
    rows_of = [np.flatnonzero(setting == name) for name in dict.fromkeys(setting.tolist())]
    for rows in rows_of:
        gain[rows] = _gain(kind, value[rows], censored[rows])
        ranks[rows] = _middle_ranks(signals[rows])
    observed = gain @ ranks
    permuted = _permuted(gain, rows_of, twins, rng, draws) @ ranks
    spread = np.sqrt(np.mean(permuted**2, axis=0))
    told = spread > 1e-9
    z = np.abs(np.divide(observed, spread, out=np.zeros_like(observed), where=told))
    null = np.abs(np.divide(permuted, spread, out=np.zeros_like(permuted), where=told))
    best = null.max(axis=1)
    signs = np.sign(observed)
    return [
        Tried(name, float(z[i] * signs[i]), *((1 + int((n >= z[i]).sum())) / (1 + draws) for n in (null[:, i], best)))
        if told[i]
        else Tried(name, 0.0, 1.0, 1.0)
        for i, name in enumerate(names)
    ]


def _gain(kind: Kind, value: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """How many runs are known to be below each, less those above (Gehan 1965): sums to 0 within a setting."""
    if kind == "number":
        return rankdata(value) - (len(value) + 1) / 2
    better = known_order(value, censored)
    return (better.sum(axis=1) - better.sum(axis=0)) / max(len(value), 1)


def _middle_ranks(signals: np.ndarray) -> np.ndarray:
    """Ranks within a setting about 0, scaled to the runs there; what is missing is 0."""
    ranks = rankdata(signals, axis=0, nan_policy="omit")
    counts = (~np.isnan(signals)).sum(axis=0)
    return np.nan_to_num((ranks - (counts + 1) / 2) / max(len(signals), 1))


def _permuted(
    gain: np.ndarray, rows_of: list[np.ndarray], twins: np.ndarray, rng: np.random.Generator, draws: int
) -> np.ndarray:
    """float[draw, run]: outcomes permuted within settings, by one permutation of the seeds for all settings."""
    codes = np.unique(twins, return_inverse=True)[1].reshape(-1)
    count = int(codes.max()) + 1
    keys = rng.random((draws, count))
    found = np.empty((draws, len(gain)))
    for rows in rows_of:
        # The run whose seed comes r-th in the drawn order gets the outcome of the r-th run in the order of seeds.
        # Runs of one setting that share their seeds are told apart by noise of their own.
        own = keys[:, codes[rows]]
        if len(np.unique(codes[rows])) < len(rows):
            own = own + rng.random((draws, len(rows))) * 1e-9
        home = np.argsort(codes[rows], kind="stable")
        place = np.argsort(np.argsort(own, axis=1), axis=1)
        found[:, rows] = gain[rows][home][place]
    return found
