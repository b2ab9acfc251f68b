"""Charts of the report page as Vega-Lite specifications. The page's script adds colors and sizes, and draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

UNIT = (-0.03, 1.03)
"""The axis of a fraction."""

_HEIGHT = 300
_LEGEND = 12
"""Maximum number of entries of a legend; with more, colors are explained by the table of settings."""
_POINTS = 6_000
"""Approximate number of points on thin lines with a tooltip."""
_DIGITS = 4
_ZOOM = {"type": "interval", "zoom": "wheel![event.ctrlKey || event.metaKey]"}
_NUMBER = ".4~g"


@dataclass(frozen=True)
class Series:
    """Points of a chart.

    Attributes:
        name: the run, or a name of the points.
        x, y: coordinates, of equal length; non-finite points are left out.
        cell: index of its setting, for the filter of the page; negative: always shown.
        kind: `run` (thin line), `median` (bold line) or `point`.
        group: name in the legend (default: that of the setting).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    cell: int = -1
    kind: str = "run"
    group: str | None = None


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: its title, and its name for screen readers and downloads.
        caption: its caption.
        spec: Vega-Lite specification without data, colors and width.
        data: `series`, or `weights` with `tokens`, which the script of the page expands to rows.
        size: width in pixels; 0: the available width.
    """

    title: str
    caption: str
    spec: dict[str, Any]
    data: dict[str, Any]
    size: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the input of the page's script."""
        return {"title": self.title, "spec": self.spec, "data": self.data, "size": self.size}


@cache
def library() -> str:
    """JavaScript of Vega, Vega-Lite and Vega-Embed, as a call that defines `vegaEmbed`."""
    import vl_convert

    source = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in source.lower() or "<!--" in source:
        raise ValueError("the bundle of vl-convert cannot be embedded in a page")
    return f"(() => {{{source}}})();"


def lines(
    title: str,
    caption: str,
    axes: tuple[str, str],
    series: Sequence[Series],
    groups: Sequence[str],
    y_range: tuple[float, float] | None = None,
    trained: Sequence[tuple[int, int]] = (),
    whole: bool = False,
    group: str = "setting",
    log: bool = False,
) -> Chart:
    """Return a line chart; medians are bold.

    Args:
        title, caption: see `Chart`.
        axes: titles of x and y.
        series: the lines, with points in drawing order.
        groups: names in the legend, in the order of their colors.
        y_range: limits of the y axis; None: those of the data.
        trained: ranges of training lengths, to be shaded.
        whole: whether x is an integer.
        group: meaning of the groups, for tooltips.
        log: whether x, which is positive, has a logarithmic axis.
    """
    kept = _kept(series)
    numbers = [x for s in kept for x in s["x"]]
    low, high = (min(numbers), max(numbers)) if log and numbers else _extent(numbers)
    if trained:
        low, high = min(low, *(a - 0.5 for a, _ in trained)), max(high, *(b + 0.5 for _, b in trained))
    shown = {"x": _scaled(axes[0], (low, high), log), "y": _scaled(axes[1], y_range or _of(kept, "y"))}
    if whole:
        shown["x"]["axis"] = {"format": "~d"} if log else {"tickMinStep": 1, "format": "~d"}
    count = sum(s["kind"] == "run" for s in kept)
    stride = 1 + sum(len(s["x"]) for s in kept if s["kind"] == "run") // _POINTS
    layers = [
        {
            "transform": [{"filter": f"datum.kind == '{kind}'"}],
            "mark": {"type": "line", "clip": True, "style": kind},
            "encoding": _colored(groups, _weight(kind, count))
            | {"detail": {"field": "run"}, "order": {"field": "k"}},
        }
        for kind in ("run", "median")
        if any(s["kind"] == kind for s in kept)
    ]
    hover = {
        "name": "hover",
        "select": {"type": "point", "fields": ["run"], "on": "pointerover", "clear": "pointerout"},
    }
    reached = {
        "transform": [{"filter": f"datum.kind != 'point' && datum.k % {stride} == 0"}],
        "mark": {"type": "circle", "clip": True, "size": 90, "opacity": 0},
        "params": [hover, _legend(), {"name": "zoom", "select": _ZOOM, "bind": "scales"}],
        "encoding": _colored(groups) | {"tooltip": _tooltip(axes, group)},
    }
    ends = [_dots(groups, axes, group)] if any(s["kind"] == "point" for s in kept) else []
    spec = _spec(
        title, [*_shade(trained, (low, high), log), *[_placed(one, shown) for one in (*layers, reached, *ends)]]
    )
    return Chart(title, caption, spec, {"series": kept})


def points(
    title: str,
    caption: str,
    axes: tuple[str, str],
    series: Sequence[Series],
    groups: Sequence[str],
    y_range: tuple[float, float] | None = None,
) -> Chart:
    """Return a chart of one point per series; other arguments are those of `lines`."""
    kept = _kept(series)
    shown = {"x": _scaled(axes[0], _of(kept, "x")), "y": _scaled(axes[1], y_range or _of(kept, "y"))}
    dots = _dots(groups, axes) | {"params": [_legend(), {"name": "zoom", "select": _ZOOM, "bind": "scales"}]}
    return Chart(title, caption, _spec(title, [_placed(dots, shown)]), {"series": kept})


def intervals(
    title: str, caption: str, axis: str, rows: Sequence[tuple[str, float, float | None, float | None]], zero: float
) -> Chart:
    """Return a chart of one row per name: the value as a point, its interval as a bar, and a line at `zero`."""
    values = [v for _, *numbers in rows for v in (*numbers, zero) if v is not None and math.isfinite(v)]
    domain = _extent(values)
    data = [
        {"name": name, "value": _short(value), "low": _short(low), "high": _short(high)}
        for name, value, low, high in rows
    ]
    tooltip = [{"field": n, "type": "quantitative" if n != "name" else "nominal"} for n in data[0]]
    order = {"field": "name", "type": "nominal", "sort": None, "axis": None, "title": None}
    shown = {"y": order, "tooltip": tooltip}
    x = _scaled(axis, domain)["scale"]
    layers = [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "style": "zero"},
            "encoding": {"x": {"datum": zero, "type": "quantitative"}},
        },
        {
            "mark": {"type": "rule", "style": "interval"},
            "encoding": shown | {"x": {"field": "low", "type": "quantitative", "scale": x}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "circle", "style": "value"},
            "encoding": shown | {"x": {"field": "value", "type": "quantitative", "scale": x, "title": axis}},
        },
        {
            "mark": {"type": "text", "style": "name"},
            "encoding": {"y": order, "text": {"field": "name"}, "x": {"datum": domain[0], "type": "quantitative"}},
        },
    ]
    spec = _spec(title, layers) | {"height": 46 * len(rows)}
    spec["params"], spec["transform"] = [], []
    return Chart(title, caption, spec, {"rows": data})


def pattern(weights: np.ndarray, tokens: Sequence[str], begin: int, title: str, written: Sequence[str] = ()) -> Chart:
    """Return an attention pattern with tokens on both axes; a line and bold labels mark the answer.

    Args:
        weights: float[query, key] in [0, 1].
        tokens: the token at each position.
        begin: position at which the answer begins.
        title: see `Chart`.
        written: the token generated at each position from `begin - 1` on.
    """
    count = len(tokens)
    step = max(9, min(30, 330 // count))
    places = list(range(count))
    upright = max(map(len, tokens)) <= 2
    labels = {
        "labelExpr": "tokens[datum.value]",
        "labelOverlap": count > 80,
        "labelColor": {"condition": {"test": f"datum.value >= {begin}", "value": "@accent"}, "value": "@dim"},
        "labelFontWeight": {"condition": {"test": f"datum.value >= {begin}", "value": "bold"}, "value": "normal"},
    }
    scale = {"domain": places, "paddingInner": 0.06, "paddingOuter": 0.03}
    x = {"type": "ordinal", "scale": scale, "title": "key", "axis": labels | {"labelAngle": 0 if upright else -90}}
    y = {"type": "ordinal", "scale": scale, "title": "query", "axis": labels}
    tooltip = [
        {"field": "weight", "type": "quantitative", "format": ".3f", "title": "attention weight"},
        {"field": "from", "title": "query"},
        {"field": "to", "title": "key"},
        *([{"field": "writes", "title": "next token"}] if written else []),
    ]
    color = {
        "field": "weight",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "interpolate": "rgb"},
        "legend": None,
    }
    cells = {"x": {"field": "key"} | x, "y": {"field": "query"} | y, "color": color, "tooltip": tooltip}
    layers: list[dict[str, Any]] = [{"mark": {"type": "rect"}, "encoding": cells}]
    if 0 < begin < count:
        edge = {"datum": begin, "bandPosition": 0}
        layers += [
            {"data": {"values": [{}]}, "mark": {"type": "rule", "style": "edge"}, "encoding": {axis: edge | more}}
            for axis, more in (("x", x), ("y", y))
        ]
    spec = {
        "description": title,
        "params": [{"name": "tokens", "value": list(tokens)}],
        "width": step * count,
        "height": step * count,
        "layer": layers,
    }
    whole = np.rint(1000 * np.nan_to_num(weights)).astype(int)
    future = not np.triu(whole, 1).any()
    data = {"weights": whole.tolist(), "causal": bool(future), "written": list(written), "begin": begin}
    return Chart(title, title, spec, data | {"tokens": list(tokens)}, 90 + step * count)


# -- Parts of specifications


def _spec(title: str, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """A layered chart; `cell` is the setting shown (-1: all), `chosen` the highlighted run."""
    return {
        "description": title,
        "height": _HEIGHT,
        "params": [{"name": "cell", "value": -1}, {"name": "chosen", "value": ""}],
        "transform": [{"filter": "cell < 0 || datum.cell < 0 || datum.cell == cell"}],
        "layer": layers,
    }


def _placed(layer: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """A layer with x and y encodings."""
    own = {name: {"field": name, "type": "quantitative"} | about for name, about in shown.items()}
    return layer | {"encoding": own | layer["encoding"]}


def _scaled(title: str, domain: tuple[float, float], log: bool = False) -> dict[str, Any]:
    return {"title": title, "scale": _scale(domain, log)}


def _scale(domain: tuple[float, float], log: bool = False) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "log", "base": 2} if log else {"zero": False}
    return {"domain": list(domain), "nice": False} | kind


def _colored(groups: Sequence[str], more: dict[str, Any] | None = None) -> dict[str, Any]:
    legend = {"title": None} if 1 < len(groups) <= _LEGEND else None
    color = {"field": "group", "type": "nominal", "scale": {"domain": list(groups)}, "legend": legend}
    return {"color": color} | (more or {})


def _weight(kind: str, count: int) -> dict[str, Any]:
    """Width and opacity of a line: increased on hover or if its run is chosen, reduced if another group is chosen."""
    wide, clear = (1, min(0.45, max(0.1, 25 / count))) if kind == "run" else (3, 1)
    marked = [
        {"param": "hover", "empty": False, "value": wide + 2},
        {"test": "datum.run == chosen", "value": wide + 2},
    ]
    strong = [
        {"param": "hover", "empty": False, "value": 1},
        {"test": "datum.run == chosen", "value": 1},
        {"param": "legend", "value": clear},
    ]
    return {
        "strokeWidth": {"condition": marked, "value": wide},
        "opacity": {"condition": strong, "value": 0.04},
    }


def _dots(groups: Sequence[str], axes: tuple[str, str], group: str = "setting") -> dict[str, Any]:
    faded = {
        "condition": [{"test": "datum.run == chosen", "value": 1}, {"param": "legend", "value": 0.65}],
        "value": 0.04,
    }
    size = {"condition": {"test": "datum.run == chosen", "value": 260}, "value": 55}
    return {
        "transform": [{"filter": "datum.kind == 'point'"}],
        "mark": {"type": "circle", "clip": True},
        "encoding": _colored(groups, {"opacity": faded, "size": size}) | {"tooltip": _tooltip(axes, group)},
    }


def _legend() -> dict[str, Any]:
    return {"name": "legend", "select": {"type": "point", "fields": ["group"]}, "bind": "legend"}


def _tooltip(axes: tuple[str, str], group: str) -> list[dict[str, Any]]:
    """Tooltip: the run (for settings), the group, and the coordinates of the point."""
    named = [{"field": "run", "title": "run"}] if group == "setting" else []
    where = [
        {"field": field, "type": "quantitative", "title": title, "format": _NUMBER}
        for field, title in zip("xy", axes, strict=True)
    ]
    return [*named, {"field": "group", "title": group}, *where]


def _shade(
    trained: Sequence[tuple[int, int]], domain: tuple[float, float], log: bool = False
) -> list[dict[str, Any]]:
    if not trained:
        return []
    bands = [{"low": a - 0.5, "high": b + 0.5} for a, b in trained]
    x = {"field": "low", "type": "quantitative", "scale": _scale(domain, log)}
    name = {"x": x, "text": {"value": "training lengths"}}
    return [
        {
            "data": {"values": bands},
            "mark": {"type": "rect", "style": "shade", "clip": True},
            "encoding": {"x": x, "x2": {"field": "high"}},
        },
        {
            "data": {"values": bands[:1]},
            "mark": {"type": "text", "style": "shaded", "clip": True, "y": _HEIGHT - 14},
            "encoding": name,
        },
    ]


# -- Numbers


def _kept(series: Sequence[Series]) -> list[dict[str, Any]]:
    """The series as input of the script, without non-finite points."""
    kept: list[dict[str, Any]] = []
    for one in series:
        pairs = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(x + y)]
        about = {"name": one.name, "cell": one.cell, "kind": one.kind} | ({"group": one.group} if one.group else {})
        if pairs:
            kept.append(about | {"x": [_short(x) for x, _ in pairs], "y": [_short(y) for _, y in pairs]})
    return kept


def _short(value: float | None) -> float | int | None:
    """Round a number to few digits; integers stay integers."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{_DIGITS}g}")


def _of(kept: Sequence[dict[str, Any]], axis: str) -> tuple[float, float]:
    return _extent([value for s in kept for value in s[axis]])


def _extent(values: Sequence[float]) -> tuple[float, float]:
    """The limits of an axis: those of the data with padding.

    >>> _extent([0, 10])
    (-0.3, 10.3)
    >>> _extent([])
    (0.0, 1.0)
    """
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    pad = (high - low) * 0.03 or abs(high) * 0.05 or 0.5
    return low - pad, high + pad
