"""Would these forecasts have held? Predictors, splits, scores and the claim, for one target of one table."""

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

# -- Which runs a judgement is about, with their outcomes: those that learned their task, and were looked at


@dataclass(frozen=True)
class Population:
    """The runs of a judgement.

    Attributes:
        table, values: the runs, and their outcomes.
        runs: how many the table had.
        unfit: how many had not learned their task (in-distribution exact match below 0.99).
        unseen: how many have no evaluation of the target.
        missing: column -> values that are missing; they are filled inside the training folds.
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
        """Of the target."""
        return self.target.kind

    def ceiling(self, setting: np.ndarray) -> dict[str, float]:
        """How well the same target measured again ranks the runs within settings; no signal can be asked for more."""
        found: dict[str, float] = {}
        blocks = blocks_of(self.kind, self.values.value, self.values.censored, setting, np.zeros(len(setting)))
        plain = replace(self.target, least=None)
        for name, role in (("second set", "second"), ("checkpoint before", "earlier")):
            again = values_of(self.table, plain, role).value
            if len(again) and not np.isnan(again).any() and blocks:
                found[name] = float(overall(blocks, again)[0])
        return found


def choose(table: pd.DataFrame, target: Target, fit_only: bool = True) -> Population:
    """The runs of a table that a judgement of a target is about.

    Raises:
        UserError: no evaluation of the target, no run that fits, or one outcome throughout.
    """
    runs = len(table)
    asked = at_length(target) if ("outcome", LENGTH_OUTCOME) in table.columns else target
    values_of(table, asked)  # no evaluation at all is told first
    exact = part(table, "metric").get("exact_match")
    fits = fitted(exact) if fit_only and exact is not None else np.ones(runs, bool)
    if not fits.any():
        raise UserError(f"none of {runs} runs learned its task (exact match {FIT} in distribution); see --all-runs")
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


# -- How many labelled runs a forecast needs: the score after training on few of them

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
    """A row a (number of labelled runs, predictor): its score on the other runs, within settings.

    Columns: runs, predictor, mean, low, high (the range over draws), draws. Draws overlap: the range is no interval.

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
