"""`lab store repair`: enter runs again whose record was lost, from what the store still holds of them.

A file of final weights says all that its record said. Files that were written before they did so hold weights and run
ids alone; of those the spec is searched for, by its hash, among what the groups asked for and the settings of the
other runs, and the rest is taken from the history.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genlab.errors import DamagedFileError, UserError
from genlab.runs.files import move_seen, seen, write_table
from genlab.runs.gridfile import parse_grid
from genlab.runs.index import Entry, entries_of, prefer
from genlab.runs.maintain import LOST, ROWS, Unnamed, lost_runs, unnamed, upkeep
from genlab.runs.store import Store, histories, no_history
from genlab.runs.weights import load_tensors, record_of, runs_of
from genlab.spec import RunSpec

_TOGETHER, _APART = 1000, 20
"""How many seeds are tried of the settings of other runs: both seeds alike, and every pair of two."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of the runs that no record had.

    Attributes:
        entered: those that have a record again.
        aside: run -> why it has none; what was left of it stands in the store's folder `lost`.
        returned: files that a record named and that were in `lost`, in their place again.
    """

    entered: list[str]
    aside: dict[str, str]
    returned: list[Path]


def repair_store(store: Store) -> Repaired:
    """Enter lost runs again, as far as their weights are there; put the rest of them aside. Deletes nothing.

    Raises:
        UserError: another process changes the store now.
    """
    with upkeep(store):
        returned = _returned(store)
        parts = {table: table.files() for table in (store.evaluations, store.signals)}
        lost = set(lost_runs(store))
        files = [*unnamed(store), *unnamed(store, LOST)]
        entries, why = _entries(store, lost, files)
        if entries:
            _bring_back(store, entries)
            store.index.restore(entries)
        left = lost - {entry["run_id"] for entry in entries}
        for u in unnamed(store):
            if left & set(u.unrecorded):
                move_seen(u.path, u.seen, store.path / LOST / u.path.parent.name)
        for table, files_before in parts.items():
            table.drop(left, files_before, store.path / LOST)
    no_weights = "its weights are not there"
    return Repaired(sorted(lost - left), {run: why.get(run, no_weights) for run in sorted(left)}, returned)


def _returned(store: Store) -> list[Path]:
    """Files that a record names, and that are in `lost`, put where they belong; and all rows that are there."""
    found: list[Path] = []
    for aside in [path for folder in ROWS for path in (store.path / LOST / folder).glob("[!.]*")]:
        move_seen(aside, seen(aside), store.path / aside.parent.name)
    store.refresh()
    for name in sorted({name for run in store.index.runs for name in store.index.files(run)}):
        place, aside = store.path / name, store.path / LOST / name
        if not place.exists() and move_seen(aside, seen(aside), place.parent):
            found.append(place)
    return found


def _entries(store: Store, lost: set[str], files: Sequence[Unnamed]) -> tuple[list[Entry], dict[str, str]]:
    """An entry a run as far as one can be made, and why not; of several the one that counted, or else the latest."""
    weights = [u for u in files if u.path.parent.name == "weights" and lost & set(u.runs)]
    specs = _specs(store, lost) if weights else {}
    histories_of = {path: runs_of(path) for path in _places(store, "history")} if weights else {}
    found: dict[str, Entry] = {}
    best: dict[str, tuple[bool, str]] = {}
    why: dict[str, str] = {}
    for u in weights:
        try:
            record = record_of(load_tensors(u.path)[1])
        except DamagedFileError as error:
            why |= dict.fromkeys(u.runs, str(error))
            continue
        made = entries_of({**record, "weights": u.path.name}) if record else _rebuilt(u, specs, files, histories_of)
        for entry in made:
            if entry["run_id"] in lost:
                prefer(found, best, entry["run_id"], entry["again"] or not record, entry["at"], entry)
        if not record:
            why |= {run: "its spec is not known: no group asks for it" for run in u.runs if run not in specs}
    return [_completed(store, entry, histories_of) for entry in found.values()], why


def _places(store: Store, folder: str) -> list[Path]:
    return [path for root in (store.path, store.path / LOST) for path in sorted((root / folder).glob("[!.]*"))]


def _rebuilt(
    u: Unnamed, specs: Mapping[str, RunSpec], files: Sequence[Unnamed], histories_of: Mapping[Path, Sequence[str]]
) -> list[Entry]:
    """Entries of a file of weights that does not say what its record said: without what is known of its machine."""
    stack = u.path.stem.partition("-")[0]
    shared = {"stack": stack, "weights": u.path.name, "history": "", "environment": {}, "again": False}
    shared["at"] = datetime.fromtimestamp(u.seen[0] / 1e9, UTC).isoformat(timespec="microseconds")
    ended = _ends(u.runs, [path for path, runs in histories_of.items() if set(runs) & set(u.runs)])
    steps = [s for s in files if s.path.parent.name == "steps" and s.path.stem.startswith(f"{stack}-")]
    entries: list[Entry] = []
    for run in u.runs:
        if run in specs:
            train = specs[run].train
            step, loss = ended.get(run, (train.steps, 0.0))
            status = "diverged" if loss is None else "finished" if step >= train.steps else "reached"
            kept = {s.path.stem.split("-")[1]: s.path.name for s in steps if run in s.runs}
            spec = specs[run].model_dump(mode="json")
            entries.append({"run_id": run, "status": status, "step": step, "spec": spec, "kept": kept, **shared})
    return entries


def _ends(runs: Sequence[str], files: Sequence[Path]) -> dict[str, tuple[int, float | None]]:
    """run_id -> the last step of its history and the loss there (None: not finite), as far as it has one."""
    found: dict[str, tuple[int, float | None]] = {}
    for path in files:
        rows = histories(path, runs).to_pandas()
        rows = rows[rows["split"].isna()] if "split" in rows else rows
        for row in rows.sort_values("step").drop_duplicates("run_id", keep="last").to_dict("records"):
            loss = float(row["loss"])
            found[row["run_id"]] = int(row["step"]), loss if abs(loss) < float("inf") else None
    return found


def _completed(store: Store, entry: Entry, histories_of: Mapping[Path, Sequence[str]]) -> Entry:
    """An entry that names files that are there: a history may have been moved by `lab store compact`, or be lost."""
    there = {path.name for path in _places(store, "steps")}
    kept = {step: name for step, name in entry["kept"].items() if name in there}
    holding = [path.name for path, runs in histories_of.items() if entry["run_id"] in runs]
    own = [name for name in holding if name == entry["history"]]
    own += [name for name in holding if name.startswith(entry["stack"])] + holding
    history = own[0] if own else write_table(store.path / "history", entry["stack"], no_history())
    return {**entry, "kept": kept, "history": history}


def _bring_back(store: Store, entries: Sequence[Entry]) -> None:
    """Put the files of entries where they belong, and make them new: a new file is nobody's leftover."""
    names = {f"{folder}/{entry[folder]}" for entry in entries for folder in ("weights", "history")}
    names |= {f"steps/{name}" for entry in entries for name in entry["kept"].values()}
    for name in sorted(names):
        place, aside = store.path / name, store.path / LOST / name
        if not place.exists():
            os.utime(aside)
            move_seen(aside, seen(aside), place.parent)
        os.utime(place)


# -- specs of runs of which the weights alone are left ---------------------------------------------------------------


def _specs(store: Store, wanted: set[str]) -> dict[str, RunSpec]:
    """The specs of runs, as far as they can be found: each is known by its hash."""
    found: dict[str, RunSpec] = {}
    for spec in _candidates(store):
        if len(found) == len(wanted):
            break
        for version in _earlier(spec):
            if (run := version.run_id) in wanted:
                found.setdefault(run, version)
    return found


def _candidates(store: Store) -> Iterator[RunSpec]:
    """What the grids of this store asked for; then the settings of its runs, at other seeds."""
    for name in store.groups():
        request: dict[str, Any] = store.group(name)["request"]
        try:
            plans = parse_grid(request["toml"], name).plans if "toml" in request else []
        except UserError:  # a later version may refuse what an earlier one took
            continue
        for plan in plans:
            yield from plan.specs
    known = [store.spec(run) for run in store.run_ids()]
    for settings in {spec.configuration.run_id: spec for spec in known}.values():
        for seed in range(_TOGETHER):
            yield settings.with_seeds(seed, seed)
        for init in range(_APART):
            yield from (settings.with_seeds(init, data) for data in range(_APART))


def _earlier(spec: RunSpec) -> Iterable[RunSpec]:
    """A spec, and what it was before some field came: the plan of today may choose a field that no run had then."""
    yield spec
    later = {
        part: {n: type(value).model_fields[n].default for n in sorted(value.later)}
        for part, value in (("model", spec.model), ("train", spec.train))
    }
    changes = [{part: {name: value}} for part, values in later.items() for name, value in values.items()]
    for change in [later, *changes]:
        parts = {part: getattr(spec, part).model_copy(update=values) for part, values in change.items()}
        if any(parts[part] != getattr(spec, part) for part in parts):
            yield spec.model_copy(update=parts)
