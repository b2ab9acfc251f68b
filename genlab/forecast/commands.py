"""What the `lab forecast` commands call: each function returns a plain result, with its text and its JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from genlab.errors import DamagedFileError, UserError
from genlab.forecast.causal import USUAL, Removal, removal_lines, remove_head
from genlab.forecast.compare import Difference
from genlab.forecast.judge import Judgement, judge, learning_curve
from genlab.forecast.ledger import Ledger, check_not_fed_back, seen_at
from genlab.forecast.predictions import SHARE
from genlab.forecast.predictors import Model, main_predictor
from genlab.forecast.reliability import Reliability, reliability_words
from genlab.forecast.rules import Rules as LearnedRules
from genlab.forecast.rules import rules_learned
from genlab.forecast.sealing import Forecaster, load_forecaster, lock, save_forecaster, score_lock, words_of
from genlab.forecast.sealing import seal_plan as seal
from genlab.forecast.show import MEASURE, as_json, interval_line, learning_lines, lines, sentence
from genlab.forecast.tables import table as grid_table
from genlab.forecast.targets import Kind, parse_target
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.store import Store
from genlab.tasks import place_in_words
from genlab.text import columns_of


class Answer(ABC):
    """The result of a forecast command."""

    @abstractmethod
    def lines(self) -> list[str]:
        """For a reader."""

    @abstractmethod
    def as_json(self) -> Any:
        """For a program."""

    def print(self, console: Console) -> None:
        """The lines, as they are."""
        for line in self.lines():
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def diverged_line(store: Store, grid: str) -> str:
    """Which runs of a grid every command leaves out, or ''."""
    runs = store.find(grid)
    return left_out(set_aside(store, runs)[1], len(runs))


# -- evaluate: how good forecasts of known outcomes are


@dataclass(frozen=True)
class Evaluation(Answer):
    """A judgement of forecasts; `sealed`: when the plan of this analysis was sealed, None if it was not."""

    judgement: Judgement
    sealed: str | None

    def lines(self) -> list[str]:
        return lines(self.judgement, self.sealed)

    def as_json(self) -> dict[str, Any]:
        return as_json(self.judgement, self.sealed)


def evaluate_forecasts(
    store: Store | None, table: pd.DataFrame, grid: str | None, target: str, by: Any, **options: Any
) -> Evaluation:
    """Judge forecasts of a target of a grid, or of a user's own table (`grid` is None).

    Args:
        table: `genlab.forecast.table` or `read_table`.
        by, options: of `genlab.forecast.judge.judge`.

    Raises:
        UserError: as `judge`; outcomes of sealed runs that are not scored yet.
    """
    wanted, sealed = parse_target(target), None
    if store is not None and grid is not None:
        ledger = Ledger(store)
        check_not_fed_back(ledger, table, wanted)
        seen = seen_at(table, wanted).dropna()
        sealed = ledger.plan_for(grid, wanted, by, options["signal"], str(seen.min()) if len(seen) else None)
    return Evaluation(judge(table, wanted, by, **options), sealed)


@dataclass(frozen=True)
class LearningCurve(Answer):
    """How the score grows with the number of labelled runs: `judge.learning_curve`."""

    curve: pd.DataFrame
    kind: Kind

    def lines(self) -> list[str]:
        return learning_lines(self.curve, MEASURE[self.kind])

    def as_json(self) -> list[dict[str, Any]]:
        return self.curve.to_dict("records")


def evaluate_with_few_labels(table: pd.DataFrame, target: str, **options: Any) -> LearningCurve:
    """The learning curve of a target; `options` are those of `genlab.forecast.judge.learning_curve`."""
    wanted = parse_target(target)
    return LearningCurve(learning_curve(table, wanted, **options), wanted.kind)


# -- causal: does the head that a signal reads matter?


@dataclass(frozen=True)
class CausalCheck(Answer):
    """What became of the target where heads were ablated, by kind of ablation."""

    removals: list[Removal]

    def lines(self) -> list[str]:
        return removal_lines(self.removals)

    def as_json(self) -> list[dict[str, Any]]:
        return [one.as_json() | {"runs": one.runs.to_dict("records")} for one in self.removals]


def check_causally(
    store: Store, table: pd.DataFrame, target: str, signal: str, *, fit_only: bool = True, seed: int = 0
) -> CausalCheck:
    """Ablate the head that a signal reads in each run, and measure the target again."""
    wanted = parse_target(target)
    check_not_fed_back(Ledger(store), table, wanted)
    rng = np.random.default_rng(seed)
    return CausalCheck([remove_head(store, table, wanted, signal, kind, rng, fit_only) for kind in USUAL])


# -- fit and seal: a forecaster, and forecasts or a plan under seal


@dataclass(frozen=True)
class Fitted(Answer):
    """A forecaster that was saved."""

    forecaster: Forecaster

    def lines(self) -> list[str]:
        made = self.forecaster
        return [f"forecaster {made.name}: {len(made.table)} runs, SHA-256 {made.hash}"]

    def as_json(self) -> dict[str, Any]:
        made = self.forecaster
        return {"forecaster": made.name, "runs": len(made.table), "hash": made.hash}


def fit_forecaster(
    store: Store,
    table: pd.DataFrame,
    target: str,
    name: str,
    *,
    signal: str | None = None,
    model: Model = "linear",
    fit_only: bool = True,
    seed: int = 0,
) -> Fitted:
    """Save a forecaster: the runs that it learns from and how it is fitted."""
    wanted = parse_target(target)
    check_not_fed_back(Ledger(store), table, wanted)
    return Fitted(save_forecaster(store, table, wanted, signal, model, fit_only, seed, name))


@dataclass(frozen=True)
class SealedPlan(Answer):
    """The plan of an analysis, sealed."""

    entry: dict[str, Any]

    def lines(self) -> list[str]:
        return [f"plan {self.entry['number']} sealed at {self.entry['at']}, SHA-256 {self.entry['hash']}"]

    def as_json(self) -> dict[str, Any]:
        return self.entry


def seal_plan(store: Store, table: pd.DataFrame, grid: str, target: str, by: str, **options: Any) -> SealedPlan:
    """Seal the plan of an analysis; `options` are part of it (signal, fit_only, seed, factors)."""
    return SealedPlan(seal(Ledger(store), table, grid, parse_target(target), by, options))


@dataclass(frozen=True)
class SealedForecasts(Answer):
    """Forecasts of a grid's runs, sealed; `seen`: runs left out, since their outcome was known."""

    entry: dict[str, Any]
    grid: str
    forecaster: str
    seen: int

    def lines(self) -> list[str]:
        entry = self.entry
        found = [
            f"lock {entry['number']} sealed at {entry['at']}, SHA-256 {entry['hash']}",
            f"{len(entry['runs'])} runs of {self.grid}, target: {words_of(entry)}; by forecaster {self.forecaster}",
        ]
        if self.seen:
            found.append(f"left out: {self.seen} runs whose outcome was seen before")
        if entry["signal"] is not None:
            found.append(reliability_words(_reliability(entry["reliability"]), entry["signal"]))
        return found + _forecast_lines(entry)

    def as_json(self) -> dict[str, Any]:
        return self.entry


def seal_forecasts(store: Store, grid: str, name: str) -> SealedForecasts:
    """Forecast the runs of a grid whose outcomes were not seen yet, and seal that."""
    forecaster = load_forecaster(store, name)
    entry, seen = lock(Ledger(store), grid_table(store, grid), grid, forecaster)
    return SealedForecasts(entry, grid, name, seen)


def _reliability(row: dict[str, Any]) -> Reliability:
    """What a lock holds of it."""
    known = {name: value for name, value in row.items() if name != "is_noise" and value is not None}
    return Reliability(**known)


def _forecast_lines(entry: dict[str, Any]) -> list[str]:
    """A row a run: what is forecast, and between which numbers it is expected."""
    forecasts = entry["forecasts"][main_predictor(entry["forecasts"], entry["signal"])]
    if not entry["intervals"]:
        return columns_of(("run", "forecast"), [(run, f"{value:.3f}") for run, (_, value) in forecasts.items()])
    ends = entry["intervals"]["runs"]
    rows = [(run, f"{value:.3f}", *map(_number, ends[run])) for run, (_, value) in forecasts.items()]
    return columns_of(("run", "forecast", f"{SHARE:.0%} from".replace("%", " %"), "to"), rows)


# -- score: sealed forecasts against what came out


@dataclass(frozen=True)
class ScoredLock:
    """A lock with its score (an entry of the ledger) and the differences between predictors; or why it has none."""

    lock: dict[str, Any]
    score: dict[str, Any] | None
    gaps: list[Difference]
    problem: str = ""

    def lines(self) -> list[str]:
        """A table of predictors, then a sentence per difference."""
        if self.score is None:
            return [self.problem]
        lock, score = self.lock, self.score
        kind = parse_target(lock["target"]).kind
        found = [f"lock {lock['number']} of {lock['at'][:19]}, {len(lock['runs'])} runs, target: {words_of(lock)}"]
        found += [score["changed"]] if score["changed"] else []
        names = list(next(iter(score["scores"].values())))
        head = ("predictor", f"{MEASURE[kind]} within settings", *names[1:])
        found += columns_of(head, [(n, *(_number(one[k]) for k in names)) for n, one in score["scores"].items()])
        found += [interval_line(score["intervals"])] if "intervals" in score else []
        return found + [f"  {sentence(gap, kind, 'runs sealed before evaluation')}" for gap in self.gaps]


@dataclass(frozen=True)
class Scores(Answer):
    """Locks that were scored now, and the history of all scores."""

    scored: list[ScoredLock]
    history: list[dict[str, Any]]

    def lines(self) -> list[str]:
        rows = [(str(e["lock"]), e["at"][:19], str(e["runs"]), words_of(e), _best(e)) for e in self.history]
        table = columns_of(("lock", "scored at", "runs", "target", "within settings"), rows)
        return [*(line for one in self.scored for line in one.lines()), "", "history", *table]

    def as_json(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in e.items() if k != "outcomes"} for e in self.history]


def score_locks(store: Store, which: str | None = None) -> Scores:
    """Score sealed forecasts (one lock, or all that can be scored), and keep the scores in the ledger.

    Raises:
        UserError: no locks, no such lock, one whose forecaster is gone, or one whose runs have no outcome yet (where
            it was named).
        DamagedFileError: a file that a score is made from is damaged.
    """
    ledger = Ledger(store)
    locks = {str(entry["number"]): entry for entry in ledger.entries("forecasts")}
    if not locks:
        raise UserError(
            f"store {str(store.path)!r} holds no sealed forecasts; lab forecast seal --with NAME makes them"
        )
    if which is not None and which not in locks:
        raise UserError(f"no lock {which!r} (there are: {', '.join(locks)})")
    scored: list[ScoredLock] = []
    for entry in [locks[which]] if which else ledger.unscored():
        _check_lock(store, entry)
        try:
            scored.append(_score(store, ledger, entry))
        except DamagedFileError:  # not a lock that cannot be scored yet, but a store that must not be believed
            raise
        except UserError as error:
            if which:
                raise
            scored.append(ScoredLock(entry, None, [], str(error)))
    return Scores(scored, ledger.entries("score"))


def _check_lock(store: Store, entry: dict[str, Any]) -> None:
    """Check that the forecaster of a lock and its runs are there: waiting would not mend that they are gone."""
    trained = load_forecaster(store, entry["forecaster"]["name"])
    if trained.hash != entry["forecaster"]["hash"]:
        raise UserError(f"lock {entry['number']}: its forecaster {trained.name!r} is not the one that made it")
    if gone := [run for run in entry["runs"] if run not in store]:
        raise UserError(f"lock {entry['number']}: {len(gone)} of its runs have no record in the store: {gone[0]}")


def _score(store: Store, ledger: Ledger, entry: dict[str, Any]) -> ScoredLock:
    table = grid_table(store, entry["runs"])
    score, gaps = score_lock(entry, table)
    earlier = [old["outcomes"] for old in ledger.entries("score") if old["lock"] == entry["number"]]
    if score["outcomes"] not in earlier:
        ledger.append("score", score)
    return ScoredLock(entry, score, list(gaps))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _best(entry: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {_number(one['within'])}" for name, one in entry["scores"].items() if "baselines" in name
    )


# -- rules: which rule did each run learn?


@dataclass(frozen=True)
class Rules(Answer):
    """Clusters of runs that answer alike, and the fraction of answers that each known rule gives."""

    learned: LearnedRules
    split: str

    def lines(self) -> list[str]:
        learned, table = self.learned, self.learned.by_cluster().reset_index()
        shown = [name for name in table if name not in ("cluster", "runs")]
        rows = [
            (str(row["cluster"]), str(row["runs"]), *(_number(row[name]) for name in shown))
            for row in table.to_dict("records")
        ]
        where = place_in_words(self.split, learned.lengths, learned.laws).removeprefix(",")
        title = f"{len(learned.runs)} runs, {learned.examples} examples{where}: mean fraction of answers a rule gives"
        return [title, *columns_of(("cluster", "runs", *(str(name).removeprefix("rule|") for name in shown)), rows)]

    def as_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "examples": self.learned.examples,
            "lengths": list(self.learned.lengths),
            "clusters": self.learned.by_cluster().reset_index().to_dict("records"),
            "runs": self.learned.runs.reset_index().to_dict("records"),
        }


def learned_rules(store: Store, grid: str, split: str, cut: float = 0.2) -> Rules:
    """Which rules the runs of a grid learned; runs are alike up to a mean fraction `cut` of different answers."""
    return Rules(rules_learned(store, set_aside(store, store.find(grid))[0], split, cut), split)
