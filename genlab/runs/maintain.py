"""Maintenance of a store: check, compact and tidy it, delete runs, detect lost records.

Files are listed before the index is read: whatever is committed meanwhile is never judged by an older index. One such
process works at a time, under a lease, but correctness does not depend on that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from genlab.errors import DamagedFileError, UserError
from genlab.runs.failures import forget
from genlab.runs.files import (
    FileId,
    file_id,
    file_time,
    half_written,
    move_if_same,
    read_json,
    read_table,
    remove_if_same,
    write_table,
)
from genlab.runs.gridfile import LAST
from genlab.runs.index import read_record
from genlab.runs.leases import active, lease, remove_expired
from genlab.runs.parts import missing_parts
from genlab.runs.store import Store, histories
from genlab.runs.weights import read_meta, runs_of

# -- Files without a record
#
# Killed processes leave files that no record names. Such a file is left alone while a process works on its runs, and
# for an hour after it was written. Afterwards it is removed if all of its runs have records. If some have none, their
# record may have been lost: the file is moved to the folder `lost`, from which `lab store repair` restores it.
#
# No decision uses an outdated view: files are listed first, leases second, records last, and only the very file that
# was listed is removed or moved (`remove_if_same`).

FOLDERS = ("weights", "history", "steps")
"""Folders whose files are named by records."""
LOST = "lost"
"""Folder of a store for files of runs without a record."""
_OLD_SECONDS = 3600.0
"""A file that no record names may still be about to get one, for this many seconds."""
_SHOWN = 4
"""Maximum number of runs listed in a message."""


@dataclass(frozen=True, slots=True)
class UnrecordedFile:
    """A file that no record names, and that no process works on.

    Attributes:
        path: where it is.
        identity: its identity when it was listed.
        runs: the runs it holds; [] if it cannot be read.
        unrecorded: those of them that have no record.
        old: whether it was written more than an hour ago.
    """

    path: Path
    identity: FileId
    runs: list[str]
    unrecorded: list[str]
    old: bool

    @property
    def redundant(self) -> bool:
        """Whether all of its runs have records that name other files."""
        return bool(self.runs) and not self.unrecorded


def leftovers(store: Store) -> dict[Path, str]:
    """Describe leftover files: temporary files, files without a record, checkpoints of completed runs, old leases.

    Files of runs that a process works on now are not included.
    """
    return _removable(store)[0] | {
        u.path: "not named by any commit" for u in unrecorded_files(store) if u.old and u.redundant
    }


def tidy(store: Store) -> list[Path]:
    """Remove leftovers and set files of runs without records aside, if the store is writable.

    Returns:
        The files that were removed or moved.
    """
    expendable, before = _removable(store)
    files = [u for u in unrecorded_files(store) if u.old]
    done: list[Path] = []
    try:
        for path, what in expendable.items():
            if remove_expired(path) if what == _EXPIRED else remove_if_same(path, before[path]):
                done.append(path)
        for u in files:
            aside = store.path / LOST / u.path.parent.name
            if remove_if_same(u.path, u.identity) if u.redundant else move_if_same(u.path, u.identity, aside):
                done.append(u.path)
    except OSError:  # an unwritable disk cannot be tidied
        pass
    return done


def unrecorded_files(store: Store, below: str = "") -> list[UnrecordedFile]:
    """List the files that no record names and no process works on, in a store or a subfolder with its layout."""
    root = store.path / below
    files = {path: file_id(path) for folder in FOLDERS for path in sorted((root / folder).glob("[!.]*"))}
    names, at_work = working(store)
    store.refresh()
    known = {store.path / name for run in store.index.runs for name in store.index.files(run)}
    found: list[UnrecordedFile] = []
    for path, was in files.items():
        if was is None or path in known or path.stem.partition("-")[0] in names:
            continue
        runs = runs_of(path)
        if not at_work & set(runs):
            unrecorded = [run for run in runs if run not in store]
            found.append(UnrecordedFile(path, was, runs, unrecorded, is_old(path, was)))
    return found


def working(store: Store) -> tuple[set[str], set[str]]:
    """Return the stacks and the runs that processes work on now."""
    held = active(store.path / "leases")
    return set(held), {run for content in held.values() for run in content.get("runs", [])}


def is_old(path: Path, was: FileId) -> bool:
    """Whether a file was written more than an hour ago."""
    return file_time(path.parent) - was[0] / 1e9 > _OLD_SECONDS


def shown(runs: Iterable[str]) -> str:
    """Summarize runs in a phrase that lists the first few.

    >>> shown("abcdef"), shown("a")
    ('6 runs (a, b, c, d, ...)', '1 run (a)')
    """
    names = sorted(runs)
    some = ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
    return f"{len(names)} run{'' if len(names) == 1 else 's'} ({some})"


_EXPIRED = "an expired lease"


def _removable(store: Store) -> tuple[dict[Path, str], dict[Path, FileId | None]]:
    """Files that can be removed without reading them, with a description, and the identity of each listed file."""
    paths = sorted((store.path / "checkpoints").glob("*.safetensors"))
    half = [path for path in store.path.rglob(".*.tmp") if half_written(path)]
    leases = sorted((store.path / "leases").glob("*.json"))
    before = {path: file_id(path) for path in (*paths, *half, *leases)}
    checkpoints = {path: _runs_of_checkpoint(path) for path in paths}
    names, at_work = working(store)
    store.refresh()
    found = dict.fromkeys(half, "half-written")
    for path, runs in checkpoints.items():
        busy = path.stem in names or at_work & set(runs)
        if not busy and runs and all(run in store for run in runs):
            found[path] = "a checkpoint of completed runs"
    found |= {path: _EXPIRED for path in leases if path.stem not in names}
    return found, before


def _runs_of_checkpoint(checkpoint: Path) -> list[str]:
    return [run["run_id"] for run in json.loads(read_meta(checkpoint).get("runs", "[]"))]


ROWS = ("evals", "answers", "signals")
"""Folders of append-only tables, whose files no record names."""
_UPKEEP = "upkeep"
"""Name of the lease for maintenance: one such process at a time."""


@contextmanager
def maintenance(store: Store) -> Iterator[None]:
    """Hold the maintenance lease. Raises `UserError` if another process holds it or changes files read here."""
    busy = f"store {str(store.path)!r} is being compacted or changed by another process"
    with lease(store.path / "leases", _UPKEEP) as held:
        if held is None:
            raise UserError(busy)
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{busy}; nothing is lost, try again") from None


def check_store(store: Store) -> tuple[dict[Path, str], dict[Path, str]]:
    """Read every file of a store.

    Returns:
        Damage (damaged or missing files, and runs whose record is lost) and harmless leftovers of killed processes,
        each as path -> description.
    """
    damaged: dict[Path, str] = {}
    for path in _files(store.path, damaged):
        if fault := _damage(path):
            damaged[path] = fault
    damaged = {**store.named.damage(), **damaged}
    damaged |= dict.fromkeys(missing_parts(store.path), "missing, although it was written")
    if any("commits" in (path.name, path.parent.name) for path in damaged):
        return damaged, {}
    store.refresh()
    damaged |= _wrong_specs(store)
    for name in {name for run in store.index.runs for name in store.index.files(run)}:
        if not (store.path / name).is_file():
            damaged[store.path / name] = "missing, although a commit names it"
    tables = any(path.parent.name in ROWS for path in damaged)
    if not tables and (lost := lost_runs(store)):
        places = ", ".join(sorted({place for named in lost.values() for place in named}))
        damaged[store.path / "commits"] = f"no record of {shown(lost)} found in {places}: see `lab store repair`"
    return damaged, {path: what for path, what in leftovers(store).items() if path not in damaged}


def lost_runs(store: Store) -> dict[str, set[str]]:
    """Return runs that were committed but have no record -> the folders that hold something of them.

    Evaluations and signals exist only for committed runs. Files of weights, histories and checkpoints may still be
    about to
    get a record: they count when they are an hour old or set aside. Runs without a record in a file that some record
    names were deleted; they are not lost.
    """
    rows = {"evals": store.evaluations.run_ids(), "signals": store.signals.run_ids()}
    for u in [*unrecorded_files(store), *unrecorded_files(store, LOST)]:
        name = str(u.path.parent.relative_to(store.path))
        if u.old or name.startswith(LOST) or set(u.runs) & (rows["evals"] | rows["signals"]):
            rows[name] = rows.get(name, set()) | set(u.unrecorded)
    for path in (path for folder in ROWS for path in (store.path / LOST / folder).glob("[!.]*")):
        rows.setdefault(f"{LOST}/{path.parent.name}", set()).update(runs_of(path))
    _, at_work = working(store)
    store.refresh()
    found: dict[str, set[str]] = {}
    for name, runs in rows.items():
        for run in runs - at_work:
            if run not in store:
                found.setdefault(run, set()).add(name)
    return found


def named_only(store: Store) -> dict[str, list[str]]:
    """Return the runs without a record of each group or tag: not trained yet, deleted, or lost entirely."""
    named = {f"group {name}": store.group(name)["run_ids"] for name in store.groups()}
    named |= {f"tag {name}": runs for name, runs in store.named.tags().items()}
    store.refresh()
    missing = {name: [run for run in runs if run not in store] for name, runs in named.items()}
    return {name: runs for name, runs in missing.items() if runs}


_FILES = (".json", ".parquet", ".safetensors")
"""Endings that folders of a store never have."""


def _files(root: Path, unreadable: dict[Path, str]) -> Iterator[Path]:
    """All files of a store but those set aside, in folders that are links too. Notes folders that cannot be read."""

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            unreadable[Path(error.filename)] = f"cannot be read: {error.strerror}"

    seen: set[str] = set()
    for folder, below, names in os.walk(root, onerror=note, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith(".") and Path(folder, name) != root / LOST)
        if (place := os.path.realpath(folder)) in seen:  # a link to a folder that holds it
            below.clear()
            continue
        seen.add(place)
        for name in [name for name in below if name in LAST or Path(name).suffix in _FILES]:
            unreadable[Path(folder, name)] = "is a folder where a file belongs"
            below.remove(name)
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _damage(path: Path) -> str:
    """What is wrong with a file; '' if nothing is, or if it was removed meanwhile."""
    from genlab.runs.weights import load_tensors

    readers = {".json": read_json, ".parquet": read_table, ".safetensors": load_tensors}
    reader = read_json if path.name in LAST else readers.get(path.suffix)
    if reader is read_json and path.parent.name == "commits":
        reader = read_record
    if path.is_symlink() and not path.exists():
        return "a link to a file that does not exist"
    try:
        if reader is not None:
            reader(path)
    except FileNotFoundError:  # a lease or a part that was removed meanwhile
        return ""
    except (DamagedFileError, pa.ArrowException) as error:
        return str(error).removeprefix(f"{path} ") if path.exists() else ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _wrong_specs(store: Store) -> dict[Path, str]:
    """Runs whose spec is not theirs, by the folder of records."""
    found: dict[Path, str] = {}
    for run in store.run_ids():
        try:
            store.spec(run)
        except DamagedFileError as error:
            found[store.path / "commits"] = str(error)
    return found


def compact_store(store: Store) -> tuple[int, int]:
    """Merge small files; returns the number of files before and after.

    Each new file is complete before an old one is removed, so readers and writers may continue, and a kill loses
    nothing.

    Raises:
        UserError: another process maintains the store now.
    """
    with maintenance(store):
        before = _parts(store)
        store.evaluations.compact()
        store.signals.compact()
        was = {path: file_id(path) for path in (store.path / "history").glob("[!.]*")}
        store.refresh()
        moved = _compact_history(store)
        store.index.compact(moved)
        named = {store.index.history(run) for run in store.index.runs}
        for name in moved.keys() - named:
            remove_if_same(store.path / "history" / name, was.get(store.path / "history" / name))
        tidy(store)
        return before, _parts(store)


def _parts(store: Store) -> int:
    return sum(
        1
        for folder in ("commits", "evals", "answers", "history", "signals")
        for _ in (store.path / folder).glob("[!.]*")
    )


def _compact_history(store: Store) -> dict[str, str]:
    """Merge histories; returns old file -> new file. Of each run only the rows of the file its record names."""
    runs: dict[str, list[str]] = {}
    for run in store.index.runs:
        runs.setdefault(store.index.history(run), []).append(run)
    if len(runs) < 2:
        return {}
    tables = [histories(store.path / "history" / name, runs[name]) for name in sorted(runs)]
    new = write_table(store.path / "history", "compact", pa.concat_tables(tables, promote_options="permissive"))
    return {name: new for name in runs if name != new}


def delete_runs(store: Store, run_ids: Iterable[str]) -> None:
    """Delete runs: their evaluations and signals, their records, then weights files without remaining runs.

    Whatever is committed or evaluated of them after this has begun stays.

    Raises:
        UserError: a process trains one of them, or maintains the store, now.
    """
    gone = set(run_ids)
    with maintenance(store):
        parts = {table: table.files() for table in (store.evaluations, store.signals)}
        places = [*FOLDERS, *(f"{LOST}/{folder}" for folder in (*FOLDERS, *ROWS))]
        files = {path: file_id(path) for place in places for path in (store.path / place).glob("[!.]*")}
        _, at_work = working(store)
        if gone & at_work:
            raise UserError("one of these runs is being trained or evaluated; stop that first")
        store.refresh()
        commits = store.index.commits(gone)
        held = {store.path / name for run in gone & set(store.index.runs) for name in store.index.files(run)}
        for table, files_before in parts.items():
            table.drop(gone, files_before)
        store.index.drop(commits)
        # Also files that no record names, set aside or not: they held these runs before they were retrained.
        unrecorded = [*unrecorded_files(store), *unrecorded_files(store, LOST)]
        old = {u.path for u in unrecorded if gone & set(u.runs) and gone >= set(u.unrecorded)}
        old |= {path for path in files if path.parent.name in ROWS and gone >= set(runs_of(path))}
        left = {store.path / name for run in store.index.runs for name in store.index.files(run)}
        for path in (held | old) - left:
            remove_if_same(path, files.get(path))
        forget(store.path, gone)
