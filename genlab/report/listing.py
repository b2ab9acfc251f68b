"""The list of tasks for the terminal. No torch is imported."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from genlab.tasks import names, task_class

__all__ = ["NEEDS_GPU", "show_tasks"]

NEEDS_GPU = "needs a GPU: not learned in ten minutes on two cores (docs/tasks.md)"


def show_tasks(as_json: bool) -> None:
    """Print all tasks, by family: name, class in the Chomsky hierarchy, what is asked, formats, splits, paper."""
    rows = sorted((_task_row(name) for name in names()), key=lambda row: (row["family"], row["name"]))
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    console = Console(highlight=False)
    for family, members in groupby(rows, key=lambda row: row["family"]):
        console.print(Text(family, style="bold underline"))
        for row in members:
            language = f" ({row['language_class']})" if row["language_class"] else ""
            console.print(Padding(Text.assemble((row["name"], "bold"), language, f"  {row['asks']}"), (0, 0, 0, 2)))
            about = [f"formats: {', '.join(row['formats'])}", f"splits: {', '.join(row['splits'])}", row["source"]]
            about += [NEEDS_GPU] * row["needs_gpu"]
            console.print(Padding(Text("\n".join(about)), (0, 0, 0, 6)))
        console.print()
    console.print("lab show TASK prints examples of each format and split", style="dim")


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
        "needs_gpu": cls.needs_gpu,
    }
