"""Commands about tasks: tasks, show, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genlab.options import (
    FIGURE,
    TASK,
    AsJson,
    Format,
    Params,
    Plugin,
    output,
    parse_params,
    register,
)
from genlab.runs.gridfile import parse_range
from genlab.text import parts_of


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    register(app, tasks, "lab tasks", "lab tasks --json")
    register(app, show, "lab show addition --format reversed-hints", "lab show maze --png maze.png")
    register(
        app,
        export,
        "lab export copy --out copy.parquet -n 100000",
        "lab export sort --out sort.parquet --lengths 1:31",
    )


def tasks(plugin: Plugin = None, as_json: AsJson = False) -> None:
    """List tasks by family: question, language class, formats, splits and paper."""
    from genlab.report.listing import task_list
    from genlab.report.output import show as show_result

    show_result(task_list(), as_json)


def show(
    task: Annotated[str, typer.Argument(help="a task (see: lab tasks)")],
    length: Annotated[
        int | None, typer.Option("--length", help="length of the examples (default: 8 or less)", rich_help_panel=TASK)
    ] = None,
    format: Annotated[str | None, typer.Option("--format", help="only this format", rich_help_panel=TASK)] = None,
    split: Annotated[str | None, typer.Option("--split", help="only this split", rich_help_panel=TASK)] = None,
    n: Annotated[int | None, typer.Option("-n", help="examples of each (default: 3 or fewer)")] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the examples")] = 0,
    max_len: Annotated[
        int | None, typer.Option("--max-len", help="length that the vocabulary supports", rich_help_panel=TASK)
    ] = None,
    param: Params = None,
    png: Annotated[
        Path | None,
        output("--png", help="also draw the first example to this file (mazes)", endings=FIGURE),
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Print examples with their answers marked, of every format and split or of the ones named."""
    from genlab.report.listing import Asked, example_list
    from genlab.report.output import show as show_result

    asked = Asked(task, length, format, split, n, seed, max_len, parse_params(param or []))
    show_result(example_list(asked, png), as_json)


def export(
    task: Annotated[str, typer.Argument(help="a task (see: lab tasks)")],
    out: Annotated[Path, output("--out", "-o", help="the .parquet file to write", endings=(".parquet",))],
    n: Annotated[int, typer.Option("-n", help="examples of each split")] = 10_000,
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths",
            help="1:31 is 1 to 30, equally likely (default: the training lengths, as drawn in training)",
            rich_help_panel=TASK,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="comma-separated splits to draw from", rich_help_panel=TASK)
    ] = "id",
    format: Format = None,
    param: Params = None,
    max_len: Annotated[
        int | None,
        typer.Option("--max-len", help="length that the vocabulary supports", rich_help_panel=TASK),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the examples")] = 0,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Write examples of a task to a Parquet file, for training elsewhere."""
    from genlab.report.output import show as show_result
    from genlab.runs.elsewhere import export as export_task

    result = export_task(
        task,
        out,
        n,
        splits=parts_of(split),
        lengths=None if lengths is None else parse_range(lengths, "--lengths"),
        format=format,
        params=parse_params(param or []),
        max_len=max_len,
        seed=seed,
    )
    show_result(result, as_json)
