"""`lab lines`: accuracy outside against accuracy inside, over runs and training; agreement in place of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from genlab.errors import UserError
from genlab.forecast.rules import agreement, hashes, shared_sets
from genlab.forecast.scores import words
from genlab.outside.lines import (
    FEWEST,
    KINDS,
    Answered,
    Fit,
    Kind,
    Slope,
    equal_weights,
    fit,
    left_out_errors,
    predicted_accuracy,
    probit,
    slope_over_runs,
)
from genlab.report.compare import bootstrap_interval
from genlab.report.display import print_rows
from genlab.report.figures import COLORS, save_figure
from genlab.report.output import print_lines
from genlab.report.tables import counted_runs, named
from genlab.runs.laws import means_by, placed, weight_lengths
from genlab.runs.store import Store
from genlab.tasks import TrainingLaw, place_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_FOR_KNOTS = 8
"""Runs below which no piecewise line is fitted: it has four numbers."""
_SEED = 0
"""Of the bootstrap."""


@dataclass(frozen=True)
class Line:
    """How accuracy at one place outside follows accuracy inside, in probits.

    Attributes:
        over: `runs` (the end of each run) or `training` (every evaluation of every run).
        fits: shape -> its fit to all points, each run weighing the same.
        errors: shape -> root of the mean over runs of each run's squared error under the fit of the others.
        gains: shape -> squared error of the straight line minus that of the shape, mean over runs, with interval.
        slope: of the straight line, and the correlation, with intervals over runs.
    """

    over: str
    points: int
    fits: dict[str, Fit]
    errors: dict[str, float]
    gains: dict[str, tuple[float, float | None, float | None]]
    slope: Slope

    @property
    def best(self) -> str:
        """The shape with the smallest error on runs that were left out."""
        return min(self.errors, key=lambda kind: self.errors[kind])


@dataclass(frozen=True)
class Population:
    """The runs of one task at one place outside.

    Attributes:
        task: its name; place: where accuracy outside was measured, in words; split: its name.
        points: a row per run and evaluation: run_id, step, final, inside, outside (accuracies), x, y (their probits).
        lines: over the ends of runs, and over training.
        predicted: method -> mean absolute error of predicted accuracy outside, with interval over runs; empty without
            answers in common.
        agreement: probits of agreement of every pair of runs, inside and outside, float[pair, 2].
        why_not: `runs` or `training` -> why there is no line over them.
    """

    task: str
    place: str
    split: str
    points: pd.DataFrame
    lines: list[Line]
    predicted: dict[str, tuple[float, float | None, float | None]]
    agreement: np.ndarray
    why_not: dict[str, str]

    @property
    def runs(self) -> int:
        """How many."""
        return int(self.points["run_id"].nunique())

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        rows = [
            {
                "over": line.over,
                "points": line.points,
                "best": line.best,
                "slope": vars(line.slope.slope),
                "correlation": vars(line.slope.correlation),
                "fits": {kind: vars(own) for kind, own in line.fits.items()},
                "left_out_error": line.errors,
                "gain_over_linear": line.gains,
            }
            for line in self.lines
        ]
        about = {"task": self.task, "split": self.split, "place": self.place, "runs": self.runs, "lines": rows}
        about |= {"agreement": self.predicted, "agreement_points": self.agreement.tolist(), "why_not": self.why_not}
        return about | {"points": self.points.to_dict("records")}


@dataclass(frozen=True)
class Lines:
    """Every population of the named runs; `diverged`: a line on the runs left out, or ''."""

    populations: list[Population]
    diverged: str

    def as_json(self) -> dict[str, Any]:
        """Populations with their points."""
        return {"populations": [one.as_json() for one in self.populations], "diverged": self.diverged}

    def print(self, console: Console) -> None:
        """Per population the line, the comparison of shapes, and what agreement tells."""
        for one in self.populations:
            _print_population(console, one)
        print_lines(console, [self.diverged] * bool(self.diverged))

    def draw(self, path: Path) -> None:
        """Per population: every evaluation, the ends of runs, the straight line, agreement of pairs."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        count = len(self.populations)
        columns = min(3, count)
        figure = Figure(figsize=(4.6 * columns, 4.4 * -(-count // columns)), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(-(-count // columns), columns, squeeze=False).ravel()
        for panel, one in zip(panels, self.populations, strict=False):
            _draw_population(panel, one)
        for panel in panels[count:]:
            panel.set_axis_off()
        save_figure(figure, path)


def lines(
    which: str | Sequence[str],
    splits: Sequence[str] = (),
    store: Store | str | Path | None = None,
    *,
    at: int | None = None,
) -> Lines:
    """How accuracy outside follows accuracy inside, over runs and over training.

    Accuracy inside is that of the in-distribution test, lengths weighted as training draws them; outside it is the
    mean over the lengths of a split that are out of distribution. Runs of one task are one population, whatever their
    settings.

    Args:
        which: a run, group, grid or tag, `last`, or several of them.
        splits: only these (default: all that were evaluated).
        store: the store, or its directory (default: `GENLAB_STORE`, or `runs`).
        at: only this length outside.

    Raises:
        UserError: no such runs, or none was evaluated both inside and there.
    """
    kept, runs, diverged = counted_runs(which, store)
    tasks: dict[str, list[str]] = {}
    for run in runs:
        tasks.setdefault(kept.spec(run).task.name, []).append(run)
    found: list[Population] = []
    for task, ids in tasks.items():
        laws = {run: kept.law(run) for run in ids}
        points = measured_points(kept, ids, laws, at)
        for split, own in points.groupby("split", sort=False):
            if not splits or split in splits:
                found.append(_population(kept, task, str(split), own, laws, at))
    if not found:
        text = " ".join(named(which))
        asked = (f" on split {', '.join(splits)}" if splits else "") + (f" at length {at}" if at is not None else "")
        raise UserError(f"no run of {text!r} was evaluated both inside its training distribution and outside{asked}")
    return Lines(found, diverged)


def measured_points(
    store: Store, runs: Sequence[str], laws: dict[str, TrainingLaw], at: int | None = None
) -> pd.DataFrame:
    """A row per run, evaluation and split: run_id, step, final, split, inside, outside, n_inside, n_outside, x, y.

    Evaluations made during training have a step; those at the end are `final`, and are not counted twice.
    """
    end = store.evals(runs, metric="exact_match").assign(final=True)
    end = end.drop_duplicates(["run_id", "split", "length"], keep="last")
    trace = store.trace(runs)
    during = trace[trace["metric"] == "exact_match"].assign(final=False)
    columns = ["run_id", "step", "split", "length", "value", "n", "final"]
    rows = placed(pd.concat([during[columns], end[columns]], ignore_index=True), laws)
    keys = ["run_id", "final", "step"]
    inside = _accuracy(rows[rows["inside"]], keys, "inside")
    beyond = rows[rows["outside"]] if at is None else rows[rows["outside"] & (rows["length"] == at)]
    outside = _accuracy(beyond, [*keys, "split"], "outside")
    found = outside.reset_index().merge(inside.reset_index(), on=keys)
    last = found.groupby("run_id")["step"].transform("max")
    found = found[found["final"] | (found["step"] < last)]
    for name, axis in (("inside", "x"), ("outside", "y")):
        n = found[f"n_{name}"].to_numpy(float)
        found[axis] = probit(found[name].to_numpy(float) * n, n)
    return found.sort_values(["run_id", "split", "step"]).reset_index(drop=True)


def _accuracy(rows: pd.DataFrame, keys: list[str], name: str) -> pd.DataFrame:
    """Mean accuracy, and the number of inputs that a plain mean of that variance has (Kish's effective size)."""
    weighted = weight_lengths(rows, keys)
    weighted = weighted.assign(total=weighted["weight"] * weighted["n"])
    weighted = weighted.assign(squares=weighted["weight"] * weighted["total"])
    sums = weighted.groupby(keys)[["total", "squares"]].sum()
    effective = (sums["total"] ** 2 / sums["squares"]).rename(f"n_{name}")
    return pd.concat([means_by(rows, keys).rename(name), effective], axis=1)


def _population(
    store: Store, task: str, split: str, points: pd.DataFrame, laws: dict[str, TrainingLaw], at: int | None
) -> Population:
    runs = list(dict.fromkeys(points["run_id"]))
    own = {run: laws[run] for run in runs}
    lengths = _lengths(store, runs, split, own, at)
    place = task + place_in_words(split, lengths, list(own.values()))
    final = points[points["final"]]
    over = {"runs": final} | ({"training": points} if len(points) > len(final) else {})
    why = {name: reason for name, rows in over.items() if (reason := _why_no_line(rows))}
    found = [_line(name, rows) for name, rows in over.items() if name not in why]
    answered = _answered(store, list(final["run_id"]), split, own, lengths)
    predicted, pairs = ({}, np.empty((0, 2))) if answered is None else _agreement(answered)
    return Population(task, place, split, points, found, predicted, pairs, why)


def _why_no_line(points: pd.DataFrame) -> str:
    runs = points["run_id"].nunique()
    if runs < FEWEST:
        return f"{runs} runs, {FEWEST} are needed"
    if points["x"].std() < 1e-9:
        return "all have the same accuracy inside"
    return ""


def _lengths(store: Store, runs: list[str], split: str, laws: dict[str, TrainingLaw], at: int | None) -> list[int]:
    rows = placed(store.evals(runs, metric="exact_match"), laws)
    rows = rows[rows["outside"] & (rows["split"] == split)]
    return sorted({int(length) for length in rows["length"] if at is None or length == at})


def _line(over: str, points: pd.DataFrame) -> Line:
    x, y, runs = points["x"].to_numpy(float), points["y"].to_numpy(float), points["run_id"].to_numpy(str)
    count, weight = len(np.unique(runs)), equal_weights(runs)
    kinds: list[Kind] = [kind for kind in KINDS if kind != "piecewise" or count >= _FEWEST_FOR_KNOTS]
    out = {kind: left_out_errors(kind, x, y, runs) for kind in kinds}
    gains: dict[str, tuple[float, float | None, float | None]] = {}
    for kind in kinds:
        gap = out["linear"] - out[kind]
        gains[kind] = (float(gap.mean()), *bootstrap_interval(gap))
    errors = {kind: float(np.sqrt(one.mean())) for kind, one in out.items()}
    slope = slope_over_runs(x, y, runs, np.random.default_rng(_SEED))
    return Line(over, len(points), {kind: fit(kind, x, y, weight) for kind in kinds}, errors, gains, slope)


# -- Agreement


def _answered(
    store: Store, runs: list[str], split: str, laws: dict[str, TrainingLaw], lengths: list[int]
) -> Answered | None:
    """Answers on the evaluation sets that all runs share; None if there are none, or fewer than three runs."""
    if len(runs) < 3 or len({law.as_text() for law in laws.values()}) > 1:
        return None
    rows = placed(store.evals(runs, answers=True, metric="exact_match"), laws)
    rows = rows[rows["answers"].notna()]
    inside = _common(rows[rows["inside"]], runs)
    outside = _common(rows[rows["outside"] & (rows["split"] == split) & rows["length"].isin(lengths)], runs)
    if inside is None or outside is None:
        return None
    return Answered(inside[0], outside[0], inside[1], outside[1], inside[2], outside[2])


def _common(rows: pd.DataFrame, runs: list[str]) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Accuracy and agreement over the sets that all runs share, lengths weighted as in training; number of inputs."""
    parts: list[tuple[float, np.ndarray, np.ndarray, int]] = []
    for _, own in shared_sets(rows, runs, ["length", "n", "seed"]):
        relative, n = own["relative"].iloc[0], int(own["n"].iloc[0])
        weight = 1.0 if np.isnan(relative) else float(relative)
        parts.append((weight, own["value"].to_numpy(float), agreement(hashes(own)), n))
    if not parts or not sum(weight for weight, *_ in parts):
        return None
    weights = np.array([weight for weight, *_ in parts])
    accuracy = np.average(np.stack([one for _, one, _, _ in parts]), axis=0, weights=weights)
    same = np.average(np.stack([one for _, _, one, _ in parts]), axis=0, weights=weights)
    return accuracy, same, sum(n for *_, n in parts)


def _agreement(given: Answered) -> tuple[dict[str, tuple[float, float | None, float | None]], np.ndarray]:
    errors = {name: np.abs(one - given.outside) for name, one in predicted_accuracy(given).items()}
    table = {name: (float(one.mean()), *bootstrap_interval(one)) for name, one in errors.items()}
    return table, np.stack(given.probits()[1:], axis=1)


# -- On the terminal


def _print_population(console: Console, one: Population) -> None:
    final = one.points[one.points["final"]]
    ends = f"accuracy inside {final['inside'].min():.3f} to {final['inside'].max():.3f}"
    ends += f", there {final['outside'].min():.3f} to {final['outside'].max():.3f}"
    print_lines(console, [f"\n{one.place}: {one.runs} runs, {len(one.points)} evaluations; {ends}"])
    print_lines(console, [f"no line over {over}: {why}" for over, why in one.why_not.items()])
    rows = [(line.over, *line_cells(line)) for line in one.lines]
    if rows:
        print_rows(console, ["over", *LINE_HEAD], rows)
    if one.predicted:
        told = ", ".join(f"{name} {_spread(value, '.3f')}" for name, value in one.predicted.items())
        print_lines(console, [f"accuracy there predicted without labels, mean absolute error over runs: {told}"])


LINE_HEAD = (
    *("points", "slope (95 %)", "correlation (95 %)", *(f"error, {kind}" for kind in KINDS), "best"),
    "gain over linear (95 %)",
)
"""Headings of `line_cells`."""


def line_cells(line: Line) -> tuple[str, ...]:
    """A line as cells of a table: its slope, and how far off each shape is on runs that were left out."""
    return (
        str(line.points),
        words(line.slope.slope, 2),
        words(line.slope.correlation, 2),
        *(f"{line.errors[kind]:.3f}" if kind in line.errors else "-" for kind in KINDS),
        line.best,
        _spread(line.gains[line.best], "+.3f") if line.best != "linear" else "",
    )


def _spread(value: tuple[float, float | None, float | None], form: str) -> str:
    mean, low, high = value
    return f"{mean:{form}}" if low is None or high is None else f"{mean:{form}} ({low:{form}} to {high:{form}})"


# -- The figure


def _draw_population(panel: Axes, one: Population) -> None:
    from scipy.stats import norm

    during, final = one.points[~one.points["final"]], one.points[one.points["final"]]
    for _, run in one.points.groupby("run_id"):
        panel.plot(run["x"], run["y"], color=COLORS[0], lw=0.5, alpha=0.25, zorder=1)
    panel.plot(during["x"], during["y"], ".", color=COLORS[0], ms=3, alpha=0.5, label="a run during training")
    panel.plot(final["x"], final["y"], "o", color=COLORS[1], ms=5, label="a run at its end", zorder=3)
    if len(one.agreement):
        panel.plot(
            one.agreement[:, 0], one.agreement[:, 1], "x", color=COLORS[2], ms=4, label="agreement of two runs"
        )
    if one.lines:
        line = one.lines[-1]
        x = np.linspace(one.points["x"].min(), one.points["x"].max(), 50)
        panel.plot(x, line.fits["linear"].at(x), color="black", lw=1.2, label=f"straight line over {line.over}")
    ticks = np.array([0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
    for axis, ends in ((panel.xaxis, "x"), (panel.yaxis, "y")):
        low, high = one.points[ends].min() - 0.2, one.points[ends].max() + 0.2
        shown = ticks[(norm.ppf(ticks) >= low) & (norm.ppf(ticks) <= high)]
        axis.set_ticks(norm.ppf(shown), [f"{tick:g}" for tick in shown])
    panel.set_xlabel("accuracy inside (probit)")
    panel.set_ylabel("accuracy outside (probit)")
    panel.set_title(one.place, fontsize=9, loc="left")
    panel.legend(frameon=False, fontsize=7)
    panel.spines[["top", "right"]].set_visible(False)
