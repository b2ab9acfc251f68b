"""Many runs at once: a grid in progress and done, its cost, lists of runs, checks of a store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from genlab.errors import DamagedFileError, FailedRuns, UserError, unknown
from genlab.forecast.sealing import sealed_damage
from genlab.report.display import print_rows
from genlab.report.figures import save_figure
from genlab.report.output import print_lines
from genlab.report.tables import DERIVED, fields_of, filtered, ordered, run_table, settings_of, summary, with_signals
from genlab.runs.api import Run, grid, load, wanted_runs
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.failures import read_failures
from genlab.runs.gridfile import Grid
from genlab.runs.index import flat_spec
from genlab.runs.maintain import LOST, check_store, lost_runs, named_only, shown
from genlab.runs.progress import Progress, Report
from genlab.runs.repair import Repaired, repair_store
from genlab.runs.status import GridStatus, grid_status
from genlab.runs.store import Store
from genlab.tasks import names, task_class

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


@dataclass(frozen=True)
class GridOutcome:
    """A grid that was trained, by configuration.

    Attributes:
        name: of the grid; status: how far it is; runs: those that ended.
        configurations: `tables.summary` over the settings that vary; empty where none does.
        diverged: runs left out of it, of `count`.
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
        """Name, counts, and a row per run."""
        runs = [{"run_id": run.run_id, "status": run.status, "step": run.step} for run in self.runs]
        return {"grid": self.name, **self.status.as_json(), "runs": runs}

    def print(self, console: Console) -> None:
        """A row per configuration, then how far the grid is."""
        if len(self.configurations):
            rows = [[_cell(value) for value in row] for row in self.configurations.to_numpy()]
            print_rows(console, [name.replace("_", " ") for name in self.configurations.columns], rows)
        diverged = [left_out(self.diverged, self.count)] if self.diverged else []
        hint = f"lab runs --grid {self.name} lists them; --by a,b groups them by setting"
        print_lines(console, [*diverged, self.status.line(), hint])


def train_grid(
    plans: Grid, store: Store, *, report: Report, tick: Callable[[], object], **options: Any
) -> GridOutcome:
    """Train a grid, and sum it up by configuration.

    Runs that fail do not keep the others from being reported: `GridOutcome.failed` says which.

    Args:
        options: further ones of `genlab.runs.api.Options`.

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


def _swept(found: Grid) -> set[str]:
    """The settings in which the configurations of a grid differ: not seeds, nor what follows from other settings."""
    rows = [flat_spec(plan.specs[0].configuration.model_dump(mode="json")) for plan in found.plans]
    names = {name for row in rows for name in row} - set(DERIVED)
    return {name for name in names if any(row.get(name) != rows[0].get(name) for row in rows)}


@dataclass(frozen=True)
class GridProgress:
    """How far a grid is, and what failed of it."""

    name: str
    status: GridStatus

    def as_json(self) -> dict[str, Any]:
        """Name and counts."""
        return {"grid": self.name, **self.status.as_json()}

    def print(self, console: Console) -> None:
        """A line, and one per failure."""
        print_lines(console, [f"{self.name}: {self.status.line()}", *(f.line() for f in self.status.failures)])


def grid_progress(plans: Grid, store: Store) -> GridProgress:
    """How far a grid is; starts nothing."""
    return GridProgress(plans.name, grid_status(store, [spec.run_id for spec, _ in wanted_runs(plans)]))


@dataclass(frozen=True)
class GridCost:
    """What a grid would cost.

    Attributes:
        cost: `runs.estimate.estimate`.
        configurations: a row per configuration: its swept settings, runs, minutes_per_run, minutes.
    """

    cost: dict[str, Any]
    configurations: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**{k: v for k, v in self.cost.items() if k != "minutes"}, "configurations": self.configurations}

    def print(self, console: Console) -> None:
        """A row per configuration, a row per shape of model, then the whole."""
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
            console.print(f"the first {_SHOWN} of {len(self.configurations)} configurations; --json gives all")
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
        total = f"{cost['runs']} runs{done} in {cost['stacks']} stacks on {cost['workers']} workers"
        minutes, hours = 60 * cost["hours"], cost["hours"]
        expected = f"{hours:.1f} hours" if hours >= 2 else f"{minutes:.1f} minutes"
        hours = f"expected: {expected} (from a few measured steps; nothing was started)"
        print_lines(console, [total, hours])


def grid_cost(plans: Grid, store: Store, device: str, workers: int, stack: int) -> GridCost:
    """What a grid would cost, from a few measured steps of each shape of model."""
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


# -- `lab store check` and `lab store repair`


@dataclass(frozen=True)
class StoreCheck:
    """What a check of every file of a store found.

    Attributes:
        damaged, leftovers: file -> what is wrong with it, or why it is not needed.
        lost: run -> the files that hold it, where a damaged record named it.
        unrecorded: group, grid or tag -> runs that it names and no record has.
        runs: how many have a record; None if the records cannot be read.
    """

    damaged: dict[Path, str]
    leftovers: dict[Path, str]
    lost: dict[str, list[str]]
    unrecorded: dict[str, list[str]]
    runs: int | None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        damaged, leftovers = ({str(path): why for path, why in f.items()} for f in (self.damaged, self.leftovers))
        return {
            "damaged": damaged,
            "leftovers": leftovers,
            "lost": self.lost,
            "unrecorded": self.unrecorded,
            "runs": self.runs,
        }

    def print(self, console: Console) -> None:
        """A line per finding, or that all is clean."""
        lines = [f"damaged: {path}: {why}" for path, why in self.damaged.items()]
        lines += [f"left over (lab store compact removes it): {path}: {why}" for path, why in self.leftovers.items()]
        lines += [
            f"not in this store (not trained yet, deleted, or lost without a trace): {shown(runs)} of {name}"
            for name, runs in self.unrecorded.items()
        ]
        if not self.damaged:
            but = ", but leftovers" if self.leftovers else ""
            lines.append(f"clean: {self.runs} runs, every file as it was written{but}")
        print_lines(console, lines)


def store_check(store: Store) -> StoreCheck:
    """Read every file of a store and compare it with its checksum."""
    damaged, leftovers = check_store(store)
    damaged = {**sealed_damage(store), **damaged}  # what is said of a single file is more precise
    try:
        runs = len(store.index.runs)
    except (DamagedFileError, OSError):
        return StoreCheck(damaged, leftovers, {}, {}, None)
    lost = lost_runs(store) if damaged.get(store.path / "commits", "").startswith("no record") else {}
    unrecorded = {} if store.named.damage() else named_only(store)
    places = {run: sorted(files) for run, files in sorted(lost.items())}
    return StoreCheck(damaged, leftovers, places, unrecorded, runs)


@dataclass(frozen=True)
class StoreRepair:
    """What `repair_store` did, in which store."""

    store: Path
    done: Repaired

    def as_json(self) -> dict[str, Any]:
        """Runs entered again, runs put aside with the reason, files put back."""
        done = self.done
        return {"entered": done.entered, "aside": done.aside, "returned": [str(path) for path in done.returned]}

    def print(self, console: Console) -> None:
        """A line per file and run."""
        done = self.done
        lines = [f"put back: {path}" for path in done.returned]
        lines += [
            f"not entered: run {run}: {why}; what is left of it is in {self.store / LOST}"
            for run, why in done.aside.items()
        ]
        count = "no run" if not done.entered else shown(done.entered)
        lines.append(f"{count} entered again" + (f", {len(done.aside)} not" if done.aside else ""))
        print_lines(console, lines)


def store_repair(store: Store) -> StoreRepair:
    """Enter lost runs of a store again, from their weights."""
    return StoreRepair(store.path, repair_store(store))


# -- `lab runs`: lists, files, configurations with their figure

_SHOWN = 200
"""Rows that a terminal is shown."""


@dataclass(frozen=True)
class RunList:
    """Runs of a store.

    Attributes:
        runs: `tables.run_table`, a row per run.
        failures: stacks that failed, a line each; they have no row.
        fields: columns that were asked for by a condition or an order.
        latest: whether the rows are by age, so that of many the last are shown.
        of: how many runs they were picked from.
    """

    runs: pd.DataFrame
    failures: list[str]
    fields: Sequence[str] = ()
    latest: bool = True
    of: int = 0

    @property
    def rows(self) -> pd.DataFrame:
        """What is exported."""
        return self.runs

    def as_json(self) -> list[dict[str, Any]]:
        """A row per run, all fields."""
        return json.loads(self.runs.to_json(orient="records"))

    def print(self, console: Console) -> None:
        """What the runs have in common in a line, then a row per run: what varies, and their accuracy."""
        if self.runs.empty:
            console.print(none_match(self.of) or "no runs yet; `lab train` makes some", highlight=False)
            return
        shown = self.runs.tail(_SHOWN) if self.latest else self.runs.head(_SHOWN)
        columns = _columns(shown, self.fields)
        print_lines(console, [_in_common(shown)])
        told = shown[list(columns)].astype(object)
        for name in ("exact_match_in", "exact_match_out"):
            told[name] = ["-" if pd.isna(value) else f"{value:.3f}" for value in shown[name]]
        rows = [[_cell(value) for value in row] for row in told.to_numpy(object)]
        print_rows(console, list(columns.values()), rows)
        if len(self.runs) > _SHOWN:
            which = "last" if self.latest else "first"
            console.print(f"the {which} {_SHOWN} of {len(self.runs):,} runs; --csv and --parquet FILE give all")


def none_match(of: int) -> str:
    """What to say where none of so many runs was picked; '' if there were none to pick from."""
    return f"0 of {of:,} run{'s' if of > 1 else ''} match" if of else ""


@dataclass(frozen=True)
class Configurations:
    """Runs grouped by settings: `tables.summary`.

    Attributes:
        by: the settings; rows: a row per configuration.
        diverged: runs left out of the medians, of `count`; failures: as in `RunList`.
    """

    by: list[str]
    rows: pd.DataFrame
    diverged: list[str]
    count: int
    failures: list[str]

    def as_json(self) -> list[dict[str, Any]]:
        """A row per configuration."""
        return json.loads(self.rows.to_json(orient="records"))

    def print(self, console: Console) -> None:
        """A table."""
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
    """The runs of a store, or of a group or grid, that satisfy a condition.

    Args:
        sort: a field to order by, `-FIELD` largest first; limit: how many runs (`tables.ordered`).
        signals: whether stored signals are columns too; they are wherever a condition, the order or `fields` names
            one.
        fields: further fields that will be asked for.

    Raises:
        UserError: an unknown task, group or field, or a condition that cannot be read.
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
"""Settings that get a column in a list of runs; where more vary, `lab runs --csv` tells them."""


def _columns(runs: pd.DataFrame, asked: Sequence[str]) -> dict[str, str]:
    """Column -> heading of a list of runs: the settings that vary, and what was asked for."""
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
    """What all runs of a list have in common, of what most ask for."""
    told = {"task": "", "format": "", "train_len": "trained to length ", "n_layers": "", "d_model": "d_model "}
    told |= {"positions": "", "step": ""}
    after = {"n_layers": " layers", "positions": " positions", "step": " steps"}
    same = {name: runs[name].iloc[0] for name in told if runs[name].nunique() == 1}
    return ", ".join(f"{told[name]}{value}{after.get(name, '')}" for name, value in same.items())


def figure_folder(store: Store, name: str | None) -> Path:
    """Where figures about a group or grid go: into its folder; those about other runs, into the store."""
    return store.named.folder(name) if name in store.groups() else store.path


def configurations(runs: RunList, by: Sequence[str]) -> Configurations:
    """Runs grouped by settings."""
    diverged = runs.runs.loc[runs.runs["status"] == "diverged", "run_id"].tolist()
    return Configurations(list(by), summary(runs.runs, by), diverged, len(runs.runs), runs.failures)


def _cell(value: object) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)


def draw_configurations(cells: pd.DataFrame, by: Sequence[str], path: Path) -> None:
    """The configurations of a grid: fraction of runs that fit, and exact match beyond (median and range)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 + 0.36 * len(cells)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    names = [", ".join(f"{name} {row[name]}" for name in by) for row in cells.to_dict("records")]
    places = range(len(cells))
    for panel, middle, low, high, title in (
        (left, "fit", "fit_low", "fit_high", "fraction of runs that fit (95 %)"),
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
    save_figure(figure, path)
