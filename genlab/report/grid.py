"""`lab grid` as the terminal shows it: progress over the whole grid, its status, a dry run; and `lab store check`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from genlab.errors import FailedRuns, UserError
from genlab.report.display import print_rows, print_unless_told
from genlab.report.tables import filtered, run_table, summary
from genlab.runs.api import grid, load, wanted_runs, without_steps
from genlab.runs.devices import pick_device
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.failures import read_failures
from genlab.runs.gridfile import Grid
from genlab.runs.maintain import LOST, check_store, lost_runs, named_only, shown
from genlab.runs.progress import Progress
from genlab.runs.status import grid_status
from genlab.runs.store import Store
from genlab.tasks import split_in_words, task_class

_LOOK_SECONDS, _QUIET_SECONDS = 2.0, 10.0


class GridDisplay:
    """One line for the whole grid, from the store: renewed in place on a terminal, now and then elsewhere."""

    def __init__(self, store: Store, run_ids: list[str], console: Console):
        self._store, self._ids, self._console = Store(store.path), run_ids, console
        self._looked = self._told = time.monotonic()

    def __call__(self, _progress: Progress) -> bool:
        self.tick()
        return True

    def tick(self) -> None:
        now = time.monotonic()
        live = self._console.is_terminal
        if now - self._looked < _LOOK_SECONDS or not (live or now - self._told > _QUIET_SECONDS):
            return
        self._looked = self._told = now
        line = grid_status(self._store, self._ids).line()
        self._console.print(
            f"\r{line}\x1b[K" if live else line, end="" if live else "\n", highlight=False, markup=False
        )

    def close(self) -> None:
        """Leave the line as it stands."""
        if self._console.is_terminal:
            self._console.print()


def grid_and_show(found: Grid, store_path: Path | None, as_json: bool, **options: Any) -> None:
    """Train a grid, then say what became of it, by cell. Raises `FailedRuns` after that where some failed."""
    store, said = Store(store_path), Console(stderr=True)
    if options["executor"] == "local":
        pick_device(options["device"])  # one that is not there is told before anything else
    wanted = wanted_runs(found)
    ids = [spec.run_id for spec, _ in wanted]
    said.print(f"grid {found.name}: {len(found.plans)} cells, {len(ids)} runs", highlight=False)
    told = "" if options["again"] else print_unless_told(said, without_steps(store, wanted))
    display = GridDisplay(store, ids, said)
    failed: FailedRuns | None = None
    try:
        grid(found, store=store, report=display, tick=display.tick, request={"toml": found.text}, **options)
    except FailedRuns as error:
        failed = error
    finally:
        display.close()
    print_unless_told(said, without_steps(store, wanted), told)
    _show_grid(found, store, ids, as_json)
    if failed:
        raise failed


def _show_grid(found: Grid, store: Store, ids: list[str], as_json: bool) -> None:
    """Cells and status of a grid that has ended."""
    status = grid_status(store, ids)
    if as_json:
        there = [load(run, store) for run in ids if run in store]
        runs = [{"run_id": run.run_id, "status": run.status, "step": run.step} for run in there]
        print(json.dumps({"grid": found.name, **status.as_json(), "runs": runs}, indent=1))
        return
    console = Console()
    table = run_table(store, ids)
    swept = [name for name in table.columns if name in _swept(found) and table[name].nunique(dropna=False) > 1]
    if swept:
        cells = summary(table, swept)
        columns = [*swept, "runs", "diverged", "fit", "out_median", "out_low", "out_high"]
        rows = [[f"{v:.3g}" if isinstance(v, float) else v for v in row] for row in cells[columns].to_numpy()]
        print_rows(console, [name.replace("_", " ") for name in columns], rows)
    diverged = set_aside(store, table["run_id"])[1]
    if diverged:
        console.print(left_out(diverged, len(table)), soft_wrap=True, highlight=False)
    console.print(status.line(), highlight=False)
    console.print(f"lab runs --grid {found.name} lists them; --by a,b sums up by cell", highlight=False)


def _swept(found: Grid) -> set[str]:
    """The settings in which the cells of a grid differ, seeds apart."""
    from genlab.runs.index import flat_spec

    rows = [flat_spec(plan.specs[0].configuration.model_dump(mode="json")) for plan in found.plans]
    return {name for row in rows for name in row if any(row.get(name) != other.get(name) for other in rows)}


def show_status(found: Grid, store_path: Path | None, as_json: bool) -> None:
    """How far a grid is, and what failed of it."""
    status = grid_status(Store(store_path), [spec.run_id for spec, _ in wanted_runs(found)])
    if as_json:
        print(json.dumps({"grid": found.name, **status.as_json()}, indent=1))
        return
    print("\n".join([f"{found.name}: {status.line()}", *(failure.line() for failure in status.failures)]))


def dry_run_and_show(
    found: Grid, store_path: Path | None, device: str, workers: int, stack: int, as_json: bool
) -> None:
    """What a grid would cost."""
    from genlab.runs.estimate import estimate

    told = estimate(wanted_runs(found), Store(store_path), device, workers, stack)
    if as_json:
        print(json.dumps(told, indent=1))
        return
    console = Console()
    columns = ("runs", "stacks", "runs a stack", "parameters a run", "memory a stack", "batch", "ms a step")
    columns += ("in bfloat16", "hours")
    rows = [
        [
            *(shape[key] for key in ("runs", "stacks", "stack")),
            f"{shape['parameters']:,}",
            f"{shape['memory_mb']:,.0f} MB",
            shape["batch"],
            *(_ms(shape[key]) for key in ("seconds_a_step", "seconds_a_step_in_bfloat16")),
            f"{shape['hours']:.2f}",
        ]
        for shape in told["shapes"]
    ]
    print_rows(console, columns, rows)
    done = f", {told['done']} of them done" if told["done"] else ""
    console.print(
        f"{told['runs']} runs{done} in {told['stacks']} stacks on {told['workers']} workers", highlight=False
    )
    console.print(
        f"expected: {told['hours']:.2f} hours (from a few measured steps; nothing was started)", highlight=False
    )


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f}"


def check_and_show(store_path: Path | None, as_json: bool) -> bool:
    """Check a store; whether all of its files are as they were written."""
    store = Store(store_path)
    damaged, left = check_store(store)
    lost = lost_runs(store) if store.path / "commits" in damaged else {}
    missing = {} if any(path.parent.name == "commits" for path in damaged) else named_only(store)
    if as_json:
        told = [{str(path): what for path, what in found.items()} for found in (damaged, left)]
        where = {run: sorted(places) for run, places in sorted(lost.items())}
        whole = {"damaged": told[0], "leftovers": told[1], "lost": where, "unrecorded": missing}
        print(json.dumps({**whole, "runs": len(store.index.runs)}, indent=1))
        return not damaged
    for path, what in damaged.items():
        print(f"damaged: {path}: {what}")
    for path, what in left.items():
        print(f"left over (lab store compact takes it away): {path}: {what}")
    for name, runs in missing.items():
        print(f"not in this store (not trained yet, deleted, or lost without a trace): {shown(runs)} of {name}")
    if not damaged:
        print(
            f"clean: {len(store.index.runs)} runs, every file as it was written" + (", but leftovers" if left else "")
        )
    return not damaged


def repair_and_show(store_path: Path | None, as_json: bool) -> None:
    """Enter lost runs of a store again, and say which, and what became of the others."""
    from genlab.runs.repair import repair_store

    store = Store(store_path)
    done = repair_store(store)
    if as_json:
        told = {"entered": done.entered, "aside": done.aside, "returned": [str(path) for path in done.returned]}
        print(json.dumps(told, indent=1))
        return
    for path in done.returned:
        print(f"back in its place: {path}")
    for run, why in done.aside.items():
        print(f"not entered: run {run}: {why}; what is left of it stands in {store.path / LOST}")
    count = "no run" if not done.entered else shown(done.entered)
    print(f"{count} entered again" + (f", {len(done.aside)} not" if done.aside else ""))


# -- `lab runs` and `lab compare`: lists, files, cells with their figure, runs side by side

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
