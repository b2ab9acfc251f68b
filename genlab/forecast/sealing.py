"""Sealing forecasts before anybody looks, and scoring them after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.compare import Difference, difference, overall
from genlab.forecast.conformal import PredictionIntervals
from genlab.forecast.forecaster import Forecaster
from genlab.forecast.judge import OVER
from genlab.forecast.ledger import Entry, Ledger, inputs_hash, seen_at
from genlab.forecast.predictions import Predictions
from genlab.forecast.reliability import reliability_of
from genlab.forecast.roles import frame_of, part
from genlab.forecast.scores import blocks_of, mean_scores
from genlab.forecast.splits import settings_of, twins_of
from genlab.forecast.targets import Target, parse_target, target_in_words, values_of

__all__ = ["Outcome", "lock", "score_lock", "seal_plan", "words_of"]

_LAW = "training"
"""How means over training lengths of a shifted split are weighed. Locks without a word of it weigh them alike."""
_OVERDUE = "its outcomes were seen before it was sealed"


def seal_plan(
    ledger: Ledger, table: pd.DataFrame, grid: str, target: Target, by: str, options: dict[str, Any]
) -> Entry:
    """Seal what will be claimed: one signal, one target, one split, before any outcome of it is seen.

    Raises:
        UserError: no signal named, or a run of the table that was looked at already.
    """
    if options.get("signal") is None:
        raise UserError("a plan needs --signal: the one that the claim is about (or --with, to seal forecasts)")
    seen = seen_at(table, target).dropna()
    if len(seen):
        raise UserError(
            f"target {target.text!r} was seen for {len(seen)} of {len(table)} runs (first at {seen.min()}): what was "
            "seen cannot be planned unseen; train with --evals id, and evaluate after sealing"
        )
    asked = {"grid": grid, "target": target.text, "by": by, **options}
    return ledger.append("plan", {**asked, "runs": sorted(map(str, table.index))})


def lock(ledger: Ledger, table: pd.DataFrame, grid: str, forecaster: Forecaster) -> tuple[Entry, int]:
    """Forecast all runs that were not looked at yet, and seal that.

    Returns:
        The entry, and how many runs were left out because their outcome had been seen.

    Raises:
        UserError: nothing is unseen; what `Forecaster.forecast` raises.
    """
    able = forecaster.fits(table)
    if able.empty:
        raise UserError(f"none of {len(table)} runs learned its task: forecaster {forecaster.name!r} is for those")
    seen = seen_at(able, forecaster.target)
    unseen = seen.isna().to_numpy()
    new = able[unseen]
    if new.empty:
        raise UserError(
            f"target {forecaster.target.text!r} was seen for all {len(able)} runs (first at {seen.dropna().min()}): "
            "what was seen cannot be forecast as unseen"
        )
    trained = forecaster.table
    named = [frame_of({"setting": part(one, "setting")}) for one in (trained, able)]
    settings = settings_of(pd.concat(named))
    said, used, signal = forecaster.forecast(new), forecaster.used, forecaster.signal
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
        "forecasts": said,
        "intervals": forecaster.intervals(new),
    }
    return ledger.append("forecasts", content), int(seen.notna().sum())


def words_of(entry: Entry) -> str:
    """The target of an entry as a reader is told it."""
    return str(entry.get("target_in_words") or target_in_words(parse_target(entry["target"])))


Outcome = dict[str, Any]
"""What `score_lock` found, as plain data."""


def score_lock(entry: Entry, table: pd.DataFrame) -> tuple[Outcome, list[Difference]]:
    """Sealed forecasts against what came out. Settings are the unit where the forecaster was trained on none of them.

    Args:
        table: the table of the sealed runs, as it is now.

    Raises:
        UserError: a run is not evaluated yet (all are scored, or none), or was looked at before the seal.
    """
    target, runs = parse_target(entry["target"]), entry["runs"]
    now_seen = seen_at(table, target).reindex(runs)
    early = [run for run, at in now_seen.items() if at is not None and at == at and at <= entry["at"]]
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
    return _told(entry, found, new_settings, changed)


def _predictions(entry: Entry, target: Target, table: pd.DataFrame) -> Predictions:
    values, runs = values_of(table, target), entry["runs"]
    setting = np.array([entry["setting"][run] for run in runs], dtype=object)
    blocks = blocks_of(target.kind, values.value, values.censored, setting, np.zeros(len(runs)))
    rank, mean = (
        {name: np.array([said[run][i] for run in runs]) for name, said in entry["forecasts"].items()} for i in (0, 1)
    )
    about = (np.arange(len(runs)), np.zeros(len(runs)), setting, values.value, values.censored, twins_of(table))
    return Predictions(target.kind, *about, rank, mean, blocks, _intervals(entry))


def _intervals(entry: Entry) -> PredictionIntervals | None:
    """Those that were sealed; none for yes/no targets."""
    sealed = entry.get("intervals")  # locks made before there were any have none
    if not sealed:
        return None
    ends = np.array([sealed["runs"][run] for run in entry["runs"]], float)
    low, high = (np.where(np.isnan(end), none, end) for end, none in zip(ends.T, (-np.inf, np.inf), strict=True))
    return PredictionIntervals(sealed["of"], low, high)


def _told(entry: Entry, found: Predictions, across: bool, changed: str) -> tuple[Outcome, list[Difference]]:
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
    told = {"lock": entry["number"], "target": entry["target"], "target_in_words": words_of(entry)}
    told |= {"runs": len(found.row), "changed": changed}
    told |= {"not_scored": [s for s in found.settings if s not in found.scored], "scores": scores}
    told["outcomes"] = dict(zip(entry["runs"], found.value.tolist(), strict=True))
    if found.intervals is not None:
        told["intervals"] = found.intervals.summary(found.value)
    told["claims"] = [
        {"of": g.of, "over": g.over, "difference": g.interval.value, "low": g.interval.low, "high": g.interval.high}
        for g in gaps
    ]
    return told, gaps
