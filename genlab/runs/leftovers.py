"""What no record names: what killed processes left behind, which is harmless, and what may be a loss.

One rule for every file that no record names: it is left alone while somebody works on its runs, and for an hour after
it was written. Then, if all of its runs have records, it is removed. If some have none, their record may have been
lost: the file is moved into the store's folder `lost`, from where `lab store repair` brings it back.

Nothing is removed by an older view: files are looked at first, leases second, records last, and what is removed or
moved is the very file that was looked at (`remove_seen`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genlab.runs.files import Seen, file_time, half_written, move_seen, remove_seen, seen
from genlab.runs.leases import active, remove_expired
from genlab.runs.store import Store
from genlab.runs.tensor_files import read_meta
from genlab.runs.weights import runs_of

__all__ = ["FOLDERS", "LOST", "Unnamed", "is_old", "leftovers", "shown", "tidy", "unnamed", "working"]

FOLDERS = ("weights", "history", "steps")
"""The folders whose files are named by records."""
LOST = "lost"
"""The folder of a store for files of runs that no record names."""
_OLD_SECONDS = 3600.0
"""Without a record that names it a file may still be on its way to one, for this long."""
_SHOWN = 4
"""Runs that are named, at most, in a line about several."""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A file that no record names, and that nobody works on.

    Attributes:
        runs: those that it holds; [] if it cannot be read.
        unrecorded: those of them that no record has.
        old: whether it was written more than an hour ago.
    """

    path: Path
    seen: Seen
    runs: list[str]
    unrecorded: list[str]
    old: bool

    @property
    def superfluous(self) -> bool:
        """Whether all of its runs have records, of other files."""
        return bool(self.runs) and not self.unrecorded


def leftovers(store: Store) -> dict[Path, str]:
    """File -> what it is: half-written files, what no record names, checkpoints of ended runs, expired leases.

    Files of runs that somebody works on now are none.
    """
    return _look(store)[0] | {u.path: "named by no commit" for u in unnamed(store) if u.old and u.superfluous}


def tidy(store: Store) -> list[Path]:
    """Remove leftovers, and put files of runs without records aside, as far as the store can be written.

    Returns:
        What was removed or moved.
    """
    expendable, before = _look(store)
    files = [u for u in unnamed(store) if u.old]
    done: list[Path] = []
    try:
        for path, what in expendable.items():
            if remove_expired(path) if what == _EXPIRED else remove_seen(path, before[path]):
                done.append(path)
        for u in files:
            aside = store.path / LOST / u.path.parent.name
            if remove_seen(u.path, u.seen) if u.superfluous else move_seen(u.path, u.seen, aside):
                done.append(u.path)
    except OSError:  # a disk that cannot be written cannot be tidied
        pass
    return done


def unnamed(store: Store, below: str = "") -> list[Unnamed]:
    """Every file that no record names and nobody works on, of a store or of a folder in it laid out alike."""
    root = store.path / below
    files = {path: seen(path) for folder in FOLDERS for path in sorted((root / folder).glob("[!.]*"))}
    names, at_work = working(store)
    store.refresh()
    known = {store.path / name for run in store.index.runs for name in store.index.files(run)}
    found: list[Unnamed] = []
    for path, was in files.items():
        if was is None or path in known or path.stem.partition("-")[0] in names:
            continue
        runs = runs_of(path)
        if not at_work & set(runs):
            unrecorded = [run for run in runs if run not in store]
            found.append(Unnamed(path, was, runs, unrecorded, is_old(path, was)))
    return found


def working(store: Store) -> tuple[set[str], set[str]]:
    """Stacks that somebody works on now, and runs."""
    held = active(store.path / "leases")
    return set(held), {run for told in held.values() for run in told.get("runs", [])}


def is_old(path: Path, was: Seen) -> bool:
    """Whether a file was written more than an hour ago."""
    return file_time(path.parent) - was[0] / 1e9 > _OLD_SECONDS


def shown(runs: Iterable[str]) -> str:
    """Runs in a line, the first few by name.

    >>> shown("abcdef"), shown("a")
    ('6 runs (a, b, c, d, ...)', '1 run (a)')
    """
    names = sorted(runs)
    some = ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
    return f"{len(names)} run{'' if len(names) == 1 else 's'} ({some})"


_EXPIRED = "an expired lease"


def _look(store: Store) -> tuple[dict[Path, str], dict[Path, Seen | None]]:
    """What can be removed without a look at what it holds, and which file of its name that was."""
    paths = sorted((store.path / "checkpoints").glob("*.safetensors"))
    half = [path for path in store.path.rglob(".*.tmp") if half_written(path)]
    leases = sorted((store.path / "leases").glob("*.json"))
    before = {path: seen(path) for path in (*paths, *half, *leases)}
    checkpoints = {path: _checkpointed(path) for path in paths}
    names, at_work = working(store)
    store.refresh()
    found = dict.fromkeys(half, "half-written")
    for path, runs in checkpoints.items():
        busy = path.stem in names or at_work & set(runs)
        if not busy and runs and all(run in store for run in runs):
            found[path] = "a checkpoint of runs that have ended"
    found |= {path: _EXPIRED for path in leases if path.stem not in names}
    return found, before


def _checkpointed(checkpoint: Path) -> list[str]:
    return [run["run_id"] for run in json.loads(read_meta(checkpoint).get("runs", "[]"))]
