"""What predicts the outcome: the part of a report that holds a judgement, and a row a run with its forecast."""

from __future__ import annotations

from html import escape

import numpy as np

from genlab.forecast.intervals import words
from genlab.forecast.judge import Judgement
from genlab.forecast.predictors import main_predictor
from genlab.forecast.reliability import NOISE, reliability_words
from genlab.forecast.sentences import MEASURE, claim
from genlab.forecast.show import interval_line, reliability_cell
from genlab.forecast.show import lines as judgement_lines
from genlab.report.html_data import ReportData
from genlab.report.page import figure, table_of
from genlab.report.svg import UNIT, Series, bars_of_intervals, chart

__all__ = ["each_run", "predictors"]

_BINS = 8


def predictors(data: ReportData) -> str:
    """The table of predictors with intervals, the claims, and the calibration of the last predictors."""
    found = data.judgement
    if isinstance(found, str):
        return f"<p>Nothing can be forecast: {escape(found)}.</p>"
    told = "".join(f"<p>{escape(line)}</p>" for line in judgement_lines(found)[:3])
    held_out = found.settings_held_out
    shown = {s.name: s.mean if held_out else s.weighted for s in found.scores}
    rows = [(name, one.value, one.low, one.high) for name, one in shown.items()]
    measure, zero = MEASURE[found.predictions.kind], 0.0 if found.predictions.kind == "number" else 0.5
    drawn = [
        figure(
            bars_of_intervals(f"{measure} of predictors", rows, zero),
            f"{measure} within settings, 95 % intervals over {'settings' if held_out else 'runs'}",
        )
    ]
    if found.predictions.kind == "yes/no":
        drawn.append(figure(_calibration(found), "calibration: how often it was yes, by what was forecast"))
    names = list(found.scores[0].means)
    other = "by pairs" if held_out else "across settings"
    cells = [
        (
            s.name,
            words(shown[s.name]).replace("+", ""),
            f"{s.weighted.value if held_out else s.across:.3f}",
            *(f"{s.means[n]:.3f}" for n in names),
        )
        for s in found.scores
    ]
    table = table_of(
        ("predictor", f"{measure} within settings (95 %)", other, *names), cells, "held out: " + found.by
    )
    if (made := found.predictions.intervals) is not None:
        table += f"<p>{escape(interval_line(made.summary(found.predictions.value)))}</p>"
    table += _reliability(found)
    items = "".join(f"<li>{escape(claim(found, gap))}</li>" for gap in found.claims)
    claims = f"<ul>{items}</ul>" if items else ""
    return told + f'<div class="figures">{"".join(drawn)}</div>{table}{claims}'


def _reliability(found: Judgement) -> str:
    """How well the signal that is asked about is known, and a row for every one."""
    asked = found.signal
    told = "" if asked is None else f"<p>{escape(reliability_words(found.reliability[asked], asked))}</p>"
    if not found.reliability:
        return told
    rows = [
        (name, reliability_cell(one), *(_end(end) for end in (one.low, one.high)), _end(one.noise), str(one.runs))
        for name, one in found.reliability.items()
    ]
    head = ("signal", "reliability", "95 % from", "to", "reading noise", "runs")
    about = (
        "halves of the probe examples correlated over the runs of a setting (Spearman-Brown); exact: not read on a "
        f"sample; noise: below {NOISE:g}, where most of the variance between runs is reading noise"
    )
    table = table_of(head, rows, about)
    return f"{told}<details><summary>how well {len(rows)} signals are known</summary>{table}</details>"


def _end(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3g}"


def _calibration(found: Judgement) -> str:
    series = [Series("as it should be", [0, 1], [0, 1], -1)]
    shown = [s.name for s in found.scores if s.name.startswith("baselines")] or [found.scores[-1].name]
    for i, name in enumerate(shown):
        said, order = found.predictions.mean[name], np.argsort(found.predictions.mean[name])
        bins = [b for b in np.array_split(order, _BINS) if len(b)]
        x = [float(said[b].mean()) for b in bins]
        y = [float(found.predictions.value[b].mean()) for b in bins]
        series += [Series(name, x, y, -1 - i, kind) for kind in ("median", "point")]
    return chart("calibration", "forecast", "share of yes", series, UNIT)


def each_run(data: ReportData) -> str:
    """The numbers behind the points, a row a run, the worst first; with the forecast made while it was left out."""
    order = np.argsort(np.where(np.isnan(data.value), np.inf, data.value), kind="stable")
    head, said = ["setting", "run", "in distribution", data.measured], dict[str, tuple[str, ...]]()
    if not isinstance(data.judgement, str):
        main = main_predictor(data.judgement.predictions.mean, data.judgement.signal)
        said = _forecasts(data.judgement, main)
        head += [f"forecast ({main})", *(["90 % from", "to"] if data.judgement.predictions.intervals else [])]
    cells = [data.cell[str(run)] for run in data.table.index[order]]
    rows: list[tuple[str, ...]] = []
    for i, cell in zip(order, cells, strict=True):
        run = str(data.table.index[i])
        empty = ("",) * (len(head) - 4)
        rows.append(
            (
                data.cells[cell],
                run,
                _number(float(data.inside[i])),
                _number(float(data.value[i])),
                *said.get(run, empty),
            )
        )
    table = table_of(head, rows, "a row a run, the worst first; empty: not forecast", cells)
    return f"<details><summary>all {len(rows)} runs as a table</summary>{table}</details>"


def _forecasts(found: Judgement, main: str) -> dict[str, tuple[str, ...]]:
    made, said = found.predictions, found.predictions.mean[main]
    columns = [said] if made.intervals is None else [said, made.intervals.low, made.intervals.high]
    runs = found.population.table.index[made.row]
    return {
        str(run): tuple(_number(value) for value in row)
        for run, row in zip(runs, np.stack(columns, axis=1), strict=True)
    }


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ("-" if np.isnan(value) else "no end")
