"""Atomic, checksummed files and the identity of processes. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from genlab.errors import DamagedFileError, UserError

# -- Process identity


def host() -> str:
    """Return the name of this machine and its PID namespace, without dots or spaces."""
    name = socket.gethostname().replace(".", "-")
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # no Linux
        return name
    return f"{name}-{space}"


def start_time(pid: int) -> str:
    """Return the start time of a process on this machine, or '' if it does not run.

    A reused PID has another start time.

    >>> start_time(os.getpid()) == start_time(os.getpid()) != ""
    True
    """
    try:
        state, *_, started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:20]
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _probe(pid)
    return "" if state in "ZX" else started  # a zombie does no work


def _probe(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "there"


class StoreWriteError(UserError):
    """The store cannot be written (disk full, no permission). What was committed before is intact."""


def write(path: Path, fill: Callable[[Path], object], place: Callable[[Path, Path], object] = os.replace) -> None:
    """Write a file atomically: `fill` writes a temporary file next to `path`, then `place` moves it there.

    Raises:
        StoreWriteError: the disk is full, read-only, or otherwise not writable.
    """
    beside = _temporary(path)
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
        with suppress(OSError):  # cleaning up fails on an unwritable disk, too
            beside.unlink(missing_ok=True)


FileId = tuple[int, int]
"""Identity of a file at a path: modification time in nanoseconds, and inode."""


def file_id(path: Path) -> FileId | None:
    """Return the identity of a file, which distinguishes it from a later file at this path; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def remove_if_same(path: Path, before: FileId | None) -> bool:
    """Remove a file unless another process has replaced it since `before`.

    Returns:
        Whether it was removed.
    """
    return _apply_if_same(path, before, lambda aside: aside.unlink())


def move_if_same(path: Path, before: FileId | None, folder: Path) -> bool:
    """Move a file to a folder of the same file system, unless it was replaced since; returns whether it was moved."""
    folder.mkdir(parents=True, exist_ok=True)
    return _apply_if_same(path, before, lambda aside: aside.replace(folder / path.name))


def _apply_if_same(path: Path, before: FileId | None, then: Callable[[Path], object]) -> bool:
    if before is None or file_id(path) != before:
        return False
    # No system call removes a file only if it has a given identity. So it is renamed, checked again, and put back if
    # it was replaced between the check and the renaming.
    aside = _temporary(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    if file_id(aside) == before:
        then(aside)
        return True
    with suppress(FileExistsError):  # a third file is at this path by now
        os.link(aside, path)
    aside.unlink()
    return False


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def file_time(folder: Path) -> float:
    """Return the current time, in seconds since 1970, by the clock of the file system of a folder.

    Another machine may serve the files, and its clock may differ. Falls back to this machine's clock if the folder is
    not writable.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def half_written(path: Path) -> bool:
    """Whether a file is the temporary file of a process of this machine that no longer runs.

    >>> half_written(Path(f".x.json.{host()}.{os.getpid()}.00.tmp")), half_written(Path("x.json"))
    (False, False)
    """
    parts = path.name.split(".")
    return len(parts) > 4 and parts[-1] == "tmp" and parts[-4] == host() and not start_time(int(parts[-3]))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with its checksum, replacing the file if it exists."""
    write(path, lambda file: file.write_bytes(_json(value)))


def create_json(path: Path, value: Mapping[str, Any]) -> bool:
    """Create a file of a JSON object atomically, with its checksum.

    Returns:
        Whether it was created; False if it exists. Of several writers exactly one succeeds.
    """
    try:
        write(path, lambda file: file.write_bytes(_json(value)), place=os.link)
    except FileExistsError:
        return False
    return True


_CHECKSUM = "sha256"
_HEAD = f'{{\n "{_CHECKSUM}": "'.encode()
"""Start of a JSON file. The first 16 hex digits of the SHA-256 of all bytes behind them follow. Files of stores that
were written before JSON files had checksums start otherwise, and are read unchecked."""


def _json(value: Mapping[str, Any]) -> bytes:
    body = json.dumps(value, indent=1, sort_keys=True)
    rest = ('",' + body[1:] + "\n" if value else '"\n}\n').encode()
    return _HEAD + short_sha(rest).encode() + rest


def read_json(path: Path, **needed: type | tuple[type, ...]) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        needed: keys that it must have, with the type of their values.

    Raises:
        DamagedFileError: the file is not a JSON object, its checksum does not hold, or a key is missing or of a
            wrong type.
    """
    data = path.read_bytes()
    head, written, rest = data[: len(_HEAD)], data[len(_HEAD) : len(_HEAD) + 16], data[len(_HEAD) + 16 :]
    # A digest that holds behind another head: the name of the checksum itself was damaged.
    if (head == _HEAD) != (written == short_sha(rest).encode()):
        raise DamagedFileError(f"{path} is damaged: its checksum does not hold")
    try:
        value = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged: it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} is damaged: it is not a JSON object")
    for key, kind in needed.items():
        if key not in value:
            raise DamagedFileError(f"{path} is damaged: it has no {key!r}")
        if not isinstance(value[key], kind):
            raise DamagedFileError(f"{path} is damaged: its {key!r} is a {type(value[key]).__name__}")
    if value.pop(_CHECKSUM, None) is not None and head != _HEAD:
        raise DamagedFileError(f"{path} is damaged: something rewrote it without its checksum")
    return value


def write_table(folder: Path, stem: str, table: pa.Table) -> str:
    """Write a table as Parquet under a name that ends in its checksum; returns the name."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getvalue()
    name = f"{stem}-{short_sha(data)}.parquet"
    write(folder / name, lambda file: file.write_bytes(data))
    return name


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or only those of some columns that it has.

    Raises:
        DamagedFileError: the bytes do not match the checksum in the file name.
    """
    # Read into Arrow's own memory. An Arrow thread may release it last, while the interpreter shuts down; releasing
    # Python bytes there needs an interpreter, and the process would abort with status 134.
    try:
        with pa.OSFile(str(path)) as source:
            data = source.read_buffer()
    except FileNotFoundError as error:  # Arrow names the file in its message only
        raise FileNotFoundError(error.errno, os.strerror(2), str(path)) from None
    if short_sha(data) != path.stem.rpartition("-")[2]:
        raise DamagedFileError(f"{path} is damaged: its checksum does not hold")
    file = pq.ParquetFile(data)
    return file.read(columns=None if columns is None else [c for c in columns if c in file.schema_arrow.names])


def read_all(listed: Callable[[], Sequence[Path]], read: Callable[[Path], pa.Table]) -> list[pa.Table]:
    """Read a consistent snapshot of all files of a listing.

    Files may be merged meanwhile: new files appear, then the old ones are removed, and listing a folder while it
    changes may return neither. So what is new is read again until the listings before and after agree.
    """
    tables: dict[Path, pa.Table] = {}  # a file never changes under its name

    def attempt() -> list[pa.Table] | None:
        before = list(listed())
        for path in before:
            if path not in tables:
                tables[path] = read(path)
        return [tables[path] for path in before] if list(listed()) == before else None

    return read_again(attempt)


_ATTEMPTS = 100
"""How often a file that is listed but cannot be opened is tried again, with pauses that add up to half a second."""
_T = TypeVar("_T")


def read_again(attempt: Callable[[], _T | None]) -> _T:
    """Repeat an attempt to read files that other processes merge or remove, until it returns a value.

    Args:
        attempt: returns None, or raises `FileNotFoundError`, if the files changed while it read them.

    Raises:
        DamagedFileError: the same file is missing again and again although it is listed.
    """
    missing: Counter[str] = Counter()
    while True:
        try:
            if (value := attempt()) is not None:
                return value
        except FileNotFoundError as error:
            name = str(error.filename or error)
            missing[name] += 1
            if missing[name] > _ATTEMPTS:
                raise DamagedFileError(
                    f"{name} is damaged: it is listed but cannot be opened (a link to a file that does not exist?)"
                ) from None
            time.sleep(0.005)


def short_sha(data: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]
