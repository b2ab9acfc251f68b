"""The ledger: plans, forecasts and scores in the order in which they were written, each sealed by a hash.

An entry is a file `forecasts/NNNN.json` of a store. It is created only if it does not exist, and includes the hash of
the previous entry: changing, removing or inserting an entry breaks the chain. `forecasts/head.json` names the latest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from genlab.errors import DamagedFileError, UserError
from genlab.forecast.roles import part
from genlab.forecast.targets import Target, values_of
from genlab.runs.files import create_json, read_json, write_json
from genlab.runs.store import Store, now

Entry = dict[str, Any]

_HEAD = "head.json"
"""The latest entry: its removal leaves a chain that is whole, and is noticed by this file alone."""


class Ledger:
    """The ledger of a store. Opening one writes nothing."""

    def __init__(self, store: Store):
        self._store = store
        self._folder = store.path / "forecasts"

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return all entries in order, or those of a kind (`plan`, `forecasts`, `score`).

        Raises:
            DamagedFileError: an entry was changed, or one is missing.
        """
        head = self._folder / _HEAD
        last = read_json(head, number=int, hash=str) if head.exists() else {"number": 0}
        found: list[Entry] = []
        for number, path in enumerate(sorted(self._folder.glob("[0-9]*.json")), start=1):
            entry = read_json(path, kind=str, at=str, number=int)
            before = found[-1]["hash"] if found else ""
            if path.stem != _stem(number) or entry.get("previous") != before:
                raise DamagedFileError(f"{path} does not follow the previous entry: one is missing or was changed")
            if entry.get("hash") != _hash(entry):
                raise DamagedFileError(f"{path} was changed after it was sealed: the hash does not match")
            found.append(entry)
        if len(found) < last["number"]:
            raise DamagedFileError(
                f"{self._folder} is damaged: entry {last['number']} was sealed, but only {len(found)} are left"
            )
        return [entry for entry in found if kind in (None, entry["kind"])]

    def append(self, kind: str, content: dict[str, Any]) -> Entry:
        """Seal an entry with number, time and hash; concurrent writers get different numbers."""
        self._store.ready()
        while True:
            entries = self.entries()
            about = {"number": len(entries) + 1, "kind": kind, "at": now()}
            entry = {**content, **about, "previous": entries[-1]["hash"] if entries else ""}
            entry["hash"] = _hash(entry)
            if create_json(self._folder / f"{_stem(about['number'])}.json", entry):
                write_json(self._folder / _HEAD, {"number": entry["number"], "hash": entry["hash"]})
                return entry

    def unscored(self) -> list[Entry]:
        """Return sealed forecasts without a score."""
        scored = {entry["lock"] for entry in self.entries("score")}
        return [entry for entry in self.entries("forecasts") if entry["number"] not in scored]

    def plan_for(self, grid: str, target: Target, by: str, signal: str | None, first_seen: str | None) -> str | None:
        """Return when the plan of an analysis was sealed, if that was before any outcome of its target was seen."""
        asked = {"grid": grid, "target": target.text, "by": by, "signal": signal}
        for plan in self.entries("plan"):
            if all(plan[key] == value for key, value in asked.items()) and (
                not first_seen or plan["at"] < first_seen
            ):
                return str(plan["at"])
        return None


def check_not_fed_back(ledger: Ledger, table: pd.DataFrame, target: Target) -> None:
    """Raise `UserError` if outcomes of sealed runs would be used before they are scored."""
    known = set(table.index[values_of(table, target).known])
    for entry in ledger.unscored():
        if held := known & set(entry["runs"]):
            raise UserError(
                f"{len(held)} runs ({min(held)}, ...) are sealed in lock {entry['number']} and not scored yet: "
                "their outcomes must not be used before that (run lab forecast score)"
            )


def seen_at(table: pd.DataFrame, target: Target) -> pd.Series:
    """Return when the target of each run was first evaluated; None if never.

    Evaluations during training count, and so does any length of the split if the target is over all of them.
    """
    times = part(table, "seen_at")
    if target.split is not None:
        length = None if target.length is None else f",length={target.length}"
        start = f"split={target.split},"
        names = [n for n in times if n.startswith(start) and (length is None or n.endswith(length))]
        times = times[names]
    if not times.shape[1]:
        return pd.Series(None, index=table.index, dtype=object)
    return times.apply(lambda row: min(row.dropna(), default=None), axis=1).astype(object)


def inputs_hash(table: pd.DataFrame, runs: Iterable[str], used: Iterable[Sequence[str]]) -> str:
    """Return the SHA-256 of the inputs (columns (role, name)) of a forecast; missing columns are NaN."""
    wanted = pd.MultiIndex.from_tuples([(role, name) for role, name in used])
    known = table.loc[sorted(runs)].reindex(columns=wanted)
    return hashlib.sha256(known.to_csv(float_format="%.17g").encode()).hexdigest()


def _hash(entry: Entry) -> str:
    content = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _stem(number: int) -> str:
    return f"{number:04d}"
