"""Text helpers: counts with their noun, and rows in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "layer"), counted(1200, "run")
    ('1 layer', '1,200 runs')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def columns_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align rows of text in columns."""
    every = [tuple(head), *map(tuple, rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in every]


def parts_of(text: str) -> list[str]:
    """Return the parts of a comma-separated list, each once, without spaces around them.

    >>> parts_of("id, far,id"), parts_of("")
    (['id', 'far'], [''])
    """
    return list(dict.fromkeys(part.strip() for part in text.split(",")))
