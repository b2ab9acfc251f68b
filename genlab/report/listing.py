"""Lists for the terminal: tasks and examples. No torch is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genlab.errors import UserError
from genlab.spec import Scalar
from genlab.tasks import Task, make, names, task_class

__all__ = ["show_examples", "show_tasks"]

_USUAL_LENGTH = 8


def show_tasks(as_json: bool) -> None:
    """Print all tasks, by family."""
    rows = [_task_row(name) for name in names()]
    rows.sort(key=lambda row: (row["family"], row["name"]))
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("task", "asks", "class", "formats", "splits", "source"):
        table.add_column(column, overflow="fold")
    family = ""
    for row in rows:
        if row["family"] != family:
            family = row["family"]
            table.add_row(Text(family, style="bold"))
        formats, splits = "\n".join(row["formats"]), ", ".join(row["splits"])
        table.add_row(row["name"], row["asks"], row["language_class"], formats, splits, row["source"])
    Console().print(table)


def _task_row(name: str) -> dict[str, Any]:
    cls = task_class(name)
    return {
        "name": name,
        "family": cls.family,
        "asks": cls.asks,
        "length_unit": cls.length_unit,
        "language_class": cls.language_class,
        "formats": dict(cls.formats),
        "splits": {split.name: split.about for split in cls.splits.values()},
        "source": cls.source,
    }


def show_examples(
    name: str,
    length: int | None,
    format: str | None,
    split: str,
    n: int,
    seed: int,
    max_len: int | None,
    params: Mapping[str, Scalar],
    as_json: bool,
) -> None:
    """Print examples of a task, each with its answer."""
    if n < 1 or seed < 0:
        raise UserError(f"-n {n} --seed {seed} is not allowed: -n is at least 1, --seed at least 0")
    task = make(name, max_len or max(_USUAL_LENGTH if length is None else length, 1), format, params)
    if length is None:  # the usual one, or the nearest that the task makes
        known = task.lengths_between(split, 0, task.max_len)
        if not len(known):
            raise UserError(
                f"task {name!r} has no example up to length {task.max_len} on split {split!r}; give --length"
            )
        length = int(known[-1])
    examples = task.sample(np.random.default_rng(seed), split, [length] * n)
    pairs = [task.read(examples, row) for row in range(n)]
    if as_json:
        print(json.dumps([{"prompt": " ".join(p), "answer": " ".join(a)} for p, a in pairs], indent=1))
        return
    console = Console()
    about = task.split(split).about
    console.print(f"{task.name}, format {task.format}: {task.formats[task.format]}", highlight=False)
    console.print(f"split {split}: {about}; length {length} ({task.length_unit})\n", highlight=False)
    for prompt, answer in pairs:
        console.print(Text(" ".join(prompt) + " ") + Text(" ".join(answer), style="bold green underline"))
    console.print(f"\n{_scores(task, length)}", highlight=False)


def _scores(task: Task, length: int) -> str:
    shortcuts = "".join(f"; {name.replace('_', ' ')} {score:.3g}" for name, score in task.baseline(length).items())
    return f"exact match by chance {task.chance(length):.3g}{shortcuts}"
