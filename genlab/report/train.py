"""Training and evaluation as the command line shows them: progress, then tables, figure and run ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from genlab.errors import FailedRuns, UserError
from genlab.report.display import Display, print_factors, print_lengths, print_rules, print_unless_told
from genlab.report.figures import exact_match_by_length
from genlab.report.listing import NEEDS_GPU
from genlab.report.tables import by_factor, by_length, by_rule, fit_share
from genlab.runs.api import evaluate, train, wanted_runs, without_steps
from genlab.runs.devices import check_dtype, pick_device
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.plan import Plan
from genlab.runs.store import Store
from genlab.spec import ModelConfig, RunSpec
from genlab.tasks import FIT, Task, TrainingLaw, make

FIGURE = "exact_match_by_length.png"


@dataclass(frozen=True)
class Outcome:
    """What a group of runs of one configuration did, from the store.

    Those that diverged are named, and left out of all numbers.

    Attributes:
        runs, statuses: of all runs; diverged: those of them that did.
        evals: of the others; may be empty.
        law: of their training lengths.
        lengths: `tables.by_length`; factors: `tables.by_factor`; rules: `tables.by_rule`.
        judged: metric -> `tables.by_length` of it.
        fit: share of runs that fit in distribution, or None where that was not evaluated.
    """

    spec: RunSpec
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
    def task(self) -> Task:
        return make(self.spec.task)

    @cached_property
    def baselines(self) -> dict[tuple[str, int], dict[str, float]]:
        """Exact match of the task's shortcuts at each (split, length) of `lengths`."""
        task = self.task
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
            print_lengths(console, self.lengths, self.law, self.task.length_unit, self.baselines)
        for name, table in self.judged.items():
            console.print(f"\nscored by {name} (free decoding):")
            print_lengths(console, table, self.law, self.task.length_unit)
        print_factors(console, self.factors, self.law)
        print_rules(console, self.rules, self.law)
        if self.fit:
            hits, runs = round(self.fit["share"] * self.fit["runs"]), self.fit["runs"]
            interval = f"{self.fit['low']:.2f} to {self.fit['high']:.2f}"
            console.print(f"fit in distribution ({FIT:g} or more): {hits} of {runs} runs, 95 % interval {interval}")
        for status in sorted({s for s in self.statuses if s not in ("finished", "diverged")}):
            console.print(f"{self.statuses.count(status)} of {len(self.runs)} runs {status}")
        if self.diverged:
            console.print(left_out(self.diverged, len(self.runs)), soft_wrap=True, highlight=False)


def outcome(store: Store, runs: Sequence[str], evals: pd.DataFrame | None = None) -> Outcome:
    """The outcome of runs of one configuration.

    Args:
        evals: the evaluations to speak of (default: all of the store).
    """
    spec = store.spec(runs[0])
    counted, diverged = set_aside(store, runs)
    found = store.evals(counted) if evals is None else evals[evals["run_id"].isin(counted)]
    task, law = make(spec.task), store.law(runs[0])
    judged = {name: by_length(found, law, name) for name in task.judges if (found["metric"] == name).any()}
    return Outcome(
        spec,
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


def train_and_show(
    plan: Plan,
    store_path: Path | None,
    *,
    device: str,
    workers: int,
    again: bool,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Train a plan, then print tables, draw the figure and name the runs. Raises `FailedRuns` after that."""
    said = Console(stderr=True)
    spec, store = plan.specs[0], Store(store_path)
    kind = pick_device(device).type
    check_dtype(spec.train.dtype, kind)
    said.print(describe(spec, len(plan.specs)), highlight=False)
    if plan.picked:
        said.print(f"picked for you: {plan.picked} (each has a flag; see lab train --help)", highlight=False)
    if plan.task.needs_gpu and kind == "cpu":
        said.print(f"{spec.task.name} {NEEDS_GPU}", highlight=False)
    names = {s.run_id: f"seed {s.train.init_seed}" for s in plan.specs}
    told = "" if again else print_unless_told(said, without_steps(store, wanted_runs([plan])))
    failed: FailedRuns | None = None
    try:
        with Display(names, said) as display:
            train(plan, store=store, device=device, workers=workers, again=again, report=display)
    except FailedRuns as error:
        failed = error
    print_unless_told(said, without_steps(store, wanted_runs([plan])), told)
    ended = [run for run in names if run in store and not (failed and run in failed.reasons)]
    if ended:
        _show_outcome(store, ended, figure, as_json)
    if failed:
        raise failed


def _show_outcome(store: Store, runs: Sequence[str], figure: Path | None, as_json: bool) -> None:
    """Tables, figure and ids of the latest group."""
    found = outcome(store, runs)
    folder = store.last_folder()
    drawn = None if found.lengths.empty else figure or folder / FIGURE
    if drawn:
        found.draw(drawn)
    if as_json:
        about = {"group": folder.name, "figure": str(drawn) if drawn else None}
        print(json.dumps({**found.as_json(), **about}, indent=1))
        return
    console = Console()
    found.print(console)
    if drawn:
        console.print(f"figure: {drawn}", soft_wrap=True, highlight=False)
    console.print(f"runs (group {folder.name}): {' '.join(found.runs)}", soft_wrap=True, highlight=False)


def describe(spec: RunSpec, seeds: int) -> str:
    """A configuration in two lines."""
    task, model, train = spec.task, spec.model, spec.train
    return (
        f"task {task.name} ({task.format}), training lengths {train.min_len} to {train.train_len}, "
        f"max_len {task.max_len}\n"
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


def evaluate_and_show(
    which: str,
    splits: Sequence[str],
    lengths: tuple[int, ...],
    n: int,
    seed: int,
    store_path: Path | None,
    device: str,
    figure: Path | None,
    as_json: bool,
    offsets: str = "",
) -> None:
    """Evaluate runs at lengths and splits, and print what came out."""
    store = Store(store_path)
    runs = store.find(which)
    if not runs:
        raise UserError(f"{which!r} holds no run that has ended; train them to their end first")
    by_configuration: dict[str, list[str]] = {}
    for run in runs:
        by_configuration.setdefault(store.spec(run).configuration.run_id, []).append(run)
    asked = [make(store.spec(runs[0]).task).split(name).at(lengths, n, seed, offsets) for name in splits]
    with Display({run: run for run in runs}, Console(stderr=True)) as display:
        evaluate(runs, asked, store, device, display)
    documents: list[dict[str, Any]] = []
    for ids in by_configuration.values():
        evals = store.evals(ids, offsets=offsets)
        evals = evals[evals["split"].isin(splits) & evals["length"].isin(lengths) & (evals["seed"] == seed)]
        found = outcome(store, ids, evals)
        if figure:
            found.draw(figure)
        documents.append(found.as_json())
        if not as_json:
            console = Console()
            console.print(describe(found.spec, len(ids)), highlight=False)
            found.print(console)
    if as_json:
        print(json.dumps(documents, indent=1))
