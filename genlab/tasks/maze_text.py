"""Mazes as text: parsing prompts and paths, and solving by breadth-first search. Does not use arrays."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Cell = tuple[int, int]
"""Row and column, from the top left."""

MOVES: dict[str, Cell] = {"NORTH": (-1, 0), "WEST": (0, -1), "EAST": (0, 1), "SOUTH": (1, 0)}
"""Steps by name, in reading order of their destinations."""

_CELL = r"\((\d+),(\d+)\)"


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A maze with origin and target; `doors` holds all pairs of cells with an open passage, in both orders."""

    doors: frozenset[tuple[Cell, Cell]]
    origin: Cell
    target: Cell


def read_puzzle(prompt: Sequence[str]) -> Puzzle:
    """Parse the maze in a prompt, in any format.

    >>> text = "<ADJLIST_START> (0,1) <--> (0,0) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END>"
    >>> puzzle = read_puzzle(f"{text} <TARGET_START> (0,1) <TARGET_END> <PATH_START>".split())
    >>> sorted(puzzle.doors), puzzle.origin, puzzle.target
    ([((0, 0), (0, 1)), ((0, 1), (0, 0))], (0, 0), (0, 1))
    """
    text = "".join(prompt)
    doors: set[tuple[Cell, Cell]] = set()
    for numbers in re.findall(rf"{_CELL}<-->{_CELL};", text):
        row, column, other_row, other_column = map(int, numbers)
        doors |= {((row, column), (other_row, other_column)), ((other_row, other_column), (row, column))}
    marked = [re.search(rf"<{end}_START>{_CELL}<{end}_END>", text) for end in ("ORIGIN", "TARGET")]
    (origin, target) = [(int(found[1]), int(found[2])) for found in marked if found]
    return Puzzle(frozenset(doors), origin, target)


def read_path(origin: Cell, answer: Sequence[str]) -> list[Cell] | None:
    """Return the cells that an answer visits, or None if it is not a path in any format.

    >>> read_path((0, 0), ["SOUTH", "EAST"]) == read_path((0, 0), ["(0,0)", "(1,0)", "(1,1)"])
    True
    """
    if answer and all(word in MOVES for word in answer):
        path = [origin]
        for word in answer:
            path.append((path[-1][0] + MOVES[word][0], path[-1][1] + MOVES[word][1]))
        return path
    text = "".join(answer)
    if not re.fullmatch(rf"({_CELL})+", text):
        return None
    return [(int(row), int(column)) for row, column in re.findall(_CELL, text)]


def is_walk(puzzle: Puzzle, path: Sequence[Cell]) -> bool:
    """Whether there is at least one step, and every step goes through an open passage."""
    return len(path) > 1 and all(step in puzzle.doors for step in pairwise(path))


def shortest_path(puzzle: Puzzle) -> list[Cell]:
    """Return the shortest path; among several, the one that goes to the first cell in reading order at every step."""
    beside: dict[Cell, list[Cell]] = {}
    for cell, other in sorted(puzzle.doors):
        beside.setdefault(cell, []).append(other)
    steps = {puzzle.target: 0}
    queue = deque([puzzle.target])
    while queue:
        cell = queue.popleft()
        for other in beside[cell]:
            if other not in steps:
                steps[other] = steps[cell] + 1
                queue.append(other)
    path = [puzzle.origin]
    while path[-1] != puzzle.target:
        path.append(next(other for other in beside[path[-1]] if steps[other] == steps[path[-1]] - 1))
    return path


def spelled(cell: Cell, format: str) -> tuple[str, ...]:
    """Write a cell as tokens: one, or five in format `coordinates`.

    >>> spelled((0, 12), "coordinates")
    ('(', '0', ',', '12', ')')
    """
    row, column = cell
    return ("(", str(row), ",", str(column), ")") if format == "coordinates" else (f"({row},{column})",)


def write_path(path: Sequence[Cell], format: str) -> tuple[str, ...]:
    """Write a path as an answer in a format."""
    if format != "directions":
        return tuple(token for cell in path for token in spelled(cell, format))
    name = {move: word for word, move in MOVES.items()}
    return tuple(name[b[0] - a[0], b[1] - a[1]] for a, b in pairwise(path))
