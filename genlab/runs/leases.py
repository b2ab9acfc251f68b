"""Leases: who works on a stack now. A lease that is not renewed expires, and another worker may take it.

A lease is a file that its holder touches while it works. It has expired if it was not touched for `SECONDS` by the
clock of the file system, or if its holder was a process of this machine that no longer runs. Leases only avoid
duplicate work; correctness does not depend on them: if two workers train one stack anyway, the first commit wins.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from genlab.errors import DamagedFileError
from genlab.runs.files import StoreWriteError, create_json, file_time, host, read_json, start_time, write_json

SECONDS = 60.0
"""A lease expires if it is not renewed for this many seconds."""


class Lease:
    """A lease held by this process, renewed by a thread until it is released."""

    def __init__(self, path: Path, content: dict[str, Any]):
        self._path, self._content = path, content
        self._done = threading.Event()
        threading.Thread(target=self._renew, daemon=True).start()

    def record(self, **about: Any) -> None:
        """Record progress in the lease."""
        if self._is_mine():
            with suppress(StoreWriteError):  # progress is optional; a full disk is reported at the next commit
                write_json(self._path, {**self._content, **about})

    def release(self) -> None:
        self._done.set()
        if self._is_mine():
            _remove(self._path, self._content["owner"])

    def _renew(self) -> None:
        while not self._done.wait(SECONDS / 4):
            if self._is_mine():
                try:
                    os.utime(self._path)
                except OSError:
                    continue

    def _is_mine(self) -> bool:
        return _read(self._path).get("owner") == self._content["owner"]


@contextmanager
def lease(folder: Path, name: str, **about: Any) -> Iterator[Lease | None]:
    """Hold the lease `name` while the block runs; yields None if another process holds it."""
    path = folder / f"{name}.json"
    content = {
        "owner": uuid.uuid4().hex,
        "host": host(),
        "pid": os.getpid(),
        "born": start_time(os.getpid()),
        **about,
    }
    if not (create_json(path, content) or (remove_expired(path) and create_json(path, content))):
        yield None
        return
    held = Lease(path, content)
    try:
        yield held
    finally:
        held.release()


def is_held(folder: Path, name: str) -> bool:
    """Whether a process holds a lease now."""
    content = _read(folder / f"{name}.json")
    return bool(content) and not _expired(folder / f"{name}.json", content)


def active(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the content of all leases that have not expired, by name."""
    leases = {path.stem: _read(path) for path in folder.glob("*.json")}
    return {name: held for name, held in leases.items() if held and not _expired(folder / f"{name}.json", held)}


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (FileNotFoundError, DamagedFileError):
        return {}


def remove_expired(path: Path) -> bool:
    """Remove a lease if it has expired; returns whether the lease is free now."""
    content = _read(path)
    if content and not _expired(path, content):
        return False
    return _remove(path, content.get("owner"))


def _remove(path: Path, owner: str | None) -> bool:
    """Remove the lease of an owner, and of no other; returns whether the lease is free now."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    taken = _read(aside)
    if taken.get("owner") != owner:  # another process was faster and holds a new lease: put it back
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()
    return taken.get("owner") == owner


def _expired(path: Path, content: Mapping[str, Any]) -> bool:
    if content["host"] == host() and start_time(content["pid"]) != content["born"]:
        return True
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return True
    return file_time(path.parent) - touched > SECONDS
