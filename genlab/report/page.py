"""One HTML page without network: styles, a filter, sections. Light and dark, wide and narrow, by keyboard."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

# -- Charts as plain SVG text: drawn once, without a library, in the colours of the page that they stand in

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 50
UNIT = (-0.03, 1.03)
"""The axis of a share."""


@dataclass(frozen=True)
class Series:
    """Points of a chart.

    Attributes:
        name: what a pointer at rest is told.
        x, y: as long as each other; a point that is no number is left out.
        cell: the setting it belongs to, by number; a filter shows and hides it. Negative: none, and always shown.
        kind: `run` (thin line), `median` (bold line) or `point`.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    cell: int = 0
    kind: str = "run"


def chart(
    title: str, x_label: str, y_label: str, series: Sequence[Series], y_range: tuple[float, float] | None
) -> str:
    """A chart of lines and points with axes; `y_range` None takes that of the data."""
    xs = [x for s in series for x in s.x if math.isfinite(x)]
    ys = [y for s in series for y in s.y if math.isfinite(y)]
    if not xs or not ys:
        return f"<p>{escape(title)}: nothing was measured.</p>"
    x_range = _padded(min(xs), max(xs))
    low, high = y_range or _padded(min(ys), max(ys))
    place = _Place(x_range, (low, high))
    marks = "".join(_marks(one, place) for one in series)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{_axes(place, x_label, y_label)}{marks}</svg>"
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.03 or abs(high) * 0.05 or 0.5
    return low - pad, high + pad


@dataclass(frozen=True)
class _Place:
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(_HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes(place: _Place, x_label: str, y_label: str) -> str:
    parts: list[str] = []
    for tick in _ticks(*place.y_range):
        y = place.y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(*place.x_range):
        parts.append(f'<text x="{place.x(tick)}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    centre = (_TOP + _HEIGHT - _BOTTOM) / 2
    turned = f'transform="rotate(-90 15 {centre})"'
    return "".join(parts) + f'<text x="15" y="{centre}" text-anchor="middle" {turned}>{escape(y_label)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers of a range.

    >>> _ticks(-0.03, 1.03)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.8)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _marks(one: Series, place: _Place) -> str:
    kept = [(place.x(x), place.y(y)) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(x + y)]
    told = f"<title>{escape(one.name)}</title>"
    cell = f'data-cell="{one.cell}" ' if one.cell >= 0 else ""
    about = f'{cell}style="--hue:{hue(abs(one.cell))}"'
    if one.kind == "point":
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="4">{told}</circle>' for x, y in kept)
        return f'<g class="point" {about}>{dots}</g>'
    path = "M" + "L".join(f"{x} {y}" for x, y in kept)
    return f'<path class="{one.kind}" {about} d="{path}">{told}</path>' if kept else ""


def hue(cell: int) -> int:
    """The hue of a setting, in degrees: hues as far apart as can be, however many there are (golden angle)."""
    return round(205 + 137.5 * cell) % 360


def bars_of_intervals(title: str, rows: Sequence[tuple[str, float, float | None, float | None]], zero: float) -> str:
    """A row a name, above its value and its interval, with a line at `zero`."""
    values = [v for _, *numbers in rows for v in (*numbers, zero) if v is not None and math.isfinite(v)]
    low, high = _padded(min(values), max(values))
    row, left = 46, 16
    height = row * len(rows) + 40

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (_WIDTH - 2 * left), 1)

    parts = [f'<path class="grid" d="M{x(zero)} 6V{height - 32}"/>']
    for i, (name, value, least, most) in enumerate(rows):
        y = 32 + row * i
        parts.append(f'<text x="{left}" y="{y - 13}">{escape(name)}</text>')
        if least is not None and most is not None:
            parts.append(f'<path class="median" style="--hue:205" d="M{x(least)} {y}H{x(most)}"/>')
        if math.isfinite(value):
            parts.append(f'<g class="point" style="--hue:205"><circle cx="{x(value)}" cy="{y}" r="5"/></g>')
    for tick in _ticks(low, high):
        parts.append(f'<text x="{x(tick)}" y="{height - 12}" text-anchor="middle">{tick:g}</text>')
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def pattern_image(weights: np.ndarray, about: str) -> str:
    """An attention pattern, float[query, key] in [0, 1], as an image: dark is much attention, rows are queries."""
    grey = (255 * (1 - np.clip(np.nan_to_num(weights), 0, 1))).astype(np.uint8)
    rows, columns = grey.shape
    data = b"".join(b"\0" + row.tobytes() for row in grey)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    )
    source = base64.b64encode(png).decode()
    return f'<img class="pattern" alt="{escape(about, quote=True)}" src="data:image/png;base64,{source}">'


_ALL = "all are shown"
_SWATCH = '<span class="swatch"></span>'

_STYLE = """
:root { color-scheme: light dark; --ink: #16202a; --paper: #fff; --soft: #d8dfe6; --dim: #55636f; --light: 38%; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --paper: #12181e; --soft: #33404c; --dim: #a3b1bd; --light: 66%; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } p, li, figcaption, h3 { overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; } figcaption, .dim { color: var(--dim); font-size: .9rem; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: var(--dim); }
@media (max-width: 36rem) { svg text { font-size: 17px; } }
.grid { stroke: var(--soft); fill: none; }
.run, .median { fill: none; stroke: hsl(var(--hue) 60% var(--light)); }
.run { stroke-width: 1; opacity: .3; } .median { stroke-width: 2.6; }
.point circle { fill: hsl(var(--hue) 60% var(--light)); fill-opacity: .65; }
.hidden { display: none; }
.scroll { margin-top: .8rem; overflow: auto; max-height: 75vh; } caption { text-align: left; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
tbody th { font-weight: inherit; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid var(--soft); white-space: nowrap; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 50%;
  background: hsl(var(--hue) 60% var(--light)); }
.patterns { display: flex; flex-wrap: wrap; gap: .7rem; } .patterns p { flex-basis: 100%; margin: 0; }
.pattern { width: 9rem; image-rendering: pixelated; border: 1px solid var(--soft); }
.patterns figure { max-width: 9rem; } select { font: inherit; max-width: 100%; }
a, select, summary { outline-offset: 3px; } :focus-visible { outline: 2px solid hsl(205 80% 50%); }
nav a { margin-right: 1rem; display: inline-block; }
.pick { position: sticky; top: 0; z-index: 1; margin: 0; padding: .5rem 0; background: var(--paper); }
section { scroll-margin-top: 5rem; }
"""

_SCRIPT = """
const chosen = document.getElementById("cells"), said = document.getElementById("shown");
chosen.addEventListener("change", () => {
  let shown = 0;
  document.querySelectorAll("[data-cell]").forEach(mark => {
    const show = chosen.value === "all" || mark.dataset.cell === chosen.value;
    mark.classList.toggle("hidden", !show);
    shown += show;
  });
  said.textContent = chosen.value === "all" ? "all are shown" : "one setting is shown, " + shown + " marks";
});
"""


def page(title: str, intro: str, sections: Iterable[tuple[str, str, str]], cells: Sequence[str]) -> str:
    """The page.

    Args:
        intro: HTML below the title.
        sections: (name of its anchor, heading, HTML), in order.
        cells: settings that the filter offers, by number.
    """
    parts = list(sections)
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in parts)
    options = "".join(f'<option value="{i}">{escape(cell)}</option>' for i, cell in enumerate(cells))
    pick = (
        '<p class="pick"><label for="cells">setting shown: </label>'
        f'<select id="cells"><option value="all">all</option>{options}</select> '
        f'<span id="shown" role="status" class="dim">{_ALL}</span></p>'
    )
    body = "".join(section(*part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>'
        f'<header><h1>{escape(title)}</h1>{intro}<nav aria-label="sections">{links}</nav></header>'
        f"<main>{pick}{body}</main><script>{_SCRIPT}</script></body></html>\n"
    )


def section(name: str, heading: str, body: str) -> str:
    """A section with its heading."""
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{escape(heading)}</h2>{body}</section>'


def figure(drawing: str, caption: str) -> str:
    """A drawing with its caption."""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def table_of(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, cells: Iterable[int] | None = None
) -> str:
    """A table that scrolls by itself on a narrow screen.

    Args:
        cells: the setting of each row, by number: its colour stands before it, and the filter shows and hides it.
    """
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    if cells is None:
        body = "".join("<tr>" + _fields(row) for row in rows)
    else:
        pairs = zip(rows, cells, strict=True)
        body = "".join(f'<tr data-cell="{i}" style="--hue:{hue(i)}">{_fields(row, _SWATCH)}' for row, i in pairs)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}"><table>'
        f'<caption class="dim">{escape(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _fields(row: Sequence[str], mark: str = "") -> str:
    """The cells of a row; what the row is about is its header."""
    first, *others = map(escape, row)
    return f'<th scope="row">{mark}{first}</th>' + "".join(f"<td>{other}</td>" for other in others) + "</tr>"
