"""`lab report`: one self-contained page about a grid: what was trained, how far it generalises, what predicts it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.intervals import words
from genlab.forecast.judge import By, Judgement
from genlab.forecast.roles import part
from genlab.forecast.sentences import MEASURE, claim
from genlab.forecast.show import lines as judgement_lines
from genlab.report.html_data import ReportData, read_report
from genlab.report.html_patterns import patterns
from genlab.report.page import figure, page, table_of
from genlab.report.svg import Series, bars_of_intervals, chart
from genlab.report.tables import FIT, wilson
from genlab.runs.store import Store

__all__ = ["write_report"]

_SIGNALS = 6
_BINS = 8
_UNIT = (-0.03, 1.03)


def write_report(
    store: Store, grid: str, path: Path, target: str | None, signal: str | None, by: By, fit_only: bool = True
) -> str:
    """Write the page; returns a line that says what it holds. Arguments are those of `read_report`.

    Raises:
        UserError: as `read_report`; a path that is no `.html` file.
    """
    if path.suffix != ".html":
        raise UserError(f"-o {str(path)!r} is not allowed (a file that ends in .html)")
    data = read_report(store, grid, target, signal, by, fit_only)
    sections: list[tuple[str, str, Callable[[ReportData], str]]] = [
        ("trained", "What was trained", trained),
        ("lengths", "Exact match by length", by_length),
        ("inside-outside", "In against out of distribution", in_against_out),
        ("signals", "Signals against the outcome", signals_against_outcome),
        ("forecast", "What predicts it", predictors),
        ("training", "Over training", over_training),
        ("attention", "Attention of the best, median and worst run", patterns),
    ]
    intro = f"<p>{len(data.table)} runs, {len(data.cells)} settings; target {escape(data.target.text)}</p>"
    made = [(name, heading, draw(data)) for name, heading, draw in sections]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Report of {grid}", intro, made, data.cells), encoding="utf-8")
    return f"{path}: {len(data.table)} runs, {path.stat().st_size / 1e6:.1f} MB"


def trained(data: ReportData) -> str:
    """A row a setting: its runs, how many fit, and the outcome over them."""
    cell = np.array([data.cell[run] for run in data.table.index])
    rows: list[tuple[str, ...]] = []
    for i, name in enumerate(data.cells):
        inside, value = data.inside[cell == i], data.value[cell == i]
        hits = int((inside >= FIT).sum())
        low, high = wilson(hits, len(inside))
        known = value[~np.isnan(value)]
        spread = [f"{q:.3f}" for q in np.quantile(known, [0, 0.5, 1])] if len(known) else ["-"] * 3
        rows.append((name, str(len(inside)), f"{hits} ({low:.2f} to {high:.2f})", spread[1], spread[0], spread[2]))
    settings = part(data.table, "setting")
    same = [f"{n} {settings[n].iloc[0]}" for n in settings if settings[n].nunique(dropna=False) == 1]
    head = ("setting", "runs", "fit (95 % of the share)", "target, median", "lowest", "highest")
    about = f'<details><summary>the same in all runs</summary><p class="dim">{escape(", ".join(same))}</p></details>'
    return table_of(head, rows, "fit: exact match 0.99 or more in distribution") + about


def by_length(data: ReportData) -> str:
    """A chart a split: a thin line a run, the median of each setting bold; the medians as a table."""
    figures: list[str] = []
    longest = float(part(data.table, "setting")["train_len"].max())
    rows: list[tuple[str, ...]] = []
    for split, of_split in data.exact.groupby("split", sort=False):
        series = [
            Series(str(run), own["length"].tolist(), own["value"].tolist(), data.cell[str(run)])
            for run, own in of_split.sort_values("length").groupby("run_id")
        ]
        cells = of_split.assign(cell=of_split["run_id"].map(data.cell))
        for number, of_cell in cells.groupby("cell"):
            middle = of_cell.groupby("length")["value"].median()
            name = f"median, {data.cells[int(str(number))]}"
            series.append(Series(name, middle.index.tolist(), middle.tolist(), int(str(number)), "median"))
            rows += [(str(split), data.cells[int(str(number))], str(n), f"{v:.3f}") for n, v in middle.items()]
        drawn = chart(f"exact match by length, split {split}", "length", "exact match", series, _UNIT)
        caption = f"split {split}; trained up to {longest:g}; thin: a run, bold: the median of a setting"
        figures.append(figure(drawn, caption))
    numbers = table_of(("split", "setting", "length", "median"), rows, "medians over runs")
    return f'<div class="figures">{"".join(figures)}</div><details><summary>as numbers</summary>{numbers}</details>'


def in_against_out(data: ReportData) -> str:
    """A point a run."""
    points = _points(data, data.inside)
    drawn = chart("in against out of distribution", "exact match in distribution", data.measured, points, None)
    caption = "a point a run; the target above its in-distribution exact match"
    return f'<div class="figures">{figure(drawn, caption)}</div>'


def _points(data: ReportData, x: np.ndarray) -> list[Series]:
    about = zip(data.table.index, x, data.value, strict=True)
    return [Series(f"{run}: {a:.4g}, {b:.3f}", [a], [b], data.cell[str(run)], "point") for run, a, b in about]


def signals_against_outcome(data: ReportData) -> str:
    """A chart for the signal that is asked about and those that tell most."""
    found = data.judgement
    read = part(data.table, "signal")
    if isinstance(found, str) or not read.shape[1]:
        return (
            "<p>No signal was measured of these runs; lab probe does that.</p>" if not read.shape[1] else _why(found)
        )
    best = [t.name for t in sorted(found.tried, key=lambda t: (t.p_all, -abs(t.z)))]
    asked = [found.signal] if found.signal is not None and found.signal in read else []
    names = [*asked, *(name for name in best if name not in asked)][:_SIGNALS]
    told = {t.name: t for t in found.tried}
    figures = [
        figure(
            chart(
                f"{name} against the target", name, data.target.text, _points(data, read[name].to_numpy(float)), None
            ),
            f"{name}: z {told[name].z:+.2f}, p {told[name].p_all:.4f} as the best of {len(told)} tried",
        )
        for name in names
    ]
    return f'<div class="figures">{"".join(figures)}</div>'


def _why(found: object) -> str:
    return f"<p>Nothing can be forecast: {escape(str(found))}.</p>"


def predictors(data: ReportData) -> str:
    """The table of predictors with intervals, the claims, and the calibration of the last predictors."""
    found = data.judgement
    if isinstance(found, str):
        return _why(found)
    told = "".join(f"<p>{escape(line)}</p>" for line in judgement_lines(found)[:3])
    rows = [(s.name, s.mean.value, s.mean.low, s.mean.high) for s in found.scores]
    measure, zero = MEASURE[found.predictions.kind], 0.0 if found.predictions.kind == "number" else 0.5
    drawn = [
        figure(
            bars_of_intervals(f"{measure} of predictors", rows, zero), f"{measure} within settings, mean over them"
        )
    ]
    if found.predictions.kind == "yes/no":
        drawn.append(figure(_calibration(found), "calibration: how often it was yes, by what was forecast"))
    names = list(found.scores[0].means)
    cells = [
        (s.name, words(s.mean).replace("+", ""), f"{s.weighted:.3f}", *(f"{s.means[n]:.3f}" for n in names))
        for s in found.scores
    ]
    table = table_of(("predictor", f"{measure} (95 %)", "by pairs", *names), cells, "held out: " + found.by)
    claims = "".join(f"<li>{escape(claim(found, gap))}</li>" for gap in found.claims)
    return told + f'<div class="figures">{"".join(drawn)}</div>{table}<ul>{claims}</ul>'


def _calibration(found: Judgement) -> str:
    series = [Series("as it should be", [0, 1], [0, 1], -1)]
    shown = [s.name for s in found.scores if s.name.startswith("baselines")] or [found.scores[-1].name]
    for i, name in enumerate(shown):
        said, order = found.predictions.mean[name], np.argsort(found.predictions.mean[name])
        bins = [b for b in np.array_split(order, _BINS) if len(b)]
        x = [float(said[b].mean()) for b in bins]
        y = [float(found.predictions.value[b].mean()) for b in bins]
        series += [Series(name, x, y, -1 - i, kind) for kind in ("median", "point")]
    return chart("calibration", "forecast", "share of yes", series, _UNIT)


def over_training(data: ReportData) -> str:
    """Loss, exact match in distribution, and out of it, by step."""
    measured = (("loss", None), ("exact_match", _UNIT))
    figures = [_by_step(data, data.history, column, y_range) for column, y_range in measured]
    if len(data.trace):
        figures.append(_by_step(data, data.trace, "outside", _UNIT))
    return f'<div class="figures">{"".join(figures)}</div>'


def _by_step(data: ReportData, rows: pd.DataFrame, column: str, y_range: tuple[float, float] | None) -> str:
    names = {"exact_match": "exact match in distribution", "outside": f"exact match on {data.target.split or 'id'}"}
    name = names.get(column, column)
    series = [
        Series(str(run), own["step"].tolist(), own[column].tolist(), data.cell[str(run)])
        for run, own in rows.sort_values("step").groupby("run_id")
    ]
    cells = rows.assign(cell=rows["run_id"].map(data.cell))
    for number, of_cell in cells.groupby("cell"):
        middle = of_cell.groupby("step")[column].median()
        cell = int(str(number))
        series.append(Series(f"median, {data.cells[cell]}", middle.index.tolist(), middle.tolist(), cell, "median"))
    return figure(chart(f"{name} over training", "step", name, series, y_range), f"{name} over training")
