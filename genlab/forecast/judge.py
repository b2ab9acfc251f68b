"""Would these forecasts have held? Predictors, splits, scores and the claim, for one target of one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pandas as pd

from genlab.errors import UserError, unknown
from genlab.forecast.compare import Difference, difference, over_runs, overall, per_setting
from genlab.forecast.intervals import Interval, setting_interval
from genlab.forecast.lengths import by_length
from genlab.forecast.permutation import Tried, try_all
from genlab.forecast.population import Population, choose
from genlab.forecast.predictions import Predictions, predict
from genlab.forecast.predictors import Model, main_predictor, make_predictors
from genlab.forecast.reliability import Reliability, reliability_of
from genlab.forecast.roles import part
from genlab.forecast.scores import mean_scores
from genlab.forecast.splits import Fold, leave_one_out, random_runs, settings_of, small_to_large, twins_of
from genlab.forecast.targets import Target, target_in_words

__all__ = ["OVER", "By", "Judgement", "Scored", "judge", "signal_column"]

By = Literal["random", "setting", "task", "length"]
OVER = (
    "baselines",
    "hyper-parameters",
    "in-distribution metrics",
    "output confidence",
    "attention statistics",
    "RASP rule",
)
"""What a signal is held against."""
_ASKABLE = ("signal", "attention", "confidence", "metric")
_HELD_OUT = ("setting", "task")
"""What is held out where settings are the unit of intervals."""
TASKS = 10
"""Tasks below which leaving one out is a description."""


@dataclass(frozen=True)
class Scored:
    """One predictor's scores.

    Attributes:
        settings: setting -> (score within it, its pairs or runs).
        mean: over settings, each once, with its interval where settings were held out.
        weighted: over settings, by pairs, with its interval over runs where settings were not held out.
        across: over all test runs of a fold, whatever their setting (often printed; mostly tells settings apart).
        means: Brier and log score, or R^2 and mean absolute error.
    """

    name: str
    settings: dict[str, tuple[float, float]]
    mean: Interval
    weighted: Interval
    across: float
    means: dict[str, float]


@dataclass(frozen=True)
class Judgement:
    """How forecasts of one target did under one split.

    Attributes:
        population: which runs, and why not others.
        unscored: settings without a pair to compare (one outcome only): counted, in no score.
        scores: one a predictor.
        claims: what the signal that was asked about gains over each baseline, the first over all of them together.
        tried: every signal alone, with the p of having tried them all.
        ceiling: how well the same target measured again ranks the runs: `second set`, `checkpoint before`.
        reliability: signal -> how well its values are known, within settings; also of a metric that is asked about.
    """

    target: Target
    by: By
    signal: str | None
    population: Population
    predictions: Predictions
    unscored: list[str]
    scores: list[Scored]
    claims: list[Difference]
    tried: list[Tried]
    ceiling: dict[str, float] = field(default_factory=dict[str, float])
    reliability: dict[str, Reliability] = field(default_factory=dict[str, Reliability])

    @property
    def said(self) -> str:
        """The target as a reader is told it."""
        return target_in_words(self.target, self.population.table)

    @property
    def settings_held_out(self) -> bool:
        """Whether settings are the unit of intervals, and not runs."""
        return self.by in _HELD_OUT

    @property
    def descriptive(self) -> bool:
        """Whether there are too few tasks for a claim."""
        return self.by == "task" and len(self.predictions.settings) < TASKS


def judge(
    table: pd.DataFrame,
    target: Target,
    by: By = "setting",
    *,
    signal: str | None = None,
    factors: Sequence[str] | None = None,
    model: Model = "linear",
    longest: int | None = None,
    fit_only: bool = True,
    keep_twins: bool = False,
    seed: int = 0,
) -> Judgement:
    """Forecast a target that is known, as if it were not, and score that.

    Args:
        by: what the test runs are new in: `random` (the run), `setting`, `task`, or `length` (train up to `longest`).
        signal: the one that is asked about; all others are exploratory.
        factors: the settings that make a setting (default: all that vary).
        model: what `baselines` and `baselines + signal` are fitted with: `linear`, `forest` or `boosting`.
        fit_only: only runs that learned their task, where the table says so (`genlab.tasks.fitted`).
        keep_twins: train on runs that share seeds with test runs, as is done in print.
        seed: of the splits, the trees, the bootstrap and the permutations.

    Raises:
        UserError: a target without an evaluation, an unknown signal or setting, a split that leaves nothing to train.
    """
    if by not in get_args(By):
        raise unknown("split", by, get_args(By))
    rng = np.random.default_rng(seed)
    rows = by_length(table, target) if by == "length" else table
    population = choose(rows, target, fit_only)
    chosen, values = population.table, population.values
    column = None if signal is None else signal_column(chosen, signal)
    setting = settings_of(chosen, ["task"] if by == "task" else factors)
    folds = _folds(chosen, by, setting, longest, keep_twins, rng)
    predictors = make_predictors(chosen, column, model)
    twins = twins_of(chosen)
    kind = population.kind
    # Lengths beyond those trained on are unlike them, whatever is left out: no interval is honest there.
    bounded = None if kind == "yes/no" or by == "length" else main_predictor([p.name for p in predictors], signal)
    found = predict(chosen, kind, values, predictors, folds, setting, twins, seed, bounded)
    held_out = by in _HELD_OUT
    over = [name for name in OVER if name in found.rank]
    names = list(part(chosen, "signal").columns)
    read = part(chosen, "signal").to_numpy(float)
    asked = [] if signal is None or signal in names else [signal]
    return Judgement(
        target,
        by,
        signal,
        population,
        found,
        [name for name in found.settings if name not in found.scored],
        [_scored(found, p.name, held_out, rng) for p in predictors],
        _claims(found, signal, over, held_out, rng),
        try_all(names, read, kind, values.value, values.censored, setting, twins, rng) if names else [],
        population.ceiling(setting),
        _reliability(chosen, [*names, *asked], setting, by),
    )


def _reliability(table: pd.DataFrame, names: list[str], setting: np.ndarray, by: By) -> dict[str, Reliability]:
    """How well signals are known; of a run that stands there once for each length, once."""
    once = np.ones(len(table), bool)
    if by == "length":
        lengths = part(table, "setting")["length"].to_numpy()
        once = lengths == lengths[0]
    return {name: reliability_of(table[once], name, setting[once]) for name in names}


def signal_column(table: pd.DataFrame, signal: str) -> tuple[str, str]:
    """The column of a signal: one read inside the model, or a metric that is asked about like one."""
    named = {str(name): (role, str(name)) for role in reversed(_ASKABLE) for name in part(table, role)}
    if signal not in named:
        raise unknown("signal", signal, named)
    if table[named[signal]].nunique() < 2:
        raise UserError(f"signal {signal!r} is constant over the {len(table)} runs: it forecasts nothing")
    return named[signal]


def _folds(
    table: pd.DataFrame, by: By, setting: np.ndarray, longest: int | None, keep_twins: bool, rng: np.random.Generator
) -> list[Fold]:
    if len(table) < 2:
        raise UserError(f"{len(table)} run with an outcome: that leaves nothing to train on")
    if by == "random":
        return random_runs(table, rng, int(np.clip(len(np.unique(twins_of(table))) // 5, 2, 5)))
    if by == "length":
        lengths = part(table, "setting")["length"].to_numpy(float)
        middle = float(np.median(np.unique(lengths))) if longest is None else longest
        return small_to_large(table, lengths, int(middle), rng)
    return leave_one_out(table, setting, rng, keep_twins)


def _scored(found: Predictions, name: str, held_out: bool, rng: np.random.Generator) -> Scored:
    rank = found.rank[name]
    settings = per_setting(found.blocks, rank)
    values = np.array([value for value, _ in settings.values()])
    mean = setting_interval(values)
    if not held_out:
        mean = Interval(mean.value, None, None, "the settings were not held out")
    weighted = Interval(float(overall(found.blocks, rank)[0]), None, None, "settings were held out")
    if not held_out:
        weighted = over_runs(found, lambda drawn: overall(found.blocks, rank, drawn), rng)
    across = float(overall(found.across(), rank)[0])
    means = mean_scores(found.kind, found.mean[name], found.value, found.censored)
    return Scored(name, settings, mean, weighted, across, means)


def _claims(
    found: Predictions, signal: str | None, over: list[str], held_out: bool, rng: np.random.Generator
) -> list[Difference]:
    if signal is None or not found.blocks:
        return []
    pairs = [(f"baselines + {signal}", name) for name in over] + [(f"{signal} alone", name) for name in over]
    return [difference(found, of, name, held_out, rng) for of, name in pairs if of in found.rank]
