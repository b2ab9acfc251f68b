"""Files that are either whole or not there, and that notice damage."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genlab.errors import DamagedFileError

__all__ = ["load_tensors", "read_json", "read_parquet", "save_tensors", "write_json", "write_parquet"]


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    """Have `fill` write a file beside `path`, then move it there in one step: readers see the whole or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        fill(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all."""
    _write(path, lambda file: file.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n"))


def read_json(path: Path) -> dict[str, object]:
    """Read JSON. Raises `DamagedFileError` if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is damaged: it is not JSON ({error})") from None


def write_parquet(folder: Path, stem: str, table: pa.Table) -> str:
    """Write a table, whole or not at all, under a name that ends in its checksum; returns the name."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    name = f"{stem}-{_short_sha(data)}.parquet"
    _write(folder / name, lambda file: file.write_bytes(data))
    return name


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table. Raises `DamagedFileError` where its bytes are not those that its name promises."""
    data = path.read_bytes()
    if _short_sha(data) != path.stem.rpartition("-")[2]:
        raise DamagedFileError(f"{path} is damaged: its checksum does not hold")
    return pq.read_table(pa.BufferReader(data), columns=columns).to_pandas()


def _short_sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all, with a SHA-256 over all that the file says."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(kept, {**meta, "sha256": _digest(kept, meta)})
    _write(path, lambda file: file.write_bytes(data))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises `DamagedFileError` if a single bit is not as it was written."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            meta = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise DamagedFileError(f"{path} is missing") from None
        raise DamagedFileError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    written = meta.pop("sha256", "")
    if written != _digest(tensors, meta):
        raise DamagedFileError(f"{path} is damaged: its checksum does not hold")
    return tensors, meta


def _digest(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(meta), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
