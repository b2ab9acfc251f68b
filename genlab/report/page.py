"""A self-contained HTML page with text, tables and charts, by Jinja2 templates that escape all text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from genlab.report.charts import Chart, library

# -- Blocks of a page


@dataclass(frozen=True)
class Text:
    """A paragraph; `dim` for remarks."""

    kind: ClassVar[str] = "text"
    text: str
    dim: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Tokens:
    """A prompt and its answer, as tokens."""

    kind: ClassVar[str] = "tokens"
    heading: str
    prompt: Sequence[str]
    answer: Sequence[str]


@dataclass(frozen=True)
class Charts:
    """Charts side by side, as many as fit."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Table:
    """A sortable table that scrolls separately on narrow screens.

    Attributes:
        head, rows: headings and cells as text; the first column identifies the row.
        caption: its caption, and its name for screen readers.
        cells: index of the setting of each row, which determines its color and its visibility.
        folded: if not empty, the table is collapsed under this text.
        file: if not empty, the table has a text filter and can be downloaded as this CSV file.
        chosen: the column of run ids that can be highlighted in charts; -1: none.
    """

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    cells: Sequence[int] | None = None
    folded: str = ""
    file: str = ""
    chosen: int = -1


Block = Text | Bullets | Tokens | Charts | Table


@dataclass(frozen=True)
class Section:
    """A section of the page, with the name of its anchor."""

    name: str
    heading: str
    blocks: Sequence[Block]

    @property
    def charts(self) -> list[Chart]:
        """Its charts, in order."""
        return [chart for block in self.blocks if isinstance(block, Charts) for chart in block.charts]


# -- Colors of settings, in light and dark mode

_COLORS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff8a3c"),
    ("#009e73", "#2fd0a2"),
    ("#b0508a", "#e79bc6"),
    ("#a07500", "#f0c040"),
    ("#5b4fb5", "#a99cff"),
    ("#444444", "#c8c8c8"),
)
"""Distinguishable with any color vision (after Okabe and Ito 2008), adjusted for contrast."""


def color(cell: int) -> tuple[str, str]:
    """Return the color of a setting in light and dark mode; beyond the list, hues are spaced by the golden angle."""
    if cell < len(_COLORS):
        return _COLORS[cell]
    hue = round(205 + 137.5 * cell) % 360
    return f"hsl({hue}, 60%, 38%)", f"hsl({hue}, 60%, 66%)"


# -- The page


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("genlab.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    found.filters["color"] = color
    return found


def page(
    title: str,
    facts: Sequence[tuple[str, str]],
    intro: Sequence[str],
    sections: Sequence[Section],
    cells: Sequence[str],
) -> str:
    """Render a page.

    Args:
        title: title of the page.
        facts: pairs of a number and its label, shown large.
        intro: paragraphs below the title.
        sections: the sections.
        cells: names of the settings, for the filter.
    """
    charts = [chart.as_json() for section in sections for chart in section.charts]
    return _render("report.html", title, charts, cells, facts=facts, intro=intro, sections=sections)


def fragment(title: str, blocks: Sequence[Block]) -> str:
    """Render a page of some blocks only, to be shown in a frame of a notebook."""
    section = Section("view", title, blocks)
    return _render("view.html", title, [chart.as_json() for chart in section.charts], [], sections=[section])


def _render(template: str, title: str, charts: list[dict], cells: Sequence[str], **more: object) -> str:
    data = {"charts": charts, "cells": list(cells), "colors": [color(i) for i in range(max(8, len(cells)))]}
    found = _templates().get_template(template)
    return found.render(title=title, data=data, cells=cells, library=library(), **more)
