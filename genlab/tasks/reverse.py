"""Reversal of a string."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import perm
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Scalar, Split, build
from genlab.tasks.base import Task, hint_names, split_map
from genlab.tasks.drawing import arrangements, echoed
from genlab.tasks.examples import Examples, Floats, Ints


class Reverse(Task):
    """Reverse a string.

    `repeats` draws independent symbols from a small alphabet, so that the preceding symbols do not identify a
    position. In `unique`, symbols are distinct, and each can be found by its neighbor.

    >>> from genlab.tasks import make
    >>> " ".join(make("reverse", max_len=8).solve("a a b >".split()))
    'b a a'
    >>> " ".join(make("reverse", max_len=8, format="unique").solve("c h a >".split()))
    'a h c'
    """

    name = "reverse"
    family = "RASP-L"
    asks = "reverse the string"
    source = "Delétang et al. 2022, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
    length_unit = "symbols"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"repeats": "symbols > the symbols reversed", "unique": "distinct symbols > the symbols reversed"}
    )
    splits = split_map(
        Split(name="id", about="all symbols are equally likely", shift={"exponent": 0.0, "sorted": False}),
        Split(name="zipf", about="symbol i has weight 1 / i", shift={"exponent": 1.0, "sorted": False}),
        Split(name="sorted", about="symbols in alphabetical order", shift={"exponent": 0.0, "sorted": True}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 8,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 6000,
            }
        }
    )

    class Params(Task.Params):
        symbols: int = Field(ge=2, le=100_000, description="number of symbols; default: 2, or max_len if unique")

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        symbols = 2 if format == "repeats" else max(2, max_len)
        return build(cls.Params, {"symbols": symbols, **params}).model_dump()

    def symbols(self) -> tuple[str, ...]:
        if self.format == "unique" and self.params.symbols < self.max_len:
            raise UserError(
                f"task 'reverse' cannot draw {self.max_len} distinct symbols from an alphabet of "
                f"{self.params.symbols}: the parameter symbols must be at least max_len, {self.max_len}"
            )
        return hint_names(self.params.symbols)

    def width(self, length: int) -> int:
        return 2 * length + 2

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        weights = np.arange(1, self.params.symbols + 1, dtype=float) ** -float(split.shift["exponent"])
        n, longest = len(lengths), int(lengths.max())
        if self.format == "unique":
            strings = arrangements(rng, np.full(n, self.params.symbols), longest, weights / weights.sum())
        else:
            strings = _with_repeats(rng, weights / weights.sum(), (n, longest))
        if split.shift["sorted"]:
            inside = np.arange(longest) < lengths[:, None]
            strings = np.sort(np.where(inside, strings, self.params.symbols), axis=1)
        return echoed(strings, lengths, backwards=True)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return tuple(reversed(prompt[: list(prompt).index(">")]))

    def chance(self, length: int) -> float:
        k = self.params.symbols
        return 1 / perm(k, length) if self.format == "unique" else float(k) ** -length

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        if split.shift["exponent"] and self.format == "unique":
            return {}  # no simple formula: symbols are drawn without replacement
        weights = np.arange(1, self.params.symbols + 1, dtype=float) ** -float(split.shift["exponent"])
        counts = dict(zip(self.symbols(), length * weights / weights.sum(), strict=True))
        return {token: float(count) / (length + 1) for token, count in {**counts, ">": 1.0}.items()}


def _with_repeats(rng: np.random.Generator, weights: Floats, shape: tuple[int, int]) -> Ints:
    if np.ptp(weights) == 0:
        return rng.integers(0, len(weights), shape)
    edges = np.cumsum(weights)[:-1]
    return np.searchsorted(edges, rng.random(shape), side="right")
