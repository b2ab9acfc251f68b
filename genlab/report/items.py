"""`lab items`: which runs are right on which test inputs; how hard inputs are, of what kind, and what predicts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from genlab.errors import UserError
from genlab.forecast.rules import shared_sets
from genlab.outside.items import (
    KINDS,
    Fitted,
    Losses,
    Responses,
    axis_tells,
    fit,
    held_out_cells,
    held_out_items,
    held_out_runs,
    main_axis,
)
from genlab.report.compare import bootstrap_interval
from genlab.report.display import print_rows
from genlab.report.figures import COLORS, save_figure
from genlab.report.output import print_lines
from genlab.report.tables import counted_runs
from genlab.runs.sources import live_task
from genlab.runs.store import Store
from genlab.tasks import Task, split_in_words
from genlab.training.evaluate import eval_examples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_RUNS, _MOST_DIMS = 4, 8
_ITEMS = ("split", "length", "index")
"""Columns that say which test input an item is: the evaluation set of `lab eval`, and its number in it."""


@dataclass(frozen=True)
class Items:
    """An item response model of a population of runs.

    Attributes:
        task: its name; runs: run ids, in the order of abilities.
        items: a row per item: split, length, index, factors of the task, a column `rule|NAME` for each rule (whether
            it is right there), right (fraction of runs), difficulty (of `1pl`), norm, axis (position on the main axis
            of directions) and v0, v1, ...
        abilities: a row per run: run_id, right (fraction of items), 1pl, and a0, a1, ...
        losses: what was held out (`cells`, `runs`, `items, by features`, `items, by runs`) -> model -> log loss of
            each run.
        shown: number of runs whose answers to a held-out item were seen.
        difficulty: a row per property of items: Spearman's correlation with `difficulty` and with `norm`.
        axis: rule -> how well the main axis of directions tells where it is right (AUROC, .5 to 1).
        diverged: a line on the runs left out, or ''.
    """

    task: str
    runs: list[str]
    items: pd.DataFrame
    abilities: pd.DataFrame
    losses: dict[str, Losses]
    shown: int
    difficulty: pd.DataFrame
    axis: dict[str, float]
    diverged: str

    def judged(self) -> pd.DataFrame:
        """A row per model and what was held out: mean log loss over runs, and how far it is below `1pl`."""
        rows: list[dict[str, Any]] = []
        for held, losses in self.losses.items():
            for kind in KINDS:
                gain = losses["1pl"] - losses[kind]
                low, high = bootstrap_interval(gain[~np.isnan(gain)])
                row = {"held_out": held, "model": kind, "log_loss": float(np.nanmean(losses[kind]))}
                rows.append(row | {"gain": float(np.nanmean(gain)), "gain_low": low, "gain_high": high})
        return pd.DataFrame(rows)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        tables = {name: getattr(self, name).to_dict("records") for name in ("items", "abilities", "difficulty")}
        about = {"task": self.task, "runs": self.runs, "judged": self.judged().to_dict("records"), "axis": self.axis}
        return about | tables | {"shown_runs": self.shown, "diverged": self.diverged}

    def print(self, console: Console) -> None:
        """What predicts held-out answers; what difficulty goes with; what directions tell; the runs."""
        answers = f"{len(self.items)} items, {self.items['right'].mean():.3f} of all answers right"
        print_lines(
            console,
            [
                f"{self.task}: {len(self.runs)} runs, {answers}",
                "",
                "log loss of answers that were held out, mean over runs (and gain over 1pl, 95 %)",
            ],
        )
        judged = self.judged().set_index(["held_out", "model"])
        rows = [[held, *(_cell(judged.loc[held, kind]) for kind in KINDS)] for held in self.losses]  # pyright: ignore[reportArgumentType]
        print_rows(console, ["held out", *KINDS], rows)
        print_lines(
            console,
            [f"(items, by runs: the answers of {self.shown} of {len(self.runs)} runs to a new item are seen)"],
        )
        if len(self.difficulty):
            console.print("\nSpearman's correlation of an item's difficulty with")
            rows = [
                [r["property"], f"{r['difficulty']:+.2f}", f"{r['norm']:+.2f}"]
                for r in self.difficulty.to_dict("records")
            ]
            print_rows(console, ["property", "b of 1pl", "norm of vectors"], rows)
        lines = [f"  {rule}: {value:.3f}" for rule, value in self.axis.items()]
        if lines:
            lines = ["", "AUROC of the main axis of item directions for the items on which a rule is right", *lines]
        print_lines(console, [*lines, *[self.diverged] * bool(self.diverged)])

    def draw(self, path: Path) -> None:
        """Items and runs in one space; difficulty against length; log loss of what was held out."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13.5, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        space, lengths, losses = figure.subplots(1, 3)
        _draw_space(space, self)
        for (split, own), color in zip(self.items.groupby("split", sort=False), COLORS, strict=False):
            median = own.groupby("length")["difficulty"].median()
            lengths.plot(own["length"], own["difficulty"], ".", color=color, ms=2, alpha=0.3)
            lengths.plot(median.index, median, color=color, marker="o", ms=4, label=str(split))
        lengths.set_xlabel("length")
        lengths.set_ylabel("difficulty (b of 1pl)")
        lengths.legend(frameon=False, fontsize=8)
        judged = self.judged().pivot_table(index="held_out", columns="model", values="log_loss", sort=False)
        for i, (kind, color) in enumerate(zip(KINDS, COLORS, strict=False)):
            losses.bar(np.arange(len(judged)) + 0.2 * i, judged[kind], width=0.18, color=color, label=kind)
        losses.set_xticks(
            np.arange(len(judged)) + 0.3, [str(name).replace(", ", ",\n") for name in judged.index], fontsize=8
        )
        losses.set_ylabel("log loss of held-out answers")
        losses.legend(frameon=False, fontsize=8)
        for panel in (space, lengths, losses):
            panel.spines[["top", "right"]].set_visible(False)
        save_figure(figure, path)


def items(
    which: str | Sequence[str],
    splits: Sequence[str] = (),
    store: Store | str | Path | None = None,
    *,
    dims: int = 2,
    per_length: int = 32,
    seed: int = 0,
    report: Callable[[str], object] = lambda _line: None,
) -> Items:
    """Fit item response models to the correctness of each stored answer, and judge them on held-out answers.

    Args:
        which: a run, group, grid or tag, `last`, or several of them; of one task.
        splits: only items of these splits (default: all that were evaluated).
        store: the store, or its directory (default: `GENLAB_STORE`, or `runs`).
        dims: dimensions of the common space of runs and items.
        per_length: items per split and length: the first of each evaluation set.
        seed: of starting points and of what is held out.
        report: called with a line of progress.

    Raises:
        UserError: no such runs, fewer than 4, of several tasks, no evaluation in common, or nothing to tell apart.
    """
    if not 1 <= dims <= _MOST_DIMS:
        raise UserError(f"--dims {dims} is not allowed (allowed: 1 to {_MOST_DIMS})")
    if per_length < 2:
        raise UserError(f"--per-length {per_length} is not allowed: at least 2 items")
    kept, runs, diverged = counted_runs(which, store)
    if len(runs) < _FEWEST_RUNS:
        missing = f" ({diverged})" if diverged else ""
        raise UserError(
            f"{len(runs)} runs are too few for abilities of runs and difficulties of items: at least {_FEWEST_RUNS}"
            f"{missing}"
        )
    specs = [kept.spec(run).task for run in runs]
    if any(spec != specs[0] for spec in specs):
        names = sorted({f"{spec.name} ({spec.format}, max_len {spec.max_len})" for spec in specs})
        raise UserError(f"items belong to one task; these runs are of {len(names)}: {', '.join(names)}")
    table, right = answers_of_items(kept, runs, splits, per_length)
    if right.all() or not right.any():
        which_kind = "right" if right.all() else "wrong"
        raise UserError(f"all {right.size} answers of these runs are {which_kind}: no item is harder than another")
    task = live_task(kept, runs[0])
    table, factors = _with_properties(table, task)
    place = table.groupby(["split", "length"], sort=False).ngroup().to_numpy()
    data = Responses(right.astype(float), np.ones(right.shape, bool), place)
    losses, shown = _judge(data, _features(table, factors), dims, seed, report)
    report("fitting all answers")
    fits = {kind: fit(kind, data, np.random.default_rng([seed, 4]), dims) for kind in KINDS[1:]}
    return _result(task, runs, table, factors, data, fits, losses, shown, diverged, kept)


def answers_of_items(
    store: Store, runs: Sequence[str], splits: Sequence[str], per_length: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The test inputs that all runs were tested on, and which of them were right.

    Returns:
        Rows of split, length, index, n and seed (of the evaluation set), and bool[run, item].

    Raises:
        UserError: the runs have no evaluation in common, there.
    """
    rows = store.evals(runs, answers=True, metric="exact_match")
    has = sorted(rows["split"].unique())
    rows = rows[rows["correct"].notna() & (rows["split"].isin(splits) if splits else True)]
    parts: list[pd.DataFrame] = []
    bits: list[np.ndarray] = []
    for key, own in shared_sets(rows, runs, ["split", "length", "n", "seed"], sort=False):
        split, length, n, seed = key
        count = min(int(n), per_length)
        parts.append(pd.DataFrame({"split": split, "length": length, "index": range(count), "n": n, "seed": seed}))
        blobs = (np.frombuffer(blob, np.uint8) for blob in own["correct"])
        bits.append(np.stack([np.unpackbits(blob, count=int(n))[:count] for blob in blobs]))
    if not parts:
        asked = f" on split {', '.join(splits)}" if splits else ""
        raise UserError(
            f"the {len(runs)} runs have no evaluation in common{asked} (splits: {', '.join(has) or 'none'})"
        )
    return pd.concat(parts, ignore_index=True), np.concatenate(bits, axis=1).astype(bool)


def _with_properties(table: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, list[str]]:
    """The items with the task's factors, and whether each of its rules is right there; names of the factors."""
    parts: list[pd.DataFrame] = []
    for key, own in table.groupby(["split", "length", "n", "seed"], sort=False):
        split, length, n, seed = key  # pyright: ignore[reportGeneralTypeIssues]
        place = task.split(str(split)).at((int(length),), int(n), int(seed))
        examples = eval_examples(task, place, int(length))[: len(own)]
        columns: dict[str, Any] = dict(task.factors(task.bare(examples)))
        read = [task.read(examples, row) for row in range(len(own))]
        rules = [task.rules(prompt) for prompt, _ in read]
        for rule in dict.fromkeys(name for one in rules for name in one):
            columns[f"rule|{rule}"] = [one.get(rule) == truth for one, (_, truth) in zip(rules, read, strict=True)]
        parts.append(own.assign(**columns))
    found = pd.concat(parts, ignore_index=True)
    return found, [name for name in found.columns if name not in table.columns and not name.startswith("rule|")]


def _features(table: pd.DataFrame, factors: Sequence[str]) -> np.ndarray:
    """Length and its square, each split, each factor and its square, float64[item, feature]."""
    numbers = [table[name].to_numpy(float) for name in ("length", *factors)]
    scaled = [(x - x.mean()) / (x.std() or 1.0) for x in numbers]
    splits = [(table["split"] == split).to_numpy(float) for split in table["split"].unique()[1:]]
    return np.stack([*scaled, *(x**2 for x in scaled), *splits], axis=1)


def _judge(
    data: Responses, features: np.ndarray, dims: int, seed: int, report: Callable[[str], object]
) -> tuple[dict[str, Losses], int]:
    shown = max(2, len(data.right) // 2)
    report("predicting held-out cells")
    losses = {"cells": held_out_cells(data, dims, np.random.default_rng([seed, 1]))}
    report("predicting held-out runs")
    losses["runs"] = held_out_runs(data, dims, np.random.default_rng([seed, 2]))
    report("predicting held-out items")
    by_features, by_runs = held_out_items(data, features, dims, np.random.default_rng([seed, 3]), shown)
    return losses | {"items, by features": by_features, "items, by runs": by_runs}, shown


def _result(
    task: Task,
    runs: list[str],
    table: pd.DataFrame,
    factors: list[str],
    data: Responses,
    fits: dict[Any, Fitted],
    losses: dict[str, Losses],
    shown: int,
    diverged: str,
    store: Store,
) -> Items:
    from scipy.stats import spearmanr

    vectors = fits["vectors"]
    axis = main_axis(vectors.directions())
    whole = table.drop(columns=["n", "seed"]).assign(
        right=data.right.mean(0), difficulty=fits["1pl"].difficulty(), norm=vectors.difficulty(), axis=axis
    )
    whole = whole.assign(**{f"v{i}": column for i, column in enumerate(vectors.items.T)})
    abilities = pd.DataFrame({"run_id": runs, "right": data.right.mean(1), "1pl": fits["1pl"].abilities[:, 0]})
    abilities = abilities.assign(**{f"a{i}": column for i, column in enumerate(vectors.abilities.T)})
    rows: list[dict[str, Any]] = []
    laws = [store.law(run) for run in runs]
    for split, own in whole.groupby("split", sort=False):
        for name in ("length", *factors):
            if own[name].nunique() > 1:
                told = [float(spearmanr(own[name], own[column]).statistic) for column in ("difficulty", "norm")]
                about = f"{name}, split {split_in_words(str(split), laws)}"
                rows.append({"property": about, "difficulty": told[0], "norm": told[1]})
    rules = {name.removeprefix("rule|"): whole[name].to_numpy(bool) for name in whole if name.startswith("rule|")}
    difficulty = pd.DataFrame(rows, columns=["property", "difficulty", "norm"])
    return Items(task.name, runs, whole, abilities, losses, shown, difficulty, axis_tells(axis, rules), diverged)


def _cell(row: pd.Series) -> str:
    value = f"{row['log_loss']:.3f}"
    if row.name[1] == "1pl":  # pyright: ignore
        return value
    low, high = row["gain_low"], row["gain_high"]
    ends = "" if low is None or pd.isna(low) else f", {low:+.3f} to {high:+.3f}"
    return f"{value} ({row['gain']:+.3f}{ends})"


def _draw_space(panel: Axes, result: Items) -> None:
    """The first two dimensions: an item is a dot, a run an arrow; of kinds that a rule tells apart, two colors."""
    table = result.items
    second = table["v1"] if "v1" in table else np.zeros(len(table))
    rule = next(iter(result.axis), None)
    groups = (
        [(f"{rule} is {'right' if right else 'wrong'}", (table[f"rule|{rule}"] == right)) for right in (True, False)]
        if rule
        else [("an item", np.ones(len(table), bool))]
    )
    for (label, own), color in zip(groups, COLORS, strict=False):
        panel.plot(table["v0"][own], second[own], ".", color=color, ms=3, alpha=0.5, label=label)
    for i, row in enumerate(result.abilities.to_dict("records")):
        panel.plot(
            [0, row["a0"]],
            [0, row.get("a1", 0.0)],
            color="black",
            lw=0.9,
            label="ability of a run" if i == 0 else None,
        )
    panel.axhline(0, color="#cccccc", lw=0.6, zorder=0)
    panel.axvline(0, color="#cccccc", lw=0.6, zorder=0)
    panel.set_title(f"{result.task}: runs and items in one space", fontsize=10, loc="left")
    panel.legend(frameon=False, fontsize=8)
