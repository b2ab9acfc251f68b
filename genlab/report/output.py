"""Output of every command: its result as text, or as one JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console


class Result(Protocol):
    """Result of the library call behind a command."""

    def as_json(self) -> Any:
        """Return everything as plain data."""
        ...

    def print(self, console: Console) -> None:
        """Print everything as text."""
        ...


@dataclass(frozen=True)
class WrittenFile:
    """A file that was written; `rows`: number of rows of a table."""

    path: Path
    rows: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return file and number of rows."""
        return {"file": str(self.path), "rows": self.rows}

    def print(self, console: Console) -> None:
        """Print one line."""
        print_lines(console, [str(self.path) if self.rows is None else f"{self.rows} rows: {self.path}"])


def show(result: Result, as_json: bool = False) -> None:
    """Print a result to standard output."""
    if as_json:
        print(json.dumps(finite(result.as_json()), indent=1))
    else:
        result.print(Console(highlight=False))


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines verbatim, without wrapping, highlighting or markup."""
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
