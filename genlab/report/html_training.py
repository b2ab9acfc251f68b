"""What was trained, how it learned, and how far it is right: the parts of a report that forecast nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from genlab.forecast.roles import part
from genlab.report.html_data import ReportData
from genlab.report.page import figure, table_of
from genlab.report.svg import UNIT, Series, chart
from genlab.report.tables import wilson
from genlab.tasks import FIT, TrainingLaw, fitted, place_in_words, split_in_words

__all__ = ["by_length", "over_training", "trained"]

_SHOWN = 4
"""Ranges of training lengths that a caption names."""


def trained(data: ReportData) -> str:
    """A row a setting: its runs, how many fit, and the outcome over them."""
    cell = np.array([data.cell[run] for run in data.table.index])
    rows: list[tuple[str, ...]] = []
    for i, name in enumerate(data.cells):
        inside, value = data.inside[cell == i], data.value[cell == i]
        hits = int(fitted(inside).sum())
        low, high = wilson(hits, len(inside))
        known = value[~np.isnan(value)]
        spread = [f"{q:.3f}" for q in np.quantile(known, [0, 0.5, 1])] if len(known) else ["-"] * 3
        rows.append((name, str(len(inside)), f"{hits} ({low:.2f} to {high:.2f})", spread[1], spread[0], spread[2]))
    settings = part(data.table, "setting")
    same = [f"{n} {settings[n].iloc[0]}" for n in settings if settings[n].nunique(dropna=False) == 1]
    head = ("setting", "runs", "fit (95 % of the share)", f"{data.measured}, median", "lowest", "highest")
    about = f'<details><summary>the same in all runs</summary><p class="dim">{escape(", ".join(same))}</p></details>'
    caption = f"fit: exact match {FIT:g} or more in distribution, lengths weighed as training draws them"
    return table_of(head, rows, caption, range(len(data.cells))) + about


def by_length(data: ReportData) -> str:
    """A chart a split: a thin line a run, the median of each setting bold; the medians as a table."""
    figures: list[str] = []
    laws = data.laws
    trained = _lengths_trained(laws)
    rows, of_rows = list[tuple[str, ...]](), list[int]()
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
            cell = (data.cells[int(str(number))], split_in_words(str(split), laws))
            rows += [(*cell, str(n), f"{v:.3f}") for n, v in middle.items()]
            of_rows += [int(str(number))] * len(middle)
        said = f"exact match{place_in_words(str(split), of_split['length'].unique(), laws)}"
        drawn = chart(said, "length", "exact match", series, UNIT)
        figures.append(figure(drawn, f"{said}; {trained}; thin: a run, bold: the median of a setting"))
    numbers = table_of(("setting", "split", "length", "median"), rows, "medians over runs", of_rows)
    return f'<div class="figures">{"".join(figures)}</div><details><summary>as numbers</summary>{numbers}</details>'


def _lengths_trained(laws: Sequence[TrainingLaw]) -> str:
    """The training lengths of runs, in words."""
    ends = sorted({law.ends for law in laws})
    told = ", ".join(f"{low} to {high}" for low, high in ends[:_SHOWN]) + (", ..." if len(ends) > _SHOWN else "")
    return f"training lengths {told}"


def over_training(data: ReportData) -> str:
    """Loss, exact match in distribution, and out of it, by step."""
    measured = (("loss", None), ("exact_match", UNIT))
    figures = [_by_step(data, data.history, column, y_range) for column, y_range in measured]
    if len(data.trace):
        figures.append(_by_step(data, data.trace, "outside", UNIT))
    return f'<div class="figures">{"".join(figures)}</div>'


def _by_step(data: ReportData, rows: pd.DataFrame, column: str, y_range: tuple[float, float] | None) -> str:
    names = {"exact_match": "exact match in distribution", "outside": data.traced}
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
