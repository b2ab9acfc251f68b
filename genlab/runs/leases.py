"""Leases: who works on a stack now. A lease that is not renewed expires, and another may take it.

A lease is a file that its holder touches while it works. It has expired if it was not touched for `SECONDS` by the
clock of the file system, or if its holder was a process of this machine that is no more. Leases save work; they are
not what keeps the store right: of two workers that train one stack all the same, the first commit wins.
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
from genlab.runs.files import StoreWriteError, born, create_json, file_time, host, read_json, write_json

SECONDS = 60.0
"""A lease that was not renewed for this long has expired."""


class Lease:
    """One's own lease, renewed by a thread until it is released."""

    def __init__(self, path: Path, content: dict[str, Any]):
        self._path, self._content = path, content
        self._done = threading.Event()
        threading.Thread(target=self._renew, daemon=True).start()

    def tell(self, **about: Any) -> None:
        """Say how far the work is, for whoever looks at the lease."""
        if self._is_mine():
            with suppress(StoreWriteError):  # this helps a watcher; a full disk shows itself at the next commit
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
    """Hold the lease `name` while the block runs; None where another holds it."""
    path = folder / f"{name}.json"
    content = {"owner": uuid.uuid4().hex, "host": host(), "pid": os.getpid(), "born": born(os.getpid()), **about}
    if not (create_json(path, content) or (remove_expired(path) and create_json(path, content))):
        yield None
        return
    held = Lease(path, content)
    try:
        yield held
    finally:
        held.release()


def is_held(folder: Path, name: str) -> bool:
    """Whether somebody works under a lease now."""
    found = _read(folder / f"{name}.json")
    return bool(found) and not _expired(folder / f"{name}.json", found)


def active(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> content of all leases that have not expired."""
    found = {path.stem: _read(path) for path in folder.glob("*.json")}
    return {name: told for name, told in found.items() if told and not _expired(folder / f"{name}.json", told)}


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (FileNotFoundError, DamagedFileError):
        return {}


def remove_expired(path: Path) -> bool:
    """Take an expired lease away; whether the place is free now."""
    found = _read(path)
    if found and not _expired(path, found):
        return False
    return _remove(path, found.get("owner"))


def _remove(path: Path, owner: str | None) -> bool:
    """Remove the lease of an owner, and no other's; whether the place is free now."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    taken = _read(aside)
    if taken.get("owner") != owner:  # somebody else was faster and holds a new one: give it back
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()
    return taken.get("owner") == owner


def _expired(path: Path, content: Mapping[str, Any]) -> bool:
    if content["host"] == host() and born(content["pid"]) != content["born"]:
        return True
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return True
    return file_time(path.parent) - touched > SECONDS
