"""Files that are either whole or not there, and that notice damage. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genlab.errors import DamagedFileError, UserError

# -- Processes by name: which machine this is, and whether a process of it is still the one that was meant


def host() -> str:
    """This machine, and its name space of processes, with neither dots nor spaces in it."""
    name = socket.gethostname().replace(".", "-")
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # no Linux
        return name
    return f"{name}-{space}"


def born(pid: int) -> str:
    """When a process of this machine was started; '' if there is none. A number used again has another birth.

    >>> born(os.getpid()) == born(os.getpid()) != ""
    True
    """
    try:
        state, *_, started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:20]
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _asked(pid)
    return "" if state in "ZX" else started  # a zombie does nothing any more


def _asked(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "there"


class StoreWriteError(UserError):
    """The store cannot be written: no space, no permission. What was committed before is intact."""


def write(path: Path, fill: Callable[[Path], object], place: Callable[[Path, Path], object] = os.replace) -> None:
    """Have `fill` write a file beside `path`, then `place` it there in one step: readers see the whole or nothing.

    Raises:
        StoreWriteError: the disk is full, or read-only, or the like.
    """
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        place(beside, path)
    except FileExistsError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreWriteError(f"{path} cannot be written: {why}; what was committed before is intact") from error
    finally:
        with suppress(OSError):  # a disk that cannot be written cannot be tidied either
            beside.unlink(missing_ok=True)


Seen = tuple[int, int]
"""Which file of a name was seen: when it was changed, in nanoseconds, and its inode."""


def seen(path: Path) -> Seen | None:
    """What tells a file from a later one of its name; None if there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def remove_seen(path: Path, before: Seen | None) -> bool:
    """Remove the file that was seen, and no other: what another process has put in its place since then stays.

    Returns:
        Whether it was removed.
    """
    return _take(path, before, lambda aside: aside.unlink())


def move_seen(path: Path, before: Seen | None, folder: Path) -> bool:
    """Move the file that was seen, and no other, into a folder of the same file system; whether it was moved."""
    folder.mkdir(parents=True, exist_ok=True)
    return _take(path, before, lambda aside: aside.replace(folder / path.name))


def _take(path: Path, before: Seen | None, then: Callable[[Path], object]) -> bool:
    if before is None or seen(path) != before:
        return False
    # No system call removes a file only if it is a certain one. So it is renamed, looked at again, and given back if
    # it was replaced between the look and the renaming.
    aside = _beside(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    if seen(aside) == before:
        then(aside)
        return True
    with suppress(FileExistsError):  # a third one stands there by now
        os.link(aside, path)
    aside.unlink()
    return False


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def file_time(folder: Path) -> float:
    """The time now, in seconds since 1970, by the clock that the times of a folder's files are from.

    Another machine may serve the files, and its clock may differ. Where nothing can be written, this machine's.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def half_written(path: Path) -> bool:
    """Whether a file was being written by a process of this machine that is no more.

    >>> half_written(Path(f".x.json.{host()}.{os.getpid()}.00.tmp")), half_written(Path("x.json"))
    (False, False)
    """
    parts = path.name.split(".")
    return len(parts) > 4 and parts[-1] == "tmp" and parts[-4] == host() and not born(int(parts[-3]))


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all, in place of what was there."""
    write(path, lambda file: file.write_text(_json(value)))


def create_json(path: Path, value: object) -> bool:
    """Write JSON where there is no such file yet; of several writers one wins, and is told so."""
    try:
        write(path, lambda file: file.write_text(_json(value)), place=os.link)
    except FileExistsError:
        return False
    return True


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON. Raises `DamagedFileError` if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is damaged: it is not JSON ({error})") from None


def write_table(folder: Path, stem: str, table: pa.Table) -> str:
    """Write a table as Parquet, under a name that ends in its checksum; returns the name."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getvalue()
    name = f"{stem}-{short_sha(data)}.parquet"
    write(folder / name, lambda file: file.write_bytes(data))
    return name


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or those of some columns that it has.

    Raises:
        DamagedFileError: its bytes are not those that its name promises.
    """
    # Into Arrow's own memory. A thread of Arrow's may be the last to let go of it, while the interpreter ends; of
    # Python bytes it must not be, as that needs an interpreter (the process then aborts, with status 134).
    with pa.OSFile(str(path)) as source:
        data = source.read_buffer()
    if short_sha(data) != path.stem.rpartition("-")[2]:
        raise DamagedFileError(f"{path} is damaged: its checksum does not hold")
    file = pq.ParquetFile(data)
    return file.read(columns=None if columns is None else [c for c in columns if c in file.schema_arrow.names])


def read_all(listed: Callable[[], Sequence[Path]], read: Callable[[Path], pa.Table]) -> list[pa.Table]:
    """Read every file of a list, as one moment had them.

    Files may be merged meanwhile: new ones appear, then the old ones go. A list of a folder that changes while it is
    listed may even hold neither. So all is read again until the list before and the list after are the same.
    """
    while True:
        before = list(listed())
        try:
            tables = [read(path) for path in before]
        except FileNotFoundError:
            continue
        if list(listed()) == before:
            return tables


def short_sha(data: Any) -> str:
    """The first 16 hex digits of the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]
