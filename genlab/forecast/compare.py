"""One forecast against another on the same runs: the paired difference of their scores, with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genlab.forecast.intervals import (
    Interval,
    bootstrap_interval,
    multiplicities,
    setting_interval,
    sign_flip,
    twin_variance,
)
from genlab.forecast.predictions import Predictions
from genlab.forecast.scores import Block, influence, ranking

__all__ = ["Difference", "difference", "over_runs", "overall", "per_setting"]

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
