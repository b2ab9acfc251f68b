"""Commands for hundreds of runs: grid, compare, tag, delete, and those of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genlab.errors import UserError, unknown
from genlab.help import Command, Group
from genlab.loggers.record import chosen_loggers, log_runs
from genlab.options import (
    FIGURE,
    TRAINING,
    AsJson,
    Device,
    Logger,
    Plugin,
    StoreOption,
    examples,
    note,
    output,
    parse_params,
    register,
)
from genlab.text import counted, parts_of

if TYPE_CHECKING:
    from genlab.runs.store import Store

store_app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    help="Maintain a store: check it, recover lost runs, merge small files.",
    no_args_is_help=True,
    epilog=examples("lab store check", "lab store compact"),
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    register(app, grid, "lab grid recipes/brackets.toml --dry-run", "lab grid FILE --status")
    register(app, compare, "lab compare GRID --by positions", "lab compare GRID-A GRID-B --at 30")
    register(app, tag, "lab tag good 3fa2 9c01", "lab tag deep --where 'n_layers > 2'")
    register(app, delete, "lab delete 3fa2", "lab delete GRID --yes")
    app.add_typer(store_app, name="store")


def grid(
    file: Annotated[
        Path | None, typer.Argument(help="a grid file, or a recipe included with genlab: recipes/smoke.toml, smoke")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="print a grid file with every key")] = False,
    status: Annotated[bool, typer.Option("--status", help="show progress of the grid, and start nothing")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="estimate stacks, memory and hours from a few steps; start nothing"),
    ] = False,
    store: StoreOption = None,
    device: Device = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="CPU processes; 0: one per core", rich_help_panel=TRAINING)
    ] = 0,
    stack: Annotated[
        int,
        typer.Option(
            "--stack", min=0, help="runs per stack; 0: one on a CPU, measured on CUDA", rich_help_panel=TRAINING
        ),
    ] = 0,
    checkpoint_minutes: Annotated[
        float,
        typer.Option("--checkpoint-minutes", min=0, help="minutes between checkpoints", rich_help_panel=TRAINING),
    ] = 1.0,
    executor: Annotated[
        str, typer.Option("--executor", help="local, ray (a cluster) or slurm", rich_help_panel=TRAINING)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option("--address", help="address of a Ray cluster; auto: the local one", rich_help_panel=TRAINING),
    ] = None,
    slurm_partition: Annotated[
        str | None, typer.Option("--slurm-partition", help="Slurm partition", rich_help_panel=TRAINING)
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm",
            metavar="KEY=VALUE",
            help="a submitit parameter, such as time=240 (minutes)",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="retrain runs that already exist", rich_help_panel=TRAINING)
    ] = False,
    logger: Logger = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Train every run of a grid file; after an interruption or a crash, the same command resumes."""
    from genlab.runs.gridfile import grid_file, read_grid

    if example:
        return print(grid_file("example").read_text("utf-8"), end="")
    if file is None:
        raise UserError("lab grid takes a grid file (lab grid --example prints one)")
    where = _executor(executor, address, slurm_partition, slurm)
    loggers = chosen_loggers(logger)
    plans = read_grid(file)
    from rich.console import Console

    from genlab.report.grid import GridDisplay, grid_cost, grid_progress, train_grid
    from genlab.report.output import show
    from genlab.runs.api import wanted_runs, without_steps
    from genlab.runs.devices import pick_device
    from genlab.runs.sources import trained_otherwise
    from genlab.runs.store import Store

    kept = Store(store)
    if status:
        return show(grid_progress(plans, kept), as_json)
    if dry_run:
        return show(grid_cost(plans, kept, device, workers, stack), as_json)
    if where["executor"] == "local":
        pick_device(device)  # report an unavailable device first
    wanted = wanted_runs(plans)
    ids = [spec.run_id for spec, _ in wanted]
    note(
        f"grid {plans.name}: {counted(len(plans.plans), 'configuration')}, {counted(len(ids), 'run')}",
        trained_otherwise(kept, [spec for spec, _ in wanted]),
    )
    lacking = "" if again else without_steps(kept, wanted)
    note(lacking)
    display = GridDisplay(kept, ids, Console(stderr=True))
    try:
        result = train_grid(
            plans,
            kept,
            report=display,
            tick=display.tick,
            device=device,
            workers=workers,
            stack=stack,
            checkpoint_minutes=checkpoint_minutes,
            again=again,
            **where,
        )
    finally:
        display.close()
    after = without_steps(kept, wanted)
    note("" if after == lacking else after)
    show(result, as_json)
    note(*log_runs(loggers, kept, plans.name, ids))
    if result.failed:
        raise result.failed
    return None


def _executor(name: str, address: str | None, partition: str | None, slurm: list[str] | None) -> dict[str, Any]:
    """The options of the executor (`genlab.runs.api.Options`).

    Raises:
        UserError: an unknown executor, an option of a different executor, or one that submitit does not know.
    """
    if name not in ("local", "ray", "slurm"):
        raise unknown("executor", name, ("local", "ray", "slurm"))
    if address is not None and name != "ray":
        raise UserError("--address requires --executor ray")
    if (partition is not None or slurm) and name != "slurm":
        flag = "--slurm-partition" if partition is not None else "--slurm"
        raise UserError(f"{flag} requires --executor slurm")
    if name == "local":
        return {"executor": "local"}
    if name == "ray":
        return {"executor": "ray", "address": address}
    given = parse_params(slurm or [], "--slurm") | ({} if partition is None else {"partition": partition})
    return {"executor": "slurm", "slurm": given}


def compare(
    runs: Annotated[list[str], typer.Argument(help="runs, groups, grids or tags: two or more, or one and --by")],
    by: Annotated[
        str | None, typer.Option("--by", help="comma-separated settings that define configurations")
    ] = None,
    at: Annotated[
        int | None, typer.Option("--at", help="length to compare at (default: mean over lengths beyond training)")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="split to compare on (default: unshifted)")] = None,
    figure: Annotated[
        Path | None, output("--figure", help="file of the figure (default: in the group folder)", endings=FIGURE)
    ] = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Compare configurations, runs or groups: exact match by length, differences paired by seed, with a figure."""
    from genlab.report.compare import comparison
    from genlab.report.grid import figure_folder
    from genlab.report.output import show
    from genlab.runs.store import Store

    kept, fields = Store(store), parts_of(by) if by else []
    if fields or len(runs) > 1:  # resolve `last` once
        runs = [kept.named.resolve(text) for text in runs]
    result = comparison(runs, kept, by=fields, at=at, split=split)
    for text, line in result.diverged.items():
        note(f"{text}: {line}")
    folder = figure_folder(kept, runs[0] if len(runs) == 1 else None)
    drawn = figure or folder / f"compare_{'_'.join(fields or result.names)[:60].replace('/', '_')}.png"
    result.draw(drawn)
    show(result, as_json)
    note(f"figure: {drawn}")


def tag(
    name: Annotated[str, typer.Argument(help="the tag; commands take it in place of runs")],
    runs: Annotated[list[str] | None, typer.Argument(help="runs, groups, grids or tags (with --where: all)")] = None,
    where: Annotated[str | None, typer.Option("--where", help="only runs that match, as in lab runs --where")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="remove the runs from the tag instead")] = False,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Name a set of runs."""
    if not runs and where is None:
        raise UserError("lab tag takes runs or --where")
    from genlab.report.output import show
    from genlab.report.upkeep import tag_runs
    from genlab.runs.store import Store

    show(tag_runs(Store(store), name, runs or [], where, remove), as_json)


def delete(
    runs: Annotated[list[str], typer.Argument(help="runs, groups, grids or tags")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Delete runs with their weights and evaluations."""
    from genlab.report.output import show
    from genlab.report.upkeep import delete_named
    from genlab.runs.store import Store

    if as_json and not yes:
        raise UserError("--json requires --yes: it cannot ask for confirmation")

    def sure(count: int) -> bool:
        return yes or typer.confirm(f"permanently delete {counted(count, 'run')}?")

    try:
        show(delete_named(Store(store), runs, sure), as_json)
    except typer.Abort:  # no terminal to ask, or Ctrl-C
        print()
        raise UserError("nothing was deleted: no confirmation was given (--yes deletes without asking)") from None


def _existing(path: Path | None) -> Store:
    """An existing store: maintenance never creates one."""
    from genlab.runs.store import Store

    kept = Store(path)
    kept.must_exist()
    return kept


@store_app.command(cls=Command, epilog=examples("lab store check", "lab store check --json"))
def check(store: StoreOption = None, as_json: AsJson = False) -> None:
    """Verify every file of a store: checksums, lost records, unreferenced files. Exit status 1 if damaged."""
    from genlab.report.output import show
    from genlab.report.upkeep import store_check

    result = store_check(_existing(store))
    show(result, as_json)
    if result.damaged:
        raise typer.Exit(1)


@store_app.command(cls=Command, epilog=examples("lab store repair", "lab store repair --json"))
def repair(store: StoreOption = None, as_json: AsJson = False) -> None:
    """Restore runs whose record was lost from their weights; set the others aside. Deletes nothing."""
    from genlab.report.output import show
    from genlab.report.upkeep import store_repair

    show(store_repair(_existing(store)), as_json)


@store_app.command(cls=Command, epilog=examples("lab store compact", "lab store compact --store runs"))
def compact(store: StoreOption = None, as_json: AsJson = False) -> None:
    """Merge small files and remove leftovers of killed processes; runs may continue meanwhile."""
    from genlab.report.output import show
    from genlab.report.upkeep import store_compaction

    show(store_compaction(_existing(store)), as_json)
