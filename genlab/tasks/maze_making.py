"""Generating mazes: walls from maze-dataset, our own end points and shortest paths, and pools on disk.

The library uses the global random state and seeds it on import, so the state is restored after every call. Mazes are
generated serially, since the library's parallel generation gives all workers the same seed.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from genlab.errors import DamagedFileError, UserError
from genlab.global_random import kept_global_random
from genlab.spec import Frozen, canonical_json
from genlab.tasks.examples import Bools, Ints

# -- Batches of square grids: passages, distances, shortest paths
#
# A cell is `row * side + column`. A grid is a mask of open passages, bool[n, passage], in the order of `passages`:
# first those between a cell and the next one in its row, then those to the cell below.

Cells = NDArray[np.int16]


@cache
def passages(side: int) -> Ints:
    """Return the two cells that each potential passage connects, int[passage, 2], smaller index first.

    >>> passages(2).tolist()
    [[0, 1], [2, 3], [0, 2], [1, 3]]
    """
    cell = np.arange(side * side).reshape(side, side)
    along = np.stack([cell[:, :-1], cell[:, 1:]], axis=-1).reshape(-1, 2)
    down = np.stack([cell[:-1], cell[1:]], axis=-1).reshape(-1, 2)
    return np.concatenate([along, down])


def open_sides(is_open: Bools, side: int) -> Bools:
    """Whether the passages up, left, right and down from each cell are open, bool[n, cell, 4]."""
    n = len(is_open)
    along, down = np.split(is_open, 2, axis=1)
    sides = np.zeros((n, side, side, 4), bool)
    sides[:, 1:, :, 0] = sides[:, :-1, :, 3] = down.reshape(n, side - 1, side)
    sides[:, :, 1:, 1] = sides[:, :, :-1, 2] = along.reshape(n, side, side - 1)
    return sides.reshape(n, side * side, 4)


def distances(sides: Bools, start: Ints, side: int) -> Cells:
    """Return the distance from one cell of each grid to all cells, int16[n, cell]; -1 if unreachable."""
    n, cells, _ = sides.shape
    steps = np.full((n, cells), -1, np.int16)
    reached = np.zeros((n, cells), bool)
    reached[np.arange(n), start] = True
    distance = 0
    while reached.any():
        steps[reached] = distance
        onward = np.zeros_like(reached)
        onward[:, :-side] |= (reached & sides[:, :, 0])[:, side:]
        onward[:, :-1] |= (reached & sides[:, :, 1])[:, 1:]
        onward[:, 1:] |= (reached & sides[:, :, 2])[:, :-1]
        onward[:, side:] |= (reached & sides[:, :, 3])[:, :-side]
        reached = onward & (steps < 0)
        distance += 1
    return steps


def shortest_paths(sides: Bools, to_target: Cells, origin: Ints, side: int) -> Cells:
    """Return the shortest path from `origin` in each grid, int16[n, step], padded with -1.

    `to_target` is the distance of each cell to the target. Among several shortest paths, the one returned goes to the
    first cell in reading order at every step.
    """
    rows, cell = np.arange(len(origin)), origin.copy()
    last = int(to_target[rows, origin].max())
    path = np.full((len(origin), last + 1), -1, np.int16)
    going = np.ones(len(origin), bool)
    neighbours = np.array([-side, -1, 1, side])
    for step in range(last + 1):
        path[going, step] = cell[going]
        onward = np.clip(cell[:, None] + neighbours, 0, side * side - 1)
        nearer = to_target[rows[:, None], onward] == to_target[rows, cell][:, None] - 1
        nearer &= sides[rows, cell]
        going &= nearer.any(axis=1)
        cell = np.where(going, onward[rows, nearer.argmax(axis=1)], cell)
    return path


def shared_answers(is_open: Bools, path: Cells, side: int, as_moves: bool) -> float:
    """Return the probability that the path of one grid is a shortest path of another, over all pairs.

    `as_moves` compares moves, whatever the starting cell.
    """
    cells = np.where(path < 0, 0, path).astype(np.int64)
    rows, counts = np.arange(len(path)), (path >= 0).sum(axis=1)
    origin, target = cells[:, 0], cells[rows, counts - 1]
    row_move, column_move = (to - at for to, at in zip(np.divmod(target, side), np.divmod(origin, side), strict=True))
    keys = np.stack([row_move, column_move, counts, origin * (not as_moves)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    sides, moves = open_sides(is_open, side), np.diff(cells, axis=1)
    hits = 0
    for members in (np.flatnonzero(group.ravel() == g) for g in range(group.max() + 1)):
        # Grids are rows, paths are columns. A path of minimal length is correct if all its steps are open.
        at = np.repeat(origin[members][:, None], len(members), axis=1)
        right = np.ones(at.shape, bool)
        for step in range(int(counts[members[0]]) - 1):
            move = moves[members, step]
            right &= sides[members[:, None], at, np.searchsorted([-side, -1, 1, side], move)]
            at = np.where(right, at + move, at)
        hits += int(right.sum()) - len(members)
    return hits / (len(path) * (len(path) - 1))


_MOST_DRAWN = 30
"""Maximum number of mazes generated per accepted maze before a recipe fails."""
_TRIES = 20
"""Pairs of end points to try in a maze before it is rejected."""

Generator = Literal[
    "dfs", "wilson", "percolation", "dfs-percolation", "kruskal", "prim", "recursive-division"
]  # fmt: skip


class Recipe(Frozen):
    """Everything that determines the mazes in a pool."""

    side: int = Field(ge=2)
    generator: Generator = "dfs"
    p: float = Field(0.0, ge=0, le=1)
    forks: bool = True
    cells: float = Field(1.0, gt=0, le=1)
    ends: Literal["any", "dead-ends", "corners"] = "any"
    path: Literal["any", "short", "long"] = "any"
    held_out: bool = False
    seed: int = 0
    library: str = Field(description="version of maze-dataset")


@dataclass(frozen=True, slots=True, eq=False)
class Mazes:
    """A batch of mazes with the same side.

    Attributes:
        is_open: bool[n, passage], see `maze_grid.passages`.
        path: int16[n, step], cells of the shortest path from origin to target, padded with -1.
    """

    is_open: Bools
    path: Cells

    def take(self, rows: Ints) -> Mazes:
        """Return the mazes at `rows`."""
        return Mazes(self.is_open[rows], self.path[rows])


def stacked(parts: Sequence[Mazes]) -> Mazes:
    """Concatenate mazes with the same side, padding their paths to a common width."""
    if len(parts) == 1:
        return parts[0]
    longest = max(mazes.path.shape[1] for mazes in parts)
    paths = [np.pad(m.path, ((0, 0), (0, longest - m.path.shape[1])), constant_values=-1) for m in parts]
    return Mazes(np.concatenate([m.is_open for m in parts]), np.concatenate(paths))


def library_version() -> str:
    """Return the installed version of maze-dataset, without importing it."""
    try:
        return version("maze-dataset")
    except PackageNotFoundError:
        raise UserError("mazes need maze-dataset: pip install 'genlab[mazes]'") from None


def draw_mazes(recipe: Recipe, n: int, seed: list[int]) -> Mazes:
    """Generate n mazes of a recipe, as a pure function of the arguments and the library's version.

    Mazes without suitable end points are rejected (in percolation, the start may be walled in).

    Raises:
        UserError: If too few mazes have suitable end points, or the installed version of the library differs.
    """
    if (installed := library_version()) != recipe.library:
        raise UserError(
            f"these mazes need maze-dataset {recipe.library}, but {installed} is installed and may generate others: "
            f"pip install maze-dataset=={recipe.library}"
        )
    rng = np.random.default_rng(seed)
    kept: list[Mazes] = []
    n_kept = drawn = 0
    while n_kept < n:
        if drawn >= _MOST_DRAWN * n:
            raise UserError(
                f"only {n_kept} of {drawn} generated mazes have suitable end points: side {recipe.side}, generator "
                f"{recipe.generator!r}, p {recipe.p}, ends {recipe.ends!r}, path {recipe.path!r}; relax these "
                "constraints or use more open mazes"
            )
        more = max(n - n_kept, 8)
        walls, component = _from_library(recipe, more, int(rng.integers(2**32)))
        drawn += more
        kept.append(_with_ends(rng, recipe, walls, component))
        n_kept += len(kept[-1].path)
    mazes = stacked(kept).take(np.arange(n))
    return Mazes(mazes.is_open, mazes.path[:, (mazes.path >= 0).any(axis=0)])


def _with_ends(rng: np.random.Generator, recipe: Recipe, is_open: Bools, component: Bools) -> Mazes:
    """Return the mazes that have a suitable origin and target, with the path between them."""
    side, sides = recipe.side, open_sides(is_open, recipe.side)
    from_cells, to_cells = component.copy(), component.copy()
    if recipe.ends == "dead-ends":
        from_cells &= sides.sum(axis=2) == 1
        to_cells &= from_cells
    elif recipe.ends == "corners":
        from_cells[:, 1:] = to_cells[:, :-1] = False
    low, high = {"any": (2, side**2), "short": (2, side), "long": (2 * side, side**2)}[recipe.path]
    path = np.full((len(is_open), side**2), -1, np.int16)
    missing = np.arange(len(is_open))
    for _ in range(_TRIES):
        origin, target, found = _two_cells(rng, from_cells[missing], to_cells[missing])
        found &= _is_held_out(is_open[missing], origin, target) == recipe.held_out
        at = missing[found]
        to_target = distances(sides[at], target[found], side)
        cells = to_target[np.arange(len(at)), origin[found]] + 1
        good = (cells >= low) & (cells <= high)
        if good.any():
            paths = shortest_paths(sides[at[good]], to_target[good], origin[found][good], side)
            path[at[good], : paths.shape[1]] = paths
        missing = np.flatnonzero(path[:, 0] < 0)
    done = path[:, 0] >= 0
    return Mazes(is_open[done], path[done])


def _two_cells(rng: np.random.Generator, from_cells: Bools, to_cells: Bools) -> tuple[Ints, Ints, Bools]:
    """Draw two distinct cells, uniform among those allowed, and return whether there are any."""
    rows = np.arange(len(from_cells))
    origin = np.where(from_cells, rng.random(from_cells.shape), -1.0).argmax(axis=1)
    others = to_cells.copy()
    others[rows, origin] = False
    target = np.where(others, rng.random(others.shape), -1.0).argmax(axis=1)
    return origin, target, from_cells[rows, origin] & others[rows, target]


def _is_held_out(is_open: Bools, origin: Ints, target: Ints) -> Bools:
    """Whether a maze is reserved for testing, bool[n]: one in four, by a hash of its passages and end points.

    No test maze is therefore ever trained on, whatever pools are used.
    """
    with np.errstate(over="ignore"):
        words = np.cumprod(np.full(is_open.shape[1] + 2, 0x9E3779B97F4A7C15, np.uint64))
        mixed = is_open @ words[2:] + origin.astype(np.uint64) * words[0] + target.astype(np.uint64) * words[1]
        mixed ^= mixed >> np.uint64(31)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed >> np.uint64(62) == 0


def _from_library(recipe: Recipe, n: int, seed: int) -> tuple[Bools, Bools]:
    """Generate passages, bool[n, passage], and the cells allowed as end points, bool[n, cell]."""
    with _seeded(seed):
        from maze_dataset.generation.generators import GENERATORS_MAP

        generate = GENERATORS_MAP["gen_" + recipe.generator.replace("-", "_")]
        shape = np.array([recipe.side, recipe.side])
        mazes: list[Any] = [generate(shape, **_options(recipe)) for _ in range(n)]
        cells = [np.asarray(maze.get_connected_component()) for maze in mazes]
    component = np.zeros((n, recipe.side, recipe.side), bool)
    for row, found in enumerate(cells):
        component[row, found[:, 0], found[:, 1]] = True
    down, along = np.stack([maze.connection_list for maze in mazes], axis=1)
    is_open = np.concatenate([along[:, :, :-1].reshape(n, -1), down[:, :-1].reshape(n, -1)], axis=1)
    return is_open, component.reshape(n, -1)


def _options(recipe: Recipe) -> dict[str, Any]:
    if "percolation" in recipe.generator:
        return {"p": recipe.p}
    if recipe.generator not in ("dfs", "prim"):
        return {}
    return {"do_forks": recipe.forks} | ({} if recipe.cells == 1 else {"accessible_cells": recipe.cells})


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random state, which the library uses, and restore it on exit."""
    with kept_global_random(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about a missing extra of a tokenizer, and about `prim` being a variant of dfs
        import maze_dataset  # noqa: F401  # seeds global state when it is first imported

        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        yield


# -- Pools of mazes, cached on disk
#
# A block has 256 mazes and is a pure function of its recipe and its number, so it does not matter which process
# generates it. It is generated on first use. The cache is `GENLAB_CACHE`, or the folder `cache` in the store
# (`GENLAB_STORE`, or `runs`); `use_cache` sets it from Python.

BLOCK = 256
"""Mazes per block."""
_VERSION = 1
"""Incremented when a recipe gives different mazes or the file format changes."""


def use_cache(folder: Path) -> None:
    """Set the folder for cached pools, for this process and its child processes."""
    os.environ["GENLAB_CACHE"] = str(folder.absolute())


def cache_folder() -> Path:
    """Return the folder for cached pools."""
    return Path(os.environ.get("GENLAB_CACHE") or Path(os.environ.get("GENLAB_STORE") or "runs", "cache"))


def block(recipe: Recipe, number: int) -> Mazes:
    """Return one block of a pool from the cache, generating it if necessary.

    Raises:
        UserError: If the recipe gives too few mazes, or the installed version of the library differs.
        DamagedFileError: If the cached file is corrupt.
    """
    name = hashlib.sha256(canonical_json(recipe).encode()).hexdigest()[:12]
    file = cache_folder() / f"mazes-v{_VERSION}" / f"{recipe.generator}-{recipe.side}-{name}" / f"{number:04d}.npz"
    if file.exists():
        return _read(file, recipe, number)
    seed = hashlib.sha256(f"{_VERSION} {canonical_json(recipe)} {number}".encode()).digest()
    mazes = draw_mazes(recipe, BLOCK, list(seed))
    _write(file, mazes, recipe, number)
    return mazes


# -- Files


def _checksum(mazes: Mazes, recipe: Recipe, number: int) -> str:
    digest = hashlib.sha256(f"{canonical_json(recipe)} {number} {mazes.path.shape}".encode())
    digest.update(np.packbits(mazes.is_open).tobytes())
    digest.update(mazes.path.tobytes())
    return digest.hexdigest()


def _write(file: Path, mazes: Mazes, recipe: Recipe, number: int) -> None:
    """Write a block to a temporary file and rename it, so that readers never see part of it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            np.savez(part, is_open=mazes.is_open, path=mazes.path, checksum=_checksum(mazes, recipe, number))
        os.replace(part.name, file)
    except OSError as error:
        raise UserError(
            f"cannot cache mazes in {str(cache_folder())!r} ({error.strerror}); set GENLAB_CACHE"
        ) from error


def _read(file: Path, recipe: Recipe, number: int) -> Mazes:
    damaged = DamagedFileError(f"{str(file)!r} is corrupt; delete it and its mazes are regenerated")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            mazes, checksum = Mazes(arrays["is_open"], arrays["path"]), str(arrays["checksum"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise damaged from error
    if checksum != _checksum(mazes, recipe, number):
        raise damaged
    return mazes
