"""Signals of runs as the command line shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from genlab.forecast.reliability import Reliability, split_half
from genlab.forecast.show import reliability_cell
from genlab.probes.inputs import PROBE_N
from genlab.probes.signal import AUXILIARY, HALVES, Signal, all_signals

if TYPE_CHECKING:
    from genlab.probes.probing import Probing
    from genlab.runs.store import Store


_WIDEST = 1000
Steps = Sequence[int] | Literal["all"] | None
"""Training steps to read at; `all` are those that each run has kept, None is the last of each."""


def probe_and_show(
    runs: Sequence[str],
    signals: Sequence[Signal],
    steps: Steps,
    store: Path | None,
    device: str,
    figure: Path | None,
    as_json: bool,
    n: int = PROBE_N,
) -> None:
    """Read signals of runs, keep them, and print one line a signal (and step, where several were asked for).

    Args:
        n: probe examples; values that were read on another number are not shown.
    """
    from genlab.probes.probing import Probing, probe
    from genlab.runs.diverged import left_out, set_aside
    from genlab.runs.parts import Signals
    from genlab.runs.store import Store

    kept = Store(store)
    named = list(dict.fromkeys(run for text in runs for run in kept.find(text)))
    ids, diverged = set_aside(kept, named)
    console, done = Console(stderr=as_json), Probing()
    asked = _by_step(kept, ids, steps)
    with console.status("probing") as status:
        for number, (step, of_step) in enumerate(asked, start=1):
            at = f", step {number} of {len(asked)}" if len(asked) > 1 else ""

            def report(n: int, of: int, at: str = at) -> None:
                status.update(f"probed {n} of {of} runs{at}")

            done.add(probe(kept, of_step, signals, step, device, report, n=n))
    frame = Signals(kept.path).frame(ids, n)
    frame = frame[frame["signal"].isin([s.name for s in signals])]
    read = {(run, kept.steps(run)[-1] if step is None else step) for step, of_step in asked for run in of_step}
    frame = frame[pd.Series(zip(frame["run_id"], frame["step"], strict=True), frame.index, object).isin(read)]
    if as_json:
        document = {
            "runs": ids,
            "left_out": diverged,
            "skipped": done.skipped,
            "values": frame.drop(columns=["at"]).to_dict("records"),
        }
        if len(asked) == 1:
            rows = summary(frame).to_dict("records")
            document["reliability"] = {row["name"]: row["reliability"].row() for row in rows}
        print(json.dumps(_numbers(document), indent=1))
    else:
        _print(console, frame, ids, done, len(asked) > 1)
    if diverged:
        console.print(left_out(diverged, len(named)), soft_wrap=True, highlight=False)
    if figure is not None and ids:
        from genlab.probes.plots import draw_attention

        draw_attention(kept, ids[0], figure, asked[0][0])
        console.print(f"figure: {figure}")


def _by_step(store: Store, runs: Sequence[str], steps: Steps) -> list[tuple[int | None, Sequence[str]]]:
    """Each step with the runs to read at it. Raises `UserError`: one that a run has not kept."""

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
    """A row a signal: its headline value over runs (of one a head the maximum), median, lowest, highest, null.

    Also the reading noise of a run and, over runs, the reliability (`genlab.forecast.reliability`): of all that are
    shown, whatever their setting.
    """
    own = frame[~frame["name"].str.endswith(AUXILIARY)]
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
    """Signals that are not read on a sample."""
    return {one.name for one in all_signals() if one.exact}


def _reliabilities(frame: pd.DataFrame) -> dict[str, Reliability]:
    """Name of a value as it is shown -> how well it is known over the runs of one step."""
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
    console.print(table, width=max(needed, console.width), crop=False)  # a name that is cut off cannot be typed again
    for signal, reasons in done.skipped.items():
        for why, runs in reasons.items():
            console.print(f"skipped {signal} ({len(runs)} of {len(ids)} runs): {why}", highlight=False)
    console.print(f"{done.read} read now, {done.found} found in the store", highlight=False)


def _step_by_step(frame: pd.DataFrame) -> pd.DataFrame:
    """The summary of every step, the steps of a value one below the other."""
    joined = pd.concat([summary(part).assign(step=step) for step, part in frame.groupby("step")])
    order = {name: i for i, name in enumerate(joined["name"].unique())}
    return joined.sort_values("name", key=lambda names: names.map(order), kind="stable")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def _numbers(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _numbers(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
