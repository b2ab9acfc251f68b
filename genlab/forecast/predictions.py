"""Forecasts of the test rows of all folds, by all predictors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.predictors import Predictor, fit, matrix
from genlab.forecast.scores import FEWEST, Block, blocks_of
from genlab.forecast.splits import Fold, dealt, leave_one_out, random_runs
from genlab.forecast.targets import Kind, Values

# -- Between which numbers will one run's outcome lie? Prediction intervals from errors on runs that were left
#
# Cross-conformal in the form CV+ (Barber, Candès, Ramdas and Tibshirani 2021), each tail by itself: the training runs
# are split into folds that are to each other as the test runs are to them (new runs, or new settings; no twins on
# both sides). Each run's error is that of a forecaster that never saw its fold, and is added to what the same
# forecaster says of the test run; the interval leaves out the lowest and the highest 5 % of these sums. No shape of
# the errors is assumed. For runs that could change places with the training runs it is proved that misses are at most
# twice as many as named; what is seen on planted tables is in `docs/forecast.md`.

SHARE = 0.9
"""The share of new runs that an interval is for."""
_TAIL = (1 - SHARE) / 2
FEWEST_RUNS = 19
"""Training runs below which there is no interval: one of n + 1 runs is less likely than a tail."""
_FOLDS = 5


@dataclass(frozen=True)
class PredictionIntervals:
    """Prediction intervals of one predictor.

    Attributes:
        of: the predictor.
        low, high: float[test], infinite where there is no end: too few training runs, or too many of them censored.
    """

    of: str
    low: np.ndarray
    high: np.ndarray

    def holds(self, value: np.ndarray) -> np.ndarray:
        """bool[test]: which outcomes are inside."""
        return (self.low <= value) & (value <= self.high)

    def summary(self, value: np.ndarray) -> dict[str, Any]:
        """`of`, `share` asked for, share that is `inside`, how many have `no_end`, median `width` (None: no end)."""
        no_end = int(np.isinf(self.high - self.low).sum())
        width = self.width if np.isfinite(self.width) else None
        inside = float(self.holds(value).mean())
        return {"of": self.of, "share": SHARE, "inside": inside, "no_end": no_end, "width": width, "runs": len(value)}

    @property
    def width(self) -> float:
        """The median width; infinite where half of the intervals have no end."""
        return float(np.median(self.high - self.low))


def prediction_intervals(
    predictor: Predictor,
    table: pd.DataFrame,
    x: np.ndarray,
    values: Values,
    setting: np.ndarray,
    twins: np.ndarray,
    fold: Fold,
    seed: int = 0,
) -> PredictionIntervals:
    """Intervals of the test runs of a fold, from its training runs alone. Numbers and furthest lengths only.

    Args:
        table, x, values, setting, twins: of all runs; outcomes of the test runs are not looked at.
        seed: of the folds and of the trees.
    """
    low, high = np.full((2, len(fold.test)), np.inf)
    inner = _calibration(table, setting, fold, np.random.default_rng(seed))
    if not inner:
        return PredictionIntervals(predictor.name, -low, high)
    lows: list[np.ndarray] = []
    highs: list[np.ndarray] = []
    for one in inner:
        asked = np.concatenate([one.test, fold.test])
        said = fit(predictor, x, values.value, one.train, asked, twins, False, seed).mean
        own, new = np.split(said, [len(one.test)])
        error = values.value[one.test] - own
        lows.append(new + error[:, None])
        # A censored outcome is this or more: how far the forecast was below it is not known.
        highs.append(new + np.where(values.censored[one.test], np.inf, error)[:, None])
    low, high = np.concatenate(lows), np.concatenate(highs)
    cut = int(_TAIL * (len(low) + 1) + 1e-9)
    return PredictionIntervals(predictor.name, np.sort(low, axis=0)[cut - 1], np.sort(high, axis=0)[-cut])


def _calibration(table: pd.DataFrame, setting: np.ndarray, fold: Fold, rng: np.random.Generator) -> list[Fold]:
    """Folds of the training runs, each of which is tested once; none where there are too few runs or settings."""
    known, names = table.iloc[fold.train], setting[fold.train]
    new_setting = set(setting[fold.test]).isdisjoint(names)
    if len(known) < FEWEST_RUNS or (new_setting and len(np.unique(names)) < FEWEST):
        return []
    try:
        if new_setting:
            parts = np.array([f"part {g}" for g in dealt(names, _FOLDS, rng)], dtype=object)
            inner = leave_one_out(known, parts, rng)
        else:
            inner = random_runs(known, rng, _FOLDS)
    except UserError:  # all runs share their seeds
        return []
    if any(len(one.train) == 0 for one in inner):
        return []
    return [Fold(one.name, fold.train[one.train], fold.train[one.test]) for one in inner]


@dataclass(frozen=True)
class Predictions:
    """Forecasts, a row a (test run, fold).

    Attributes:
        row: int[test], the run's place in the table.
        fold, setting: of each test row.
        value, censored, twins: the outcome, and the group of runs with the same seeds, of each.
        rank, mean: predictor -> float[test], what it ranks by, and what it expects.
        blocks: rows that may be compared: of one setting and one fold.
        intervals: of one predictor, where they were asked for.
    """

    kind: Kind
    row: np.ndarray
    fold: np.ndarray
    setting: np.ndarray
    value: np.ndarray
    censored: np.ndarray
    twins: np.ndarray
    rank: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]
    blocks: list[Block]
    intervals: PredictionIntervals | None = None

    @property
    def settings(self) -> list[str]:
        """All settings that were tested, in order."""
        return list(dict.fromkeys(self.setting.tolist()))

    @property
    def scored(self) -> list[str]:
        """Settings that hold at least one pair to compare."""
        found = {block.setting for block in self.blocks}
        return [setting for setting in self.settings if setting in found]

    def across(self) -> list[Block]:
        """Blocks of all runs of a fold, whatever their setting: what is often printed."""
        everywhere = np.full(len(self.row), "all settings", dtype=object)
        return blocks_of(self.kind, self.value, self.censored, everywhere, self.fold)


def predict(
    table: pd.DataFrame,
    kind: Kind,
    values: Values,
    predictors: Sequence[Predictor],
    folds: Sequence[Fold],
    setting: np.ndarray,
    twins: np.ndarray,
    seed: int = 0,
    bounded: str | None = None,
) -> Predictions:
    """Fit every predictor in every fold, and forecast its test rows.

    Args:
        setting, twins: of each run of the table.
        seed: of the trees.
        bounded: the predictor that prediction intervals are made for too.
    """
    rank: dict[str, np.ndarray] = {}
    mean: dict[str, np.ndarray] = {}
    intervals: PredictionIntervals | None = None
    for predictor in predictors:
        x = matrix(table, predictor)
        fitted = [
            fit(predictor, x, values.value, fold.train, fold.test, twins, kind == "yes/no", seed) for fold in folds
        ]
        rank[predictor.name] = np.concatenate([one.rank for one in fitted])
        mean[predictor.name] = np.concatenate([one.mean for one in fitted])
        if predictor.name == bounded:
            made = [prediction_intervals(predictor, table, x, values, setting, twins, f, seed) for f in folds]
            ends = [np.concatenate(side) for side in zip(*((one.low, one.high) for one in made), strict=True)]
            intervals = PredictionIntervals(predictor.name, *ends)
    row = np.concatenate([fold.test for fold in folds])
    number = np.concatenate([np.full(len(fold.test), i) for i, fold in enumerate(folds)])
    value, censored = values.value[row], values.censored[row]
    blocks = blocks_of(kind, value, censored, setting[row], number)
    about = (row, number, setting[row], value, censored, twins[row])
    return Predictions(kind, *about, rank, mean, blocks, intervals)
