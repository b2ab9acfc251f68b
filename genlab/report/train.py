"""Results of training and evaluating runs: tables, figure and run ids, as text and as JSON."""

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
from genlab.report.tables import by_factor, by_length, by_rule, fit_fraction
from genlab.runs.api import evaluate, group_name, train
from genlab.runs.devices import check_dtype, pick_device
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.plan import Plan
from genlab.runs.progress import Report
from genlab.runs.sources import live_task, unavailable
from genlab.runs.store import Store
from genlab.spec import ModelConfig, RunSpec
from genlab.tasks import FIT, Task, TrainingLaw, make
from genlab.text import counted

FIGURE = "exact_match_by_length.png"


@dataclass(frozen=True)
class Outcome:
    """Results of runs of one configuration, from the store.

    Diverged runs are named, and left out of all numbers.

    Attributes:
        task: the task; None if its plugin is not loaded (chance and baselines are then not shown).
        runs, statuses: all runs, and how they ended.
        diverged: the runs that diverged.
        evals: evaluations of the others; may be empty.
        law: distribution of their training lengths.
        lengths, factors, rules: `tables.by_length`, `tables.by_factor` and `tables.by_rule`.
        judged: metric -> its `tables.by_length`.
        fit: `tables.fit_fraction`; None without an ID evaluation.
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
        """Exact match of the task's shortcuts at each (split, length) of `lengths`; empty without the task."""
        task = self.task
        if task is None:
            return {(str(row["split"]), int(row["length"])): {} for row in self.lengths.to_dict("records")}
        places = [(str(row["split"]), int(row["length"])) for row in self.lengths.to_dict("records")]
        return {(split, n): dict(task.baseline_on(task.split(split), n)) for split, n in places}

    def draw(self, path: Path) -> None:
        """Plot exact match by length, if there are evaluations."""
        if self.lengths.empty:
            return
        task, model = self.spec.task, self.spec.model
        positions = "no" if model.positions == "none" else model.positions
        shape = f"{counted(model.n_layers, 'layer')}, d_model {model.d_model}, {positions} positions"
        title = f"{task.name} ({task.format}), {shape}"
        exact_match_by_length(self.evals, self.task, self.law, title, path)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
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
        """Print tables and the fraction of runs that fit."""
        if not self.lengths.empty:
            print_lengths(console, self.lengths, self.law, self.unit, self.baselines)
        for name, table in self.judged.items():
            console.print(f"\nscored by {name} (free decoding):")
            print_lengths(console, table, self.law, self.unit)
        print_factors(console, self.factors, self.law)
        print_rules(console, self.rules, self.law)
        if self.fit:
            hits, runs = round(self.fit["fraction"] * self.fit["runs"]), self.fit["runs"]
            interval = f"{self.fit['low']:.2f} to {self.fit['high']:.2f}"
            console.print(f"fit in distribution ({FIT:g} or more): {hits} of {runs} runs, 95 % interval {interval}")
        for status in sorted({s for s in self.statuses if s not in ("finished", "diverged")}):
            console.print(f"{self.statuses.count(status)} of {len(self.runs)} runs {status}")
        if self.diverged:
            print_lines(console, [left_out(self.diverged, len(self.runs))])


def outcome(store: Store, runs: Sequence[str], evals: pd.DataFrame | None = None) -> Outcome:
    """Summarize runs of one configuration.

    Args:
        store: their store.
        runs: run ids.
        evals: the evaluations to summarize (default: all in the store).
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
        fit_fraction(found, law),
    )


def _is_judge(metric: str) -> bool:
    """Whether a metric is a judge of the task, as opposed to exact match or a part of it."""
    return metric != "exact_match" and "|" not in metric


@dataclass(frozen=True)
class Trained:
    """Result of training a plan.

    Attributes:
        outcome: results of the runs that finished; None if none did.
        group: the name of their group.
        figure: file of the figure, if there are evaluations.
        failed: the runs that failed, with reasons.
    """

    outcome: Outcome | None
    group: str
    figure: Path | None
    failed: FailedRuns | None

    def as_json(self) -> dict[str, Any]:
        """Return the outcome with group and figure."""
        about = {"group": self.group, "figure": str(self.figure) if self.figure else None}
        return {**(self.outcome.as_json() if self.outcome else {}), **about}

    def print(self, console: Console) -> None:
        """Print tables, the file of the figure, and the run ids."""
        if self.outcome is None:
            return
        self.outcome.print(console)
        figure = [f"figure: {self.figure}"] if self.figure else []
        print_lines(console, [*figure, f"runs (group {self.group}): {' '.join(self.outcome.runs)}"])


def plan_notes(plan: Plan, device: str) -> list[str]:
    """Return notes on a plan before training: its configuration, picked options, whether it needs a GPU.

    Raises:
        UserError: an unavailable device, or a precision that it does not support.
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
    """Train a plan and summarize its runs, with a figure in the group folder, or at `figure`.

    Runs that fail do not keep the others from being reported; they are listed in `Trained.failed`.

    Raises:
        Interrupted: Ctrl-C; progress is saved.
    """
    failed: FailedRuns | None = None
    group = group_name(plan.specs)  # explicit: with concurrent commands, the last group may be another one
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
    """Describe a configuration in two lines."""
    task, model, train = spec.task, spec.model, spec.train
    return (
        f"task {task.name} ({task.format}), training lengths {train.min_len} to {train.train_len}, "
        f"max_len {task.max_len}{', with a start token' if task.start_token else ''}\n"
        f"{counted(seeds, 'run')}: {_shape(model)}; {train.steps} steps of {train.batch_size}, lr {train.lr:g}"
    )


def _shape(model: ModelConfig) -> str:
    """Describe a model; common defaults are left out."""
    sizes = f"{counted(model.n_layers, 'layer')}, d_model {model.d_model}"
    if model.architecture == "lstm":
        return f"an LSTM with as many parameters as a transformer with {sizes}"
    parts = [sizes, counted(model.n_heads, "head"), "attention only" if model.attn_only else f"d_mlp {model.d_mlp}"]
    parts.append(f"positions {model.positions}" + (" at random places" if model.random_positions else ""))
    parts += [f"attention weights {model.attn_weights}"] if model.attn_weights != "softmax" else []
    if model.loops > 1 or model.loop_growth:
        growth = f" + {model.loop_growth:g} per unit of length" if model.loop_growth else ""
        parts.append(f"{model.loops}{growth} loops")
    return ", ".join(parts)


@dataclass(frozen=True)
class Evaluated:
    """Evaluations of runs, by configuration."""

    outcomes: list[Outcome]

    def as_json(self) -> list[dict[str, Any]]:
        """Return one document per configuration."""
        return [one.as_json() for one in self.outcomes]

    def print(self, console: Console) -> None:
        """Print each configuration with its tables."""
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
        n: examples per length.
        seed: seed of the examples.
        offsets: placement in the context ('': as in training).
        attn_weights: attention weights that replace those of the runs ('': as in training).
        figure: file of a figure of exact match by length.

    Raises:
        UserError: a split or a length that the task cannot generate; nothing is evaluated then.
        Interrupted: Ctrl-C; finished evaluations are saved.
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
