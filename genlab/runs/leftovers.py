"""What processes that were killed have left behind: harmless, and taken away when a grid ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

from genlab.runs.files import half_written
from genlab.runs.leases import active, remove_expired
from genlab.runs.store import Store
from genlab.runs.tensor_files import read_meta

__all__ = ["leftovers", "tidy"]


_OLD_SECONDS = 3600.0
"""Without a commit of its stack a file may still be on its way to one, for this long."""


def leftovers(store: Store) -> dict[Path, str]:
    """File -> what it is: half-written files, what no commit names, checkpoints of ended runs, expired leases.

    Files of stacks that somebody works on now are none.
    """
    # Files first, leases second, commits last: what is being committed meanwhile is under a lease, or named by then.
    files = [path for folder in ("weights", "history", "steps") for path in (store.path / folder).glob("[!.]*")]
    checkpoints = {path: _runs_of(path) for path in (store.path / "checkpoints").glob("*.safetensors")}
    found = {path: "half-written" for path in store.path.rglob(".*.tmp") if half_written(path)}
    leases = active(store.path / "leases")
    store.refresh()
    stacks = store.index.stacks()
    known = {store.path / name for run in store.index.runs for name in store.index.files(run)}
    for path in files:
        stack = path.stem.partition("-")[0]
        if path not in known and stack not in leases and (stack in stacks or _is_old(path)):
            found[path] = "named by no commit"
    for path, runs in checkpoints.items():
        if path.stem not in leases and runs and all(run in store for run in runs):
            found[path] = "a checkpoint of runs that have ended"
    expired = [path for path in (store.path / "leases").glob("*.json") if path.stem not in leases]
    return found | dict.fromkeys(expired, "an expired lease")


def tidy(store: Store) -> list[Path]:
    """Take leftovers away, as far as the store can be written; returns them."""
    found = leftovers(store)
    for path, what in found.items():
        try:
            if what == "an expired lease":
                remove_expired(path)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            break
    return list(found)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _OLD_SECONDS
    except FileNotFoundError:
        return False


def _runs_of(checkpoint: Path) -> list[str]:
    return [run["run_id"] for run in json.loads(read_meta(checkpoint).get("runs", "[]"))]
