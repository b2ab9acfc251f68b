"""Copying: write the same symbols again, or in reverse order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import perm
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Scalar, Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import arrangements, check_enough, echoed
from genlab.tasks.examples import Examples, Ints, Vocab


class Copy(Task):
    """Copy a string of symbols.

    In `unique`, symbols are distinct, so each symbol determines the next one. In `repeats`, a few symbols occur many
    times, and no short context determines the next one. `reverse` writes distinct symbols in reverse order: like the
    task `reverse` without repeats, but with the splits and the alphabet of this task.

    >>> from genlab.tasks import make
    >>> " ".join(make("copy", max_len=8).solve("4 0 7 >".split()))
    '4 0 7'
    >>> " ".join(make("copy", max_len=8, format="reverse").solve("4 0 7 >".split()))
    '7 0 4'
    """

    name = "copy"
    family = "RASP-L"
    asks = "copy the symbols"
    source = "Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028"
    length_unit = "symbols"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "unique": "distinct symbols > the same symbols",
            "repeats": "symbols from a small alphabet > the same symbols",
            "reverse": "distinct symbols > the same symbols in reverse order",
        }
    )
    id_kinds = ("coupled",)
    splits = split_map(
        Split(name="id", about="uniform symbols in any order", shift={"symbols": "uniform", "order": "any"}),
        Split(name="skewed", about="symbol i has weight 1/(i + 1)^2", shift={"symbols": "skewed", "order": "any"}),
        Split(
            name="rising",
            about="no symbol is less than the previous one",
            shift={"symbols": "uniform", "order": "rising"},
        ),
        Split(
            name="falling",
            about="no symbol is greater than the previous one",
            shift={"symbols": "uniform", "order": "falling"},
        ),
        Split(
            name="cyclic",
            about="each symbol is the successor of the previous one",
            shift={"symbols": "cyclic", "order": "any"},
        ),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 20,
                "n_layers": 2,
                "steps": 3400,
                "positions": "rotary",
                "tie_word_embeddings": True,
            }
        }
    )

    class Params(Task.Params):
        symbols: int = Field(
            0,
            ge=0,
            le=100_000,
            description="number of symbols; 0: max_len + 4 if distinct, 2 for repeats",
        )

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        given = super().resolve(format, max_len, params)
        symbols = int(given["symbols"]) or (2 if format == "repeats" else max_len + 4)
        _check_alphabet(format, symbols, max_len)
        return {"symbols": symbols}

    def symbols(self) -> tuple[str, ...]:
        _check_alphabet(self.format, self.params.symbols, self.max_len)
        return tuple(map(str, range(self.params.symbols)))

    def width(self, length: int) -> int:
        return 2 * length + 2

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        items = self._items(rng, str(split.shift["symbols"]), len(lengths), int(lengths.max()))
        if split.shift["order"] != "any":
            items = _sorted(items, lengths, falling=split.shift["order"] == "falling")
        return echoed(items, lengths, backwards=self.format == "reverse")

    def _items(self, rng: np.random.Generator, draw: str, n: int, longest: int) -> Ints:
        """Draw the symbols of each example, int[n, longest]."""
        symbols = self.params.symbols
        if draw == "cyclic":
            return (rng.integers(0, symbols, (n, 1)) + np.arange(longest)) % symbols
        weights = _skew(symbols) if draw == "skewed" else None
        if self.format != "repeats":
            return arrangements(rng, np.full(n, symbols), longest, weights)
        if weights is None:
            return rng.integers(0, symbols, (n, longest))
        return rng.choice(symbols, (n, longest), p=weights)

    def id_reach(self, kind: str, length: int) -> int:
        del kind
        return length + 1

    def position_ids(self, kind: str, examples: Examples, width: int) -> Ints:
        """Return `coupled` ids: a symbol and its copy share an id.

        The id of `>` is one before that of the symbol written first, or one after it in the format `reverse`.

        >>> from genlab.tasks import make
        >>> task = make("copy", max_len=4)
        >>> ids = task.vocab.encode("4 0 7 > 4 0 7")[None]
        >>> task.placed(Examples(ids, ids, ids > 0, np.array([3])), "coupled").position_ids[0].tolist()
        [2, 3, 4, 1, 2, 3, 4]
        """
        del kind
        sep = np.argmax(examples.tokens == Vocab.sep, axis=1)[:, None]
        column = np.arange(width)
        if self.format == "reverse":
            return np.where(column <= sep, column + 1, (2 * sep - column + 1).clip(1))
        return np.where(column < sep, column + 2, (column - sep + 1).clip(max=sep + 1))

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        items = tuple(prompt[: list(prompt).index(">")])
        return items[::-1] if self.format == "reverse" else items

    def chance(self, length: int) -> float:
        symbols = self.params.symbols
        return 1 / (symbols**length if self.format == "repeats" else perm(symbols, length))

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        # There is no simple formula for skewed draws of distinct symbols.
        symbols, share = self.params.symbols, length / (length + 1)
        skewed = split.shift["symbols"] == "skewed"
        if skewed and self.format != "repeats":
            return {}
        weights = _skew(symbols) if skewed else np.full(symbols, 1 / symbols)
        return {str(i): share * float(weight) for i, weight in enumerate(weights)} | {">": 1 - share}


def _skew(symbols: int) -> NDArray[np.float64]:
    weights = 1 / np.arange(1.0, symbols + 1) ** 2
    return weights / weights.sum()


def _sorted(items: Ints, lengths: Ints, falling: bool) -> Ints:
    """Sort the first `lengths` items of each row; the remaining entries are arbitrary."""
    outside = np.arange(items.shape[1]) >= lengths[:, None]
    sign = -1 if falling else 1
    return sign * np.sort(np.where(outside, items.max() + 1, sign * items), axis=1)


def _check_alphabet(format: str, symbols: int, max_len: int) -> None:
    if format != "repeats":
        check_enough("copy", symbols, max_len)
    elif symbols < 2:
        raise UserError(f"task 'copy' with repeats needs at least 2 symbols, not {symbols}")
