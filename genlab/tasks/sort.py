"""Sorting distinct numbers in ascending order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, comb
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.spec import Scalar, Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import arrangements, check_enough, window_shares
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble

_SLACK = 1.5
"""Width of a narrow window of values, per item."""


class Sort(Task):
    """Sort distinct numbers in ascending order.

    Each number is one token, drawn from twice as many as the longest example has items. With few more numbers than
    items, counting up from the smallest would suffice (`baseline` gives the accuracy of counting).

    >>> from genlab.tasks import make
    >>> " ".join(make("sort", max_len=8).solve("7 3 10 5 >".split()))      # by value, not by first digit
    '3 5 7 10'
    >>> " ".join(make("sort", max_len=8).solve("2 1 >".split()))
    '1 2'
    """

    name = "sort"
    family = "RASP-L"
    asks = "sort numbers in ascending order"
    source = "Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028"
    length_unit = "items"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "distinct numbers > the numbers in ascending order"}
    )
    splits = split_map(
        Split(name="id", about="uniform distinct values in random order", shift={"values": "all", "order": "any"}),
        Split(name="low", about="values from the lower half", shift={"values": "low", "order": "any"}),
        Split(name="high", about="values from the upper half", shift={"values": "high", "order": "any"}),
        Split(name="window", about="values from a random narrow window", shift={"values": "window", "order": "any"}),
        Split(
            name="nearly-sorted",
            about="no item is more than 2 positions from its sorted position",
            shift={"values": "all", "order": "nearly sorted"},
        ),
        Split(name="reversed", about="falling order", shift={"values": "all", "order": "falling"}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 2, "steps": 2500, "lr": 0.002}}
    )

    class Params(Task.Params):
        symbols: int = Field(
            0, ge=0, le=100_000, description="number of values that items are drawn from; 0: twice max_len"
        )

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        given = super().resolve(format, max_len, params)
        symbols = given["symbols"] or 2 * max_len
        check_enough(cls.name, int(symbols), max_len)
        return {"symbols": symbols}

    def symbols(self) -> tuple[str, ...]:
        check_enough(self.name, self.params.symbols, self.max_len)
        return tuple(map(str, range(self.params.symbols)))

    def width(self, length: int) -> int:
        return 2 * length + 2

    def longest(self, split: Split) -> int:
        values = self.params.symbols
        room = {"all": values, "low": values // 2, "high": values // 2, "window": int(values / _SLACK)}
        return min(self.max_len, room[str(split.shift["values"])])

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        longest = int(lengths.max())
        inside = np.arange(longest) < lengths[:, None]
        keep = None if inside.all() else inside
        start, count = self._values(rng, split, lengths)
        items = arrangements(rng, count, longest) + start[:, None]
        rising = np.sort(items if keep is None else np.where(keep, items, len(self.vocab)), axis=1)
        prompt = items if split.shift["order"] == "any" else _reorder(rng, str(split.shift["order"]), rising, inside)
        question, answer = Part(Vocab.first + prompt, keep=keep), Part(Vocab.first + rising, scored=True, keep=keep)
        return assemble([question, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def _values(self, rng: np.random.Generator, split: Split, lengths: Ints) -> tuple[Ints, Ints]:
        """Return the smallest value and the number of values that each example draws from."""
        values, which = self.params.symbols, split.shift["values"]
        if which == "window":
            count = np.ceil(_SLACK * lengths).astype(np.int64)
            return rng.integers(0, values - count + 1), count
        count = values if which == "all" else values // 2
        start = values - count if which == "high" else 0
        return np.full_like(lengths, start), np.full_like(lengths, count)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        items = prompt[: list(prompt).index(">")]
        return tuple(sorted(items, key=int))

    def chance(self, length: int) -> float:
        return 1 / comb(self.params.symbols, length)

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the accuracy of `counting`: writing the smallest item, then counting up."""
        return {"counting": (self.params.symbols - length + 1) / comb(self.params.symbols, length)}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        values, which = self.params.symbols, split.shift["values"]
        of_items = [1 / values] * values
        if which == "window":
            of_items = window_shares(ceil(_SLACK * length), values)
        elif which != "all":
            half = values // 2
            inside = range(half) if which == "low" else range(values - half, values)
            of_items = [1 / half if value in inside else 0.0 for value in range(values)]
        share = length / (length + 1)
        return {str(value): share * of_items[value] for value in range(values)} | {">": 1 - share}


def _reorder(rng: np.random.Generator, order: str, rising: Ints, inside: Bools) -> Ints:
    """Shuffle sorted items locally; entries beyond each length stay on the right."""
    place = np.arange(rising.shape[1], dtype=np.float64)
    # With noise below 3, at most the next two items can overtake an item.
    keys = -place if order == "falling" else place + rng.uniform(0, 3, rising.shape)
    keys = np.where(inside, keys, np.inf)
    return np.take_along_axis(rising, np.argsort(keys, axis=1), axis=1)
