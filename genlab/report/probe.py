"""Signals of runs: values, reliability, and skipped signals with reasons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from genlab.forecast.reliability import Reliability, split_half
from genlab.forecast.show import reliability_cell
from genlab.probes.signal import AUXILIARY, HALVES, Signal, all_signals
from genlab.report.display import print_rows
from genlab.report.output import print_lines
from genlab.report.tables import of_signals, with_units

if TYPE_CHECKING:
    from genlab.probes.probing import Probing
    from genlab.runs.store import Store


_WIDEST = 1000
Steps = Sequence[int] | Literal["all"] | None
"""Training steps to measure at; `all`: all checkpoints of each run; None: its last step."""


@dataclass(frozen=True)
class Probed:
    """Signals of runs.

    Attributes:
        runs: the runs that were measured.
        diverged: the runs left out.
        frame: values of the requested signals, one row each (`genlab.runs.parts.SIGNAL_COLUMNS`).
        probing: numbers of measured and stored values, and skipped signals with reasons.
        steps: number of requested training steps.
        per_run: whether to show one row per run rather than one per signal.
        figure: file of the figure of attention.
    """

    runs: list[str]
    diverged: list[str]
    frame: pd.DataFrame
    probing: Probing
    steps: int
    per_run: bool = False
    figure: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return one row per value; at a single step, also the reliability of each signal."""
        document: dict[str, Any] = {
            "runs": self.runs,
            "left_out": self.diverged,
            "skipped": self.probing.skipped,
            "values": self.frame.drop(columns=["at"]).to_dict("records"),
        }
        if self.steps == 1:
            rows = summary(self.frame).to_dict("records")
            document["reliability"] = {row["name"]: row["reliability"].row() for row in rows}
        if self.per_run:
            table = of_signals(self.frame).astype({"at_layer": object, "at_head": object})
            document["per_run"] = table.where(table.notna(), None).to_dict("records")
        return document

    def print(self, console: Console) -> None:
        """Print one row per signal (and step, if several were requested)."""
        if self.per_run:
            _print_per_run(console, self.frame)
            _print_done(console, self.runs, self.probing)
        else:
            _print(console, self.frame, self.runs, self.probing, self.steps > 1)
        lines = [self.left_out] if self.diverged else []
        print_lines(console, [*lines, *([f"figure: {self.figure}"] if self.figure else [])])

    @property
    def left_out(self) -> str:
        """A note on the runs left out, or ''."""
        from genlab.runs.diverged import left_out

        return left_out(self.diverged, len(self.diverged) + len(self.runs))


def probe_runs(
    which: Sequence[str],
    signals: Sequence[Signal],
    steps: Steps,
    store: Store,
    *,
    device: str = "auto",
    n: int | None = None,
    per_run: bool = False,
    figure: Path | None = None,
    report: Callable[[str], object] = lambda _line: None,
) -> Probed:
    """Measure signals of runs and save them in the store; stored values are reused.

    Args:
        which: runs, groups, grids or tags.
        signals: the signals to measure.
        steps: training steps to measure at.
        store: the store of the runs.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        n: probe examples (default: `PROBE_N`); stored values of a different number are ignored.
        per_run: whether to show one row per run.
        figure: file of a figure of attention of the first run at growing lengths.
        report: called with lines of progress.

    Raises:
        UserError: a run, step or device that does not exist.
    """
    from genlab.probes.inputs import PROBE_N
    from genlab.probes.probing import Probing, probe
    from genlab.runs.diverged import set_aside
    from genlab.runs.parts import Signals

    count = PROBE_N if n is None else n
    named = list(dict.fromkeys(run for text in which for run in store.find(text)))
    ids, diverged = set_aside(store, named)
    probing, by_step = Probing(), _by_step(store, ids, steps)
    for number, (step, of_step) in enumerate(by_step, start=1):
        at = f", step {number} of {len(by_step)}" if len(by_step) > 1 else ""

        def progress(done: int, of: int, at: str = at) -> None:
            report(f"probed {done} of {of} runs{at}")

        probing.add(probe(store, of_step, signals, step, device, progress, n=count))
    frame = Signals(store.path).frame(ids, count)
    frame = frame[frame["signal"].isin([s.name for s in signals])]
    read = {(run, store.steps(run)[-1] if step is None else step) for step, of_step in by_step for run in of_step}
    frame = frame[pd.Series(zip(frame["run_id"], frame["step"], strict=True), frame.index, object).isin(read)]
    if figure is not None and ids:
        from genlab.probes.plots import draw_attention

        draw_attention(store, ids[0], figure, by_step[0][0])
    return Probed(ids, diverged, frame, probing, len(by_step), per_run, figure if ids else None)


def _by_step(store: Store, runs: Sequence[str], steps: Steps) -> list[tuple[int | None, Sequence[str]]]:
    """Each step with the runs to measure at it. Raises `UserError` if a run has no checkpoint there."""
    if steps is None:
        return [(None, runs)]
    if steps == "all":
        known = {run: store.steps(run) for run in runs}
        every = sorted({step for steps_of in known.values() for step in steps_of})
        return [(step, [run for run in runs if step in known[run]]) for step in every]
    for step in steps:
        store.check_step(runs, step)
    return [(step, runs) for step in steps]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per signal: median and range over runs (for head signals, of the maximum over heads), and null.

    Also the reading noise of a run, and the reliability (`genlab.forecast.reliability`) over all of these runs,
    regardless of setting.
    """
    own = with_units(frame)
    own = own[~own["name"].str.endswith(AUXILIARY)]
    headline = own[own["layer"] == -1]
    layered = own[(own["layer"] >= 0) & ~own["signal"].isin(headline["signal"])].copy()
    layered["name"] += " (layer " + layered["layer"].astype(str) + ")"
    shown = pd.concat([headline, layered])
    rows: list[dict[str, Any]] = []
    nulls = frame[frame["name"].str.endswith(".null")].groupby("name")["value"].median()
    known = _reliabilities(frame)
    for (signal, name, unit), values in shown.groupby(["signal", "name", "unit"], sort=False)["value"]:
        null = nulls.get(f"{str(name).removesuffix('.max')}.null", float("nan"))
        stats = {"median": values.median(), "low": values.min(), "high": values.max(), "null": null}
        stats |= {"reliability": known.get(str(name)) or Reliability("exact" if signal in _exact() else "unknown")}
        stats["noise"] = 0.0 if stats["reliability"].kind == "exact" else stats["reliability"].noise
        rows.append({"signal": signal, "name": name, "unit": unit, "runs": int(values.notna().sum()), **stats})
    return pd.DataFrame(rows, columns=["signal", "name", "unit", "runs", "median", *_NUMBERS, "reliability"])


_NUMBERS = ("low", "high", "null", "noise")


def _exact() -> set[str]:
    """Signals without sampling noise."""
    return {one.name for one in all_signals() if one.exact}


def _reliabilities(frame: pd.DataFrame) -> dict[str, Reliability]:
    """Displayed name of a value -> its reliability over the runs of one step."""
    of_half = frame[frame["name"].str.endswith(HALVES)].copy()
    of_half["half"] = of_half["name"].str[-1]
    of_half["name"] = of_half["name"].str.slice(stop=-len(HALVES[0]))
    layer = of_half["layer"] >= 0
    of_half["name"] = of_half["name"].where(~layer, of_half["name"] + " (layer " + of_half["layer"].astype(str) + ")")
    found: dict[str, Reliability] = {}
    for name, rows in of_half.groupby("name", sort=False):
        wide = rows.pivot_table(index="run_id", columns="half", values="value").reindex(columns=["1", "2"])
        found[str(name)] = split_half(wide["1"].to_numpy(float), wide["2"].to_numpy(float))
    return found


def _print(console: Console, frame: pd.DataFrame, ids: Sequence[str], done: Probing, stepwise: bool) -> None:
    families = {s.name: s.family for s in all_signals()}
    shown = _step_by_step(frame) if stepwise and len(frame) else summary(frame)
    table, step = Table(box=None, padding=(0, 2, 0, 0), header_style="bold"), ["step"] if stepwise else []
    shown_as = ("median", "lowest", "highest", "untrained", "noise", "reliability")
    for name in ("signal", "unit", *step, "runs", *shown_as):
        table.add_column(name, justify="left" if name in ("signal", "unit") else "right")
    family = ""
    for row in shown.assign(family=shown["signal"].map(families)).to_dict("records"):
        if row["family"] != family:
            family = row["family"]
            table.add_row(Text(str(family), style="bold"))
        cells = [str(row[name]) for name in (*step, "runs")]
        cells += [_number(row[name]) for name in ("median", *_NUMBERS)] + [reliability_cell(row["reliability"])]
        table.add_row(row["name"], row["unit"], *cells)
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.print(table, width=max(needed, console.width), crop=False)  # do not truncate names
    _print_done(console, ids, done)


def _print_per_run(console: Console, frame: pd.DataFrame) -> None:
    """Print one table per value, one row per run: value, head, null, noise."""
    known = {row["name"]: row["reliability"] for row in summary(frame).to_dict("records")}
    for (name, unit, layer), rows in of_signals(frame).groupby(["name", "unit", "layer"], sort=False):
        shown = f"{name} (layer {layer})" if layer >= 0 else str(name)
        reliability = reliability_cell(known[shown]) if shown in known else "-"
        print_lines(console, [f"{shown}, {unit}; reliability over runs {reliability}"])
        at_head, null = bool(rows["at_head"].notna().any()), bool(rows["null"].notna().any())
        columns = ["run", "value", *["layer", "head"] * at_head, *["untrained", "spread"] * null, "noise"]
        table: list[list[str]] = []
        for row in rows.to_dict("records"):
            head = ["-" if pd.isna(row[k]) else f"{row[k]:.0f}" for k in ("at_layer", "at_head")] * at_head
            of_null = [_number(row[k]) for k in ("null", "null_sd")] * null
            table.append([row["run_id"], _number(row["value"]), *head, *of_null, _number(row["noise"])])
        print_rows(console, columns, table)
        console.print()


def _print_done(console: Console, ids: Sequence[str], done: Probing) -> None:
    for signal, reasons in done.skipped.items():
        for why, runs in reasons.items():
            console.print(f"skipped {signal} ({len(runs)} of {len(ids)} runs): {why}", highlight=False)
    console.print(f"{done.read} measured now, {done.found} found in the store", highlight=False)


def _step_by_step(frame: pd.DataFrame) -> pd.DataFrame:
    """The summary at every step, sorted by value."""
    joined = pd.concat([summary(part).assign(step=step) for step, part in frame.groupby("step")])
    order = {name: i for i, name in enumerate(joined["name"].unique())}
    return joined.sort_values("name", key=lambda names: names.map(order), kind="stable")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
