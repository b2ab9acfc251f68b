"""Repeats: continue a pattern that occurs for the second time in a random text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import Weighted, apart, zipf
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Vocab

_SEEN = 4
"""Number of tokens of the last copy that belong to the prompt."""


class Repeats(Task):
    """Continue the second copy of a pattern in a random text, from its fifth token on.

    The tokens of text and pattern are drawn independently from a fixed distribution. The copies of the pattern are
    pasted at random positions at least one token apart. Nothing marks where a copy starts or ends: a model has to
    find what followed the last few tokens earlier in the text, which is what an induction head does. There is no `>`
    and no end token. The prompt is everything before the first scored token. `solve` continues the pattern for as
    long as the prompt supports it, so the answer of an example is a prefix of that of `solve`.

    Length is the number of tokens of the pattern, as in the paper, which trains on 10 to 19 and tests on 25, always
    in 64 tokens of text (`n_tokens`). Longer texts are a separate split (`long-text`).

    There are two differences from the published task. Its error includes the token after the copy, so that even
    perfect copying has an error of 0.086 (0.047 with the shifted patterns); here only the copy is scored, and the
    minimum is zero. And a text in which the last four tokens of the prompt also occur elsewhere by chance (about one
    in 10,000) is redrawn, since its answer would be ambiguous.

    >>> from genlab.tasks import make
    >>> task = make("repeats", max_len=19)
    >>> task.solve("5 1 2 3 4 7 8 6 1 2 3 4".split())               # the pattern was 1 2 3 4 7 8
    ('7', '8', '6')
    >>> task.solve("1 1 1 1 2 9 1 1 1 1".split())                   # the copies touch at a single 9
    ('2', '9')
    """

    name = "repeats"
    family = "retrieval"
    asks = "how does the repeated pattern continue?"
    leads = False  # as published
    source = "Song et al. 2024, Out-of-distribution generalization via composition, arXiv 2408.09503"
    length_unit = "tokens of the pattern"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"text": "random tokens with the pattern in them | the rest of its last copy"}
    )
    splits = split_map(
        Split(name="id", about="Zipf-distributed tokens, two copies at random positions", shift={}),
        Split(name="uniform", about="all tokens equally likely", shift={"law": "uniform"}),
        Split(name="flipped", about="Zipf-distributed tokens with reversed ranks", shift={"law": "flipped"}),
        Split(name="three-copies", about="three copies of the pattern; the last one is scored", shift={"copies": 3}),
        Split(name="near", about="shortest period: the copies are one token apart", shift={"period": "shortest"}),
        Split(
            name="far", about="longest period: the copies are at both ends of the text", shift={"period": "longest"}
        ),
        Split(name="long-text", about="twice as much text, with periods longer than in training", shift={"texts": 2}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 12,
                "test_len": 15,
                "min_len": 6,
                "loss": "scored",
                "positions": "rotary",
                "batch_size": 128,
                "lr": 0.003,
                "steps": 9000,
                "params": {"symbols": 32, "n_tokens": 32},
            }
        }
    )

    class Params(Task.Params):
        """The alphabet and the length of the text."""

        symbols: int = Field(64, ge=8, le=100_000, description="size of the alphabet")
        n_tokens: int = Field(64, ge=11, le=100_000, description="length of the text in tokens")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        if 2 * self.max_len + 1 > self.params.n_tokens:
            raise UserError(
                f"two copies of {self.max_len} tokens, one apart, do not fit into n_tokens {self.params.n_tokens}: "
                f"max_len may be at most {(self.params.n_tokens - 1) // 2}, or increase n_tokens"
            )
        return tuple(str(i) for i in range(self.params.symbols))

    def width(self, length: int) -> int:
        del length
        return 2 * self.params.n_tokens  # `long-text`; the other splits need half of it

    def min_len(self, split: Split) -> int:
        del split
        return _SEEN + 1

    def longest(self, split: Split) -> int:
        copies = int(split.shift.get("copies", 2))
        return min(self.max_len, (self.params.n_tokens - copies + 1) // copies)

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        text, starts = self._texts(rng, split, lengths)
        while len(open_rows := np.flatnonzero(_ambiguous(text, starts))):
            text[open_rows], starts[open_rows] = self._texts(rng, split, lengths[open_rows])
        into_copy = np.arange(1, text.shape[1]) - starts[:, -1:]
        scored = (into_copy >= _SEEN) & (into_copy < lengths[:, None])
        return Examples(Vocab.first + text[:, :-1], Vocab.first + text[:, 1:], scored, lengths)

    def _texts(self, rng: np.random.Generator, split: Split, lengths: Ints) -> tuple[Ints, Ints]:
        """Draw texts, int[n, pos], of token numbers from 0, and the starts of their copies, int[n, copies]."""
        size = self.params.n_tokens * int(split.shift.get("texts", 1))
        starts = _starts(rng, split, lengths, np.full(len(lengths), size))
        text = self._laws[str(split.shift.get("law", "zipf"))](rng, (len(lengths), size))
        place = np.arange(size)
        source = np.broadcast_to(place, text.shape)
        for start in starts.T[1:]:
            into_copy = place - start[:, None]
            inside = (into_copy >= 0) & (into_copy < lengths[:, None])
            source = np.where(inside, into_copy + starts[:, :1], source)
        return np.take_along_axis(text, source, axis=1), starts

    @cached_property
    def _laws(self) -> dict[str, Weighted]:
        return {law: Weighted(self._law(law)) for law in ("zipf", "uniform", "flipped")}

    def _law(self, law: str) -> Floats:
        falling = zipf(self.params.symbols)
        return {"zipf": falling, "flipped": falling[::-1], "uniform": np.full_like(falling, 1 / len(falling))}[law]

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        text = list(prompt)
        begun = text[-_SEEN:]
        for start in range(len(text) - _SEEN - 1, -1, -1):
            if text[start : start + _SEEN] == begun:
                # Copies do not overlap: the answer ends before the unfinished copy.
                return tuple(text[start + _SEEN : len(text) - _SEEN])
        return ()

    def solve_example(self, examples: Examples, row: int) -> tuple[str, ...]:
        return super().solve_example(examples, row)[: int(examples.lengths[row]) - _SEEN]

    def accepts(self, prompt: Sequence[str], answer: Sequence[str]) -> bool:
        return len(answer) > 0 and self.solve(prompt)[: len(answer)] == tuple(answer)

    def chance(self, length: int) -> float:
        return float(np.sum(self._law("zipf") ** 2)) ** (length - _SEEN)

    def baseline(self, length: int) -> Mapping[str, float]:
        return {"the most common token again and again": float(self._law("zipf")[0]) ** (length - _SEEN)}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        del length
        shares = self._law(str(split.shift.get("law", "zipf")))
        return dict(zip(self.symbols(), shares.tolist(), strict=True))


def _starts(rng: np.random.Generator, split: Split, lengths: Ints, room: Ints) -> Ints:
    """Draw the starts of the copies in ascending order, int[n, copies]."""
    period = split.shift.get("period", "any")
    if period == "any":
        return apart(rng, room, lengths, int(split.shift.get("copies", 2)), gap=1)
    if period == "shortest":
        first = rng.integers(0, room - 2 * lengths)
        return np.stack([first, first + lengths + 1], axis=1)
    return np.stack([np.zeros_like(lengths), room - lengths], axis=1)


def _ambiguous(text: Ints, starts: Ints) -> Bools:
    """Whether the last tokens of the prompt occur earlier, other than in the copies: bool[n]."""
    rows = np.arange(len(text))
    place = np.arange(text.shape[1] - _SEEN + 1)
    same = place <= starts[:, -1:]
    for i in range(_SEEN):
        same &= text[:, i : i + len(place)] == text[rows, starts[:, -1] + i][:, None]
    return same.sum(axis=1) != starts.shape[1]
