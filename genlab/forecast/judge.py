"""Evaluate forecasts of one target on one table: predictors, splits, scores and claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from genlab.errors import UserError, unknown
from genlab.forecast.compare import Difference, Tried, difference, over_runs, overall, per_setting, try_all
from genlab.forecast.predictions import Predictions, predict
from genlab.forecast.predictors import Model, main_predictor, make_predictors
from genlab.forecast.reliability import Reliability, reliability_of
from genlab.forecast.roles import KNOWN_BEFORE, columns, part
from genlab.forecast.scores import Interval, blocks_of, mean_scores, setting_interval
from genlab.forecast.splits import Fold, few_runs, leave_one_out, random_runs, settings_of, small_to_large, twins_of
from genlab.forecast.targets import (
    LENGTH_OUTCOME,
    Kind,
    Target,
    Values,
    at_length,
    by_length,
    target_in_words,
    values_of,
)
from genlab.tasks import FIT, fitted

# -- Runs of an evaluation


@dataclass(frozen=True)
class Population:
    """The runs of an evaluation.

    Attributes:
        target: what is forecast.
        table, values: the runs, and their outcomes.
        runs: number of runs in the table.
        unfit: number of runs that did not learn their task (ID accuracy below 0.99).
        unseen: number of runs without an evaluation of the target.
        missing: column -> number of missing values; they are imputed inside the training folds.
    """

    target: Target
    table: pd.DataFrame
    values: Values
    runs: int
    unfit: int
    unseen: int
    missing: dict[str, int]

    @property
    def kind(self) -> Kind:
        """Kind of the target."""
        return self.target.kind

    def ceiling(self, setting: np.ndarray) -> dict[str, float]:
        """Return how well repeated measurements of the target rank runs within settings: a bound for signals."""
        found: dict[str, float] = {}
        blocks = blocks_of(self.kind, self.values.value, self.values.censored, setting, np.zeros(len(setting)))
        plain = replace(self.target, least=None)
        for name, role in (("second set", "second"), ("checkpoint before", "earlier")):
            again = values_of(self.table, plain, role).value
            if len(again) and not np.isnan(again).any() and blocks:
                found[name] = float(overall(blocks, again)[0])
        return found


def choose(table: pd.DataFrame, target: Target, fit_only: bool = True) -> Population:
    """Select the runs of a table on which forecasts of a target are evaluated.

    Raises:
        UserError: no evaluation of the target, no run that learned its task, or a constant outcome.
    """
    runs = len(table)
    asked = at_length(target) if ("outcome", LENGTH_OUTCOME) in table.columns else target
    values_of(table, asked)  # report a missing evaluation first
    exact = part(table, "metric").get("exact_match")
    fits = fitted(exact) if fit_only and exact is not None else np.ones(runs, bool)
    if not fits.any():
        raise UserError(f"none of {runs} runs learned its task (ID accuracy of at least {FIT}); see --all-runs")
    known = values_of(table, asked).known
    chosen = table[fits & known]
    if chosen.empty:
        said = target_in_words(target, table)
        raise UserError(f"target ({said}) has no evaluation yet of the {int(fits.sum())} runs that fit")
    values = values_of(chosen, asked)
    if len(np.unique(values.value)) < 2:
        said = target_in_words(target, table)
        raise UserError(
            f"target ({said}) is {values.value[0]:g} for all {len(chosen)} runs: there is nothing to forecast"
        )
    used = chosen[columns(chosen, KNOWN_BEFORE)]
    missing = {name: int(n) for (_, name), n in used.isna().sum().items() if n}
    return Population(asked, chosen, values, runs, int((~fits).sum()), int((fits & ~known).sum()), missing)


By = Literal["random", "setting", "task", "length"]
OVER = (
    "baselines",
    "hyper-parameters",
    "in-distribution metrics",
    "output confidence",
    "attention statistics",
    "RASP rule",
)
"""Predictors that a signal is compared with."""
_ASKABLE = ("signal", "attention", "confidence", "metric")
_FEWEST = 4
"""Runs below which nothing is forecast: with two folds, each learns from two."""
_HELD_OUT = ("setting", "task")
"""Splits for which settings are the unit of intervals."""
TASKS = 10
"""With fewer tasks, leaving one out is descriptive only."""


@dataclass(frozen=True)
class Scored:
    """Scores of one predictor.

    Attributes:
        name: the predictor.
        settings: setting -> (score within it, number of pairs or runs).
        mean: over settings, equally weighted, with its interval if settings were held out.
        weighted: over settings, weighted by pairs, with its interval over runs if settings were not held out.
        across: over all test runs of a fold, regardless of setting (often published; mostly distinguishes settings).
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
    """Evaluation of forecasts of one target under one split.

    Attributes:
        target, by, signal: as requested.
        population: the runs, and why others are excluded.
        predictions: all forecasts.
        unscored: settings without a pair to compare (constant outcome); they do not enter scores.
        scores: one per predictor.
        claims: gains of the requested signal over each baseline, the first over all of them together.
        tried: each signal by itself, with p-values corrected for trying all.
        ceiling: how well repeated measurements of the target rank the runs: `second set`, `checkpoint before`.
        reliability: of each signal, within settings; also of a metric that is requested as a signal.
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
        """Description of the target."""
        return target_in_words(self.target, self.population.table)

    @property
    def settings_held_out(self) -> bool:
        """Whether settings, rather than runs, are the unit of intervals."""
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
    """Evaluate forecasts of a known target by cross-validation.

    Args:
        table: a forecast table.
        target: what is forecast.
        by: in what the test runs are new: `random` (the run), `setting`, `task`, or `length` (train up to `longest`).
        signal: the signal of interest; all others are exploratory.
        factors: the settings that define a setting (default: all that vary).
        model: the model of `baselines` and `baselines + signal`: `linear`, `forest` or `boosting`.
        longest: for `length`, the longest training length (default: the median length).
        fit_only: only runs that learned their task, if the table says so (`genlab.tasks.fitted`).
        keep_twins: also train on runs that share seeds with test runs, as is common in the literature.
        seed: of the splits, the trees, the bootstrap and the permutations.

    Raises:
        UserError: a target without an evaluation, an unknown signal or setting, or a split without training runs.
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
    # Lengths beyond the training lengths are not exchangeable with them: no interval would be valid.
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
    """Reliability of signals; with one row per (run, length), each run is used once."""
    once = np.ones(len(table), bool)
    if by == "length":
        lengths = part(table, "setting")["length"].to_numpy()
        once = lengths == lengths[0]
    return {name: reliability_of(table[once], name, setting[once]) for name in names}


def signal_column(table: pd.DataFrame, signal: str) -> tuple[str, str]:
    """Return the column of a signal: one measured inside the model, or a metric used like one."""
    named = {str(name): (role, str(name)) for role in reversed(_ASKABLE) for name in part(table, role)}
    if signal not in named:
        raise unknown("signal", signal, named)
    if table[named[signal]].nunique() < 2:
        raise UserError(f"signal {signal!r} is constant over the {len(table)} runs: it cannot forecast anything")
    return named[signal]


def _folds(
    table: pd.DataFrame, by: By, setting: np.ndarray, longest: int | None, keep_twins: bool, rng: np.random.Generator
) -> list[Fold]:
    if len(table) < _FEWEST:
        raise UserError(
            f"{len(table)} run{'' if len(table) == 1 else 's'} with an outcome cannot be forecast: a forecast is "
            f"learned from some runs and tested on others, which takes at least {_FEWEST}"
        )
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
        mean = Interval(mean.value, None, None, "settings were not held out")
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


# -- Learning curves over labeled runs

SIZES = (5, 10, 20, 50, 100)


def learning_curve(
    table: pd.DataFrame,
    target: Target,
    *,
    signal: str | None = None,
    sizes: Sequence[int] = SIZES,
    draws: int = 10,
    fit_only: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the score of each predictor on the other runs, within settings, after training on few labeled runs.

    Columns: runs, predictor, mean, low, high (the range over draws), draws. Draws overlap, so the range is not an
    interval.

    Raises:
        UserError: as `judge`; too few runs for the smallest size.
    """
    population = choose(table, target, fit_only)
    chosen, rng = population.table, np.random.default_rng(seed)
    column = None if signal is None else signal_column(chosen, signal)
    predictors = [p for p in make_predictors(chosen, column) if p.model in ("linear", "threshold")]
    setting, twins = settings_of(chosen), twins_of(chosen)
    rows: list[dict[str, object]] = []
    for size, folds in few_runs(chosen, rng, sizes, draws).items():
        drawn = [predict(chosen, population.kind, population.values, predictors, [f], setting, twins) for f in folds]
        for predictor in predictors:
            scores = np.array([overall(one.blocks, one.rank[predictor.name])[0] for one in drawn if one.blocks])
            spread = (scores.mean(), scores.min(), scores.max()) if len(scores) else (np.nan,) * 3
            named = dict(zip(("mean", "low", "high"), map(float, spread), strict=True))
            rows.append({"runs": size, "predictor": predictor.name, **named, "draws": len(scores)})
    return pd.DataFrame(rows)
