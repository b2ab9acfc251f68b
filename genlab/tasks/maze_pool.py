"""Pools of mazes: drawn once with maze-dataset, kept on disk in blocks, read from there ever after.

A block holds 256 mazes and is a pure function of its recipe and its number, so that it does not matter who draws it
or when; it is drawn when it is first asked for. The cache is `GENLAB_CACHE`, or the folder `cache` of the store
(`GENLAB_STORE`, or `runs`); `use_cache` sets it from Python.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from genlab.errors import DamagedFileError, UserError
from genlab.spec import canonical_json
from genlab.tasks.maze_making import Mazes, Recipe, draw_mazes

__all__ = ["BLOCK", "block", "cache_folder", "use_cache"]

BLOCK = 256
"""Mazes a block."""
_VERSION = 1
"""Rises when the same recipe gives other mazes, or the file format changes."""


def use_cache(folder: Path) -> None:
    """Keep pools in this folder from now on, in this process and in those that it starts."""
    os.environ["GENLAB_CACHE"] = str(folder.absolute())


def cache_folder() -> Path:
    """Where pools are kept."""
    return Path(os.environ.get("GENLAB_CACHE") or Path(os.environ.get("GENLAB_STORE") or "runs", "cache"))


def block(recipe: Recipe, number: int) -> Mazes:
    """One block of a pool: from the cache, or drawn and put there.

    Raises:
        UserError: the recipe gives too few mazes, or the library is not installed in the recipe's version.
        DamagedFileError: the cached file is not as it was written.
    """
    name = hashlib.sha256(canonical_json(recipe).encode()).hexdigest()[:12]
    file = cache_folder() / f"mazes-v{_VERSION}" / f"{recipe.generator}-{recipe.side}-{name}" / f"{number:04d}.npz"
    if file.exists():
        return _read(file, recipe, number)
    seed = hashlib.sha256(f"{_VERSION} {canonical_json(recipe)} {number}".encode()).digest()
    mazes = draw_mazes(recipe, BLOCK, list(seed))
    _write(file, mazes, recipe, number)
    return mazes


# -- on disk -----------------------------------------------------------------------------------------------------


def _checksum(mazes: Mazes, recipe: Recipe, number: int) -> str:
    digest = hashlib.sha256(f"{canonical_json(recipe)} {number} {mazes.path.shape}".encode())
    digest.update(np.packbits(mazes.is_open).tobytes())
    digest.update(mazes.path.tobytes())
    return digest.hexdigest()


def _write(file: Path, mazes: Mazes, recipe: Recipe, number: int) -> None:
    """Write a block under another name first, so that a reader sees all of it or none."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            np.savez(part, is_open=mazes.is_open, path=mazes.path, checksum=_checksum(mazes, recipe, number))
        os.replace(part.name, file)
    except OSError as error:
        raise UserError(
            f"cannot keep mazes in {str(cache_folder())!r} ({error.strerror}); set GENLAB_CACHE"
        ) from error


def _read(file: Path, recipe: Recipe, number: int) -> Mazes:
    damaged = DamagedFileError(f"{str(file)!r} does not hold the mazes written to it; delete it and they are redrawn")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            mazes, checksum = Mazes(arrays["is_open"], arrays["path"]), str(arrays["checksum"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise damaged from error
    if checksum != _checksum(mazes, recipe, number):
        raise damaged
    return mazes
