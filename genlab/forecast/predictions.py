"""Forecasts of the test rows of all folds, by all predictors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genlab.forecast.conformal import PredictionIntervals, prediction_intervals
from genlab.forecast.predictors import Predictor, fit, matrix
from genlab.forecast.scores import Block, blocks_of
from genlab.forecast.splits import Fold
from genlab.forecast.targets import Kind, Values

__all__ = ["Predictions", "predict"]


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
