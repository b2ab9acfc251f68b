"""Forecasts of the test rows of all folds by all predictors, and their prediction intervals."""

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

# -- Prediction intervals
#
# CV+ cross-conformal intervals (Barber, Candès, Ramdas and Tibshirani 2021), each tail separately: the training runs
# are split into folds that relate to each other as the test runs do to them (new runs, or new settings; no twins on
# both sides). Each run's error is that of a forecaster that never saw its fold, and is added to that forecaster's
# prediction for the test run; the interval excludes the lowest and the highest 5 % of these sums. No error
# distribution is assumed. If test and training runs are exchangeable, misses are at most twice the nominal rate
# (proved); coverage on synthetic tables is reported in `docs/forecast.md`.

SHARE = 0.9
"""Nominal coverage of prediction intervals."""
_TAIL = (1 - SHARE) / 2
FEWEST_RUNS = 19
"""Minimum number of training runs for an interval: one of n + 1 runs must be at least as likely as a tail."""
_FOLDS = 5


@dataclass(frozen=True)
class PredictionIntervals:
    """Prediction intervals of one predictor.

    Attributes:
        of: the predictor.
        low, high: float[test], infinite if unbounded: too few training runs, or too many of them censored.
    """

    of: str
    low: np.ndarray
    high: np.ndarray

    def holds(self, value: np.ndarray) -> np.ndarray:
        """bool[test]: which outcomes are covered."""
        return (self.low <= value) & (value <= self.high)

    def summary(self, value: np.ndarray) -> dict[str, Any]:
        """Summarize coverage.

        Returns:
            `of`, nominal coverage (`share`), actual coverage (`inside`), number of unbounded intervals (`no_end`),
            median `width` (None: unbounded), number of `runs`.
        """
        no_end = int(np.isinf(self.high - self.low).sum())
        width = self.width if np.isfinite(self.width) else None
        inside = float(self.holds(value).mean())
        return {"of": self.of, "share": SHARE, "inside": inside, "no_end": no_end, "width": width, "runs": len(value)}

    @property
    def width(self) -> float:
        """The median width; infinite if at least half of the intervals are unbounded."""
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
    """Return intervals of the test runs of a fold, from its training runs only. For numbers and furthest lengths.

    Args:
        predictor: what forecasts.
        table, x, values, setting, twins: of all runs; outcomes of the test runs are not used.
        fold: training and test runs.
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
        # A censored outcome is at least this: how far the forecast was below it is unknown.
        highs.append(new + np.where(values.censored[one.test], np.inf, error)[:, None])
    low, high = np.concatenate(lows), np.concatenate(highs)
    cut = tail_rank(len(low))
    return PredictionIntervals(predictor.name, np.sort(low, axis=0)[cut - 1], np.sort(high, axis=0)[-cut])


def tail_rank(runs: int) -> int:
    """Return which of the sorted bounds of `runs` training runs, from the outside, ends an interval.

    The new run is one of n + 1 that could change places, hence floor(alpha (n + 1)).
    """
    return int(_TAIL * (runs + 1) + 1e-9)


def _calibration(table: pd.DataFrame, setting: np.ndarray, fold: Fold, rng: np.random.Generator) -> list[Fold]:
    """Folds that test each training run once; empty if there are too few runs or settings."""
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
    except UserError:  # all runs share seeds
        return []
    if any(len(one.train) == 0 for one in inner):
        return []
    return [Fold(one.name, fold.train[one.train], fold.train[one.test]) for one in inner]


@dataclass(frozen=True)
class Predictions:
    """Forecasts, one row per (test run, fold).

    Attributes:
        kind: of the target.
        row: int[test], row of the run in the table.
        fold, setting: of each test row.
        value, censored, twins: outcome and twin group of each test row.
        rank, mean: predictor -> float[test], the ranking score and the expected value.
        blocks: rows that may be compared: of one setting and one fold.
        intervals: of one predictor, if requested.
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
        """All tested settings, in order."""
        return list(dict.fromkeys(self.setting.tolist()))

    @property
    def scored(self) -> list[str]:
        """Settings with at least one pair to compare."""
        found = {block.setting for block in self.blocks}
        return [setting for setting in self.settings if setting in found]

    def across(self) -> list[Block]:
        """Return blocks of all runs of a fold regardless of setting, as often published."""
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
        table: a forecast table.
        kind: of the target.
        values: outcomes of all runs.
        predictors: what to fit.
        folds: training and test rows.
        setting, twins: of each run of the table.
        seed: of the trees.
        bounded: the predictor for which prediction intervals are computed, too.
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
