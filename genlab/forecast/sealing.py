"""Forecasters, and sealing forecasts before outcomes are seen and scoring them afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from genlab.errors import DamagedFileError, UserError, unknown
from genlab.forecast.compare import Difference, difference, overall
from genlab.forecast.judge import OVER, choose, signal_column
from genlab.forecast.ledger import Entry, Ledger, inputs_hash, seen_at
from genlab.forecast.predictions import PredictionIntervals, Predictions, prediction_intervals
from genlab.forecast.predictors import Model, Predictor, fit, main_predictor, make_predictors, matrix
from genlab.forecast.reliability import reliability_of
from genlab.forecast.roles import KNOWN_BEFORE, columns, frame_of, part
from genlab.forecast.scores import blocks_of, mean_scores
from genlab.forecast.splits import Fold, settings_of, twins_of
from genlab.forecast.targets import Target, Values, parse_target, target_in_words, values_of
from genlab.runs.files import create_json, read_json, read_table, write_table
from genlab.runs.gridfile import LAST, is_group_name
from genlab.runs.store import Store, now
from genlab.tasks import fitted

# -- Forecasters

_SEPARATOR = "|"
_ABOUT: dict[str, Any] = {"name": str, "at": str, "target": str, "signal": (str, type(None)), "model": str}
_ABOUT |= {"fit_only": bool, "seed": int, "table": str}
"""What the file of a forecaster must hold."""


@dataclass(frozen=True)
class Forecaster:
    """A forecaster of new runs: training runs and options, stored in a store; refitting reproduces it.

    Attributes:
        name: its name in the store.
        hash: of the training table and all options; sealed forecasts refer to it.
        table: the training runs.
        target: what is forecast.
        signal: the signal of interest; forecasts are made with and without it.
        model: the model of `baselines` and `baselines + signal`.
        fit_only: whether it is only for runs that learned their task.
        seed: of the trees.
    """

    name: str
    hash: str
    table: pd.DataFrame
    target: Target
    signal: str | None
    model: Model
    fit_only: bool
    seed: int

    def forecast(self, new: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
        """Return predictor -> run -> [ranking score, expected value] of new runs; their outcomes are not used.

        Raises:
            UserError: a run was trained on, or none of the new runs has a column of the training runs.
        """
        rows, values, fold, predictors = self._combine(new)
        twins, yes_no = twins_of(rows), self.target.kind == "yes/no"
        found: dict[str, dict[str, list[float]]] = {}
        for one in predictors:
            fitted_one = fit(one, matrix(rows, one), values.value, fold.train, fold.test, twins, yes_no, self.seed)
            pairs = zip(new.index, fitted_one.rank.tolist(), fitted_one.mean.tolist(), strict=True)
            found[one.name] = {str(run): [rank, mean] for run, rank, mean in pairs}
        return found

    def intervals(self, new: pd.DataFrame) -> dict[str, Any]:
        """Return prediction intervals of the main predictor: `of`, and run -> [low, high] (None: unbounded).

        Empty for yes/no targets, whose forecasts are probabilities. Raises as `forecast`.
        """
        if self.target.kind == "yes/no":
            return {}
        rows, values, fold, predictors = self._combine(new)
        main = main_predictor([one.name for one in predictors], self.signal)
        one = next(one for one in predictors if one.name == main)
        setting, twins = settings_of(rows), twins_of(rows)
        made = prediction_intervals(one, rows, matrix(rows, one), values, setting, twins, fold, self.seed)
        ends = np.stack([made.low, made.high], axis=1)
        finite: list[list[float | None]] = [[float(end) if np.isfinite(end) else None for end in p] for p in ends]
        return {"of": main, "runs": dict(zip(map(str, new.index), finite, strict=True))}

    def _combine(self, new: pd.DataFrame) -> tuple[pd.DataFrame, Values, Fold, list[Predictor]]:
        """Combine training and new runs: table, outcomes of the former, fold, and predictors."""
        if both := set(new.index) & set(self.table.index):
            raise UserError(f"forecaster {self.name!r} was trained on {len(both)} of these runs ({min(both)}, ...)")
        for column in columns(self.table, KNOWN_BEFORE):
            if column not in new.columns or new[column].isna().all() > self.table[column].isna().all():
                raise UserError(
                    f"forecaster {self.name!r} uses {column[1]!r}, which was not measured for any of these runs "
                    "(lab probe measures signals; a column that only evaluated runs have is a leak)"
                )
        count = len(self.table)
        known = [column for column in self.table.columns if column[0] in (*KNOWN_BEFORE, "seed")]
        rows = pd.concat([self.table[known], new.reindex(columns=known)])
        seen = values_of(self.table, self.target)
        value = np.concatenate([seen.value, np.full(len(new), np.nan)])
        values = Values(value, np.concatenate([seen.censored, np.zeros(len(new), bool)]))
        column = None if self.signal is None else signal_column(self.table, self.signal)
        fold = Fold("new runs", np.arange(count), np.arange(count, count + len(new)))
        return rows, values, fold, make_predictors(rows, column, self.model)

    @property
    def used(self) -> list[list[str]]:
        """Input columns of the forecasts, as [role, name]."""
        return [list(column) for column in columns(self.table, KNOWN_BEFORE)]

    def fits(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the runs that it is for: those that learned their task, unless it was trained on all."""
        exact = part(table, "metric").get("exact_match")
        return table[fitted(exact)] if self.fit_only and exact is not None else table


def save_forecaster(
    store: Store,
    table: pd.DataFrame,
    target: Target,
    signal: str | None,
    model: Model,
    fit_only: bool,
    seed: int,
    name: str,
) -> Forecaster:
    """Store a forecaster: its training runs (with outcomes) and its options.

    Raises:
        UserError: an invalid or existing name, or what `judge` raises for a target, a signal or its runs.
    """
    if not is_group_name(name):
        raise UserError(f"--save {name!r} is not allowed (letters, digits, . _ -; not {', '.join(LAST)})")
    chosen = choose(table, target, fit_only).table
    if signal is not None:
        signal_column(chosen, signal)
    kept = chosen[[column for column in chosen.columns if column[0] not in ("second", "earlier", "seen_at")]]
    flat = kept.copy()
    flat.columns = [_SEPARATOR.join(column) for column in kept.columns]
    stored = pa.Table.from_pandas(flat.rename_axis("run_id").reset_index(), preserve_index=False)
    folder = store.path / "forecasters"
    store.ready()
    file = write_table(folder, name, stored)
    about = {"name": name, "at": now(), "target": target.text, "signal": signal, "model": model}
    about |= {"fit_only": fit_only, "seed": seed, "table": file}
    if not create_json(folder / f"{name}.json", about):
        raise UserError(f"a forecaster {name!r} exists; it is not overwritten, since locks may refer to it")
    return load_forecaster(store, name)


def load_forecaster(store: Store, name: str) -> Forecaster:
    """Load a stored forecaster.

    Raises:
        UserError: there is none with this name.
        DamagedFileError: the checksum of its training table does not match.
    """
    folder = store.path / "forecasters"
    if not (folder / f"{name}.json").is_file():
        raise unknown("forecaster", name, [path.stem for path in folder.glob("*.json")])
    about = read_json(folder / f"{name}.json", **_ABOUT)
    flat = read_table(folder / about["table"]).to_pandas().set_index("run_id")
    roles = dict.fromkeys(str(column).partition(_SEPARATOR)[0] for column in flat.columns)
    parts = {role: flat[[c for c in flat if str(c).startswith(role + _SEPARATOR)]] for role in roles}
    parts = {r: p.rename(columns=lambda c: str(c).partition(_SEPARATOR)[2]) for r, p in parts.items()}
    options_text = "\n".join(f"{key} {about[key]}" for key in sorted(about) if key not in ("name", "at"))
    made = hashlib.sha256(options_text.encode()).hexdigest()
    options = (about["signal"], about["model"], about["fit_only"], about["seed"])
    return Forecaster(name, made, frame_of(parts), parse_target(about["target"]), *options)


def sealed_damage(store: Store) -> dict[Path, str]:
    """Check what was sealed in a store: the chain of the ledger, and the forecasters that it refers to.

    Returns:
        What is wrong, by file or folder.
    """
    found: dict[Path, str] = {}
    folder = store.path / "forecasters"
    hashes: dict[str, str] = {}
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            hashes[path.stem] = load_forecaster(store, path.stem).hash
        except FileNotFoundError as error:
            found[path] = f"its table {error.filename} is missing"
        except UserError as error:
            found[path] = str(error).removeprefix(f"{path} ")
    try:
        sealed = Ledger(store).entries("forecasts")
    except DamagedFileError as error:
        return found | {store.path / "forecasts": str(error)}
    for entry in sealed:
        name, path = entry["forecaster"]["name"], folder / f"{entry['forecaster']['name']}.json"
        if path not in found and hashes.get(name) != entry["forecaster"]["hash"]:
            what = "differs from the one" if name in hashes else "is missing: it is the forecaster"
            found[path] = f"{what} that sealed entry {entry['number']} of the ledger"
    return found


_LAW = "training"
"""Weighting of training lengths in means over a shifted split. Locks that do not specify it weight them equally."""
_OVERDUE = "they were evaluated before the forecasts were sealed"


def seal_plan(
    ledger: Ledger, table: pd.DataFrame, grid: str, target: Target, by: str, options: dict[str, Any]
) -> Entry:
    """Seal a claim: one signal, one target, one split, before any outcome of it is seen.

    Raises:
        UserError: no signal, or a run of the table was already evaluated.
    """
    if options.get("signal") is None:
        raise UserError("a plan needs --signal, the signal of the claim (or --with, to seal forecasts)")
    seen = seen_at(table, target).dropna()
    if len(seen):
        raise UserError(
            f"target {target.text!r} was seen for {len(seen)} of {len(table)} runs (first at {seen.min()}): a plan "
            "must precede its outcomes; train with --evals id, and evaluate after sealing"
        )
    asked = {"grid": grid, "target": target.text, "by": by, **options}
    return ledger.append("plan", {**asked, "runs": sorted(map(str, table.index))})


def lock(ledger: Ledger, table: pd.DataFrame, grid: str, forecaster: Forecaster) -> tuple[Entry, int]:
    """Forecast all runs that were not evaluated yet, and seal the forecasts.

    Returns:
        The entry, and the number of runs left out because their outcome was already seen.

    Raises:
        UserError: no run is unseen; what `Forecaster.forecast` raises.
    """
    able = forecaster.fits(table)
    if able.empty:
        raise UserError(f"none of {len(table)} runs learned its task, as forecaster {forecaster.name!r} requires")
    seen = seen_at(able, forecaster.target)
    unseen = seen.isna().to_numpy()
    new = able[unseen]
    if new.empty:
        raise UserError(
            f"target {forecaster.target.text!r} was seen for all {len(able)} runs (first at {seen.dropna().min()}): "
            "outcomes that were seen cannot be forecast"
        )
    trained = forecaster.table
    named = [frame_of({"setting": part(one, "setting")}) for one in (trained, able)]
    settings = settings_of(pd.concat(named))
    forecasts, used, signal = forecaster.forecast(new), forecaster.used, forecaster.signal
    known = None if signal is None else reliability_of(new, signal, settings[len(trained) :][unseen]).row()
    content = {
        "grid": grid,
        "target": forecaster.target.text,
        "target_in_words": target_in_words(forecaster.target, forecaster.table),
        "lengths_weighed_by": _LAW,
        "signal": signal,
        "reliability": known,
        "forecaster": {"name": forecaster.name, "hash": forecaster.hash},
        "columns": used,
        "inputs": inputs_hash(new, new.index, used),
        "runs": [str(run) for run in new.index],
        "setting": dict(zip(map(str, new.index), settings[len(trained) :][unseen].tolist(), strict=True)),
        "trained_settings": sorted(set(settings[: len(trained)].tolist())),
        "forecasts": forecasts,
        "intervals": forecaster.intervals(new),
    }
    return ledger.append("forecasts", content), int(seen.notna().sum())


def words_of(entry: Entry) -> str:
    """Describe the target of an entry."""
    return str(entry.get("target_in_words") or target_in_words(parse_target(entry["target"])))


Outcome = dict[str, Any]
"""Result of `score_lock`, as plain data."""


def score_lock(entry: Entry, table: pd.DataFrame) -> tuple[Outcome, list[Difference]]:
    """Score sealed forecasts. Settings are the unit if the forecaster was trained on none of them.

    Args:
        entry: the sealed forecasts.
        table: the current table of their runs.

    Raises:
        UserError: a run is not evaluated yet (all are scored, or none), or was evaluated before the forecasts were
            sealed.
    """
    target, runs = parse_target(entry["target"]), entry["runs"]
    first_seen = seen_at(table, target).reindex(runs)
    early = [run for run, at in first_seen.items() if at is not None and at == at and at <= entry["at"]]
    if early:
        raise UserError(f"lock {entry['number']}: {len(early)} runs ({early[0]}, ...) cannot be scored: {_OVERDUE}")
    if entry.get("lengths_weighed_by") != _LAW:
        table = table.drop(columns="weight", level=0, errors="ignore")
    values = values_of(table.loc[runs], target)
    if not values.known.all():
        missing = int((~values.known).sum())
        raise UserError(
            f"lock {entry['number']}: {missing} of {len(runs)} runs have no evaluation of {target.text!r} yet (lab "
            "eval); all are scored, or none"
        )
    if inputs_hash(table, runs, entry["columns"]) != entry["inputs"]:
        changed = "what the forecasts were made from has changed since (signals or metrics measured anew)"
    else:
        changed = ""
    found = _predictions(entry, target, table.loc[runs])
    new_settings = set(found.settings).isdisjoint(entry["trained_settings"]) and len(found.settings) > 1
    return _summary(entry, found, new_settings, changed)


def _predictions(entry: Entry, target: Target, table: pd.DataFrame) -> Predictions:
    values, runs = values_of(table, target), entry["runs"]
    setting = np.array([entry["setting"][run] for run in runs], dtype=object)
    blocks = blocks_of(target.kind, values.value, values.censored, setting, np.zeros(len(runs)))
    rank, mean = (
        {name: np.array([of_run[run][i] for run in runs]) for name, of_run in entry["forecasts"].items()}
        for i in (0, 1)
    )
    about = (np.arange(len(runs)), np.zeros(len(runs)), setting, values.value, values.censored, twins_of(table))
    return Predictions(target.kind, *about, rank, mean, blocks, _intervals(entry))


def _intervals(entry: Entry) -> PredictionIntervals | None:
    """Sealed intervals; None for yes/no targets."""
    sealed = entry.get("intervals")  # absent in locks that predate intervals
    if not sealed:
        return None
    ends = np.array([sealed["runs"][run] for run in entry["runs"]], float)
    low, high = (np.where(np.isnan(end), none, end) for end, none in zip(ends.T, (-np.inf, np.inf), strict=True))
    return PredictionIntervals(sealed["of"], low, high)


def _summary(entry: Entry, found: Predictions, across: bool, changed: str) -> tuple[Outcome, list[Difference]]:
    signal, rng = entry["signal"], np.random.default_rng(0)
    gaps: list[Difference] = []
    if signal is not None and found.blocks:
        of = [name for name in (f"baselines + {signal}", f"{signal} alone") if name in found.rank]
        gaps = [difference(found, a, b, across, rng) for a in of for b in OVER if b in found.rank]
    scores = {
        name: {
            "within": float(overall(found.blocks, found.rank[name])[0]) if found.blocks else None,
            **mean_scores(found.kind, found.mean[name], found.value, found.censored),
        }
        for name in found.rank
    }
    summary = {"lock": entry["number"], "target": entry["target"], "target_in_words": words_of(entry)}
    summary |= {"runs": len(found.row), "changed": changed}
    summary |= {"not_scored": [s for s in found.settings if s not in found.scored], "scores": scores}
    summary["outcomes"] = dict(zip(entry["runs"], found.value.tolist(), strict=True))
    if found.intervals is not None:
        summary["intervals"] = found.intervals.summary(found.value)
    summary["claims"] = [
        {"of": g.of, "over": g.over, "difference": g.interval.value, "low": g.interval.low, "high": g.interval.high}
        for g in gaps
    ]
    return summary, gaps
