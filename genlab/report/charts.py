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
"""About how many points of a chart's thin lines answer to the pointer."""
_DIGITS = 4
_ZOOM = {"type": "interval", "zoom": "wheel![event.ctrlKey || event.metaKey]"}
_NUMBER = ".4~g"


@dataclass(frozen=True)
class Series:
    """Points of a chart.

    Attributes:
        name: the run, or what else the points are of.
        x, y: of equal length; points that are not finite are left out.
        cell: the number of its setting, by which the filter of the page shows and hides it; negative: always shown.
        kind: `run` (thin line), `median` (bold line) or `point`.
        group: name in the legend; by default that of the setting.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    cell: int = -1
    kind: str = "run"
    group: str | None = None


@dataclass(frozen=True)
class Chart:
    """One drawing.

    Attributes:
        title: above it, and its name for a screen reader and for the downloaded file.
        caption: below it.
        spec: Vega-Lite without data, colors and width.
        data: what the script expands to rows: `series`, or `weights` with `tokens`.
        size: width in pixels; 0: as wide as there is room.
    """

    title: str
    caption: str
    spec: dict[str, Any]
    data: dict[str, Any]
    size: int = 0

    def as_json(self) -> dict[str, Any]:
        """What the script of the page is given."""
        return {"title": self.title, "spec": self.spec, "data": self.data, "size": self.size}


@cache
def library() -> str:
    """JavaScript of Vega, Vega-Lite and Vega-Embed, as a call that defines `vegaEmbed`."""
    import vl_convert

    source = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in source.lower() or "<!--" in source:
        raise ValueError("the bundle of vl-convert cannot stand in a page as it is")
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
) -> Chart:
    """Lines in the order of their points; a median is bold.

    Args:
        axes: titles of x and y.
        groups: names of the legend, in the order of their colors.
        y_range: ends of the y axis; None: those of the data.
        trained: shortest and longest training lengths, each range shaded.
        whole: whether x is counted, so that its labels are whole numbers.
    """
    kept = _kept(series)
    low, high = _extent([x for s in kept for x in s["x"]])
    if trained:
        low, high = min(low, *(a - 0.5 for a, _ in trained)), max(high, *(b + 0.5 for _, b in trained))
    shown = {"x": _scaled(axes[0], (low, high)), "y": _scaled(axes[1], y_range or _of(kept, "y"))}
    if whole:
        shown["x"]["axis"] = {"tickMinStep": 1, "format": "~d"}
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
        "encoding": _colored(groups) | {"tooltip": _told(axes)},
    }
    ends = [_dots(groups, axes)] if any(s["kind"] == "point" for s in kept) else []
    spec = _spec(title, [*_shade(trained, low, high), *[_placed(one, shown) for one in (*layers, reached, *ends)]])
    return Chart(title, caption, spec, {"series": kept})


def points(
    title: str,
    caption: str,
    axes: tuple[str, str],
    series: Sequence[Series],
    groups: Sequence[str],
    y_range: tuple[float, float] | None = None,
) -> Chart:
    """A point per series; other arguments are those of `lines`."""
    kept = _kept(series)
    shown = {"x": _scaled(axes[0], _of(kept, "x")), "y": _scaled(axes[1], y_range or _of(kept, "y"))}
    dots = _dots(groups, axes) | {"params": [_legend(), {"name": "zoom", "select": _ZOOM, "bind": "scales"}]}
    return Chart(title, caption, _spec(title, [_placed(dots, shown)]), {"series": kept})


def intervals(
    title: str, caption: str, axis: str, rows: Sequence[tuple[str, float, float | None, float | None]], zero: float
) -> Chart:
    """A row per name: the value as a point, its interval as a bar, and a line at `zero`."""
    values = [v for _, *numbers in rows for v in (*numbers, zero) if v is not None and math.isfinite(v)]
    domain = _extent(values)
    data = [
        {"name": name, "value": _short(value), "low": _short(low), "high": _short(high)}
        for name, value, low, high in rows
    ]
    told = [{"field": n, "type": "quantitative" if n != "name" else "nominal"} for n in data[0]]
    order = {"field": "name", "type": "nominal", "sort": None, "axis": None, "title": None}
    shown = {"y": order, "tooltip": told}
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
    """An attention pattern with tokens on both axes, a line and bold labels where the answer begins.

    Args:
        weights: float[query, key] in [0, 1].
        tokens: of all positions.
        begin: position at which the answer begins.
        written: the token written at each position from `begin - 1` on.
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
    told = [
        {"field": "weight", "type": "quantitative", "format": ".3f", "title": "attention weight"},
        {"field": "from", "title": "query"},
        {"field": "to", "title": "key"},
        *([{"field": "writes", "title": "writes next"}] if written else []),
    ]
    color = {
        "field": "weight",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "interpolate": "rgb"},
        "legend": None,
    }
    cells = {"x": {"field": "key"} | x, "y": {"field": "query"} | y, "color": color, "tooltip": told}
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
    """A layered chart; `cell` is the setting that is shown (-1: all), `chosen` the run that stands out."""
    return {
        "description": title,
        "height": _HEIGHT,
        "params": [{"name": "cell", "value": -1}, {"name": "chosen", "value": ""}],
        "transform": [{"filter": "cell < 0 || datum.cell < 0 || datum.cell == cell"}],
        "layer": layers,
    }


def _placed(layer: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """A layer with its x and y."""
    own = {name: {"field": name, "type": "quantitative"} | about for name, about in shown.items()}
    return layer | {"encoding": own | layer["encoding"]}


def _scaled(title: str, domain: tuple[float, float]) -> dict[str, Any]:
    return {"title": title, "scale": {"domain": list(domain), "nice": False, "zero": False}}


def _colored(groups: Sequence[str], more: dict[str, Any] | None = None) -> dict[str, Any]:
    legend = {"title": None} if 1 < len(groups) <= _LEGEND else None
    color = {"field": "group", "type": "nominal", "scale": {"domain": list(groups)}, "legend": legend}
    return {"color": color} | (more or {})


def _weight(kind: str, count: int) -> dict[str, Any]:
    """Width and opacity of a line: more under the pointer or if its run is chosen, little beside a chosen group."""
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


def _dots(groups: Sequence[str], axes: tuple[str, str]) -> dict[str, Any]:
    faded = {
        "condition": [{"test": "datum.run == chosen", "value": 1}, {"param": "legend", "value": 0.65}],
        "value": 0.04,
    }
    size = {"condition": {"test": "datum.run == chosen", "value": 260}, "value": 55}
    return {
        "transform": [{"filter": "datum.kind == 'point'"}],
        "mark": {"type": "circle", "clip": True},
        "encoding": _colored(groups, {"opacity": faded, "size": size}) | {"tooltip": _told(axes)},
    }


def _legend() -> dict[str, Any]:
    return {"name": "legend", "select": {"type": "point", "fields": ["group"]}, "bind": "legend"}


def _told(axes: tuple[str, str]) -> list[dict[str, Any]]:
    """What a pointer is told: the run, its setting, and where the point is."""
    where = [
        {"field": field, "type": "quantitative", "title": title, "format": _NUMBER}
        for field, title in zip("xy", axes, strict=True)
    ]
    return [{"field": "run", "title": "run"}, {"field": "group", "title": "setting"}, *where]


def _shade(trained: Sequence[tuple[int, int]], low: float, high: float) -> list[dict[str, Any]]:
    if not trained:
        return []
    bands = [{"low": a - 0.5, "high": b + 0.5} for a, b in trained]
    x = {"field": "low", "type": "quantitative", "scale": {"domain": [low, high], "nice": False, "zero": False}}
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
    """The series as the script takes them, without points that are not finite."""
    found: list[dict[str, Any]] = []
    for one in series:
        pairs = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(x + y)]
        about = {"name": one.name, "cell": one.cell, "kind": one.kind} | ({"group": one.group} if one.group else {})
        if pairs:
            found.append(about | {"x": [_short(x) for x, _ in pairs], "y": [_short(y) for _, y in pairs]})
    return found


def _short(value: float | None) -> float | int | None:
    """A number with few digits, an integer as itself."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{_DIGITS}g}")


def _of(kept: Sequence[dict[str, Any]], axis: str) -> tuple[float, float]:
    return _extent([value for s in kept for value in s[axis]])


def _extent(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: those of the data and a little more.

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
