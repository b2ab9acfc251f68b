"""Mazes: find the shortest path, given a list of open passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Scalar, Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Examples, Ints
from genlab.tasks.maze_drawing import draw_png, draw_text
from genlab.tasks.maze_making import BLOCK, Generator, Mazes, Recipe, block, library_version, shared_answers, stacked
from genlab.tasks.maze_text import is_walk, read_path, read_puzzle, shortest_path, write_path
from genlab.tasks.maze_writing import Spelling, joined, tokens_of, width, write


class Maze(Task):
    """Write the shortest path in a maze on a square grid, given its passages in random order, an origin and a target.

    Walls come from the generators of maze-dataset, and the syntax is that of its tokenizers, with `<end>` for
    `<PATH_END>`: `cells` is its AOTP with one token per cell, `coordinates` uses five (`( 0 , 1 )`), and `directions`
    writes the steps of the path rather than its cells. Passages are shuffled every time a maze is sampled. If there
    are several shortest paths, the answer is the one that goes to the first cell in reading order at every step;
    `accepts` accepts all of them, and `judges` scores freely generated answers.

    Mazes come from pools on disk (`maze_making`). Training and tests never share a maze, since a hash of walls and
    end points assigns each maze to one of the two.

    >>> from genlab.tasks import make
    >>> task = make("maze", max_len=2)
    >>> passages = "(1,0) <--> (0,0) ; (1,1) <--> (1,0) ; (0,1) <--> (1,1) ;"
    >>> ends = "<ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (0,1) <TARGET_END>"
    >>> prompt = f"<ADJLIST_START> {passages} <ADJLIST_END> {ends} <PATH_START>".split()
    >>> " ".join(task.solve(prompt))
    '(0,0) (1,0) (1,1) (0,1)'
    >>> " ".join(make("maze", max_len=2, format="directions").solve(prompt))
    'SOUTH EAST NORTH'
    >>> task.judge(prompt, ["(0,0)", "(0,1)"])                      # through a wall
    {'valid': False, 'target': True, 'solved': False, 'shortest': False}
    """

    name = "maze"
    family = "mazes"
    asks = "what is the shortest path from the origin to the target?"
    leads = False  # as published
    source = (
        "Ivanitskiy et al. 2023, A configurable library for generating and manipulating maze datasets, "
        "arXiv 2309.10498; Spies et al. 2024, Transformers use causal world models in maze-solving tasks, "
        "arXiv 2412.11867"
    )
    length_unit = "cells per side"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "cells": "passages, origin, target | cells of the path (one token per cell)",
            "coordinates": "passages, origin, target | cells of the path (five tokens per cell)",
            "directions": "passages, origin, target | steps of the path (NORTH, WEST, EAST, SOUTH)",
        }
    )
    splits = split_map(
        Split(name="id", about="held-out mazes from the training generator", shift={}),
        Split(name="train", about="training mazes", shift={"pool": "train"}),
        Split(name="dfs", about="depth-first search: long corridors", shift={"generator": "dfs"}),
        Split(name="wilson", about="uniform spanning trees", shift={"generator": "wilson"}),
        Split(
            name="kruskal", about="randomized Kruskal: edges added in random order", shift={"generator": "kruskal"}
        ),
        Split(
            name="prim", about="branchy: depth-first search that continues from any cell", shift={"generator": "prim"}
        ),
        Split(
            name="recursive-division", about="long walls with one gap each", shift={"generator": "recursive-division"}
        ),
        Split(
            name="percolation",
            about="each passage is open with probability 0.6",
            shift={"generator": "percolation", "p": 0.6},
        ),
        Split(
            name="some-loops",
            about="dfs, then more passages opened with probability 0.1",
            shift={"generator": "dfs-percolation", "p": 0.1},
        ),
        Split(
            name="many-loops",
            about="dfs, then more passages opened with probability 0.5",
            shift={"generator": "dfs-percolation", "p": 0.5},
        ),
        Split(name="hallway", about="a single corridor without forks", shift={"generator": "dfs", "forks": False}),
        Split(name="half", about="dfs that reaches half of the cells", shift={"generator": "dfs", "cells": 0.5}),
        Split(name="dead-ends", about="from one dead end to another", shift={"ends": "dead-ends"}),
        Split(name="corners", about="from corner to corner", shift={"ends": "corners"}),
        Split(name="near", about="paths no longer than one side", shift={"path": "short"}),
        Split(name="far", about="paths at least as long as two sides", shift={"path": "long"}),
    )
    train_split = "train"
    shown_length = 5
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                # A grid of side 3 has only 192 spanning trees, too few to learn from, but 4,096 passage sets.
                "params": {"generator": "percolation", "p": 0.6, "train_blocks": 400},
                "train_len": 3,
                "min_len": 3,
                "n_layers": 3,
                "d_model": 64,
                "positions": "rotary",
                "lr": 0.002,
                "weight_decay": 0.1,
                "steps": 7000,
            }
        }
    )

    class Params(Task.Params):
        """The generator and the size of the pools of mazes."""

        generator: Generator = Field("dfs", description="generator of the training mazes")
        p: float = Field(0.0, ge=0, le=1, description="fraction of open passages (percolation only)")
        forks: bool = Field(True, description="allow forks; False: corridors (dfs and prim only)")
        train_blocks: int = Field(80, ge=1, description="training mazes per side, in blocks of 256")
        test_blocks: int = Field(8, ge=1, description="test mazes per side and split, in blocks of 256")
        pool_seed: int = Field(0, ge=0, description="seed of the pools")
        library: str = Field("", description="version of maze-dataset (set automatically)")

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        values = super().resolve(format, max_len, params)
        percolation = "percolation" in str(values["generator"])
        if values["p"] and not percolation:
            raise UserError(f"p needs generator percolation or dfs-percolation, not {values['generator']!r}")
        if not values["forks"] and values["generator"] not in ("dfs", "prim"):
            raise UserError(f"forks=false needs generator dfs or prim, not {values['generator']!r}")
        if percolation and "p" not in params:
            values["p"] = 0.4  # the default of maze-dataset
        return values | {"library": values["library"] or library_version()}

    def __init__(self, spec: Any):
        super().__init__(spec)
        self._blocks: dict[tuple[Recipe, int], Mazes] = {}
        self._spellings: dict[int, Spelling] = {}
        self._chances: dict[int, float] = {}

    def symbols(self) -> tuple[str, ...]:
        if self.max_len < 2:
            raise UserError("a maze of side 1 has no path: max_len must be at least 2")
        return tokens_of(self.format, self.max_len)

    def width(self, length: int) -> int:
        return width(self.format, length)

    def min_len(self, split: Split) -> int:
        # With such constraints, few mazes of side 2 remain, possibly none of them for testing.
        return 3 if "ends" in split.shift or "path" in split.shift else 2

    # -- Sampling

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        drawn: list[tuple[Ints, Examples]] = []
        for side in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == side)
            mazes = self._mazes(rng, split, side, len(rows))
            drawn.append((rows, write(rng, mazes, self._spelling(side))))
        return drawn[0][1] if len(drawn) == 1 else joined(drawn, lengths)

    def recipe(self, split: Split, side: int) -> Recipe:
        """Return the recipe of the pool that a split uses for grids of a side."""
        shift = {key: value for key, value in split.shift.items() if key != "pool"}
        if "generator" not in shift:
            shift |= {"generator": self.params.generator, "p": self.params.p, "forks": self.params.forks}
        fixed = {"side": side, "seed": self.params.pool_seed, "library": self.params.library}
        return Recipe.model_validate(shift | fixed | {"held_out": split.shift.get("pool") != "train"})

    def _mazes(self, rng: np.random.Generator, split: Split, side: int, n: int) -> Mazes:
        """Draw n mazes from random blocks of the pool, without repeats unless n exceeds the size of the pool."""
        recipe = self.recipe(split, side)
        blocks = self.params.test_blocks if recipe.held_out else self.params.train_blocks
        order = np.resize(rng.permutation(blocks), -(-n // BLOCK))
        rows = [rng.permutation(BLOCK)[: n - i * BLOCK] for i in range(len(order))]
        return stacked([self._block(recipe, int(number)).take(r) for number, r in zip(order, rows, strict=True)])

    def _spelling(self, side: int) -> Spelling:
        if side not in self._spellings:
            self._spellings[side] = Spelling(self.vocab, self.format, side)
        return self._spellings[side]

    def _block(self, recipe: Recipe, number: int) -> Mazes:
        if (recipe, number) not in self._blocks:
            self._blocks[recipe, number] = block(recipe, number)
        return self._blocks[recipe, number]

    # -- Answers

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return write_path(shortest_path(read_puzzle(prompt)), self.format)

    def accepts(self, prompt: Sequence[str], answer: Sequence[str]) -> bool:
        return self.judge(prompt, answer)["shortest"]

    @property
    def judges(self) -> Mapping[str, str]:
        return {
            "valid": "every step goes through an open passage",
            "target": "the last cell is the target",
            "solved": "a valid path from the origin to the target",
            "shortest": "solved, and no path is shorter",
        }

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        puzzle = read_puzzle(prompt)
        path = read_path(puzzle.origin, answer)
        if path is None:
            return dict.fromkeys(self.judges, False)
        valid, target = is_walk(puzzle, path), path[-1] == puzzle.target
        solved = valid and target and path[0] == puzzle.origin
        shortest = solved and len(path) == len(shortest_path(puzzle))
        return {"valid": valid, "target": target, "solved": solved, "shortest": shortest}

    def drawing(self, prompt: Sequence[str], answer: Sequence[str], length: int) -> str:
        return draw_text(prompt, answer, length)

    def draw_figure(
        self,
        file: Path,
        prompt: Sequence[str],
        answer: Sequence[str],
        length: int,
        written: Sequence[str] | None = None,
    ) -> None:
        try:
            draw_png(file, prompt, answer, length, written)
        except OSError as error:
            raise UserError(f"cannot write the figure {str(file)!r} ({error.strerror})") from error
        except ValueError as error:  # a format that matplotlib does not write
            raise UserError(f"cannot write the figure {str(file)!r} ({error})") from error

    def chance(self, length: int) -> float:
        """Return the fraction of pairs of mazes in the pool of `id` whose answers are interchangeable."""
        if length not in self._chances:
            recipe = self.recipe(self.split("id"), length)
            mazes = [self._block(recipe, number) for number in range(self.params.test_blocks)]
            whole = stacked(mazes)
            self._chances[length] = shared_answers(whole.is_open, whole.path, length, self.format == "directions")
        return self._chances[length]

    def factors(self, examples: Examples) -> dict[str, Ints]:
        """Return the length of the path, in whole multiples of the side."""
        cell = 5 if self.format == "coordinates" else 1
        cells = (examples.scored.sum(axis=1) - 1) // cell + (self.format == "directions")
        return {"path_in_sides": cells // examples.lengths}
