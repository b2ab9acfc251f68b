"""Mazes for the eye: drawn in a terminal or as a figure, with the way that an answer takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from genlab.errors import UserError
from genlab.tasks.maze_text import Cell, Puzzle, read_path, read_puzzle

_CORNERS = " ╵╶└╷│┌├╴┘─┴┐┤┬┼"
"""Signs of a corner by the walls that meet there: up 1, right 2, down 4, left 8."""


def draw_text(prompt: Sequence[str], answer: Sequence[str], side: int | None = None) -> str:
    """The maze of a prompt, origin `S`, target `T`, and the way of an answer, `x` where it goes through a wall.

    Args:
        answer: the right path, one that a model wrote, or nothing.
        side: cells a side; without it, as many as the prompt names.

    >>> passages = "(1,0) <--> (0,0) ; (1,1) <--> (1,0) ; (0,1) <--> (1,1) ;"
    >>> ends = "<ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (0,1) <TARGET_END>"
    >>> prompt = f"<ADJLIST_START> {passages} <ADJLIST_END> {ends} <PATH_START>".split()
    >>> print(draw_text(prompt, "(0,0) (1,0) (1,1) (0,1)".split()))
    ┌───┬───┐
    │ S │ T │
    │ · ╵ · │
    │ · · · │
    └───────┘
    """
    puzzle, path, side = _read(prompt, answer, side)
    walls = set(_walls(puzzle, side))
    lines = [[" "] * (4 * side + 1) for _ in range(2 * side + 1)]
    for (row, column), (other_row, other_column) in walls:
        if row == other_row:
            lines[2 * row][4 * column + 1 : 4 * other_column] = "───"
        else:
            lines[2 * row + 1][4 * column] = "│"
    for row in range(side + 1):
        for column in range(side + 1):
            lines[2 * row][4 * column] = _corner(walls, row, column)
    for (row, column), (other_row, other_column) in pairwise(path):
        is_open = ((row, column), (other_row, other_column)) in puzzle.doors
        lines[row + other_row + 1][2 * (column + other_column) + 2] = "·" if is_open else "x"
    for (row, column), sign in [*((cell, "·") for cell in path), (puzzle.origin, "S"), (puzzle.target, "T")]:
        lines[2 * row + 1][4 * column + 2] = sign
    return "\n".join("".join(line) for line in lines)


def draw_png(file: Path, prompt: Sequence[str], answer: Sequence[str], side: int | None = None) -> None:
    """The same as a figure; the suffix of `file` says which kind (png, svg, pdf)."""
    from matplotlib.figure import Figure

    puzzle, path, side = _read(prompt, answer, side)
    figure = Figure(figsize=(0.5 * side + 0.5, 0.5 * side + 0.5))
    axes = figure.add_subplot()
    for (row, column), (other_row, other_column) in _walls(puzzle, side):
        axes.plot([column, other_column], [row, other_row], color="black", linewidth=2, solid_capstyle="round")
    axes.plot([c + 0.5 for _, c in path], [r + 0.5 for r, _ in path], color="tab:blue", linewidth=2.5)
    for (row, column), sign, color in ((puzzle.origin, "o", "tab:green"), (puzzle.target, "X", "tab:red")):
        axes.plot(column + 0.5, row + 0.5, sign, color=color, markersize=9)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.axis("off")
    figure.savefig(file, dpi=150, bbox_inches="tight")


def _read(prompt: Sequence[str], answer: Sequence[str], side: int | None) -> tuple[Puzzle, list[Cell], int]:
    """The maze, the part of the way that lies on its grid, and its side."""
    puzzle = read_puzzle(prompt)
    named = 1 + max(max(cell) for door in puzzle.doors for cell in door)
    if side is not None and side < named:
        raise UserError(f"side {side} is too small for this maze: it names cells of a grid of side {named}")
    on_grid = range(side or named)
    path: list[Cell] = []
    for cell in read_path(puzzle.origin, answer) or []:
        if not all(number in on_grid for number in cell):
            break
        path.append(cell)
    return puzzle, path, len(on_grid)


def _walls(puzzle: Puzzle, side: int) -> Iterator[tuple[Cell, Cell]]:
    """The walls, each a pair of neighbouring corners (row, column), the first one above or left of the other."""
    for row in range(side + 1):
        for column in range(side + 1):
            if column < side and ((row - 1, column), (row, column)) not in puzzle.doors:
                yield (row, column), (row, column + 1)
            if row < side and ((row, column - 1), (row, column)) not in puzzle.doors:
                yield (row, column), (row + 1, column)


def _corner(walls: set[tuple[Cell, Cell]], row: int, column: int) -> str:
    here = (row, column)
    arms = (
        ((row - 1, column), here),
        (here, (row, column + 1)),
        (here, (row + 1, column)),
        ((row, column - 1), here),
    )
    return _CORNERS[sum((arm in walls) << i for i, arm in enumerate(arms))]
