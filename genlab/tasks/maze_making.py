"""Drawing mazes with maze-dataset: walls from its generators, end points and shortest paths of our own.

The library draws from global random state and seeds it on import: both are undone around every call. It draws
serially, since its parallel generation gives all workers one seed.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.global_random import kept_global_random
from genlab.spec import Frozen
from genlab.tasks.base import Bools, Ints
from genlab.tasks.maze_grid import Cells, distances, open_sides, shortest_paths

__all__ = ["Generator", "Mazes", "Recipe", "draw_mazes", "library_version", "stacked"]

_MOST_DRAWN = 30
"""Mazes drawn for each one wanted, before a recipe is given up that keeps too few of them."""
_TRIES = 20
"""Pairs of end points tried in a maze before it is drawn again."""

Generator = Literal[
    "dfs", "wilson", "percolation", "dfs-percolation", "kruskal", "prim", "recursive-division"
]  # fmt: skip


class Recipe(Frozen):
    """All that decides which mazes a pool holds."""

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
    """Mazes of one side.

    Attributes:
        is_open: bool[n, passage], see `maze_grid.passages`.
        path: int16[n, step], the cells of the shortest path from origin to target, -1 behind its end.
    """

    is_open: Bools
    path: Cells

    def take(self, rows: Ints) -> Mazes:
        """The mazes at these rows."""
        return Mazes(self.is_open[rows], self.path[rows])


def stacked(parts: Sequence[Mazes]) -> Mazes:
    """Mazes of one side together, their paths as wide as the longest needs."""
    if len(parts) == 1:
        return parts[0]
    longest = max(mazes.path.shape[1] for mazes in parts)
    paths = [np.pad(m.path, ((0, 0), (0, longest - m.path.shape[1])), constant_values=-1) for m in parts]
    return Mazes(np.concatenate([m.is_open for m in parts]), np.concatenate(paths))


def library_version() -> str:
    """The version of maze-dataset that is installed (the library itself is not imported)."""
    try:
        return version("maze-dataset")
    except PackageNotFoundError:
        raise UserError("mazes need maze-dataset: pip install 'genlab[mazes]'") from None


def draw_mazes(recipe: Recipe, n: int, seed: list[int]) -> Mazes:
    """n mazes of a recipe, a pure function of its arguments and the library's version.

    A maze without end points as the recipe asks (in percolation the start may be walled in) is drawn again.

    Raises:
        UserError: too few mazes have such end points, or the library is not installed in the recipe's version.
    """
    if (installed := library_version()) != recipe.library:
        raise UserError(
            f"these mazes are those of maze-dataset {recipe.library}, {installed} is installed and may draw others: "
            f"pip install maze-dataset=={recipe.library}"
        )
    rng = np.random.default_rng(seed)
    kept: list[Mazes] = []
    n_kept = drawn = 0
    while n_kept < n:
        if drawn >= _MOST_DRAWN * n:
            raise UserError(
                f"only {n_kept} of {drawn} mazes drawn have end points as asked for: side {recipe.side}, generator "
                f"{recipe.generator!r}, p {recipe.p}, ends {recipe.ends!r}, path {recipe.path!r}; ask for less, or "
                "for more open mazes"
            )
        more = max(n - n_kept, 8)
        walls, component = _from_library(recipe, more, int(rng.integers(2**32)))
        drawn += more
        kept.append(_with_ends(rng, recipe, walls, component))
        n_kept += len(kept[-1].path)
    mazes = stacked(kept).take(np.arange(n))
    return Mazes(mazes.is_open, mazes.path[:, (mazes.path >= 0).any(axis=0)])


def _with_ends(rng: np.random.Generator, recipe: Recipe, is_open: Bools, component: Bools) -> Mazes:
    """The mazes in which an origin and a target as the recipe asks were found, with the path between them."""
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
    """Different cells, each uniform among those allowed, and whether there are such."""
    rows = np.arange(len(from_cells))
    origin = np.where(from_cells, rng.random(from_cells.shape), -1.0).argmax(axis=1)
    others = to_cells.copy()
    others[rows, origin] = False
    target = np.where(others, rng.random(others.shape), -1.0).argmax(axis=1)
    return origin, target, from_cells[rows, origin] & others[rows, target]


def _is_held_out(is_open: Bools, origin: Ints, target: Ints) -> Bools:
    """Whether a maze belongs to the tests, bool[n]: one in four, by a hash of its passages and end points.

    So no maze of any test was ever trained on, whatever pools were drawn.
    """
    with np.errstate(over="ignore"):
        words = np.cumprod(np.full(is_open.shape[1] + 2, 0x9E3779B97F4A7C15, np.uint64))
        mixed = is_open @ words[2:] + origin.astype(np.uint64) * words[0] + target.astype(np.uint64) * words[1]
        mixed ^= mixed >> np.uint64(31)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed >> np.uint64(62) == 0


def _from_library(recipe: Recipe, n: int, seed: int) -> tuple[Bools, Bools]:
    """Passages, bool[n, passage], and the cells that end points may be among, bool[n, cell]."""
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
    """Global random state from `seed` inside, and as it was outside: the library draws from it, and seeds it."""
    with kept_global_random(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a tokenizer's missing extra; `prim` being a variant of dfs
        import maze_dataset  # noqa: F401  # seeds global state when it is first imported

        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        yield
