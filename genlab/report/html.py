"""`lab report`: one self-contained page about a grid: what was trained, how far it generalises, what predicts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from genlab.errors import UserError, unknown
from genlab.forecast.judge import By, Judgement, judge
from genlab.forecast.ledger import Ledger, check_not_fed_back
from genlab.forecast.predictors import main_predictor
from genlab.forecast.reliability import NOISE, reliability_words
from genlab.forecast.roles import part
from genlab.forecast.rules import in_and_out
from genlab.forecast.scores import words
from genlab.forecast.show import MEASURE, claim, interval_line, reliability_cell
from genlab.forecast.show import lines as judgement_lines
from genlab.forecast.splits import settings_of
from genlab.forecast.tables import table as grid_table
from genlab.forecast.targets import Target, parse_target, target_in_words, values_of
from genlab.report.page import UNIT, Series, bars_of_intervals, chart, figure, page, pattern_image, table_of
from genlab.report.tables import wilson
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.store import Store
from genlab.tasks import FIT, TrainingLaw, fitted, place_in_words, split_in_words

# -- What was trained, how it learned, and how far it is right: the parts of a report that forecast nothing

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


# -- Points and paths, a run each: in against out of distribution, and signals against the outcome

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


# -- Attention patterns of three runs on one in-distribution example, as images of a page

_LONGEST = 24


def patterns(data: ReportData) -> str:
    """All heads of the best, the median and the worst run by the target, on an example that each was trained for."""
    known = np.flatnonzero(~np.isnan(data.value))
    order = known[np.argsort(data.value[known], kind="stable")]
    picked = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    parts = ["<p>Rows are queries, columns are keys; dark is much attention. One example like those in training.</p>"]
    for name, row in picked.items():
        run = str(data.table.index[row])
        heading = f"{name}: run {run}, {data.measured} {data.value[row]:.3f}"
        parts.append(f'<h3>{escape(heading)}</h3><div class="patterns">{_of_run(data, run)}</div>')
    return "".join(parts)


def _of_run(data: ReportData, run: str) -> str:
    import torch

    from genlab.errors import DamagedFileError
    from genlab.models import Transformer
    from genlab.runs import load
    from genlab.runs.sources import unavailable

    loaded = load(run, data.store)
    if why := unavailable(data.store, run):
        return f"<p>not drawn: {escape(why)}</p>"
    train, task = loaded.spec.train, loaded.task
    lengths = task.lengths_between(train.train_split, train.min_len, min(train.train_len, _LONGEST))
    if not len(lengths):
        return "<p>no training length is short enough to be drawn</p>"
    examples = task.sample(np.random.default_rng(0), train.train_split, [int(lengths[-1])])
    try:
        model = loaded.model
    except (DamagedFileError, FileNotFoundError):
        return "<p>its weights are not there</p>"
    if not isinstance(model, Transformer):
        return "<p>it has no attention heads of this kind</p>"
    seen: dict[str, np.ndarray] = {}

    def tap(name: str, x: torch.Tensor) -> torch.Tensor:
        if name.endswith("attn.hook_pattern"):
            seen[name.split(".")[1]] = x[0, 0].float().numpy()
        return x

    with torch.inference_mode():
        model(torch.from_numpy(np.ascontiguousarray(examples.tokens)), tap=tap)
    text = " ".join(task.vocab.decode(examples.tokens[0]))
    images = [
        figure(pattern_image(head, f"attention of layer {layer} head {i}"), f"layer {layer} head {i}")
        for layer, heads in seen.items()
        for i, head in enumerate(heads)
    ]
    return f'<p class="dim">{escape(text)}</p>' + "".join(images)


# -- What predicts the outcome: the part of a report that holds a judgement, and a row a run with its forecast

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
    return chart("calibration", "forecast", "fraction of yes", series, UNIT)


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
    return f"{value:.3f}" if np.isfinite(value) else ("-" if np.isnan(value) else "unbounded")


# -- What the report of a grid is made of: read from the store once, and nothing from anywhere else


@dataclass(frozen=True)
class ReportData:
    """The runs of a grid.

    Attributes:
        table: `genlab.forecast.table`.
        cells: names of the settings; cell: the number of each run's.
        exact: exact match, a row a (run, split, length), the latest.
        target: what is forecast; value: its number for each run, before any `>=` (NaN: no evaluation).
        judgement: forecasts of it, or why there are none.
    """

    name: str
    store: Store
    table: pd.DataFrame
    cells: list[str]
    cell: dict[str, int]
    exact: pd.DataFrame
    history: pd.DataFrame
    trace: pd.DataFrame
    target: Target
    value: np.ndarray
    judgement: Judgement | str

    @property
    def measured(self) -> str:
        """What `value` is, in words."""
        return target_in_words(replace(self.target, least=None), self.table)

    @property
    def laws(self) -> list[TrainingLaw]:
        """Of the training lengths of the runs."""
        return [self.store.law(str(run)) for run in self.table.index]

    @property
    def traced(self) -> str:
        """What `trace` has of the runs while they trained, out of distribution, in words."""
        return f"exact match{place_in_words(self.target.split or 'id', self.trace.attrs['lengths'], self.laws)}"

    @property
    def inside(self) -> np.ndarray:
        """float[run]: exact match in distribution."""
        metric = part(self.table, "metric")
        return metric["exact_match"].to_numpy(float) if "exact_match" in metric else np.full(len(self.table), np.nan)


def read_report(
    store: Store, grid: str, text: str | None, signal: str | None, by: By, fit_only: bool = True
) -> ReportData:
    """Read all of a grid.

    Args:
        text: a target; default: exact match on the first split out of distribution, over all its lengths.
        signal: the signal that is asked about; default: none.
        fit_only: forecasts are of runs that learned their task alone.

    Raises:
        UserError: no such grid, a target that is none, outcomes of sealed runs that are not scored yet.
    """
    table = grid_table(store, grid)
    ids = list(table.index)
    target = parse_target(text) if text else _default_target(table)
    value = values_of(table, replace(target, least=None)).value
    check_not_fed_back(Ledger(store), table, target)
    names = settings_of(table)
    cells = list(dict.fromkeys(names.tolist()))
    exact = store.evals(ids, metric="exact_match").drop_duplicates(["run_id", "split", "length"], keep="last")
    try:
        found: Judgement | str = judge(table, target, by, signal=signal, fit_only=fit_only)
    except UserError as error:
        if signal is not None:
            raise
        found = str(error)
    return ReportData(
        grid,
        store,
        table,
        cells,
        {run: cells.index(name) for run, name in zip(ids, names, strict=True)},
        exact,
        store.history(ids),
        in_and_out(store, ids, target.split or "id"),
        target,
        value,
        found,
    )


def _default_target(table: pd.DataFrame) -> Target:
    names = [str(name) for name in part(table, "outcome") if str(name).startswith("exact_match@")]
    if not names:
        raise UserError("no run of the grid was evaluated out of distribution yet; lab eval does that")
    splits = list(dict.fromkeys(name.split("split=")[1].rpartition(",length=")[0] for name in names))
    return parse_target(f"exact_match@split={next((s for s in splits if s != 'id'), 'id')}")


def write_report(
    store: Store, grid: str, path: Path, target: str | None, signal: str | None, by: By, fit_only: bool = True
) -> str:
    """Write the page; returns a line that says what it holds. Arguments are those of `read_report`.

    Raises:
        UserError: as `read_report`; a path that is no `.html` file.
    """
    if path.suffix != ".html":
        raise UserError(f"-o {str(path)!r} is not allowed (a file that ends in .html)")
    if by not in get_args(By):
        raise unknown("--by", by, get_args(By))
    data = read_report(store, grid, target, signal, by, fit_only)
    sections: list[tuple[str, str, Callable[[ReportData], str]]] = [
        ("trained", "What was trained", trained),
        ("lengths", "Exact match by length", by_length),
        ("inside-outside", "In against out of distribution", in_against_out),
        ("signals", "Signals against the outcome", signals_against_outcome),
        ("forecast", "What predicts it", predictors),
        ("training", "Over training", over_training),
        ("runs", "Each run", each_run),
        ("attention", "Attention of the best, median and worst run", patterns),
    ]
    runs = store.find(grid)
    missing = left_out(set_aside(store, runs)[1], len(runs))
    said = target_in_words(data.target, data.table)
    intro = f"<p>{escape(missing)}</p>" if missing else ""
    intro += f"<p>{len(data.table)} runs, {len(data.cells)} settings; target: {escape(said)}</p>"
    made = [(name, heading, draw(data)) for name, heading, draw in sections]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Report of {grid}", intro, made, data.cells), encoding="utf-8")
    told = f"{path}: {len(data.table)} runs, {path.stat().st_size / 1e6:.1f} MB"
    return f"{told}; {missing}" if missing else told
