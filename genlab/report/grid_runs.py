"""`lab runs` and `lab compare`: lists, files, cells with their figure, runs side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from genlab.errors import UserError
from genlab.report.display import print_rows
from genlab.report.run_table import filtered, run_table, summary
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.failures import read_failures
from genlab.runs.store import Store
from genlab.tasks import split_in_words, task_class

__all__ = ["show_comparison", "show_runs"]

_SHOWN = 200
"""Rows that a terminal is shown."""


def show_runs(
    task: str | None,
    store_path: Path | None,
    *,
    grid: str | None = None,
    where: str | None = None,
    by: str | None = None,
    csv: bool = False,
    parquet: Path | None = None,
    figure: Path | None = None,
    as_json: bool = False,
) -> None:
    """List the runs of a store, or of a group or grid; all of them as CSV, JSON or Parquet, or by cell."""
    if task is not None:
        task_class(task)  # an unknown name is an error, not an empty list
    store = Store(store_path)
    _tell_failures(store, task, grid)
    runs = run_table(store, None if grid is None else store.find(grid))
    runs = filtered(runs if task is None else runs[runs["task"] == task], where)
    shown = runs if by is None else summary(runs, by.split(","))
    if by is not None:
        _tell(left_out(runs.loc[runs["status"] == "diverged", "run_id"].tolist(), len(runs)))
    if parquet:
        parquet.parent.mkdir(parents=True, exist_ok=True)
        shown.to_parquet(parquet, index=False)
        print(f"{len(shown)} rows: {parquet}")
    elif csv:
        shown.to_csv(sys.stdout, index=False)
    elif as_json:
        print(shown.to_json(orient="records", indent=1))
    elif by is None:
        _print_runs(runs)
    else:
        _print_cells(shown)
    if by is not None and len(shown):
        drawn = figure or (store.named.folder(grid) if grid else store.path) / f"by_{'_'.join(by.split(','))}.png"
        draw_cells(shown, by.split(","), drawn)
        print(f"figure: {drawn}", file=sys.stderr)
    elif figure:
        raise UserError("--figure is of cells; it goes with --by")


def _tell(line: str) -> None:
    if line:
        print(line, file=sys.stderr)


def _tell_failures(store: Store, task: str | None, grid: str | None) -> None:
    """Say on standard error which runs failed: they are not among those that a table can hold."""
    wanted = None if grid is None else store.named.runs(grid)
    for failure in read_failures(store.path, wanted):
        if task in (None, failure.task):
            _tell(failure.line())


def _print_runs(runs: pd.DataFrame) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("run", "task", "lengths", "model", "seed", "steps", "exact in", "exact out", "status"):
        table.add_column(column, overflow="fold", no_wrap=column in ("run", "status"))
    for row in runs.tail(_SHOWN).to_dict("records"):
        exact = ["-" if pd.isna(row[k]) else f"{row[k]:.3f}" for k in ("exact_match_in", "exact_match_out")]
        model = f"{row['n_layers']}L d{row['d_model']} {row['positions']}"
        seeds = {row["init_seed"], row["data_seed"]}
        seed = f"{row['init_seed']}" if len(seeds) == 1 else f"{row['init_seed']}/{row['data_seed']}"
        lengths, name = f"{row['min_len']} to {row['train_len']}", f"{row['task']} {row['format']}"
        table.add_row(row["run_id"], name, lengths, model, seed, str(row["step"]), *exact, row["status"])
    Console().print(table if len(runs) else "no runs yet; `lab train` makes some")
    if len(runs) > _SHOWN:
        Console().print(
            f"the last {_SHOWN} of {len(runs):,} runs; --csv and --parquet FILE give all", highlight=False
        )


def _print_cells(cells: pd.DataFrame) -> None:
    rows = [[_cell(value) for value in row] for row in cells.to_numpy()]
    print_rows(Console(), [name.replace("_", " ") for name in cells.columns], rows)


def _cell(value: object) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)


def draw_cells(cells: pd.DataFrame, by: Sequence[str], path: Path) -> None:
    """The cells of a grid: share of runs that fit in distribution, and exact match beyond (median and range)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 + 0.36 * len(cells)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    names = [", ".join(f"{name} {row[name]}" for name in by) for row in cells.to_dict("records")]
    places = range(len(cells))
    for panel, middle, low, high, title in (
        (left, "fit", "fit_low", "fit_high", "share of runs that fit (95 %)"),
        (right, "out_median", "out_low", "out_high", "exact match beyond (median, range)"),
    ):
        values = cells[[middle, low, high]].astype(float)
        panel.hlines(places, values[low], values[high], color="#7fb2d1", lw=3)
        panel.plot(values[middle], places, "o", color="#1b4965")
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xlim(-0.03, 1.03)
        panel.spines[["top", "right"]].set_visible(False)
    left.set_yticks(list(places), names)
    left.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def show_comparison(which: Sequence[str], store_path: Path | None, as_json: bool) -> None:
    """Runs or groups side by side: the settings in which they differ, then median exact match by length.

    The medians are of the runs that did not diverge; the others are named on standard error.
    """
    if len(which) < 2:
        raise UserError("lab compare takes two runs, groups, grids or tags, or more")
    store = Store(store_path)
    sets = {text: run_table(store, store.find(text)) for text in which}
    columns = list(dict.fromkeys(name for runs in sets.values() for name in runs.columns))
    settings = {name: {t: _values(runs, name) for t, runs in sets.items()} for name in columns if name not in _OWN}
    settings = {name: row for name, row in settings.items() if len(set(row.values())) > 1}
    counted = {text: set_aside(store, runs["run_id"]) for text, runs in sets.items()}
    for text, (kept, diverged) in counted.items():
        _tell(f"{text}: {left_out(diverged, len(kept) + len(diverged))}" if diverged else "")
    exact = {text: store.evals(kept, metric="exact_match") for text, (kept, _) in counted.items()}
    medians = pd.DataFrame({t: e.groupby(["split", "length"])["value"].median() for t, e in exact.items()})
    if as_json:
        lengths = medians.reset_index().astype(object).where(medians.reset_index().notna(), None)
        print(json.dumps({"settings": settings, "exact_match": lengths.to_dict("records")}, indent=1))
        return
    console = Console()
    print_rows(console, ["", *which], [[name, *row.values()] for name, row in settings.items()])
    console.print("\nexact match, median over runs")
    rows = zip(medians.index, medians.to_numpy(), strict=True)
    laws = [store.law(run) for runs in sets.values() for run in runs["run_id"]]
    shown = [[split_in_words(split, laws), length, *map(_cell, values)] for (split, length), values in rows]
    print_rows(console, ["split", "length", *which], shown)


_OWN = ("run_id", "stack", "at", "exact_match_in", "exact_match_out")


def _values(runs: pd.DataFrame, name: str) -> str:
    if name not in runs:
        return "-"
    values = sorted({str(value) for value in runs[name]})
    return ", ".join(values[:6]) + (", ..." if len(values) > 6 else "")
