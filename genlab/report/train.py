"""What came of training and evaluating runs: tables, figure and run ids, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from genlab.errors import FailedRuns
from genlab.report.display import print_factors, print_lengths, print_rules
from genlab.report.figures import exact_match_by_length
from genlab.report.listing import NEEDS_GPU
from genlab.report.output import print_lines
from genlab.report.tables import by_factor, by_length, by_rule, fit_share
from genlab.runs.api import evaluate, group_name, train
from genlab.runs.devices import check_dtype, pick_device
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.plan import Plan
from genlab.runs.progress import Report
from genlab.runs.sources import live_task, unavailable
from genlab.runs.store import Store
from genlab.spec import ModelConfig, RunSpec
from genlab.tasks import FIT, Task, TrainingLaw, make

FIGURE = "exact_match_by_length.png"


@dataclass(frozen=True)
class Outcome:
    """What a group of runs of one configuration did, from the store.

    Those that diverged are named, and left out of all numbers.

    Attributes:
        task: None if it is of a plugin that is not loaded; chance and baselines are not shown then.
        runs, statuses: of all runs; diverged: those of them that did.
        evals: of the others; may be empty.
        law: of their training lengths.
        lengths: `tables.by_length`; factors: `tables.by_factor`; rules: `tables.by_rule`.
        judged: metric -> `tables.by_length` of it.
        fit: share of runs that fit in distribution, or None where that was not evaluated.
    """

    spec: RunSpec
    task: Task | None
    runs: list[str]
    statuses: list[str]
    diverged: list[str]
    evals: pd.DataFrame
    law: TrainingLaw
    lengths: pd.DataFrame
    factors: pd.DataFrame
    rules: pd.DataFrame
    judged: dict[str, pd.DataFrame]
    fit: dict[str, float] | None

    @property
    def unit(self) -> str:
        """The unit of length; 'length' if the task's plugin is not loaded."""
        return self.task.length_unit if self.task else "length"

    @cached_property
    def baselines(self) -> dict[tuple[str, int], dict[str, float]]:
        """Exact match of the task's shortcuts at each (split, length) of `lengths`; none without the task."""
        task = self.task
        if task is None:
            return {(str(row["split"]), int(row["length"])): {} for row in self.lengths.to_dict("records")}
        places = [(str(row["split"]), int(row["length"])) for row in self.lengths.to_dict("records")]
        return {(split, n): dict(task.baseline_on(task.split(split), n)) for split, n in places}

    def draw(self, path: Path) -> None:
        """The figure `exact match by length`, if there is something to draw."""
        if self.lengths.empty:
            return
        task, model = self.spec.task, self.spec.model
        shape = f"{model.n_layers} layers, d_model {model.d_model}, {model.positions} positions"
        title = f"{task.name} ({task.format}), {shape}"
        exact_match_by_length(self.evals, self.task, self.law, title, path)

    def as_json(self) -> dict[str, Any]:
        """All of it as one JSON document."""
        return {
            "task": self.spec.task.model_dump(mode="json"),
            "model": self.spec.model.model_dump(mode="json"),
            "train": self.spec.train.model_dump(mode="json", exclude={"init_seed", "data_seed"}),
            "left_out": self.diverged,
            "runs": [{"run_id": r, "status": s} for r, s in zip(self.runs, self.statuses, strict=True)],
            "exact_match_by_length": [
                {**row, "baselines": self.baselines[row["split"], row["length"]]}
                for row in self.lengths.to_dict("records")
            ],
            "by_factor": self.factors.astype(object).where(self.factors.notna(), None).to_dict("records"),
            "by_rule": self.rules.astype(object).where(self.rules.notna(), None).to_dict("records"),
            "judged": {name: table.to_dict("records") for name, table in self.judged.items()},
            "fit_in_distribution": self.fit,
        }

    def print(self, console: Console) -> None:
        """Tables, the share that fit, and the ids."""
        if not self.lengths.empty:
            print_lengths(console, self.lengths, self.law, self.unit, self.baselines)
        for name, table in self.judged.items():
            console.print(f"\nscored by {name} (free decoding):")
            print_lengths(console, table, self.law, self.unit)
        print_factors(console, self.factors, self.law)
        print_rules(console, self.rules, self.law)
        if self.fit:
            hits, runs = round(self.fit["share"] * self.fit["runs"]), self.fit["runs"]
            interval = f"{self.fit['low']:.2f} to {self.fit['high']:.2f}"
            console.print(f"fit in distribution ({FIT:g} or more): {hits} of {runs} runs, 95 % interval {interval}")
        for status in sorted({s for s in self.statuses if s not in ("finished", "diverged")}):
            console.print(f"{self.statuses.count(status)} of {len(self.runs)} runs {status}")
        if self.diverged:
            print_lines(console, [left_out(self.diverged, len(self.runs))])


def outcome(store: Store, runs: Sequence[str], evals: pd.DataFrame | None = None) -> Outcome:
    """The outcome of runs of one configuration.

    Args:
        evals: the evaluations to speak of (default: all of the store).
    """
    spec = store.spec(runs[0])
    counted, diverged = set_aside(store, runs)
    found = store.evals(counted) if evals is None else evals[evals["run_id"].isin(counted)]
    task, law = None if unavailable(store, runs[0]) else make(spec.task), store.law(runs[0])
    judges = task.judges if task else [name for name in found["metric"].unique() if _is_judge(name)]
    judged = {name: by_length(found, law, name) for name in judges if (found["metric"] == name).any()}
    return Outcome(
        spec,
        task,
        list(runs),
        [store.entry(run)["status"] for run in runs],
        diverged,
        found,
        law,
        by_length(found, law),
        by_factor(found, law),
        by_rule(found, law),
        judged,
        fit_share(found, law),
    )


def _is_judge(metric: str) -> bool:
    """Whether a metric is one that the task judges answers by: not exact match, nor a part of it."""
    return metric != "exact_match" and "|" not in metric


@dataclass(frozen=True)
class Trained:
    """A plan that was trained.

    Attributes:
        outcome: of the runs that ended; None where none did.
        group: the name of the group that they make; figure: where it was drawn, if there was something to draw.
        failed: the runs that failed, with reasons.
    """

    outcome: Outcome | None
    group: str
    figure: Path | None
    failed: FailedRuns | None

    def as_json(self) -> dict[str, Any]:
        """The outcome with group and figure, as one JSON document."""
        about = {"group": self.group, "figure": str(self.figure) if self.figure else None}
        return {**(self.outcome.as_json() if self.outcome else {}), **about}

    def print(self, console: Console) -> None:
        """Tables, where the figure is, and the ids of the runs."""
        if self.outcome is None:
            return
        self.outcome.print(console)
        figure = [f"figure: {self.figure}"] if self.figure else []
        print_lines(console, [*figure, f"runs (group {self.group}): {' '.join(self.outcome.runs)}"])


def plan_notes(plan: Plan, device: str) -> list[str]:
    """What to say before a plan is trained: its configuration, what was picked, whether it wants a GPU.

    Raises:
        UserError: a device that is not there, or a precision that it does not have.
    """
    spec, kind = plan.specs[0], pick_device(device).type
    check_dtype(spec.train.dtype, kind)
    notes = [describe(spec, len(plan.specs))]
    if plan.picked:
        notes.append(f"picked for you: {plan.picked} (each has a flag; see lab train --help)")
    if plan.task.needs_gpu and kind == "cpu":
        notes.append(f"{spec.task.name} {NEEDS_GPU}")
    return notes


def train_plan(
    plan: Plan, store: Store, *, device: str, workers: int, again: bool, figure: Path | None, report: Report
) -> Trained:
    """Train a plan and sum up what came out, with its figure in the folder of the group, or at `figure`.

    Runs that fail do not keep the others from being reported: `Trained.failed` says which.

    Raises:
        Interrupted: Ctrl-C; what was reached is kept.
    """
    failed: FailedRuns | None = None
    group = group_name(plan.specs)  # another command may make one meanwhile: this one is not the last then
    try:
        train(plan, store=store, group=group, device=device, workers=workers, again=again, report=report)
    except FailedRuns as error:
        failed = error
    ids = [spec.run_id for spec in plan.specs]
    ended = [run for run in ids if run in store and not (failed and run in failed.reasons)]
    if not ended:
        return Trained(None, group, None, failed)
    result = outcome(store, ended)
    drawn = None if result.lengths.empty else figure or store.named.folder(group) / FIGURE
    if drawn:
        result.draw(drawn)
    return Trained(result, group, drawn, failed)


def describe(spec: RunSpec, seeds: int) -> str:
    """A configuration in two lines."""
    task, model, train = spec.task, spec.model, spec.train
    return (
        f"task {task.name} ({task.format}), training lengths {train.min_len} to {train.train_len}, "
        f"max_len {task.max_len}{', with a start token' if task.start_token else ''}\n"
        f"{seeds} runs: {_shape(model)}; {train.steps} steps of {train.batch_size}, lr {train.lr:g}"
    )


def _shape(model: ModelConfig) -> str:
    """The model in words; of what most models have in common nothing is said."""
    sizes = f"{model.n_layers} layers, d_model {model.d_model}"
    if model.architecture == "lstm":
        return f"an LSTM of as many parameters as a transformer of {sizes}"
    parts = [sizes, f"{model.n_heads} heads", "attention only" if model.attn_only else f"d_mlp {model.d_mlp}"]
    parts.append(f"positions {model.positions}" + (" at random places" if model.random_positions else ""))
    parts += [f"attention weights {model.attn_weights}"] if model.attn_weights != "softmax" else []
    if model.loops > 1 or model.loop_growth:
        growth = f" + {model.loop_growth:g} a unit of length" if model.loop_growth else ""
        parts.append(f"{model.loops}{growth} loops")
    return ", ".join(parts)


@dataclass(frozen=True)
class Evaluated:
    """Evaluations of runs, by configuration."""

    outcomes: list[Outcome]

    def as_json(self) -> list[dict[str, Any]]:
        """A document per configuration."""
        return [one.as_json() for one in self.outcomes]

    def print(self, console: Console) -> None:
        """Each configuration with its tables."""
        for one in self.outcomes:
            print_lines(console, [describe(one.spec, len(one.runs))])
            one.print(console)


def evaluate_at(
    runs: Sequence[str],
    splits: Sequence[str],
    lengths: tuple[int, ...],
    store: Store,
    *,
    n: int = 512,
    seed: int = 0,
    offsets: str = "",
    attn_weights: str = "",
    device: str = "auto",
    figure: Path | None = None,
    report: Report = lambda _progress: True,
) -> Evaluated:
    """Evaluate committed runs on splits at lengths.

    Args:
        n: examples per length; seed: that they are drawn by.
        offsets: where examples are placed in the context ('': as in training).
        attn_weights: attention weights in place of those of the runs ('': as in training).
        figure: where to draw exact match by length.

    Raises:
        UserError: a split or a length that a run's task cannot make; nothing is evaluated then.
        Interrupted: Ctrl-C; what was evaluated is kept.
    """
    wanted = [live_task(store, runs[0]).split(name).at(lengths, n, seed, offsets, attn_weights) for name in splits]
    evaluate(runs, wanted, store, device, report)
    by_configuration: dict[str, list[str]] = {}
    for run in runs:
        by_configuration.setdefault(store.spec(run).configuration.run_id, []).append(run)
    outcomes: list[Outcome] = []
    for ids in by_configuration.values():
        evals = store.evals(ids, offsets=offsets, attn_weights=attn_weights)
        evals = evals[evals["split"].isin(splits) & evals["length"].isin(lengths) & (evals["seed"] == seed)]
        outcomes.append(outcome(store, ids, evals))
        if figure:
            outcomes[-1].draw(figure)
    return Evaluated(outcomes)
