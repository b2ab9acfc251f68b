"""Square grids with passages between cells, many at once: open sides, distances, shortest paths.

A cell is `row * side + column`. A grid is the passages that are open, bool[n, passage], in the order of `passages`:
first those between a cell and the next one of its row, then those to the cell below.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from genlab.tasks.base import Bools, Ints

__all__ = ["distances", "open_sides", "passages", "shared_answers", "shortest_paths"]

Cells = NDArray[np.int16]


@cache
def passages(side: int) -> Ints:
    """The two cells of every place where a passage can be, int[passage, 2], the lower cell first.

    >>> passages(2).tolist()
    [[0, 1], [2, 3], [0, 2], [1, 3]]
    """
    cell = np.arange(side * side).reshape(side, side)
    along = np.stack([cell[:, :-1], cell[:, 1:]], axis=-1).reshape(-1, 2)
    down = np.stack([cell[:-1], cell[1:]], axis=-1).reshape(-1, 2)
    return np.concatenate([along, down])


def open_sides(is_open: Bools, side: int) -> Bools:
    """Whether one can go up, left, right, down from each cell, bool[n, cell, 4] (neighbours in reading order)."""
    n = len(is_open)
    along, down = np.split(is_open, 2, axis=1)
    sides = np.zeros((n, side, side, 4), bool)
    sides[:, 1:, :, 0] = sides[:, :-1, :, 3] = down.reshape(n, side - 1, side)
    sides[:, :, 1:, 1] = sides[:, :, :-1, 2] = along.reshape(n, side, side - 1)
    return sides.reshape(n, side * side, 4)


def distances(sides: Bools, start: Ints, side: int) -> Cells:
    """Steps from one cell of each grid to all of its cells, int16[n, cell]; -1 where no way leads."""
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
    """The shortest path from `origin` in each grid, int16[n, step], -1 behind its end.

    `to_target` is the distance of each cell to the target. Of several shortest paths it is the one that at every
    step goes to the first cell in reading order.
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
    """How often the path of one grid is a shortest path of another one, over all pairs of them.

    `as_moves` compares the steps taken, wherever they start.
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
        # One grid a row, one path a column: as long as the shortest and as far, so right if all its steps are open.
        at = np.repeat(origin[members][:, None], len(members), axis=1)
        right = np.ones(at.shape, bool)
        for step in range(int(counts[members[0]]) - 1):
            move = moves[members, step]
            right &= sides[members[:, None], at, np.searchsorted([-side, -1, 1, side], move)]
            at = np.where(right, at + move, at)
        hits += int(right.sum()) - len(members)
    return hits / (len(path) * (len(path) - 1))
