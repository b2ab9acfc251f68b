"""Commands that look at tasks: tasks, show. Neither imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genlab.options import parse_params

Plugin = Annotated[list[Path] | None, typer.Option("--plugin", help="a Python file that registers tasks")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, nothing else")]


def add_to(app: typer.Typer) -> None:
    """Give a command line these commands."""
    for command in (tasks, show):
        app.command()(command)


def tasks(plugin: Plugin = None, as_json: AsJson = False) -> None:
    """List the tasks by family: what each asks, its class, formats, splits and paper."""
    _load(plugin)
    from genlab.report.listing import show_tasks

    show_tasks(as_json)


def show(
    task: Annotated[str, typer.Argument(help="a task (see: lab tasks)")],
    length: Annotated[
        int | None, typer.Option("--length", help="length of the examples (default: 8 or less)")
    ] = None,
    format: Annotated[str | None, typer.Option("--format", help="only this format")] = None,
    split: Annotated[str | None, typer.Option("--split", help="only this split")] = None,
    n: Annotated[int | None, typer.Option("-n", help="how many examples of each (default: 3, or fewer)")] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the examples")] = 0,
    max_len: Annotated[int | None, typer.Option("--max-len", help="length the vocabulary is made for")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="a parameter")] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="also draw the first example there (png, svg or pdf; mazes)")
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Print examples as a person reads them, answers marked: of every format and split, or of those named."""
    _load(plugin)
    from genlab.report.listing import Asked, show_examples

    asked = Asked(task, length, format, split, n, seed, max_len, parse_params(param or []))
    show_examples(asked, png, as_json)


def _load(files: list[Path] | None) -> None:
    from genlab.tasks import load_plugin

    for file in files or []:
        load_plugin(file)
