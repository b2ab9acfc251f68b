"""`lab reproduce`: published findings, reproduced and judged by rules fixed in advance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genlab.errors import UserError
from genlab.options import OUTPUT, TRAINING, AsJson, Device, Plugin, StoreOption, note, register


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    register(app, reproduce, "lab reproduce and-fixed-bits", "lab reproduce --all --budget 2h")


def reproduce(
    name: Annotated[str | None, typer.Argument(help="claim or claim file (default: list all claims)")] = None,
    check: Annotated[bool, typer.Option("--check", help="judge the runs in the store; train nothing")] = False,
    all_claims: Annotated[bool, typer.Option("--all", help="all open claims, cheapest first")] = False,
    budget: Annotated[
        str | None, typer.Option("--budget", help="with --all: processor time, such as 2h or 30m")
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="rewrite the page from committed rows")] = False,
    claims: Annotated[
        Path | None, typer.Option("--claims", help="folder of claim files (default: those included with genlab)")
    ] = None,
    store: StoreOption = None,
    device: Device = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="CPU processes; 0: one per core", rich_help_panel=TRAINING)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="folder of page and rows (default: docs/ of a checkout, else reproduced/)",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce published findings: train the runs of a claim, compare with published values, and judge."""
    if budget is not None and not all_claims:
        raise UserError("--budget requires --all")
    if sum([name is not None, all_claims, page]) > 1:
        raise UserError("lab reproduce takes one of: a claim, --all, --page")
    from genlab.report import reproduce as library
    from genlab.report.output import WrittenFile, show

    seconds = None if budget is None else library.parse_budget(budget)
    folder = library.output_folder(out)
    if page:
        return show(WrittenFile(library.write_page(folder, claims)), as_json)
    if name is None and not all_claims:
        if check:
            raise UserError("--check takes a claim or --all")
        return show(library.ClaimList(library.all_states(folder, claims)), as_json)
    from rich.console import Console

    from genlab.report.grid import GridDisplay
    from genlab.runs.store import Store

    def watch(store: Store, runs: list[str]) -> GridDisplay:
        note(f"{len(runs)} runs, {sum(run in store for run in runs)} of them there already")
        return GridDisplay(store, runs, Console(stderr=True))

    kept = Store(store)
    given: dict[str, Any] = {"folder": claims, "out": folder, "check": check, "device": device}
    given |= {"workers": workers, "watch": watch}
    if name is not None:
        return show(library.reproduce([name], kept, **given), as_json)
    return show(library.reproduce_all(kept, budget=seconds, **given), as_json)
