"""Upkeep of a store: check all of it, compact it, delete runs, enter runs again whose record was lost.

What is removed was listed before it was decided which runs there are: what is committed meanwhile is never judged by
an index that is older than it. One such process works at a time, under a lease; but nothing depends on that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from genlab.errors import DamagedFileError, UserError
from genlab.runs.failures import forget
from genlab.runs.files import (
    Seen,
    file_time,
    half_written,
    move_seen,
    read_json,
    read_table,
    remove_seen,
    seen,
    write_table,
)
from genlab.runs.leases import active, lease, remove_expired
from genlab.runs.store import Store, histories
from genlab.runs.weights import read_meta, runs_of

# -- What no record names: what killed processes left behind, which is harmless, and what may be a loss
#
# One rule for every file that no record names: it is left alone while somebody works on its runs, and for an hour
# after it was written. Then, if all of its runs have records, it is removed. If some have none, their record may have
# been lost: the file is moved into the store's folder `lost`, from where `lab store repair` brings it back.
#
# Nothing is removed by an older view: files are looked at first, leases second, records last, and what is removed or
# moved is the very file that was looked at (`remove_seen`).

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


ROWS = ("evals", "answers", "signals")
"""The folders of tables that are appended to, and that no record names."""
_UPKEEP = "upkeep"
"""The lease under which files are made anew: one such process at a time."""


@contextmanager
def upkeep(store: Store) -> Iterator[None]:
    """Hold the lease of upkeep. Raises `UserError` if another process holds it, or changes what is read here."""
    busy = f"store {str(store.path)!r} is being compacted or changed by another process"
    with lease(store.path / "leases", _UPKEEP) as held:
        if held is None:
            raise UserError(busy)
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{busy}; nothing is lost, do it again") from None


def check_store(store: Store) -> tuple[dict[Path, str], dict[Path, str]]:
    """Read every file of a store.

    Returns:
        Damage (files that are damaged or missing, and runs whose record is lost), and harmless leftovers of killed
        processes: each a path, and what is wrong there.
    """
    damaged: dict[Path, str] = {}
    for path in sorted(store.path.rglob("[!.]*")):
        if path.is_file() and path.relative_to(store.path).parts[0] != LOST and (fault := _fault(path)):
            damaged[path] = fault
    if any(path.parent.name == "commits" for path in damaged):
        return damaged, {}
    store.refresh()
    for name in {name for run in store.index.runs for name in store.index.files(run)}:
        if not (store.path / name).exists():
            damaged[store.path / name] = "missing, though a commit names it"
    tables = any(path.parent.name in ROWS for path in damaged)
    if not tables and (lost := lost_runs(store)):
        places = ", ".join(sorted({place for named in lost.values() for place in named}))
        damaged[store.path / "commits"] = f"no record of {shown(lost)}, which {places} hold: see `lab store repair`"
    return damaged, {path: what for path, what in leftovers(store).items() if path not in damaged}


def lost_runs(store: Store) -> dict[str, set[str]]:
    """Run that no record has, though it was committed -> the folders that hold something of it.

    A run was committed of which there are evaluations or signals: nobody makes them before. Files of weights,
    histories and steps may be on their way to a record: they count when they are an hour old, or put aside.
    Runs without a record in a file that some record names were deleted: they are no loss.
    """
    rows = {"evals": store.evaluations.run_ids(), "signals": store.signals.run_ids()}
    for u in [*unnamed(store), *unnamed(store, LOST)]:
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
    """Group or tag -> its runs that no record has: not trained yet, deleted, or lost without a trace."""
    named = {f"group {name}": store.group(name)["run_ids"] for name in store.groups()}
    named |= {f"tag {name}": runs for name, runs in store.named.tags().items()}
    store.refresh()
    missing = {name: [run for run in runs if run not in store] for name, runs in named.items()}
    return {name: runs for name, runs in missing.items() if runs}


def _fault(path: Path) -> str:
    from genlab.runs.weights import load_tensors

    readers = {".json": read_json, ".parquet": read_table, ".safetensors": load_tensors}
    try:
        if path.suffix in readers:
            readers[path.suffix](path)
    except FileNotFoundError:  # a lease or a part that has gone meanwhile
        return ""
    except (DamagedFileError, pa.ArrowException) as error:
        return str(error).removeprefix(f"{path} ") if path.exists() else ""
    return ""


def compact_store(store: Store) -> tuple[int, int]:
    """Make the many parts and records of a store few; returns how many there were and are.

    Each new file is whole before an old one goes, so that readers and writers may go on, and a kill loses nothing.

    Raises:
        UserError: another process does so now.
    """
    with upkeep(store):
        before = _parts(store)
        store.evaluations.compact()
        store.signals.compact()
        was = {path: seen(path) for path in (store.path / "history").glob("[!.]*")}
        store.refresh()
        moved = _compact_history(store)
        store.index.compact(moved)
        named = {store.index.history(run) for run in store.index.runs}
        for name in moved.keys() - named:
            remove_seen(store.path / "history" / name, was.get(store.path / "history" / name))
        tidy(store)
        return before, _parts(store)


def _parts(store: Store) -> int:
    return sum(
        1
        for folder in ("commits", "evals", "answers", "history", "signals")
        for _ in (store.path / folder).glob("[!.]*")
    )


def _compact_history(store: Store) -> dict[str, str]:
    """Old file -> the one that holds its rows now: of each run, those of the file that its record names."""
    runs: dict[str, list[str]] = {}
    for run in store.index.runs:
        runs.setdefault(store.index.history(run), []).append(run)
    if len(runs) < 2:
        return {}
    tables = [histories(store.path / "history" / name, runs[name]) for name in sorted(runs)]
    new = write_table(store.path / "history", "compact", pa.concat_tables(tables, promote_options="permissive"))
    return {name: new for name in runs if name != new}


def delete_runs(store: Store, run_ids: Iterable[str]) -> None:
    """Delete runs: their evaluations, their records, then the weights that no run is left of.

    What is committed or evaluated of them after this has begun stays.

    Raises:
        UserError: somebody trains one of them, or changes the store, now.
    """
    gone = set(run_ids)
    with upkeep(store):
        parts = {table: table.files() for table in (store.evaluations, store.signals)}
        files = {path: seen(path) for folder in FOLDERS for path in (store.path / folder).glob("[!.]*")}
        _, at_work = working(store)
        if gone & at_work:
            raise UserError("one of these runs is being trained or evaluated now; stop that first")
        store.refresh()
        commits = store.index.commits(gone)
        held = {store.path / name for run in gone & set(store.index.runs) for name in store.index.files(run)}
        for table, files_before in parts.items():
            table.drop(gone, files_before)
        store.index.drop(commits)
        # Also files that no record names: they held these runs before they were trained again.
        old = {u.path for u in unnamed(store) if u.runs and gone & set(u.runs) and gone >= set(u.unrecorded)}
        left = {store.path / name for run in store.index.runs for name in store.index.files(run)}
        for path in (held | old) - left:
            remove_seen(path, files.get(path))
        forget(store.path, gone)
