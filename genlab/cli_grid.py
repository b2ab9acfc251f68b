"""Commands for hundreds of runs: grid, compare, tag, delete, and those of a store. Heavy imports are inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from genlab.errors import UserError
from genlab.options import StoreOption

Where = StoreOption
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, nothing else")]

store_app = typer.Typer(
    help="Look after a store: check it, enter lost runs again, make many small files few.",
    no_args_is_help=True,
)


def add_to(app: typer.Typer) -> None:
    """Give a command line these commands."""
    for command in (grid, compare, tag, delete):
        app.command()(command)
    app.add_typer(store_app, name="store")


def grid(
    file: Annotated[Path, typer.Argument(help="a grid file (see recipes/)")],
    status: Annotated[bool, typer.Option("--status", help="say how far the grid is, and start nothing")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="runs, stacks, memory, hours from a few measured steps; start nothing"),
    ] = False,
    store: Where = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")] = "auto",
    workers: Annotated[int, typer.Option("--workers", min=0, help="processes on a CPU; 0: one a core")] = 0,
    stack: Annotated[
        int, typer.Option("--stack", min=0, help="runs a stack; 0: one on a CPU, by measuring on CUDA")
    ] = 0,
    checkpoint_minutes: Annotated[
        float, typer.Option("--checkpoint-minutes", min=0, help="how often where a stack stands is kept")
    ] = 1.0,
    executor: Annotated[str, typer.Option("--executor", help="local, or ray (a cluster)")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="of the Ray cluster; auto: the one here")] = None,
    again: Annotated[bool, typer.Option("--again", help="train anew what is there already")] = False,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", help="a Python file that registers tasks")] = None,
    as_json: AsJson = False,
) -> None:
    """Train every run of a grid file; stopped or killed at any moment, the same command goes on."""
    from genlab.runs.gridfile import read_grid
    from genlab.tasks import load_plugin

    for path in plugin or []:
        load_plugin(path)
    if executor not in ("local", "ray"):
        raise UserError(f"--executor {executor!r} is not allowed (allowed: local, ray)")
    if address is not None and executor != "ray":
        raise UserError("--address is of a Ray cluster; it goes with --executor ray")
    found = read_grid(file)
    from genlab.report.grid import dry_run_and_show, grid_and_show, show_status

    if status:
        show_status(found, store, as_json)
    elif dry_run:
        dry_run_and_show(found, store, device, workers, stack, as_json)
    else:
        where: Literal["local", "ray"] = "ray" if executor == "ray" else "local"
        options = {"device": device, "workers": workers, "stack": stack, "executor": where, "address": address}
        grid_and_show(found, store, as_json, **options, checkpoint_minutes=checkpoint_minutes, again=again)


def compare(
    runs: Annotated[list[str], typer.Argument(help="two or more runs, groups, grids or tags")],
    store: Where = None,
    as_json: AsJson = False,
) -> None:
    """Runs or groups side by side: what differs in their settings, and exact match by length."""
    from genlab.report.grid import show_comparison

    show_comparison(runs, store, as_json)


def tag(
    name: Annotated[str, typer.Argument(help="the tag; it can be given wherever runs are")],
    runs: Annotated[list[str], typer.Argument(help="runs, groups, grids or tags")],
    remove: Annotated[bool, typer.Option("--remove", help="take the runs out of it instead")] = False,
    store: Where = None,
) -> None:
    """Call some runs by a name of your own."""
    from genlab.runs.store import Store

    kept = Store(store)
    ids = [run for text in runs for run in kept.find(text)]
    print(f"{name}: {len(kept.named.tag(name, ids, remove))} runs")


def delete(
    runs: Annotated[list[str], typer.Argument(help="runs, groups, grids or tags")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    store: Where = None,
) -> None:
    """Delete runs with their weights and evaluations."""
    from genlab.runs.failures import forget
    from genlab.runs.maintain import delete_runs
    from genlab.runs.store import Store

    kept = Store(store)
    ids = list(dict.fromkeys(run for text in runs for run in kept.find(text)))
    if not yes and not typer.confirm(f"delete {len(ids)} runs for good?"):
        raise UserError("nothing was deleted")
    delete_runs(kept, ids)
    forget(kept.path, [run for text in runs for run in kept.named.runs(text) or ()])  # those that never came to be
    print(f"deleted {len(ids)} runs")


@store_app.command()
def check(store: Where = None, as_json: AsJson = False) -> None:
    """Read every file of a store: checksums, lost records, files that no commit names. Status 1 for damage."""
    from genlab.report.grid import check_and_show

    if not check_and_show(store, as_json):
        raise typer.Exit(1)


@store_app.command()
def repair(store: Where = None, as_json: AsJson = False) -> None:
    """Enter runs again whose record was lost, from their weights; put the rest of them aside. Deletes nothing."""
    from genlab.report.grid import repair_and_show

    repair_and_show(store, as_json)


@store_app.command()
def compact(store: Where = None) -> None:
    """Make many small parts few, and take away what killed processes left; runs may go on meanwhile."""
    from genlab.runs.maintain import compact_store
    from genlab.runs.store import Store

    before, after = compact_store(Store(store))
    print(f"{before} parts and records, now {after}")
