"""Looking after runs and stores: tags, deletion, checks of every file, repair, compaction."""

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

# -- `lab tag` and `lab delete`


@dataclass(frozen=True)
class Tagged:
    """A tag, and the runs that it has now."""

    name: str
    runs: list[str]

    def as_json(self) -> dict[str, Any]:
        """Both."""
        return {"tag": self.name, "runs": self.runs}

    def print(self, console: Console) -> None:
        """One line."""
        print_lines(console, [f"{self.name}: {len(self.runs)} runs"])


def tag_runs(store: Store, name: str, which: Sequence[str], where: str | None = None, remove: bool = False) -> Tagged:
    """Add runs to a tag, or remove them.

    Args:
        which: runs, groups, grids or tags; none: all runs of which `where` holds.
        where: only those of them, as `lab runs --where`.

    Raises:
        UserError: no such run, none of which `where` holds, a name that is not allowed.
    """
    ids = [run for text in which for run in store.find(text)]
    if where is not None:
        chosen = run_list(store, where=where).runs["run_id"]
        ids = [run for run in chosen if not which or run in ids]
        if not ids:
            raise UserError(f"--where {where!r}: no run is so; nothing was tagged")
    return Tagged(name, store.named.tag(name, ids, remove))


@dataclass(frozen=True)
class Deleted:
    """Runs that were deleted."""

    runs: list[str]

    def as_json(self) -> dict[str, Any]:
        """Their ids."""
        return {"deleted": self.runs}

    def print(self, console: Console) -> None:
        """One line."""
        print_lines(console, [f"deleted {len(self.runs)} runs"])


def delete_named(store: Store, which: Sequence[str], sure: Callable[[int], bool]) -> Deleted:
    """Delete runs with their weights and evaluations, and what is noted of their failures.

    Args:
        which: runs, groups, grids or tags.
        sure: asked with the number of runs, before anything is deleted.

    Raises:
        UserError: no such run, or `sure` said no.
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
    """What a check of every file of a store found.

    Attributes:
        damaged, leftovers: file -> what is wrong with it, or why it is not needed.
        lost: run -> the files that hold it, where a damaged record named it.
        unrecorded: group, grid or tag -> runs that it names and no record has.
        runs: how many have a record; None if the records cannot be read.
    """

    damaged: dict[Path, str]
    leftovers: dict[Path, str]
    lost: dict[str, list[str]]
    unrecorded: dict[str, list[str]]
    runs: int | None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        damaged, leftovers = ({str(path): why for path, why in f.items()} for f in (self.damaged, self.leftovers))
        return {
            "damaged": damaged,
            "leftovers": leftovers,
            "lost": self.lost,
            "unrecorded": self.unrecorded,
            "runs": self.runs,
        }

    def print(self, console: Console) -> None:
        """A line per finding, or that all is clean."""
        lines = [f"damaged: {path}: {why}" for path, why in self.damaged.items()]
        lines += [f"left over (lab store compact removes it): {path}: {why}" for path, why in self.leftovers.items()]
        lines += [
            f"not in this store (not trained yet, deleted, or lost without a trace): {shown(runs)} of {name}"
            for name, runs in self.unrecorded.items()
        ]
        if not self.damaged:
            but = ", but leftovers" if self.leftovers else ""
            lines.append(f"clean: {self.runs} runs, every file as it was written{but}")
        print_lines(console, lines)


def store_check(store: Store) -> StoreCheck:
    """Read every file of a store and compare it with its checksum."""
    damaged, leftovers = check_store(store)
    damaged = {**sealed_damage(store), **damaged}  # what is said of a single file is more precise
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
    """What `repair_store` did, in which store."""

    store: Path
    done: Repaired

    def as_json(self) -> dict[str, Any]:
        """Runs entered again, runs put aside with the reason, files put back."""
        done = self.done
        return {"entered": done.entered, "aside": done.aside, "returned": [str(path) for path in done.returned]}

    def print(self, console: Console) -> None:
        """A line per file and run."""
        done = self.done
        lines = [f"put back: {path}" for path in done.returned]
        lines += [
            f"not entered: run {run}: {why}; what is left of it is in {self.store / LOST}"
            for run, why in done.aside.items()
        ]
        count = "no run" if not done.entered else shown(done.entered)
        lines.append(f"{count} entered again" + (f", {len(done.aside)} not" if done.aside else ""))
        print_lines(console, lines)


def store_repair(store: Store) -> StoreRepair:
    """Enter lost runs of a store again, from their weights."""
    return StoreRepair(store.path, repair_store(store))


@dataclass(frozen=True)
class StoreCompaction:
    """How many parts and records a store had before small files were merged, and how many it has now."""

    before: int
    after: int

    def as_json(self) -> dict[str, int]:
        """Both numbers."""
        return {"before": self.before, "after": self.after}

    def print(self, console: Console) -> None:
        """One line."""
        print_lines(console, [f"{self.before} parts and records, now {self.after}"])


def store_compaction(store: Store) -> StoreCompaction:
    """Merge small files of a store, and remove what killed processes left behind."""
    return StoreCompaction(*compact_store(store))
