"""One way out for every command: a result is printed as text for people, or as one JSON document for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, Protocol

from rich.console import Console


class Result(Protocol):
    """What the library call behind a command returns."""

    def as_json(self) -> Any:
        """All of it as plain data."""
        ...

    def print(self, console: Console) -> None:
        """All of it for a reader."""
        ...


def show(result: Result, as_json: bool = False) -> None:
    """Print a result to standard output."""
    if as_json:
        print(json.dumps(finite(result.as_json()), indent=1))
    else:
        result.print(Console(highlight=False))


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Lines as they are: not wrapped, not highlighted, square brackets no markup."""
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def finite(value: Any) -> Any:
    """The value with None in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
