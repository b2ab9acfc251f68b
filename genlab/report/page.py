"""One HTML page without network: styles, a filter, sections. Light and dark, wide and narrow, by keyboard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from genlab.report.svg import hue

__all__ = ["figure", "page", "section", "table_of"]

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
