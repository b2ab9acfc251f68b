"""Tensors on disk: safetensors files (never pickle) with a checksum over all that they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genlab.errors import DamagedFileError
from genlab.runs.files import write

__all__ = ["load_tensors", "read_meta", "save_tensors"]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    """Write tensors, whole or not at all, with a SHA-256 over all that the file says.

    Returns:
        The name of the file: `{}` in the name of `path` becomes the start of that SHA-256.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digest = _digest(kept, meta)
    data = save(kept, {**meta, "sha256": digest})
    name = path.name.replace("{}", digest[:16])
    write(path.with_name(name), lambda file: file.write_bytes(data))
    return name


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


def read_meta(path: Path) -> dict[str, str]:
    """Metadata of a file alone, unchecked; {} if the file is not there or says none."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return {}


def _digest(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(meta), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
