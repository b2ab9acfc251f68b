"""`lab grid` as the terminal shows it: progress over the whole grid, its status, a dry run; and `lab store check`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from genlab.errors import FailedRuns
from genlab.report.display import print_rows, print_unless_told
from genlab.report.run_table import run_table, summary
from genlab.runs.api import grid, load
from genlab.runs.devices import pick_device
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.gridfile import Grid
from genlab.runs.grids import wanted_runs, without_steps
from genlab.runs.leftovers import LOST, shown
from genlab.runs.maintain import check_store, lost_runs, named_only
from genlab.runs.progress import Progress
from genlab.runs.status import grid_status
from genlab.runs.store import Store

__all__ = ["check_and_show", "dry_run_and_show", "grid_and_show", "repair_and_show", "show_status"]

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
