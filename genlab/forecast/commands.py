"""What `lab forecast`, `lab score` and `lab rules` do: each gives lines for a person and a document for a program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.causal import USUAL, removal_lines, remove_head
from genlab.forecast.judge import judge, learning_curve
from genlab.forecast.ledger import Ledger, check_not_fed_back, seen_at
from genlab.forecast.predictions import SHARE
from genlab.forecast.predictors import Model, main_predictor
from genlab.forecast.reliability import Reliability, reliability_words
from genlab.forecast.rules import rules_learned
from genlab.forecast.sealing import load_forecaster, lock, score_lock, seal_plan, words_of
from genlab.forecast.sealing import save_forecaster as keep
from genlab.forecast.show import MEASURE, as_json, columns_of, interval_line, learning_lines, lines, sentence
from genlab.forecast.tables import table as grid_table
from genlab.forecast.targets import parse_target
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.store import Store
from genlab.tasks import place_in_words

Told = tuple[list[str], Any]


def diverged_line(store: Path | None, grid: str) -> str:
    """Which runs of a grid all of these leave out, or ''."""
    kept = Store(store)
    runs = kept.find(grid)
    return left_out(set_aside(kept, runs)[1], len(runs))


def judge_lines(
    store: Path | None, table: pd.DataFrame, grid: str | None, text: str, by: Any, asked: dict[str, Any]
) -> Told:
    """Judge a target of a grid, or of a user's own table (`grid` is None)."""
    target, sealed = parse_target(text), None
    if grid is not None:
        ledger = Ledger(Store(store))
        check_not_fed_back(ledger, table, target)
        seen = seen_at(table, target).dropna()
        first = str(seen.min()) if len(seen) else None
        sealed = ledger.plan_for(grid, target, by, asked["signal"], first)
    found = judge(table, target, by, **asked)
    return lines(found, sealed), as_json(found, sealed)


def causal_lines(store: Path | None, table: pd.DataFrame, text: str, asked: dict[str, Any]) -> Told:
    """Whether taking out the head that a signal reads moves the target as the forecast implies."""
    kept, target = Store(store), parse_target(text)
    check_not_fed_back(Ledger(kept), table, target)
    rng = np.random.default_rng(asked["seed"])
    found = [remove_head(kept, table, target, asked["signal"], kind, rng, asked["fit_only"]) for kind in USUAL]
    about = [one.as_json() | {"runs": one.runs.to_dict("records")} for one in found]
    return removal_lines(found), about


def learning(table: pd.DataFrame, text: str, asked: dict[str, Any]) -> Told:
    """The learning curve of a target."""
    target = parse_target(text)
    curve = learning_curve(table, target, **asked)
    return learning_lines(curve, MEASURE[target.kind]), curve.to_dict("records")


def lock_plan(
    store: Path | None,
    table: pd.DataFrame,
    grid: str,
    text: str,
    by: str,
    factors: Sequence[str] | None,
    asked: dict[str, Any],
) -> Told:
    """Seal the plan of an analysis."""
    entry = seal_plan(Ledger(Store(store)), table, grid, parse_target(text), by, {**asked, "factors": factors})
    return [f"plan {entry['number']} sealed at {entry['at']}, SHA-256 {entry['hash']}"], entry


def save_forecaster(
    store: Path | None,
    table: pd.DataFrame,
    text: str,
    signal: str | None,
    model: Model,
    fit_only: bool,
    seed: int,
    name: str,
) -> Told:
    """Keep a forecaster."""
    kept, target = Store(store), parse_target(text)
    check_not_fed_back(Ledger(kept), table, target)
    made = keep(kept, table, target, signal, model, fit_only, seed, name)
    about = {"forecaster": name, "runs": len(made.table), "hash": made.hash}
    return [f"forecaster {name}: {len(made.table)} runs, SHA-256 {made.hash}"], about


def lock_forecasts(store: Path | None, grid: str, name: str) -> Told:
    """Forecast the runs of a grid, and seal that."""
    kept = Store(store)
    forecaster = load_forecaster(kept, name)
    entry, seen = lock(Ledger(kept), grid_table(kept, grid), grid, forecaster)
    told = [f"lock {entry['number']} sealed at {entry['at']}, SHA-256 {entry['hash']}"]
    told.append(f"{len(entry['runs'])} runs of {grid}, target: {words_of(entry)}; by forecaster {name}")
    if seen:
        told.append(f"left out: {seen} runs whose outcome was seen before")
    if entry["signal"] is not None:
        told.append(reliability_words(_reliability(entry["reliability"]), entry["signal"]))
    told += _forecast_lines(entry)
    return told, entry


def _reliability(row: dict[str, Any]) -> Reliability:
    """What a lock holds of it."""
    known = {name: value for name, value in row.items() if name != "is_noise" and value is not None}
    return Reliability(**known)


def _forecast_lines(entry: dict[str, Any]) -> list[str]:
    """A row a run: what is forecast, and between which numbers it is expected."""
    said = entry["forecasts"][main_predictor(entry["forecasts"], entry["signal"])]
    if not entry["intervals"]:
        return columns_of(("run", "forecast"), [(run, f"{value:.3f}") for run, (_, value) in said.items()])
    ends = entry["intervals"]["runs"]
    rows = [(run, f"{value:.3f}", *map(_number, ends[run])) for run, (_, value) in said.items()]
    return columns_of(("run", "forecast", f"{SHARE:.0%} from".replace("%", " %"), "to"), rows)


def score_locks(store: Path | None, which: str | None) -> Told:
    """Score sealed forecasts (one, or all that can be), and show the history."""
    kept = Store(store)
    ledger = Ledger(kept)
    locks = {str(entry["number"]): entry for entry in ledger.entries("forecasts")}
    if not locks:
        raise UserError(
            f"store {str(kept.path)!r} holds no sealed forecasts; lab forecast --with MODEL --lock makes them"
        )
    if which is not None and which not in locks:
        raise UserError(f"no lock {which!r} (there are: {', '.join(locks)})")
    told: list[str] = []
    for entry in [locks[which]] if which else ledger.unscored():
        try:
            told += _score(kept, ledger, entry)
        except UserError as error:
            if which:
                raise
            told.append(str(error))
    history = ledger.entries("score")
    rows = [(str(e["lock"]), e["at"][:19], str(e["runs"]), words_of(e), _best(e)) for e in history]
    told += ["", "history", *columns_of(("lock", "scored at", "runs", "target", "within settings"), rows)]
    return told, [{k: v for k, v in e.items() if k != "outcomes"} for e in history]


def _score(store: Store, ledger: Ledger, entry: dict[str, Any]) -> list[str]:
    target = parse_target(entry["target"])
    table = grid_table(store, entry["runs"])
    trained = load_forecaster(store, entry["forecaster"]["name"])
    if trained.hash != entry["forecaster"]["hash"]:
        raise UserError(f"lock {entry['number']}: its forecaster {trained.name!r} is not the one that made it")
    told, gaps = score_lock(entry, table)
    if all(old["outcomes"] != told["outcomes"] for old in ledger.entries("score") if old["lock"] == entry["number"]):
        ledger.append("score", told)
    shown = [f"lock {entry['number']} of {entry['at'][:19]}, {len(entry['runs'])} runs, target: {words_of(entry)}"]
    shown += [told["changed"]] if told["changed"] else []
    names = list(next(iter(told["scores"].values())))
    head = ("predictor", f"{MEASURE[target.kind]} within settings", *names[1:])
    shown += columns_of(head, [(n, *(_number(one[k]) for k in names)) for n, one in told["scores"].items()])
    shown += [interval_line(told["intervals"])] if "intervals" in told else []
    return [*shown, *(f"  {sentence(gap, target.kind, 'runs sealed before looking')}" for gap in gaps)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _best(entry: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {_number(one['within'])}" for name, one in entry["scores"].items() if "baselines" in name
    )


def rule_lines(store: Path | None, grid: str, split: str, cut: float) -> Told:
    """Which rule the runs of a grid learned."""
    kept = Store(store)
    found = rules_learned(kept, set_aside(kept, kept.find(grid))[0], split, cut)
    table = found.by_cluster().reset_index()
    shown = [name for name in table if name not in ("cluster", "runs")]
    rows = [
        (str(row["cluster"]), str(row["runs"]), *(_number(row[name]) for name in shown))
        for row in table.to_dict("records")
    ]
    where = place_in_words(split, found.lengths, found.laws).removeprefix(",")
    told = [f"{len(found.runs)} runs, {found.examples} examples{where}: mean share of answers a rule gives"]
    told += columns_of(("cluster", "runs", *(name.removeprefix("rule|") for name in shown)), rows)
    runs = found.runs.reset_index().to_dict("records")
    return told, {
        "split": split,
        "examples": found.examples,
        "lengths": list(found.lengths),
        "clusters": table.to_dict("records"),
        "runs": runs,
    }
