"""Many runs at once: progress, results and cost of a grid, lists of runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from genlab.errors import FailedRuns, UserError, unknown
from genlab.report.display import print_rows
from genlab.report.figures import save_figure
from genlab.report.output import WrittenFile, print_lines
from genlab.report.tables import DERIVED, fields_of, filtered, ordered, run_table, settings_of, summary, with_signals
from genlab.runs.api import Run, grid, load, wanted_runs
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.failures import read_failures
from genlab.runs.gridfile import Grid
from genlab.runs.index import flat_spec
from genlab.runs.progress import Progress, Report
from genlab.runs.status import GridStatus, grid_status
from genlab.runs.store import Store
from genlab.tasks import names, task_class
from genlab.text import counted

_LOOK_SECONDS, _QUIET_SECONDS = 2.0, 10.0


class GridDisplay:
    """One progress line for a whole grid: updated in place on a terminal, otherwise printed every 10 seconds."""

    def __init__(self, store: Store, run_ids: list[str], console: Console):
        self._store, self._ids, self._console = Store(store.path), run_ids, console
        self._checked_at = self._printed_at = time.monotonic()

    def __call__(self, _progress: Progress) -> bool:
        self.tick()
        return True

    def tick(self) -> None:
        now = time.monotonic()
        live = self._console.is_terminal
        if now - self._checked_at < _LOOK_SECONDS or not (live or now - self._printed_at > _QUIET_SECONDS):
            return
        self._checked_at = self._printed_at = now
        line = grid_status(self._store, self._ids).line()
        self._console.print(
            f"\r{line}\x1b[K" if live else line, end="" if live else "\n", highlight=False, markup=False
        )

    def close(self) -> None:
        """End the line."""
        if self._console.is_terminal:
            self._console.print()


@dataclass(frozen=True)
class GridOutcome:
    """Result of training a grid, by configuration.

    Attributes:
        name: name of the grid.
        status: its progress.
        runs: the finished runs.
        configurations: `tables.summary` over the settings that vary; empty if none does.
        diverged: runs left out of it.
        count: number of runs including those.
        failed: the runs that failed, with reasons.
    """

    name: str
    status: GridStatus
    runs: list[Run]
    configurations: pd.DataFrame
    diverged: list[str]
    count: int
    failed: FailedRuns | None

    def as_json(self) -> dict[str, Any]:
        """Return name, counts, and one row per run."""
        runs = [{"run_id": run.run_id, "status": run.status, "step": run.step} for run in self.runs]
        return {"grid": self.name, **self.status.as_json(), "runs": runs}

    def print(self, console: Console) -> None:
        """Print one row per configuration, then the progress of the grid."""
        if len(self.configurations):
            rows = [[_cell(value) for value in row] for row in self.configurations.to_numpy()]
            print_rows(console, [name.replace("_", " ") for name in self.configurations.columns], rows)
        diverged = [left_out(self.diverged, self.count)] if self.diverged else []
        hint = f"lab runs --grid {self.name} lists them; --by a,b groups them by setting"
        print_lines(console, [*diverged, self.status.line(), hint])


def train_grid(
    plans: Grid, store: Store, *, report: Report, tick: Callable[[], object], **options: Any
) -> GridOutcome:
    """Train a grid and summarize it by configuration.

    Runs that fail do not keep the others from being reported; they are listed in `GridOutcome.failed`.

    Args:
        plans: the grid.
        store: where runs are saved.
        report: called with the progress of runs.
        tick: called while waiting.
        options: other options (`genlab.runs.api.Options`).

    Raises:
        UserError, Interrupted: see `genlab.runs.grid`.
    """
    failed: FailedRuns | None = None
    try:
        grid(plans, store=store, report=report, tick=tick, request={"toml": plans.text}, **options)
    except FailedRuns as error:
        failed = error
    ids = [spec.run_id for spec, _ in wanted_runs(plans)]
    table = run_table(store, ids)
    swept = [name for name in table.columns if name in _swept(plans) and table[name].nunique(dropna=False) > 1]
    columns = [*swept, "runs", "diverged", "fit", "out_median", "out_low", "out_high"]
    by_setting = summary(table, swept)[columns] if swept else pd.DataFrame()
    ended = [load(run, store) for run in ids if run in store]
    diverged = set_aside(store, table["run_id"])[1]
    return GridOutcome(plans.name, grid_status(store, ids), ended, by_setting, diverged, len(table), failed)


def _swept(plans: Grid) -> set[str]:
    """The settings in which the configurations of a grid differ, without seeds and derived fields."""
    rows = [flat_spec(plan.specs[0].configuration.model_dump(mode="json")) for plan in plans.plans]
    names = {name for row in rows for name in row} - set(DERIVED)
    return {name for name in names if any(row.get(name) != rows[0].get(name) for row in rows)}


@dataclass(frozen=True)
class GridProgress:
    """Progress of a grid, and its failures."""

    name: str
    status: GridStatus

    def as_json(self) -> dict[str, Any]:
        """Return name and counts."""
        return {"grid": self.name, **self.status.as_json()}

    def print(self, console: Console) -> None:
        """Print one line, and one per failure."""
        print_lines(console, [f"{self.name}: {self.status.line()}", *(f.line() for f in self.status.failures)])


def grid_progress(plans: Grid, store: Store) -> GridProgress:
    """Return the progress of a grid; starts nothing."""
    return GridProgress(plans.name, grid_status(store, [spec.run_id for spec, _ in wanted_runs(plans)]))


@dataclass(frozen=True)
class GridCost:
    """Estimated cost of a grid.

    Attributes:
        cost: result of `runs.estimate.estimate`.
        configurations: one row per configuration: its swept settings, runs, minutes_per_run, minutes.
    """

    cost: dict[str, Any]
    configurations: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**{k: v for k, v in self.cost.items() if k != "minutes"}, "configurations": self.configurations}

    def print(self, console: Console) -> None:
        """Print one row per configuration, one per model shape, then the total."""
        cost = self.cost
        shown = self.configurations[:_SHOWN]
        names = dict.fromkeys(name for row in shown for name in row)  # tasks have parameters of their own
        swept = [name for name in names if name not in ("runs", "minutes_per_run", "minutes")]
        table = [
            [*(row.get(k, "-") for k in swept), row["runs"], f"{row['minutes_per_run']:.2f}", f"{row['minutes']:.1f}"]
            for row in shown
        ]
        heads = [*(name.replace("_", " ") for name in swept), "runs", "minutes per run", "minutes"]
        print_rows(console, heads, table, keys=min(1, len(swept)))
        if len(self.configurations) > _SHOWN:
            console.print(f"the first {_SHOWN} of {len(self.configurations)} configurations; --json lists all")
        console.print()
        columns = ("runs", "stacks", "runs per stack", "parameters per run", "memory per stack", "batch")
        columns += ("ms per step", "in bfloat16", "hours")
        rows = [
            [
                *(shape[key] for key in ("runs", "stacks", "stack")),
                f"{shape['parameters']:,}",
                f"{shape['memory_mb']:,.0f} MB",
                shape["batch"],
                *(_ms(shape[key]) for key in ("seconds_a_step", "seconds_a_step_in_bfloat16")),
                f"{shape['hours']:.2f}",
            ]
            for shape in cost["shapes"]
        ]
        print_rows(console, columns, rows)
        done = f", {cost['done']} of them done" if cost["done"] else ""
        runs, stacks, workers = (counted(cost[f"{noun}s"], noun) for noun in ("run", "stack", "worker"))
        total = f"{runs}{done} in {stacks} on {workers}"
        minutes, hours = 60 * cost["hours"], cost["hours"]
        expected = f"{hours:.1f} hours" if hours >= 2 else f"{minutes:.1f} minutes"
        hours = f"estimate: {expected} (from a few measured steps; nothing was started)"
        print_lines(console, [total, hours])


def grid_cost(plans: Grid, store: Store, device: str, workers: int, stack: int) -> GridCost:
    """Estimate the cost of a grid from a few measured steps of each model shape."""
    from genlab.runs.estimate import estimate

    cost = estimate(wanted_runs(plans), store, device, workers, stack)
    swept, rows = _swept(plans), list[dict[str, Any]]()
    for plan in plans.plans:
        configuration = plan.specs[0].configuration
        fields = flat_spec(configuration.model_dump(mode="json"))
        each = cost["minutes"][configuration.run_id]
        counts = {"runs": len(plan.specs), "minutes_per_run": each, "minutes": each * len(plan.specs)}
        rows.append({name: value for name, value in fields.items() if name in swept} | counts)
    return GridCost(cost, rows)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f}"


# -- `lab runs`: lists, files, configurations with their figure

_SHOWN = 200
"""Maximum number of rows on a terminal."""


@dataclass(frozen=True)
class RunList:
    """Runs of a store.

    Attributes:
        runs: `tables.run_table`, one row per run.
        failures: one line per failed stack; its runs have no row.
        fields: columns named by a condition or by the order.
        latest: whether rows are sorted by age, so that the last ones are shown.
        of: number of runs before filtering.
    """

    runs: pd.DataFrame
    failures: list[str]
    fields: Sequence[str] = ()
    latest: bool = True
    of: int = 0

    @property
    def rows(self) -> pd.DataFrame:
        """The rows to export."""
        return self.runs

    def as_json(self) -> list[dict[str, Any]]:
        """Return one row per run, with all fields."""
        return json.loads(self.runs.to_json(orient="records"))

    def print(self, console: Console) -> None:
        """Print what the runs have in common, then one row per run: what varies, and accuracy."""
        if self.runs.empty:
            console.print(none_match(self.of) or "no runs yet; `lab train` trains some", highlight=False)
            return
        shown = self.runs.tail(_SHOWN) if self.latest else self.runs.head(_SHOWN)
        columns = _columns(shown, self.fields)
        print_lines(console, [_in_common(shown)])
        cells = shown[list(columns)].astype(object)
        for name in ("exact_match_in", "exact_match_out"):
            cells[name] = ["-" if pd.isna(value) else f"{value:.3f}" for value in shown[name]]
        rows = [[_cell(value) for value in row] for row in cells.to_numpy(object)]
        print_rows(console, list(columns.values()), rows)
        if len(self.runs) > _SHOWN:
            which = "last" if self.latest else "first"
            console.print(f"the {which} {_SHOWN} of {len(self.runs):,} runs; --csv and --parquet FILE include all")


def none_match(of: int) -> str:
    """A note that none of this many runs matches; '' if there were none."""
    return f"0 of {counted(of, 'run')} match" if of else ""


@dataclass(frozen=True)
class Configurations:
    """Runs grouped by settings: `tables.summary`.

    Attributes:
        by: the settings.
        rows: one row per configuration.
        diverged: runs left out of the medians.
        count: number of runs including those.
        failures: as in `RunList`.
    """

    by: list[str]
    rows: pd.DataFrame
    diverged: list[str]
    count: int
    failures: list[str]

    def as_json(self) -> list[dict[str, Any]]:
        """Return one row per configuration."""
        return json.loads(self.rows.to_json(orient="records"))

    def print(self, console: Console) -> None:
        """Print a table."""
        if self.rows.empty:
            console.print("no runs")
            return
        rows = [[_cell(value) for value in row] for row in self.rows.to_numpy()]
        print_rows(console, [name.replace("_", " ") for name in self.rows.columns], rows)


def run_list(
    store: Store,
    *,
    task: str | None = None,
    grid: str | None = None,
    where: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    signals: bool = False,
    fields: Sequence[str] = (),
) -> RunList:
    """Return the runs of a store, or of a group or grid, that satisfy a condition.

    Args:
        store: the store.
        task: only runs of this task.
        grid: only runs of this grid, group or tag.
        where: a condition (`tables.filtered`).
        sort: a field to sort by; `-FIELD`: descending.
        limit: maximum number of runs (`tables.ordered`).
        signals: include stored signals as columns, as is done if a condition, the order or `fields` names one.
        fields: other fields that will be used.

    Raises:
        UserError: an unknown task, group or field, or an invalid condition.
    """
    known = set(store.runs()["task"]) if task is not None and store.index.runs else set[str]()
    if task is not None and task not in known:  # an unknown name is an error, not an empty list
        try:
            task_class(task)
        except UserError:
            raise unknown("task", task, {*names(), *known}, "lab tasks") from None
    wanted = None if grid is None else store.named.runs(grid)
    failures = [f.line() for f in read_failures(store.path, wanted) if task in (None, f.task)]
    runs = run_table(store, None if grid is None else store.find(grid))
    count = len(runs)
    runs = runs if task is None else runs[runs["task"] == task]
    asked = [*fields_of(where), *([sort.removeprefix("-")] if sort else []), *fields]
    if len(runs) and (signals or any(name not in runs for name in asked)):
        runs = with_signals(store, runs)
    return RunList(ordered(filtered(runs, where), sort, limit), failures, asked, sort is None, count)


_COLUMNS = 6
"""Maximum number of settings with a column in a list of runs; `lab runs --csv` includes all."""


def _columns(runs: pd.DataFrame, asked: Sequence[str]) -> dict[str, str]:
    """Columns of a list of runs with their headings: the settings that vary, and requested fields."""
    varied = [name for name in settings_of(runs) if runs[name].astype(str).nunique() > 1]
    first = [name for name in ("task", "format", "train_len", "positions", "n_layers", "d_model") if name in varied]
    varied = list(dict.fromkeys([*first, *varied]))[:_COLUMNS]
    seeds = ["init_seed"] if (runs["init_seed"] == runs["data_seed"]).all() else ["init_seed", "data_seed"]
    ended = [name for name in ("step", "status") if runs[name].nunique() > 1 or (runs["status"] != "finished").any()]
    names = ["run_id", *varied, *seeds, *ended, "exact_match_in", "exact_match_out", *asked]
    headings = {"run_id": "run", "exact_match_in": "ID acc", "exact_match_out": "OOD acc"}
    headings |= {"init_seed": "seed"} if len(seeds) == 1 else {}
    return {name: headings.get(name, name.replace("_", " ")) for name in dict.fromkeys(names)}


def _in_common(runs: pd.DataFrame) -> str:
    """The most useful settings that all runs of a list have in common."""
    before = {"task": "", "format": "", "train_len": "trained to length ", "n_layers": "", "d_model": "d_model "}
    before |= {"positions": "", "step": ""}
    after = {"n_layers": " layers", "positions": " positions", "step": " steps"}
    same = {name: runs[name].iloc[0] for name in before if runs[name].nunique() == 1}
    return ", ".join(f"{before[name]}{value}{after.get(name, '')}" for name, value in same.items())


def write_rows(rows: pd.DataFrame, path: Path) -> WrittenFile:
    """Write rows to a Parquet file, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(path, index=False)
    return WrittenFile(path, len(rows))


def figure_folder(store: Store, name: str | None) -> Path:
    """Folder of figures: that of a group or grid, or the store for other sets of runs."""
    return store.named.folder(name) if name in store.groups() else store.path


def configurations(runs: RunList, by: Sequence[str]) -> Configurations:
    """Group runs by settings."""
    diverged = runs.runs.loc[runs.runs["status"] == "diverged", "run_id"].tolist()
    return Configurations(list(by), summary(runs.runs, by), diverged, len(runs.runs), runs.failures)


def _cell(value: object) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)


def draw_configurations(cells: pd.DataFrame, by: Sequence[str], path: Path) -> None:
    """Plot the configurations of a grid: fraction of runs that fit, and OOD exact match (median and range)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 + 0.36 * len(cells)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    names = [", ".join(f"{name} {row[name]}" for name in by) for row in cells.to_dict("records")]
    places = range(len(cells))
    for panel, middle, low, high, title in (
        (left, "fit", "fit_low", "fit_high", "fraction of runs that fit (95 %)"),
        (right, "out_median", "out_low", "out_high", "OOD exact match (median, range)"),
    ):
        values = cells[[middle, low, high]].astype(float)
        panel.hlines(places, values[low], values[high], color="#7fb2d1", lw=3)
        panel.plot(values[middle], places, "o", color="#1b4965")
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xlim(-0.03, 1.03)
        panel.spines[["top", "right"]].set_visible(False)
    left.set_yticks(list(places), names)
    left.invert_yaxis()
    save_figure(figure, path)
