"""`lab report`: a self-contained page about a grid: what was trained, how far it generalizes, what predicts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from rich.console import Console

from genlab.errors import DamagedFileError, UserError, unknown
from genlab.forecast.judge import By, Judgement, judge
from genlab.forecast.ledger import Ledger, check_not_fed_back
from genlab.forecast.predictors import main_predictor
from genlab.forecast.reliability import NOISE, reliability_words
from genlab.forecast.roles import part
from genlab.forecast.rules import in_and_out
from genlab.forecast.scores import words
from genlab.forecast.show import MEASURE, claim, interval_line, reliability_cell
from genlab.forecast.show import lines as judgement_lines
from genlab.forecast.splits import settings_of, varying
from genlab.forecast.tables import table as grid_table
from genlab.forecast.targets import Target, parse_target, target_in_words, values_of
from genlab.report.ask import AskedRun
from genlab.report.attention import read_attention
from genlab.report.charts import UNIT, Chart, Series, intervals, lines, points
from genlab.report.figures import logarithmic
from genlab.report.lines import LINE_HEAD, Population, line_cells
from genlab.report.lines import lines as accuracy_lines
from genlab.report.output import print_lines
from genlab.report.page import Block, Bullets, Charts, Section, Table, Text, Tokens, page
from genlab.report.tables import wilson
from genlab.runs.api import load
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.sources import unavailable
from genlab.runs.store import Store
from genlab.tasks import FIT, TrainingLaw, fitted, place_in_words, split_in_words, task_class
from genlab.text import counted

# -- Sections without forecasts: what was trained, exact match by length, training curves

_SHOWN = 4
"""Maximum number of ranges of training lengths in a caption."""


def trained(data: ReportData) -> list[Block]:
    """One row per setting: its runs, how many fit, and their outcomes."""
    cell = np.array([data.cell[run] for run in data.table.index])
    rows: list[tuple[str, ...]] = []
    for i, name in enumerate(data.cells):
        inside, value = data.inside[cell == i], data.value[cell == i]
        hits = int(fitted(inside).sum())
        low, high = wilson(hits, len(inside))
        known = value[~np.isnan(value)]
        spread = [f"{q:.3f}" for q in np.quantile(known, [0, 0.5, 1])] if len(known) else ["-"] * 3
        rows.append((name, str(len(inside)), str(hits), f"{low:.2f} to {high:.2f}", spread[1], spread[0], spread[2]))
    settings = part(data.table, "setting")
    same = [f"{n} {settings[n].iloc[0]}" for n in settings if settings[n].nunique(dropna=False) == 1]
    head = (
        "setting",
        "runs",
        "fitted",
        "95 % interval of the fraction",
        f"{data.measured}, median",
        "lowest",
        "highest",
    )
    caption = f"fitted: exact match {FIT:g} or more in distribution, lengths weighted as training draws them"
    shared = ("option", "value")
    pairs = [tuple(one.split(" ", 1)) for one in same]
    return [
        Table(head, rows, caption, range(len(data.cells))),
        Table(shared, pairs, "options that all runs share", folded=f"{len(same)} options that all runs share"),
    ]


def by_length(data: ReportData) -> list[Block]:
    """One chart per split: a thin line per run, the median of each setting bold; the medians as a table."""
    charts: list[Chart] = []
    laws = data.laws
    ends = sorted({law.ends for law in laws})
    rows, of_rows = list[tuple[str, ...]](), list[int]()
    for split, of_split in data.exact.groupby("split", sort=False):
        series = _lines(data, of_split, "length", "value")
        for one in series:
            if one.kind == "median":
                place = (data.cells[one.cell], split_in_words(str(split), laws))
                rows += [(*place, f"{x:g}", f"{y:.3f}") for x, y in zip(one.x, one.y, strict=True)]
                of_rows += [one.cell] * len(one.x)
        title = f"exact match{place_in_words(str(split), of_split['length'].unique(), laws)}"
        about = f"{title}; {_lengths_trained(ends)} (shaded); thin: one run, bold: the median of a setting"
        axes = (f"length ({data.unit})", "exact match")
        log = logarithmic(int(of_split["length"].min()), int(of_split["length"].max()))
        charts.append(lines(title, about, axes, series, data.cells, UNIT, ends, whole=True, log=log))
    numbers = Table(
        ("setting", "split", "length", "median"), rows, "medians over runs", of_rows, folded="medians as numbers"
    )
    return [Charts(charts), numbers]


def _lengths_trained(ends: Sequence[tuple[int, int]]) -> str:
    """Describe the training lengths of runs."""
    ranges = ", ".join(f"{low} to {high}" for low, high in ends[:_SHOWN])
    return f"training lengths {ranges}" + (", ..." if len(ends) > _SHOWN else "")


def _lines(data: ReportData, rows: pd.DataFrame, x: str, y: str) -> list[Series]:
    """One line per run, then the median of each setting."""
    series = [
        Series(str(run), own[x].tolist(), own[y].tolist(), data.cell[str(run)])
        for run, own in rows.sort_values(x).groupby("run_id")
    ]
    cells = rows.assign(cell=rows["run_id"].map(data.cell))
    for number, of_cell in cells.groupby("cell"):
        middle, cell = of_cell.groupby(x)[y].median(), int(str(number))
        series.append(
            Series(f"median of {of_cell['run_id'].nunique()}", middle.index.tolist(), middle.tolist(), cell, "median")
        )
    return series


def over_training(data: ReportData) -> list[Block]:
    """Loss, ID and OOD exact match by training step."""
    measured = [
        (data.history, "loss", "loss", None),
        (data.history, "exact_match", "exact match in distribution", UNIT),
    ]
    if len(data.trace):
        measured.append((data.trace, "outside", data.traced, UNIT))
    charts: list[Chart] = []
    for rows, column, name, y_range in measured:
        title, about = f"{name} over training", f"{name} over training; thin: one run, bold: the median of a setting"
        series = _lines(data, rows, "step", column)
        charts.append(lines(title, about, ("step", name), series, data.cells, y_range, whole=True))
    return [Charts(charts)]


# -- Points and trajectories, one per run: ID against OOD accuracy, and signals against the outcome

_SIGNALS = 6


def in_against_out(data: ReportData) -> list[Block]:
    """One point per run, and each run's trajectory over training."""
    axes = ("exact match in distribution", data.measured)
    title = "ID against OOD accuracy"
    charts = [
        points(title, "one point per run, after training", axes, _points(data, data.inside), data.cells, data.y_range)
    ]
    if len(data.trace):
        about = "trajectory of each run over training, from its first evaluation to its last (point)"
        shown = ("exact match in distribution", data.traced)
        charts.append(lines(f"{title} over training", about, shown, _paths(data), data.cells, UNIT))
    return [Charts(charts)]


def _paths(data: ReportData) -> list[Series]:
    series: list[Series] = []
    for name, own in data.trace.sort_values("step").groupby("run_id"):
        run, cell = str(name), data.cell[str(name)]
        x, y = own["inside"].tolist(), own["outside"].tolist()
        series += [Series(run, x, y, cell), Series(run, x[-1:], y[-1:], cell, "point")]
    return series


def on_the_line(data: ReportData) -> list[Block]:
    """Accuracy outside against inside on probit axes: a line and its rivals, over runs and over training."""
    names = [str(run) for run in data.table.index]
    try:
        found = accuracy_lines(names, store=data.store).populations
    except UserError as reason:
        return [Text(f"There is no line: {reason}.", dim=True)]
    charts = [_probits(data, one) for one in found if one.lines]
    rows = [(one.place, line.over, *line_cells(line)) for one in found for line in one.lines]
    reasons = [f"{one.place}, over {over}: {why}" for one in found for over, why in one.why_not.items()]
    blocks: list[Block] = [Charts(charts)] if charts else []
    if rows:
        caption = "error: of runs that a fit has not seen, in probits; gain: of the best shape over the straight line"
        blocks.append(Table(("place", "over", *LINE_HEAD), rows, caption))
    return blocks + ([Bullets([f"No line for {reason}" for reason in reasons])] if reasons else [])


def _probits(data: ReportData, one: Population) -> Chart:
    """The ends of runs, and the straight line over them (or over training, if runs alone give none)."""
    line, final = one.lines[0], one.points[one.points["final"]]
    x = np.linspace(final["x"].min(), final["x"].max(), 20)
    ends = _ends(data, final["run_id"], final["x"], final["y"])
    name = f"straight line over {line.over}"
    fit = Series(name, x.tolist(), line.fits["linear"].at(x).tolist(), kind="median", group=name)
    axes = ("accuracy inside (probit)", "accuracy there (probit)")
    about = f"one point per run, after training, and the straight line over {line.over}; 0 is .5, 1 is .84, 2 is .98"
    return lines(one.place, about, axes, [*ends, fit], [*data.cells, name])


def _points(data: ReportData, x: np.ndarray) -> list[Series]:
    return _ends(data, data.table.index, x, data.value)


def _ends(data: ReportData, runs: Iterable[Any], x: Iterable[float], y: Iterable[float]) -> list[Series]:
    """One point per run."""
    return [Series(str(run), [a], [b], data.cell[str(run)], "point") for run, a, b in zip(runs, x, y, strict=True)]


def signals_against_outcome(data: ReportData) -> list[Block]:
    """Charts of the signal of interest and of the most predictive others."""
    values, judged = part(data.table, "signal"), data.judgement
    if not values.shape[1]:
        return [Text("No signal was measured in these runs; run lab probe.")]
    tests = {} if isinstance(judged, str) else {t.name: t for t in judged.tried}
    best = sorted(
        map(str, values), key=lambda name: (tests[name].p_all, -abs(tests[name].z)) if name in tests else (2.0, 0.0)
    )
    asked = [] if isinstance(judged, str) or judged.signal not in tests else [str(judged.signal)]
    names = [*asked, *(name for name in best if name not in asked)][:_SIGNALS]
    charts: list[Chart] = []
    for name in names:
        caption = f"{name}; one point per run"
        if name in tests:
            one = tests[name]
            caption = f"{name}: z {one.z:+.2f}, p {one.p_all:.4f} corrected for {len(tests)} signals tried"
        series = _points(data, values[name].to_numpy(float))
        charts.append(
            points(f"{name} against the target", caption, (name, data.measured), series, data.cells, data.y_range)
        )
    return [Charts(charts)]


# -- Attention of three runs, each on one ID example

_LONGEST = 24
"""Maximum number of prompt tokens: with more, the tokens on the axes are illegible."""


def patterns(data: ReportData) -> list[Block]:
    """All heads of the best, median and worst run by the target, on one ID example each."""
    order = data.order[: int((~np.isnan(data.value)).sum())]
    picked = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    blocks: list[Block] = [
        Text(
            "Rows are queries, columns are keys; darker color is more attention, from 0 to 1. Each run reads one "
            "example as in training and generates its answer (bold, beyond the lines).",
            dim=True,
        )
    ]
    for name, row in picked.items():
        blocks += _pattern_of(
            data, f"{name}: run {data.table.index[row]}, {data.measured}: {data.value[row]:.3f}", row
        )
    return blocks


def _pattern_of(data: ReportData, heading: str, row: int) -> list[Block]:
    run = load(str(data.table.index[row]), data.store)
    if why := unavailable(data.store, run.run_id):
        return [Tokens(heading, (), ()), Text(f"not shown: {why}", dim=True)]
    train, task = run.spec.train, run.task
    lengths = task.lengths_between(train.train_split, train.min_len, train.train_len)
    rng = np.random.default_rng(0)
    prompts = [(int(n), task.read(task.sample(rng, train.train_split, [int(n)]), 0)[0]) for n in lengths[:_LONGEST]]
    short = [(n, prompt) for n, prompt in prompts if len(prompt) <= _LONGEST]
    if not short:
        return [Tokens(heading, (), ()), Text("no training example is short enough", dim=True)]
    try:
        seen = read_attention(AskedRun(run, 0, None), short[-1][1], short[-1][0])
    except (DamagedFileError, FileNotFoundError):
        return [Tokens(heading, (), ()), Text("its weights are missing", dim=True)]
    except UserError as why:
        return [Tokens(heading, (), ()), Text(str(why), dim=True)]
    charts = [replace(chart, title=f"attention of run {run.run_id}, {chart.title}") for chart in seen.charts()]
    return [Tokens(heading, seen.prompt, seen.answer), Charts(charts)]


# -- Sections with forecasts: what predicts the outcome, and one row per run with its forecast

_BINS = 8


def predictors(data: ReportData) -> list[Block]:
    """Predictors with intervals, claims, and the calibration of the main predictors."""
    found = data.judgement
    if isinstance(found, str):
        return [Text(f"Nothing can be forecast: {found}.")]
    held_out = found.settings_held_out
    shown = {s.name: s.mean if held_out else s.weighted for s in found.scores}
    rows = [(name, one.value, one.low, one.high) for name, one in shown.items()]
    measure, zero = MEASURE[found.predictions.kind], 0.0 if found.predictions.kind == "number" else 0.5
    about = f"{measure} within settings, 95 % intervals over {'settings' if held_out else 'runs'}"
    charts = [intervals(f"{measure} of predictors", about, measure, rows, zero)]
    if found.predictions.kind == "yes/no":
        charts.append(_calibration(found))
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
    head = ("predictor", f"{measure} within settings (95 %)", other, *names)
    blocks: list[Block] = [Text(line) for line in judgement_lines(found)[:3]]
    blocks += [Charts(charts), Table(head, cells, f"held out: {found.by}")]
    if (made := found.predictions.intervals) is not None:
        blocks.append(Text(interval_line(made.summary(found.predictions.value))))
    blocks += _reliability(found)
    claims = [claim(found, gap) for gap in found.claims]
    return [*blocks, Bullets(claims)] if claims else blocks


def _reliability(found: Judgement) -> list[Block]:
    """Reliability of the signal of interest, and of every signal."""
    asked = found.signal
    blocks: list[Block] = [] if asked is None else [Text(reliability_words(found.reliability[asked], asked))]
    if not found.reliability:
        return blocks
    rows = [
        (name, reliability_cell(one), *(_end(end) for end in (one.low, one.high)), _end(one.noise), str(one.runs))
        for name, one in found.reliability.items()
    ]
    head = ("signal", "reliability", "95 % from", "to", "reading noise", "runs")
    about = (
        "correlation of two halves of the probe examples over the runs of a setting (Spearman-Brown); exact: without "
        f"sampling; noise: below {NOISE:g}, where most of the variance between runs is reading noise"
    )
    return [*blocks, Table(head, rows, about, folded=f"reliability of {len(rows)} signals")]


def _end(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3g}"


def _calibration(found: Judgement) -> Chart:
    ideal = "perfect calibration"
    series = [Series(ideal, [0, 1], [0, 1], kind="run", group=ideal)]
    shown = [s.name for s in found.scores if s.name.startswith("baselines")] or [found.scores[-1].name]
    for name in shown:
        forecast, order = found.predictions.mean[name], np.argsort(found.predictions.mean[name])
        bins = [b for b in np.array_split(order, _BINS) if len(b)]
        x = [float(forecast[b].mean()) for b in bins]
        y = [float(found.predictions.value[b].mean()) for b in bins]
        series += [Series(name, x, y, -1, kind, name) for kind in ("median", "point")]
    about = "calibration: fraction of yes outcomes by forecast probability"
    axes = ("forecast probability", "fraction of yes")
    return lines("calibration", about, axes, series, [*shown, ideal], UNIT, group="predictor")


def each_run(data: ReportData) -> list[Block]:
    """One row per run, worst first: its setting, tags, outcome, and cross-validated forecast."""
    settings = part(data.table, "setting")[varying(data.table, None)]
    head = ["run", *map(str, settings), *(["tags"] if data.tags else []), "in distribution", data.measured]
    forecasts, empty = dict[str, tuple[str, ...]](), tuple[str, ...]()
    if not isinstance(data.judgement, str):
        main = main_predictor(data.judgement.predictions.mean, data.judgement.signal)
        forecasts = _forecasts(data.judgement, main)
        more = [f"forecast ({main})", *(["90 % from", "to"] if data.judgement.predictions.intervals else [])]
        head, empty = head + more, ("",) * len(more)
    rows: list[tuple[str, ...]] = []
    for i in data.order:
        run = str(data.table.index[i])
        tags = (", ".join(data.tags.get(run, ())),) if data.tags else ()
        outcome = (_number(float(data.inside[i])), _number(float(data.value[i])))
        rows.append((run, *map(str, settings.iloc[i]), *tags, *outcome, *forecasts.get(run, empty)))
    cells = [data.cell[str(run)] for run in data.table.index[data.order]]
    about = "one row per run, worst first; empty: no forecast"
    return [Table(head, rows, about, cells, file=f"{_file_name(data.name)}-runs.csv", chosen=0)]


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)


def _forecasts(found: Judgement, main: str) -> dict[str, tuple[str, ...]]:
    made, mean = found.predictions, found.predictions.mean[main]
    columns = [mean] if made.intervals is None else [mean, made.intervals.low, made.intervals.high]
    runs = found.population.table.index[made.row]
    return {
        str(run): tuple(_number(value) for value in row)
        for run, row in zip(runs, np.stack(columns, axis=1), strict=True)
    }


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ("-" if np.isnan(value) else "unbounded")


# -- The data of a report, read from the store once


@dataclass(frozen=True)
class ReportData:
    """The runs of a grid.

    Attributes:
        table: `genlab.forecast.table`.
        cells: names of the settings.
        cell: run -> index of its setting.
        exact: exact match, one row per (run, split, length), the latest.
        history, trace: loss and accuracy over training.
        target: what is forecast.
        value: its value for each run, before any `>=` (NaN: no evaluation).
        tags: run -> its tags.
        judgement: evaluation of forecasts, or why there is none.
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
    tags: dict[str, list[str]]
    judgement: Judgement | str

    @property
    def measured(self) -> str:
        """Description of `value`."""
        return target_in_words(replace(self.target, least=None), self.table)

    @property
    def y_range(self) -> tuple[float, float] | None:
        """Axis limits of `value`: those of a fraction, or None to use the range of the data."""
        return UNIT if self.target.metric == "exact_match" and self.target.furthest is None else None

    @property
    def order(self) -> np.ndarray:
        """int[run]: rows from the worst outcome to the best; rows without an outcome are last."""
        value = -self.value if self.target.metric == "loss" else self.value
        return np.argsort(np.where(np.isnan(value), np.inf, value), kind="stable")

    @property
    def laws(self) -> list[TrainingLaw]:
        """Training length distributions of the runs."""
        return [self.store.law(str(run)) for run in self.table.index]

    @property
    def unit(self) -> str:
        """Units of length of all available tasks of the grid."""
        one_each = {self.store.spec(str(run)).task.name: str(run) for run in self.table.index}
        there = [name for name, run in one_each.items() if not unavailable(self.store, run)]
        return ", ".join(sorted({task_class(name).length_unit for name in there})) or "length"

    @property
    def traced(self) -> str:
        """Description of the OOD accuracy in `trace`."""
        return f"exact match{place_in_words(self.target.split or 'id', self.trace.attrs['lengths'], self.laws)}"

    @property
    def inside(self) -> np.ndarray:
        """float[run]: ID exact match."""
        metric = part(self.table, "metric")
        return metric["exact_match"].to_numpy(float) if "exact_match" in metric else np.full(len(self.table), np.nan)


def read_report(
    store: Store, grid: str, text: str | None, signal: str | None, by: By, fit_only: bool = True
) -> ReportData:
    """Read the data of a report.

    Args:
        store: the store.
        grid: a grid, group or tag.
        text: a target (default: exact match on the first shifted split, over all its lengths).
        signal: the signal of interest.
        by: what is held out.
        fit_only: forecast only runs that learned their task.

    Raises:
        UserError: no such grid, an invalid target, or outcomes of sealed runs that are not scored yet.
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
        judged: Judgement | str = judge(table, target, by, signal=signal, fit_only=fit_only)
    except UserError as error:
        if signal is not None:
            raise
        judged = str(error)
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
        _tags(store, ids),
        judged,
    )


def _tags(store: Store, ids: Sequence[str]) -> dict[str, list[str]]:
    tags: dict[str, list[str]] = {}
    for tag, runs in store.named.tags().items():
        for run in set(runs).intersection(ids):
            tags.setdefault(run, []).append(tag)
    return tags


def _default_target(table: pd.DataFrame) -> Target:
    names = [str(name) for name in part(table, "outcome") if str(name).startswith("exact_match@")]
    if not names:
        raise UserError("no run of the grid was evaluated out of distribution yet; run lab eval")
    splits = list(dict.fromkeys(name.split("split=")[1].rpartition(",length=")[0] for name in names))
    return parse_target(f"exact_match@split={next((s for s in splits if s != 'id'), 'id')}")


_SECTIONS: list[tuple[str, str, Callable[[ReportData], list[Block]]]] = [
    ("trained", "What was trained", trained),
    ("lengths", "Exact match by length", by_length),
    ("inside-outside", "ID against OOD accuracy", in_against_out),
    ("line", "On the line", on_the_line),
    ("signals", "Signals against the outcome", signals_against_outcome),
    ("forecast", "What predicts it", predictors),
    ("training", "Over training", over_training),
    ("attention", "Attention of the best, median and worst run", patterns),
    ("runs", "Each run", each_run),
]


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written.

    Attributes:
        path: the file.
        size: its size in bytes.
        runs: the runs that it shows.
        diverged: the runs left out.
    """

    path: Path
    size: int
    runs: list[str]
    diverged: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"report": str(self.path), "bytes": self.size, "runs": self.runs, "left_out": self.diverged}

    def print(self, console: Console) -> None:
        """Print one line."""
        missing = left_out(self.diverged, len(self.runs) + len(self.diverged))
        line = f"{self.path}: {counted(len(self.runs), 'run')}, {self.size / 1e6:.1f} MB"
        print_lines(console, [f"{line}; {missing}" if missing else line])


def write_report(
    store: Store, grid: str, path: Path, target: str | None, signal: str | None, by: By, fit_only: bool = True
) -> WrittenReport:
    """Write the report. Arguments are those of `read_report`.

    Raises:
        UserError: as `read_report`; a path that does not end in `.html`.
    """
    if path.suffix != ".html":
        raise UserError(f"-o {str(path)!r} is not allowed (a file that ends in .html)")
    if by not in get_args(By):
        raise unknown("--by", by, get_args(By))
    grid = store.named.resolve(grid)
    data = read_report(store, grid, target, signal, by, fit_only)
    runs = store.find(grid)
    diverged = set_aside(store, runs)[1]
    missing = left_out(diverged, len(runs))
    known = data.value[~np.isnan(data.value)]
    facts = [
        (str(len(data.table)), "runs"),
        (str(len(data.cells)), "setting" if len(data.cells) == 1 else "settings"),
        (f"{int(fitted(data.inside).sum())} of {len(data.table)}", "runs that fitted"),
        (f"{np.median(known):.3f}" if len(known) else "-", f"{data.measured}, median"),
    ]
    intro = [f"Target: {target_in_words(data.target, data.table)}.", *([f"{missing}."] if missing else [])]
    sections = [Section(name, heading, draw(data)) for name, heading, draw in _SECTIONS]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Report of {grid}", facts, intro, sections, data.cells), encoding="utf-8")
    return WrittenReport(path, path.stat().st_size, list(data.table.index), diverged)
