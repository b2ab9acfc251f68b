"""`lab store repair`: rebuild lost records from what the store still holds of their runs.

A file of final weights repeats its record. Older files hold only weights and run ids: their specs are searched for,
by hash, among what groups requested and the settings of other runs, and the rest is taken from the history.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genlab.errors import DamagedFileError, UserError
from genlab.runs.files import file_id, move_if_same, write_table
from genlab.runs.gridfile import parse_grid
from genlab.runs.index import Entry, entries_of, prefer
from genlab.runs.maintain import LOST, ROWS, UnrecordedFile, lost_runs, maintenance, unrecorded_files
from genlab.runs.parts import mark_part
from genlab.runs.store import Store, histories, no_history
from genlab.runs.weights import load_tensors, record_of, runs_of
from genlab.spec import RunSpec

_TOGETHER, _APART = 1000, 20
"""Number of seeds tried with settings of other runs: with both seeds equal, and every pair of two."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """Result of a repair.

    Attributes:
        entered: runs that have a record again.
        aside: run -> why it has none; its remaining files are in the store's folder `lost`.
        returned: files that a record names and that were moved back from `lost`.
    """

    entered: list[str]
    aside: dict[str, str]
    returned: list[Path]


def repair_store(store: Store) -> Repaired:
    """Rebuild records of lost runs whose weights exist; set the rest aside. Deletes nothing.

    Raises:
        UserError: another process maintains the store now.
    """
    with maintenance(store):
        returned = _return_files(store)
        parts = {table: table.files() for table in (store.evaluations, store.signals)}
        lost = set(lost_runs(store))
        files = [*unrecorded_files(store), *unrecorded_files(store, LOST)]
        entries, why = _entries(store, lost, files)
        if entries:
            _move_back(store, entries)
            store.index.restore(entries)
        left = lost - {entry["run_id"] for entry in entries}
        for u in unrecorded_files(store):
            if left & set(u.unrecorded):
                move_if_same(u.path, u.identity, store.path / LOST / u.path.parent.name)
        for table, files_before in parts.items():
            table.drop(left, files_before, store.path / LOST)
    no_weights = "its weights are missing"
    return Repaired(sorted(lost - left), {run: why.get(run, no_weights) for run in sorted(left)}, returned)


def _return_files(store: Store) -> list[Path]:
    """Move all appended rows, and the files that a record names, back from `lost`; returns the latter."""
    found: list[Path] = []
    for aside in [path for folder in ROWS for path in (store.path / LOST / folder).glob("[!.]*")]:
        if move_if_same(aside, file_id(aside), store.path / aside.parent.name):
            mark_part(store.path / aside.parent.name / aside.name)
    store.refresh()
    for name in sorted({name for run in store.index.runs for name in store.index.files(run)}):
        place, aside = store.path / name, store.path / LOST / name
        if not place.exists() and move_if_same(aside, file_id(aside), place.parent):
            found.append(place)
    return found


def _entries(store: Store, lost: set[str], files: Sequence[UnrecordedFile]) -> tuple[list[Entry], dict[str, str]]:
    """Rebuild an entry per run where possible, and say why not elsewhere.

    Of several candidates, the one that counted is used, or else the latest.
    """
    weights = [u for u in files if u.path.parent.name == "weights" and lost & set(u.runs)]
    specs = _specs(store, lost) if weights else {}
    histories_of = {path: runs_of(path) for path in _files_in(store, "history")} if weights else {}
    found: dict[str, Entry] = {}
    best: dict[str, tuple[bool, str]] = {}
    why: dict[str, str] = {}
    for u in weights:
        try:
            record = record_of(load_tensors(u.path)[1])
        except DamagedFileError as error:
            why |= dict.fromkeys(u.runs, str(error))
            continue
        entries = (
            entries_of({**record, "weights": u.path.name}) if record else _rebuild(u, specs, files, histories_of)
        )
        for entry in entries:
            if entry["run_id"] in lost:
                prefer(found, best, entry["run_id"], entry["again"] or not record, entry["at"], entry)
        if not record:
            why |= {run: "its spec is unknown: no group requested it" for run in u.runs if run not in specs}
    return [_with_files(store, entry, histories_of) for entry in found.values()], why


def _files_in(store: Store, folder: str) -> list[Path]:
    return [path for root in (store.path, store.path / LOST) for path in sorted((root / folder).glob("[!.]*"))]


def _rebuild(
    u: UnrecordedFile,
    specs: Mapping[str, RunSpec],
    files: Sequence[UnrecordedFile],
    histories_of: Mapping[Path, Sequence[str]],
) -> list[Entry]:
    """Entries of a weights file without a record: without what is known of its machine."""
    stack = u.path.stem.partition("-")[0]
    shared = {"stack": stack, "weights": u.path.name, "history": "", "environment": {}, "again": False}
    shared["at"] = datetime.fromtimestamp(u.identity[0] / 1e9, UTC).isoformat(timespec="microseconds")
    steps_of = _final_steps(u.runs, [path for path, runs in histories_of.items() if set(runs) & set(u.runs)])
    steps = [s for s in files if s.path.parent.name == "steps" and s.path.stem.startswith(f"{stack}-")]
    entries: list[Entry] = []
    for run in u.runs:
        if run in specs:
            train = specs[run].train
            step, loss = steps_of.get(run, (train.steps, 0.0))
            ended = "compiled" if specs[run].compiled and not train.steps else "finished"
            status = "diverged" if loss is None else ended if step >= train.steps else "reached"
            kept = {s.path.stem.split("-")[1]: s.path.name for s in steps if run in s.runs}
            spec = specs[run].model_dump(mode="json")
            entries.append({"run_id": run, "status": status, "step": step, "spec": spec, "kept": kept, **shared})
    return entries


def _final_steps(runs: Sequence[str], files: Sequence[Path]) -> dict[str, tuple[int, float | None]]:
    """run_id -> the last step of its history and the loss there (None: not finite), if it has a history."""
    found: dict[str, tuple[int, float | None]] = {}
    for path in files:
        rows = histories(path, runs).to_pandas()
        rows = rows[rows["split"].isna()] if "split" in rows else rows
        for row in rows.sort_values("step").drop_duplicates("run_id", keep="last").to_dict("records"):
            loss = float(row["loss"])
            found[row["run_id"]] = int(row["step"]), loss if abs(loss) < float("inf") else None
    return found


def _with_files(store: Store, entry: Entry, histories_of: Mapping[Path, Sequence[str]]) -> Entry:
    """Replace names of missing files: a history may have been moved by `lab store compact`, or be lost."""
    there = {path.name for path in _files_in(store, "steps")}
    kept = {step: name for step, name in entry["kept"].items() if name in there}
    holding = [path.name for path, runs in histories_of.items() if entry["run_id"] in runs]
    own = [name for name in holding if name == entry["history"]]
    own += [name for name in holding if name.startswith(entry["stack"])] + holding
    history = own[0] if own else write_table(store.path / "history", entry["stack"], no_history())
    return {**entry, "kept": kept, "history": history}


def _move_back(store: Store, entries: Sequence[Entry]) -> None:
    """Move the files of entries back and touch them: a new file is never a leftover."""
    names = {f"{folder}/{entry[folder]}" for entry in entries for folder in ("weights", "history")}
    names |= {f"steps/{name}" for entry in entries for name in entry["kept"].values()}
    for name in sorted(names):
        place, aside = store.path / name, store.path / LOST / name
        if not place.exists():
            os.utime(aside)
            move_if_same(aside, file_id(aside), place.parent)
        os.utime(place)


# -- Specs of runs of which only the weights are left


def _specs(store: Store, wanted: set[str]) -> dict[str, RunSpec]:
    """Find the specs of runs, as far as possible, by their hash."""
    found: dict[str, RunSpec] = {}
    for spec in _candidates(store):
        if len(found) == len(wanted):
            break
        for version in _earlier_versions(spec):
            if (run := version.run_id) in wanted:
                found.setdefault(run, version)
    return found


def _candidates(store: Store) -> Iterator[RunSpec]:
    """Specs requested by the grids of this store, then the settings of its runs at other seeds."""
    for name in store.groups():
        request: dict[str, Any] = store.group(name)["request"]
        try:
            plans = parse_grid(request["toml"], name).plans if "toml" in request else []
        except UserError:  # a newer version may reject what an older one accepted
            continue
        for plan in plans:
            yield from plan.specs
    known = [store.spec(run) for run in store.run_ids()]
    for settings in {spec.configuration.run_id: spec for spec in known}.values():
        for seed in range(_TOGETHER):
            yield settings.with_seeds(seed, seed)
        for init in range(_APART):
            yield from (settings.with_seeds(init, data) for data in range(_APART))


def _earlier_versions(spec: RunSpec) -> Iterable[RunSpec]:
    """A spec, and what it was before some field was added: plans may now choose a field that no run had then."""
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
    if spec.code:
        yield spec.model_copy(update={"code": ""})
