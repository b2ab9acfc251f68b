"""Rows of text in columns, for whatever prints a table without a library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def columns_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align rows of text in columns."""
    every = [tuple(head), *map(tuple, rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in every]
