"""Points and paths, a run each: in against out of distribution, and signals against the outcome."""

from __future__ import annotations

import numpy as np

from genlab.forecast.roles import part
from genlab.report.html_data import ReportData
from genlab.report.page import figure
from genlab.report.svg import UNIT, Series, chart

__all__ = ["in_against_out", "signals_against_outcome"]

_SIGNALS = 6


def in_against_out(data: ReportData) -> str:
    """A point a run; and a path a run, over its training."""
    points = _points(data, data.inside)
    ends = chart("in against out of distribution", "exact match in distribution", data.measured, points, None)
    drawn = figure(ends, "a point a run, when it had been trained: the target above its in-distribution exact match")
    if len(data.trace):
        name = "in against out of distribution over training"
        paths = chart(name, "exact match in distribution", data.traced, _paths(data), UNIT)
        drawn += figure(paths, "over training: a path a run, from its first look to its last, where the point is")
    return f'<div class="figures">{drawn}</div>'


def _paths(data: ReportData) -> list[Series]:
    found: list[Series] = []
    for name, own in data.trace.sort_values("step").groupby("run_id"):
        run, cell = str(name), data.cell[str(name)]
        x, y = own["inside"].tolist(), own["outside"].tolist()
        found += [Series(run, x, y, cell), Series(f"{run}: {x[-1]:.3f}, {y[-1]:.3f}", x[-1:], y[-1:], cell, "point")]
    return found


def _points(data: ReportData, x: np.ndarray) -> list[Series]:
    about = zip(data.table.index, x, data.value, strict=True)
    return [Series(f"{run}: {a:.4g}, {b:.3f}", [a], [b], data.cell[str(run)], "point") for run, a, b in about]


def signals_against_outcome(data: ReportData) -> str:
    """A chart for the signal that is asked about and those that tell most."""
    read, found = part(data.table, "signal"), data.judgement
    if not read.shape[1]:
        return "<p>No signal was measured of these runs; lab probe does that.</p>"
    told = {} if isinstance(found, str) else {t.name: t for t in found.tried}
    best = sorted(
        map(str, read), key=lambda name: (told[name].p_all, -abs(told[name].z)) if name in told else (2.0, 0.0)
    )
    asked = [] if isinstance(found, str) or found.signal not in told else [str(found.signal)]
    names = [*asked, *(name for name in best if name not in asked)][:_SIGNALS]
    figures: list[str] = []
    for name in names:
        points = _points(data, read[name].to_numpy(float))
        caption = f"{name}; a point a run"
        if name in told:
            one = told[name]
            caption = f"{name}: z {one.z:+.2f}, p {one.p_all:.4f} as the best of {len(told)} tried"
        figures.append(figure(chart(f"{name} against the target", name, data.measured, points, None), caption))
    return f'<div class="figures">{"".join(figures)}</div>'
