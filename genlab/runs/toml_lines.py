"""A TOML file with the line of every key: `tomllib` keeps values alone, and a fault is mended where it stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from genlab.errors import UserError

__all__ = ["Toml", "read_toml"]

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


class Toml:
    """What a TOML file says, and where.

    >>> toml = Toml("seeds = 3\\n[base]\\ntask = 'sort'\\n[[exclude]]\\nlr = 1.0\\n[[exclude]]\\nlr = 2.0", "x.toml")
    >>> toml.values["base"], toml.line("base", "task"), toml.line("exclude", "1", "lr"), toml.line("base", "none")
    ({'task': 'sort'}, 3, 7, 2)
    """

    def __init__(self, text: str, name: str):
        """Raises `UserError` where the text is no TOML, with the line."""
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{name} is not TOML: {error}") from None
        self.name, self.text = name, text
        self._lines = _lines(text)

    def line(self, *path: str) -> int:
        """The line of a key, or of the nearest table that holds it; 1 where there is none."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines[path] if path else 1


def read_toml(path: Path) -> Toml:
    """Read a file. Raises `UserError` if it is not there, or no TOML."""
    try:
        return Toml(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise UserError(f"grid file {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"grid file {str(path)!r} is not text in UTF-8") from None


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Path of each table and key -> line; the tables of an array are numbered from 0."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                found.setdefault(table, number)
                table += (str(sum(path[:-1] == table and path[-1].isdigit() for path in found)),)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            for end in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:end], number)
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
