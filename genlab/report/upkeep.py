"""Maintenance of runs and stores: tags, deletion, verification, repair, compaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from genlab.errors import DamagedFileError, UserError
from genlab.forecast.sealing import sealed_damage
from genlab.report.grid import run_list
from genlab.report.output import print_lines
from genlab.runs.failures import forget
from genlab.runs.maintain import LOST, check_store, compact_store, delete_runs, lost_runs, named_only, shown
from genlab.runs.repair import Repaired, repair_store
from genlab.runs.store import Store
from genlab.text import counted

# -- `lab tag` and `lab delete`


@dataclass(frozen=True)
class Tagged:
    """A tag and its current runs."""

    name: str
    runs: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return both."""
        return {"tag": self.name, "runs": self.runs}

    def print(self, console: Console) -> None:
        """Print one line."""
        print_lines(console, [f"{self.name}: {counted(len(self.runs), 'run')}"])


def tag_runs(store: Store, name: str, which: Sequence[str], where: str | None = None, remove: bool = False) -> Tagged:
    """Add runs to a tag, or remove them.

    Args:
        store: the store.
        name: the tag.
        which: runs, groups, grids or tags; if empty, all runs that match `where`.
        where: only runs that match this condition (`lab runs --where`).
        remove: remove the runs from the tag instead.

    Raises:
        UserError: no such run, no run that matches, or an invalid name.
    """
    ids = [run for text in which for run in store.find(text)]
    if where is not None:
        chosen = run_list(store, where=where).runs["run_id"]
        ids = [run for run in chosen if not which or run in ids]
        if not ids:
            raise UserError(f"--where {where!r}: no run matches; nothing was tagged")
    return Tagged(name, store.named.tag(name, ids, remove))


@dataclass(frozen=True)
class Deleted:
    """Runs that were deleted."""

    runs: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return their ids."""
        return {"deleted": self.runs}

    def print(self, console: Console) -> None:
        """Print one line."""
        print_lines(console, [f"deleted {counted(len(self.runs), 'run')}"])


def delete_named(store: Store, which: Sequence[str], sure: Callable[[int], bool]) -> Deleted:
    """Delete runs with their weights, evaluations and failure notes.

    Args:
        store: the store.
        which: runs, groups, grids or tags.
        sure: called with the number of runs to confirm the deletion.

    Raises:
        UserError: no such run, or `sure` returned False.
    """
    names = [store.named.resolve(text) for text in which]
    ids = list(dict.fromkeys(run for text in names for run in store.find(text)))
    never = [run for text in names for run in store.named.runs(text) or ()]  # failed runs have no record
    if not sure(len(ids)):
        raise UserError("nothing was deleted")
    delete_runs(store, ids)
    forget(store.path, never)
    return Deleted(ids)


# -- `lab store check`, `repair` and `compact`


@dataclass(frozen=True)
class StoreCheck:
    """Result of verifying every file of a store.

    Attributes:
        damaged: file -> what is wrong with it.
        leftovers: file -> why it is not needed.
        lost: run named by a damaged record -> the files that contain it.
        unrecorded: group, grid or tag -> runs that it names but that have no record.
        runs: number of runs with a record; None if the records cannot be read.
    """

    damaged: dict[Path, str]
    leftovers: dict[Path, str]
    lost: dict[str, list[str]]
    unrecorded: dict[str, list[str]]
    runs: int | None

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        damaged, leftovers = ({str(path): why for path, why in f.items()} for f in (self.damaged, self.leftovers))
        return {
            "damaged": damaged,
            "leftovers": leftovers,
            "lost": self.lost,
            "unrecorded": self.unrecorded,
            "runs": self.runs,
        }

    def print(self, console: Console) -> None:
        """Print one line per finding, or that the store is clean."""
        lines = [f"damaged: {path}: {why}" for path, why in self.damaged.items()]
        lines += [f"leftover (lab store compact removes it): {path}: {why}" for path, why in self.leftovers.items()]
        lines += [
            f"not in this store (not trained yet, deleted, or lost): {shown(runs)} of {name}"
            for name, runs in self.unrecorded.items()
        ]
        if not self.damaged:
            but = ", but leftovers" if self.leftovers else ""
            lines.append(f"clean: {self.runs} runs, all files intact{but}")
        print_lines(console, lines)


def store_check(store: Store) -> StoreCheck:
    """Read every file of a store and compare it with its checksum."""
    damaged, leftovers = check_store(store)
    damaged = {**sealed_damage(store), **damaged}  # messages about single files are more precise
    try:
        runs = len(store.index.runs)
    except (DamagedFileError, OSError):
        return StoreCheck(damaged, leftovers, {}, {}, None)
    lost = lost_runs(store) if damaged.get(store.path / "commits", "").startswith("no record") else {}
    unrecorded = {} if store.named.damage() else named_only(store)
    places = {run: sorted(files) for run, files in sorted(lost.items())}
    return StoreCheck(damaged, leftovers, places, unrecorded, runs)


@dataclass(frozen=True)
class StoreRepair:
    """Result of `repair_store`, and the store that it repaired."""

    store: Path
    done: Repaired

    def as_json(self) -> dict[str, Any]:
        """Return restored runs, runs set aside with the reason, and restored files."""
        done = self.done
        return {"entered": done.entered, "aside": done.aside, "returned": [str(path) for path in done.returned]}

    def print(self, console: Console) -> None:
        """Print one line per file and run."""
        done = self.done
        lines = [f"moved back: {path}" for path in done.returned]
        lines += [
            f"not restored: run {run}: {why}; what is left of it is in {self.store / LOST}"
            for run, why in done.aside.items()
        ]
        count = "no run" if not done.entered else shown(done.entered)
        lines.append(f"{count} restored" + (f", {len(done.aside)} not" if done.aside else ""))
        print_lines(console, lines)


def store_repair(store: Store) -> StoreRepair:
    """Restore lost runs of a store from their weights."""
    return StoreRepair(store.path, repair_store(store))


@dataclass(frozen=True)
class StoreCompaction:
    """Numbers of files of a store before and after small ones were merged."""

    before: int
    after: int

    def as_json(self) -> dict[str, int]:
        """Return both numbers."""
        return {"before": self.before, "after": self.after}

    def print(self, console: Console) -> None:
        """Print one line."""
        print_lines(console, [f"{self.before} parts and records, now {self.after}"])


def store_compaction(store: Store) -> StoreCompaction:
    """Merge small files of a store and remove leftovers of killed processes."""
    return StoreCompaction(*compact_store(store))
