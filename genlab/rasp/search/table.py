"""The committed table of search results: `lab rasp search --table` writes it, `lab rasp predict` shows it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from genlab.errors import UserError
from genlab.rasp.search.run import SearchResult

_FILE = "search/table.json"
_KEPT = (
    "task",
    "format",
    "grammar",
    "operations",
    "excluded",
    "program",
    "behaviors",
    "candidates",
    "batches",
    "inputs",
)
_KEY = ("task", "format", "grammar")


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a table.

    Raises:
        UserError: the file is not a table of search results.
    """
    try:
        rows = json.loads(file.read_text("utf-8"))
        if not all(set(_KEPT) <= set(row) for row in rows):
            raise ValueError("a row lacks a column")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--table {str(file)!r} is not a table of search results: {error}") from None
    return rows


def add_to(file: Path, result: SearchResult) -> None:
    """Write a result into a table, in place of what was known of the same task, format and grammar.

    A bound that is lower than the known one, or no program where one is known, is not written.
    """
    rows = rows_of(file) if file.exists() else []
    plain = result.row()
    new = {name: plain[name] for name in _KEPT} | {"behaviors": plain["behaviors"][-1] if plain["behaviors"] else 1}
    same = [row for row in rows if all(row[name] == new[name] for name in _KEY)]
    if any(row["operations"] or row["excluded"] > new["excluded"] for row in same) and not new["operations"]:
        return
    kept = [row for row in rows if row not in same]
    document = sorted([*kept, new], key=lambda row: [row[name] for name in _KEY])
    file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def searched(task: str, format: str) -> list[dict[str, Any]]:
    """The rows of the package's table for one task and format."""
    path = files("genlab.rasp").joinpath(_FILE)
    return [row for row in json.loads(path.read_text("utf-8")) if (row["task"], row["format"]) == (task, format)]
