"""What was trained, how it learned, and how far it is right: the parts of a report that forecast nothing."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from genlab.forecast.roles import part
from genlab.report.html_data import ReportData
from genlab.report.page import figure, table_of
from genlab.report.svg import UNIT, Series, chart
from genlab.report.tables import FIT, wilson

__all__ = ["by_length", "over_training", "trained"]


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
    head = ("setting", "runs", "fit (95 % of the share)", f"{data.measured}, median", "lowest", "highest")
    about = f'<details><summary>the same in all runs</summary><p class="dim">{escape(", ".join(same))}</p></details>'
    caption = "fit: exact match 0.99 or more in distribution"
    return table_of(head, rows, caption, range(len(data.cells))) + about


def by_length(data: ReportData) -> str:
    """A chart a split: a thin line a run, the median of each setting bold; the medians as a table."""
    figures: list[str] = []
    longest = float(part(data.table, "setting")["train_len"].max())
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
            rows += [(data.cells[int(str(number))], str(split), str(n), f"{v:.3f}") for n, v in middle.items()]
            of_rows += [int(str(number))] * len(middle)
        drawn = chart(f"exact match by length, split {split}", "length", "exact match", series, UNIT)
        caption = f"split {split}; trained up to {longest:g}; thin: a run, bold: the median of a setting"
        figures.append(figure(drawn, caption))
    numbers = table_of(("setting", "split", "length", "median"), rows, "medians over runs", of_rows)
    return f'<div class="figures">{"".join(figures)}</div><details><summary>as numbers</summary>{numbers}</details>'


def over_training(data: ReportData) -> str:
    """Loss, exact match in distribution, and out of it, by step."""
    measured = (("loss", None), ("exact_match", UNIT))
    figures = [_by_step(data, data.history, column, y_range) for column, y_range in measured]
    if len(data.trace):
        figures.append(_by_step(data, data.trace, "outside", UNIT))
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
