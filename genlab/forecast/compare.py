"""Paired comparison of two forecasts on the same runs: the difference of their scores, with its interval."""

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
    """Gain of one forecast over another in ranking runs within settings.

    Attributes:
        of, over: the predictors compared.
        interval: over settings (equally weighted) or over runs (pairs equally weighted).
        weighted: the difference weighted by pairs.
        settings: the difference in each setting.
        p: from sign flips over settings, if settings share no seeds.
    """

    of: str
    over: str
    interval: Interval
    weighted: float
    settings: dict[str, float]
    p: float | None


def per_setting(blocks: list[Block], score: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return (AUROC, concordance or Spearman correlation, number of pairs or runs) of each setting."""
    sums: dict[str, list[float]] = {}
    for block in blocks:
        value, weight = ranking(block, score)
        total = sums.setdefault(block.setting, [0.0, 0.0])
        total[0] += float(value[0] * weight[0])
        total[1] += float(weight[0])
    return {setting: (total / weight, weight) for setting, (total, weight) in sums.items() if weight}


def overall(blocks: list[Block], score: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the score within settings and folds, float[draw], weighted by pairs (or runs); NaN if undefined."""
    draws = 1 if weights is None else len(weights)
    total, weight = np.zeros(draws), np.zeros(draws)
    for block in blocks:
        value, own = ranking(block, score, weights)
        total, weight = total + value * own, weight + own
    return np.divide(total, weight, out=np.full(draws, np.nan), where=weight > 0)


def difference(found: Predictions, of: str, over: str, across_settings: bool, rng: np.random.Generator) -> Difference:
    """Return the gain of predictor `of` over predictor `over`.

    Args:
        found: forecasts of both.
        of: the predictor of interest.
        over: the predictor it is compared with.
        across_settings: whether settings are the unit (they were held out); otherwise runs are, and runs that share
            seeds are resampled together.
        rng: of the bootstrap or the sign flips.
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
    """Return a score with its bootstrap interval over runs; runs that share seeds are resampled together.

    Args:
        found: the forecasts.
        score: maps the multiplicity of each run in each draw (None: each once) to float[draw].
        rng: of the bootstrap.
    """
    drawn = multiplicities(found.twins, _DRAWS, rng)
    return bootstrap_interval(float(score(None)[0]), score(drawn), _units(found))


def _units(found: Predictions) -> int:
    """Effective number of runs of a bootstrap: groups of shared seeds; for yes/no at most twice the rarer outcome."""
    groups = len(np.unique(found.twins))
    if found.kind != "yes/no":
        return groups
    return min(groups, 2 * int(min(found.value.sum(), (1 - found.value).sum())))


def _influence(found: Predictions, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float[test]: each test row's contribution to the error of the mean difference over settings."""
    weights = {setting: weight for setting, (_, weight) in per_setting(found.blocks, first).items()}
    added = np.zeros(len(found.row))
    for block in found.blocks:
        own = float(ranking(block, first)[1][0]) / weights[block.setting] / len(weights)
        added[block.rows] += own * (influence(block, first) - influence(block, second))
    return added


# -- Multiple testing of signals


@dataclass(frozen=True)
class Tried:
    """Test of one signal.

    Attributes:
        name: the signal.
        z: standardized statistic.
        p: two-sided, uncorrected.
        p_all: corrected for all signals tried, by the maximum over them in every permutation.
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
    """Test all signals by permuting outcomes within settings; the statistic is a rank sum, equivalent to the AUROC.

    Permuting over all runs would favor signals that merely distinguish settings. Runs that share seeds are permuted
    together in all settings, which keeps their dependence; the correction is Westfall and Young's (1993) maximum.

    Args:
        names: of the signals.
        signals: float[run, signal]; a missing value ranks in the middle.
        kind: of the target.
        value, censored, setting, twins: one per run.
        rng: of the permutations.
        draws: number of permutations.

    Returns:
        One result per signal, in the order of `names`; a signal that is constant within every setting has z 0 and p
        1.
    """
    gain, ranks = np.zeros(len(value)), np.zeros_like(signals)
    rows_of = [np.flatnonzero(setting == name) for name in dict.fromkeys(setting.tolist())]
    for rows in rows_of:
        gain[rows] = _gain(kind, value[rows], censored[rows])
        ranks[rows] = _middle_ranks(signals[rows])
    observed = gain @ ranks
    permuted = _permuted(gain, rows_of, twins, rng, draws) @ ranks
    spread = np.sqrt(np.mean(permuted**2, axis=0))
    defined = spread > 1e-9
    z = np.abs(np.divide(observed, spread, out=np.zeros_like(observed), where=defined))
    null = np.abs(np.divide(permuted, spread, out=np.zeros_like(permuted), where=defined))
    best = null.max(axis=1)
    signs = np.sign(observed)
    return [
        Tried(name, float(z[i] * signs[i]), *((1 + int((n >= z[i]).sum())) / (1 + draws) for n in (null[:, i], best)))
        if defined[i]
        else Tried(name, 0.0, 1.0, 1.0)
        for i, name in enumerate(names)
    ]


def _gain(kind: Kind, value: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """Number of runs known to be below each minus those known to be above (Gehan 1965); sums to 0 in a setting."""
    if kind == "number":
        return rankdata(value) - (len(value) + 1) / 2
    better = known_order(value, censored)
    return (better.sum(axis=1) - better.sum(axis=0)) / max(len(value), 1)


def _middle_ranks(signals: np.ndarray) -> np.ndarray:
    """Centered ranks within a setting, divided by the number of its runs; missing values get 0."""
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
        # The run whose seed is r-th in the drawn order gets the outcome of the r-th run in the order of seeds. Ties
        # between runs of one setting with the same seeds are broken by noise.
        own = keys[:, codes[rows]]
        if len(np.unique(codes[rows])) < len(rows):
            own = own + rng.random((draws, len(rows))) * 1e-9
        home = np.argsort(codes[rows], kind="stable")
        place = np.argsort(np.argsort(own, axis=1), axis=1)
        found[:, rows] = gain[rows][home][place]
    return found
