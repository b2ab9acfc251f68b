"""Prefixes of Dyck words of bounded depth: which closing bracket may come next?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.dyck import PAIRS
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Part, Vocab, assemble
from genlab.tasks.words import redrawn, running, small_ints

_NONE = Vocab.first
Depths = NDArray[np.int8]


class DyckNext(Task):
    """Write the closing brackets that may follow a prefix of a Dyck word of bounded depth.

    `next` asks for the closing bracket allowed next, or `none` if no bracket is open. `rest` asks for all closing
    brackets that complete the word. Prefixes of `id` are never deeper than `depth`: each bracket opens or closes with
    probability 1/2, except that only one of the two is possible if none or `depth` are open.

    >>> from genlab.tasks import make
    >>> task = make("dyck-next", max_len=8)
    >>> " ".join(task.solve("( [ ] [ ( >".split()))
    ')'
    >>> " ".join(task.solve("( [ ] ) >".split()))
    'none'
    >>> task = make("dyck-next", max_len=8, format="rest")
    >>> " ".join(task.solve("( [ ] [ ( >".split()))
    ') ] )'
    """

    name = "dyck-next"
    family = "hierarchy"
    asks = "which closing bracket is allowed next?"
    source = "Hewitt et al. 2020, RNNs can generate bounded hierarchical languages, arXiv 2010.07515"
    length_unit = "brackets"
    language_class = "regular"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "next": "brackets > the closing bracket allowed next, or none",
            "rest": "brackets > all closing brackets that complete the word, or none",
        }
    )
    splits = split_map(
        Split(name="id", about="never deeper than `depth`", shift={"kind": "bounded"}),
        Split(
            name="deeper",
            about="more than `depth` are open at the end, at most twice as many",
            shift={"kind": "deeper"},
        ),
        Split(name="far", about="the first bracket is the one to be closed", shift={"kind": "far"}),
        Split(name="one-type", about="all brackets are of one type", shift={"kind": "bounded", "types": 1}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 2, "positions": "none", "steps": 5000}}
    )

    class Params(Task.Params):
        types: int = Field(2, ge=1, le=len(PAIRS), description="bracket types")
        depth: int = Field(3, ge=2, le=8, description="maximum depth in training")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        pairs = PAIRS[: self.params.types]
        return ("none", *(pair[0] for pair in pairs), *(pair[1] for pair in pairs))

    def width(self, length: int) -> int:
        return length + 2 + (1 if self.format == "next" else min(length, 2 * self.params.depth))

    def min_len(self, split: Split) -> int:
        return {"bounded": 1, "deeper": self.params.depth + 1, "far": 3}[str(split.shift["kind"])]

    def makes(self, split: Split, length: int) -> bool:
        return split.shift["kind"] != "far" or length % 2 == 1

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        k, types = self.params.types, int(split.shift.get("types", self.params.types))
        # From here on, rows are positions, so that scans over positions process all examples at once.
        depths = np.ascontiguousarray(self._depths(rng, str(split.shift["kind"]), lengths).T)
        kinds = rng.integers(0, types, depths.shape[::-1]).astype(np.int8).T.copy()
        opens = np.concatenate([np.ones((1, len(lengths)), bool), depths[1:] > depths[:-1]])
        stack = _match(kinds, opens, depths, lengths)
        inside = np.arange(len(depths)) < lengths[:, None]
        ids = (_NONE + 1 + np.where(opens, kinds, k + kinds)).T
        prompt = Part(ids, keep=None if inside.all() else inside)
        left = depths[lengths - 1, np.arange(len(lengths))].astype(np.int64)[:, None]
        level = left - 1 - np.arange(1 if self.format == "next" else stack.shape[1])
        waiting = np.take_along_axis(stack, np.maximum(level, 0), axis=1)
        # The end token and the answer form one part, so that no row has gaps.
        answer = np.pad(np.where(left > 0, _NONE + 1 + k + waiting, _NONE), ((0, 0), (0, 1)))
        size = np.clip(left, 1, level.shape[1])
        np.put_along_axis(answer, size, Vocab.end, axis=1)
        keep = np.arange(answer.shape[1]) <= size
        part = Part(answer, scored=True, keep=None if keep.all() else keep)
        return assemble([prompt, Part(Vocab.sep), part], lengths)

    def _depths(self, rng: np.random.Generator, kind: str, lengths: Ints) -> Depths:
        """Draw the number of open brackets after each position, int[n, max(lengths)]."""
        depth = self.params.depth
        if kind == "bounded":
            return _walk(rng, lengths, depth)

        def last(depths: Depths, lengths: Ints) -> Depths:
            return np.take_along_axis(depths, lengths[:, None] - 1, axis=1)[:, 0]

        if kind == "deeper":
            return redrawn(lambda n: _walk(rng, n, 2 * depth), lambda d, n: last(d, n) <= depth, lengths)
        above = redrawn(lambda n: _walk(rng, n, depth - 1), lambda d, n: last(d, n) > 0, lengths - 1)
        return np.pad(1 + above, ((0, 0), (1, 0)), constant_values=1)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        closing = {pair[0]: pair[1] for pair in PAIRS}
        waiting: list[str] = []
        for token in prompt[: list(prompt).index(">")]:
            if token in closing:
                waiting.append(closing[token])
            else:
                waiting.pop()
        rest = tuple(reversed(waiting))
        return (rest[:1] if self.format == "next" else rest) or ("none",)

    def chance(self, length: int) -> float:
        ends = self._end_depths(length)
        k = self.params.types
        if self.format == "next":
            return float(ends[0] ** 2 + (1 - ends[0]) ** 2 / k)
        return float(sum(share**2 / k**depth for depth, share in enumerate(ends)))

    def _end_depths(self, length: int) -> Floats:
        """Return the distribution of the number of open brackets at the end of a prefix of `id`."""
        depth = self.params.depth
        step = np.zeros((depth + 1, depth + 1))
        for open_ in range(depth + 1):
            reached = [d for d in (open_ - 1, open_ + 1) if 0 <= d <= depth]
            step[open_, reached] = 1 / len(reached)
        return np.linalg.matrix_power(step, length)[0]

    def factors(self, examples: Examples) -> dict[str, Ints]:
        """Return `open`, the number of open brackets at the end."""
        k = self.params.types
        prompt = np.cumsum(examples.tokens == Vocab.sep, axis=1) == 0
        opened = (examples.tokens > _NONE) & (examples.tokens <= _NONE + k) & prompt
        closed = (examples.tokens > _NONE + k) & prompt
        return {"open": opened.sum(axis=1) - closed.sum(axis=1)}


def _walk(rng: np.random.Generator, lengths: Ints, depth: int) -> Depths:
    """Draw the depths of random prefixes: up or down with probability 1/2, reflected at 0 and at `depth`.

    A reflected walk is a free walk folded at the multiples of `depth`: its distance to the nearest multiple of
    `2 depth`. Floats are exact here (and integer division is slow).
    """
    steps = 2 * rng.integers(0, 2, (len(lengths), int(lengths.max())), dtype=np.int8) - 1
    free = running(np.add, steps.T.astype(np.float32, order="C"))
    return np.abs(free - 2 * depth * np.rint(free / (2 * depth))).astype(np.int8).T


def _match(kinds: Depths, opens: Bools, depths: Depths, lengths: Ints) -> Ints:
    """Give each closing bracket the type of the bracket it closes, in place. Arrays are [pos, n].

    Returns the types of the brackets open at the end, outermost first: int[n, largest depth] (entries beyond the
    number of open brackets are undefined).
    """
    stack = np.zeros((len(lengths), int(depths.max())), np.int64)
    # Pack position and type (at most eight) into one number: the running maximum is the last opened bracket.
    place = np.arange(len(kinds), dtype=small_ints(8 * len(kinds)))[:, None] << 3
    opened, closed_to = np.where(opens, place | kinds, 0), np.where(opens, np.int8(-1), depths)
    for level in range(1, stack.shape[1] + 1):
        latest = (running(np.maximum, opened * (depths == level)) & 7).astype(np.int8)
        np.copyto(kinds, latest, where=closed_to == level - 1)
        stack[:, level - 1] = latest[lengths - 1, np.arange(len(lengths))]
    return stack
