"""Measure the runs of a claim: one row per run and number, read from a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genlab.claims.claim import Claim, places_read, setting_of
from genlab.claims.rules import Combined, Evaluation, Signal, SignalSteps, Steps
from genlab.runs.plan import Plan

if TYPE_CHECKING:
    from genlab.runs.store import Store

ROW = ("run_id", "init_seed", "data_seed", "status", "seconds", "fitted", "measure", "length", "value")
"""Columns of rows, beside those of the claim's settings, which stand after the seeds."""

Values = dict[tuple[str, int | None], float]
"""(measure, length) -> value of one run; the length is None for a measure that is one number."""


@dataclass(frozen=True)
class RunValues:
    """One run as rules see it."""

    settings: dict[str, Any]
    seeds: dict[str, int]
    diverged: bool
    fitted: bool
    values: Values

    def curve(self, measure: str) -> dict[int | None, float]:
        """The values of a measure by length (None: the only one), without those that are missing."""
        return {n: value for (name, n), value in self.values.items() if name == measure and not np.isnan(value)}


def fits(claim: Claim, value: float) -> bool:
    """Whether a value of the claim's fit measure means that the run has learned its task; NaN does not."""
    low, high = claim.fitted.bounds()
    return bool(low - 1e-9 <= value <= high + 1e-9)


def measured_rows(claim: Claim, store: Store) -> pd.DataFrame:
    """Measure every run of a claim that the store holds.

    Returns:
        Rows of `ROW` with the claim's settings as further columns, in the order of the claim's runs and measures.
        Runs that diverged have one row, without a value.
    """
    rows: list[dict[str, Any]] = []
    for plan in claim.grid.plans:
        there = [spec for spec in plan.specs if spec.run_id in store]
        values = _of_plan(claim, plan, store, [spec.run_id for spec in there])
        seconds = _training_seconds(store, [spec.run_id for spec in there])
        for spec in there:
            own, status = values[spec.run_id], store.index.status(spec.run_id)
            about = {"run_id": spec.run_id, "init_seed": spec.train.init_seed, "data_seed": spec.train.data_seed}
            about |= {name: setting_of(spec, name) for name in claim.settings}
            about |= {"status": status, "seconds": round(seconds.get(spec.run_id, float("nan")), 1)}
            about["fitted"] = status != "diverged" and fits(
                claim, own.get((claim.fitted.measure, None), float("nan"))
            )
            kept: Iterable[tuple[tuple[str, int | None], float]] = own.items()
            if status == "diverged" or not own:
                kept = [((claim.fitted.measure, None), float("nan"))]
            for (measure, length), value in kept:
                rows.append({**about, "measure": measure, "length": length, "value": round(value, 9)})
    columns = [*ROW[:3], *claim.settings, *ROW[3:]]
    return pd.DataFrame(rows, columns=columns).astype({"length": "Int64"})


def _training_seconds(store: Store, runs: Sequence[str]) -> dict[str, float]:
    history = store.history(runs) if runs else pd.DataFrame({"run_id": [], "seconds": []})
    return {str(run): float(value) for run, value in history.groupby("run_id")["seconds"].max().items()}


def _of_plan(claim: Claim, plan: Plan, store: Store, runs: Sequence[str]) -> dict[str, Values]:
    """The values of the runs of one configuration."""
    found: dict[str, Values] = {run: {} for run in runs}
    if not runs:
        return found
    evals, trace = store.evals(runs, attn_weights=None), store.trace(runs)
    for measure in claim.measures:
        if isinstance(measure, Signal):
            read = _signal(store, runs, measure.signal)
        elif isinstance(measure, SignalSteps):
            read = _signal_steps(store, runs, measure)
        elif isinstance(measure, Steps):
            read = _steps(plan, store, trace, measure)
        elif isinstance(measure, Evaluation):
            read = _evaluation(claim, plan, store, evals, measure)
        else:
            read = {run: _combined(measure, found[run]) for run in runs}
        for run, values in read.items():
            found[run] |= {(measure.name, length): value for length, value in values.items()}
    return found


def _evaluation(
    claim: Claim, plan: Plan, store: Store, evals: pd.DataFrame, measure: Evaluation
) -> dict[str, dict[int | None, float]]:
    places = places_read(claim, plan, measure)
    wanted = pd.MultiIndex.from_tuples(places, names=["length", "n", "seed"]) if places else None
    if wanted is None:
        return {}
    rows = evals[(evals["split"] == measure.split) & (evals["metric"] == measure.metric)]
    rows = rows[rows["attn_weights"] == measure.attn_weights]
    rows = rows[
        pd.MultiIndex.from_frame(rows[["length", "seed"]]).isin([(length, seed) for length, _, seed in places])
    ]
    found: dict[str, dict[int | None, float]] = {}
    for run, own in rows.groupby("run_id"):
        kept = _of_places(own, places, measure.metric)
        if len(kept) < len(places):
            continue  # not evaluated everywhere: no value rather than a mean of something else
        if measure.by_length:
            found[str(run)] = {int(n): float(v) for n, v in zip(kept["length"], kept["value"], strict=True)}
        else:
            found[str(run)] = {None: _mean(store, str(run), kept, measure.weights)}
    return found


def _of_places(rows: pd.DataFrame, places: Sequence[tuple[int, int, int]], metric: str) -> pd.DataFrame:
    """The rows of the claim's own evaluations, by length. Metrics of a part of the examples have a smaller n."""
    n = {length: count for length, count, _ in places}
    expected = rows["length"].map(n)
    own = rows[rows["n"] <= expected] if "|" in metric else rows[rows["n"] == expected]
    return own.sort_values(["length", "n"]).drop_duplicates("length", keep="last")


def _mean(store: Store, run: str, rows: pd.DataFrame, weights: str) -> float:
    values, lengths = rows["value"].to_numpy(float), rows["length"].to_numpy(int)
    return store.law(run).mean(values, lengths) if weights == "law" else float(np.mean(values))


def _steps(plan: Plan, store: Store, trace: pd.DataFrame, measure: Steps) -> dict[str, dict[int | None, float]]:
    """The first evaluated step from which the bound is kept once; infinite where it never is."""
    train = plan.specs[0].train
    rows = trace[(trace["split"] == measure.split) & (trace["metric"] == measure.metric)]
    held = [measure.holds(int(length), (train.min_len, train.train_len)) for length in rows["length"]]
    found: dict[str, dict[int | None, float]] = {}
    for run, own in rows[np.array(held, dtype=bool)].groupby("run_id"):
        means = {int(step): _mean(store, str(run), at, measure.weights) for step, at in own.groupby("step")}
        kept = [step for step, value in sorted(means.items()) if measure.keeps(value)]
        found[str(run)] = {None: float(kept[0]) if kept else float("inf")}
    return found


def _signal_steps(store: Store, runs: Sequence[str], measure: SignalSteps) -> dict[str, dict[int | None, float]]:
    """The first checkpoint after step 0 at which the bound is kept; infinite where it is at none."""
    rows = store.signals.frame(runs)
    rows = rows[(rows["name"] == measure.signal) & (rows["head"] < 0) & (rows["step"] > 0)]
    by_step = rows.groupby(["run_id", "step"])["value"].max()
    found: dict[str, dict[int | None, float]] = {}
    for run in rows["run_id"].unique():
        kept = [int(step) for step, value in by_step[run].items() if measure.keeps(float(value))]
        found[str(run)] = {None: float(min(kept, default=np.inf))}
    return found


def _signal(store: Store, runs: Sequence[str], name: str) -> dict[str, dict[int | None, float]]:
    """The value of a signal of the whole model at the last step."""
    rows = store.signals.frame(runs)
    last = {run: store.entry(run)["step"] for run in runs}
    rows = rows[(rows["name"] == name) & (rows["head"] < 0) & (rows["step"] == rows["run_id"].map(last))]
    return {str(run): {None: float(value)} for run, value in rows.groupby("run_id")["value"].max().items()}


def _combined(measure: Combined, values: Values) -> dict[int | None, float]:
    first, second = ({n: v for (name, n), v in values.items() if name == one} for one in measure.of)
    with np.errstate(divide="ignore", invalid="ignore"):
        if measure.reads == "difference":
            return {n: first[n] - second[n] for n in first if n in second}
        return {n: float(np.float64(first[n]) / np.float64(second[n])) for n in first if n in second}


def correct_bits(claim: Claim, store: Store) -> pd.DataFrame:
    """Whether each example of each evaluation that a claim reads was right: packed bits per run, split and length.

    Columns: run_id, split, length, n, seed, attn_weights, correct.
    """
    parts: list[pd.DataFrame] = []
    for plan in claim.grid.plans:
        runs = [spec.run_id for spec in plan.specs if spec.run_id in store]
        evals = store.evals(runs, answers=True, metric="exact_match", attn_weights=None)
        for measure in claim.measures:
            if isinstance(measure, Evaluation) and (places := places_read(claim, plan, measure)):
                rows = evals[(evals["split"] == measure.split) & (evals["attn_weights"] == measure.attn_weights)]
                keys = pd.MultiIndex.from_frame(rows[["length", "n", "seed"]])
                parts.append(rows[keys.isin(places)])
    columns = ["run_id", "split", "length", "n", "seed", "attn_weights", "correct"]
    found = pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)
    return found.drop_duplicates(columns[:-1]).sort_values(columns[:-1]).reset_index(drop=True)
