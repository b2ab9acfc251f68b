"""Upkeep of a store: check all of it, compact it, delete runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from genlab.errors import DamagedFileError, UserError
from genlab.runs.failures import forget
from genlab.runs.files import read_json, read_table, write_table
from genlab.runs.leases import active, lease
from genlab.runs.leftovers import leftovers, tidy
from genlab.runs.signals import Signals
from genlab.runs.store import Store

__all__ = ["check_store", "compact_store", "delete_runs"]

_UPKEEP = "upkeep"
"""The lease under which files are made anew: one such process at a time."""


def check_store(store: Store) -> tuple[dict[Path, str], dict[Path, str]]:
    """Read every file of a store.

    Returns:
        Damaged or missing files, and harmless leftovers of killed processes, each with what it is.
    """
    damaged: dict[Path, str] = {}
    for path in sorted(store.path.rglob("[!.]*")):
        if path.is_file() and (fault := _fault(path)):
            damaged[path] = fault
    if any(path.parent.name == "commits" for path in damaged):
        return damaged, {}
    store.refresh()
    for name in {name for run in store.index.runs for name in store.index.files(run)}:
        if not (store.path / name).exists():
            damaged[store.path / name] = "missing, though a commit names it"
    return damaged, leftovers(store)


def _fault(path: Path) -> str:
    from genlab.runs.tensor_files import load_tensors

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
    with lease(store.path / "leases", _UPKEEP) as held:
        if held is None:
            raise UserError(f"store {str(store.path)!r} is being compacted or changed by another process")
        before = _parts(store)
        store.refresh()
        runs = list(store.index.runs)
        moved = _compact_history(store, runs)
        store.evaluations.compact(runs)
        Signals(store.path).compact(runs)
        store.index.compact(moved)
        for name, new in moved.items():
            if name != new:
                (store.path / "history" / name).unlink(missing_ok=True)
        tidy(store)
        return before, _parts(store)


def _parts(store: Store) -> int:
    return sum(
        1
        for folder in ("commits", "evals", "answers", "history", "signals")
        for _ in (store.path / folder).glob("[!.]*")
    )


def _compact_history(store: Store, runs: Iterable[str]) -> dict[str, str]:
    """Old file -> the one that holds its rows now."""
    wanted = list(runs)
    names = sorted({store.index.history(run) for run in wanted})
    if len(names) < 2:
        return {}
    tables = [read_table(store.path / "history" / name) for name in names]
    joined = pa.concat_tables(tables, promote_options="permissive")
    keep = joined.filter(pc.is_in(joined["run_id"], pa.array(wanted, pa.string())))
    new = write_table(store.path / "history", "compact", keep)
    return dict.fromkeys(names, new)


def delete_runs(store: Store, run_ids: Iterable[str]) -> None:
    """Delete runs: their evaluations, their records, then the weights that no run is left of.

    Raises:
        UserError: somebody trains one of them, or changes the store, now.
    """
    gone = set(run_ids)
    for content in active(store.path / "leases").values():
        if gone & set(content.get("runs", [])):
            raise UserError("one of these runs is being trained or evaluated now; stop that first")
    with lease(store.path / "leases", _UPKEEP) as held:
        if held is None:
            raise UserError(f"store {str(store.path)!r} is being compacted or changed by another process")
        store.refresh()
        files = {name for run in gone for name in store.index.files(run)}
        store.evaluations.drop(gone)
        Signals(store.path).drop(gone)
        store.index.drop(gone)
        forget(store.path, gone)
        left = {name for run in store.index.runs for name in store.index.files(run)}
        for name in files - left:
            (store.path / name).unlink(missing_ok=True)
