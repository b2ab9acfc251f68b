"""Counting tasks: count up between two numbers, find the most frequent symbol, find the more frequent bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lgamma
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Scalar, Split, build
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Examples, Floats, Ints, Part, Vocab, assemble

# -- Strings with a unique most frequent symbol

MOST_LEAD = 5
"""Leads of this size and above are reported together."""


def draw_with_mode(rng: np.random.Generator, split: Split, lengths: Ints, k: int) -> tuple[Ints, Ints]:
    """Draw strings over k symbols with a unique most frequent symbol, and count their symbols.

    Symbols are independent, conditioned on a unique largest count (by rejection sampling). In the shift, `favour` is
    the probability that a position takes the string's favored symbol (a uniform one) rather than a uniform one, and
    `lead`, unless 0, is the maximum lead of the most frequent symbol over the next.

    Returns:
        Strings, int[n, longest], and counts, int[n, k].
    """
    favour, most = float(split.shift["favour"]), int(split.shift["lead"])
    strings, counts = _draw(rng, lengths, k, favour)
    while len(again := np.flatnonzero(_refused(counts, most))):
        strings[again], counts[again] = _draw(rng, lengths[again], k, favour, strings.shape[1])
    return strings, counts


def _draw(rng: np.random.Generator, lengths: Ints, k: int, favour: float, width: int = 0) -> tuple[Ints, Ints]:
    shape = (len(lengths), width or int(lengths.max()))
    strings = rng.integers(0, k, shape)
    if favour:
        strings = np.where(rng.random(shape) < favour, rng.integers(0, k, (shape[0], 1)), strings)
    cells = np.arange(shape[0])[:, None] * (k + 1) + np.where(np.arange(shape[1]) < lengths[:, None], strings, k)
    counts = np.bincount(cells.ravel(), minlength=shape[0] * (k + 1)).reshape(-1, k + 1)[:, :k]
    return strings, counts


def _refused(counts: Ints, most: int) -> np.ndarray:
    ahead = _lead(counts)
    return (ahead == 0) | (ahead > most) if most else ahead == 0


def _lead(counts: Ints) -> Ints:
    two = np.partition(counts, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def lead(counts: Ints) -> Ints:
    """Return the lead of the most frequent symbol over the next, capped at `MOST_LEAD`: int[n]."""
    return np.minimum(_lead(counts), MOST_LEAD)


def tally(examples: Examples, k: int) -> Ints:
    """Count each of the task's first k symbols in the prompts, int[n, k]."""
    prompt = np.cumsum(examples.tokens == Vocab.sep, axis=1) == 0
    return np.stack([((examples.tokens == Vocab.first + i) & prompt).sum(axis=1) for i in range(k)], axis=1)


def mode_chance(length: int, k: int) -> float:
    """Return the probability that two strings with a unique most frequent symbol have equal counts of all symbols.

    It is sum P(C)^2 / (sum P(C))^2 over all count vectors C with a unique largest entry. Each P(C) is a product over
    symbols (Poisson probabilities, conditioned on their sum), so both sums are coefficients of a product of
    polynomials: one factor for the largest count m, and k - 1 factors with powers below m only.

    >>> round(mode_chance(2, 3), 6)       # aa, bb or cc
    0.333333
    """
    counts = np.arange(length + 1)
    rate = length / k
    one = np.exp(counts * np.log(rate) - rate - np.array([lgamma(c + 1) for c in counts]))
    return _unique_top(one**2, k) / _unique_top(one, k) ** 2


def _unique_top(weights: Floats, k: int) -> float:
    """Sum products of weights[c_i] over counts (c_1, ..., c_k) with sum `len(weights) - 1` and a unique maximum."""
    length = len(weights) - 1
    total = 0.0
    for top in range(1, length + 1):
        below = np.ones(1)
        for _ in range(k - 1):
            below = np.convolve(below, weights[:top])[: length + 1]
        if length - top < len(below):
            total += k * weights[top] * below[length - top]
    return float(total)


_ZHOU = "Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028"
_END = Part(Vocab.end, scored=True)


class Count(Task):
    """Count up from a first number to a last one.

    The first number is uniform among those for which the last one exists, so all numbers occur at every length.

    >>> from genlab.tasks import make
    >>> task = make("count", max_len=8)
    >>> " ".join(task.solve("3 7 >".split()))
    '3 4 5 6 7'
    >>> " ".join(task.solve("12 12 >".split()))
    '12'
    """

    name = "count"
    family = "RASP-L"
    asks = "count from the first number to the second"
    source = _ZHOU
    length_unit = "numbers counted"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "first last > every number from first to last"})
    splits = split_map(
        Split(name="id", about="uniform over all ranges of numbers", shift={"low": 0.0, "high": 1.0}),
        Split(name="low", about="lower half of the numbers", shift={"low": 0.0, "high": 0.5}),
        Split(name="high", about="upper half of the numbers", shift={"low": 0.5, "high": 1.0}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 1, "steps": 2000}}
    )

    class Params(Task.Params):
        numbers: int = Field(ge=2, le=100_000, description="number of numbers, starting at 0; default: twice max_len")

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        del format
        return build(cls.Params, {"numbers": 2 * max_len, **params}).model_dump()

    def symbols(self) -> tuple[str, ...]:
        if self.params.numbers < self.max_len:
            raise UserError(
                f"task 'count' cannot count {self.max_len} numbers out of {self.params.numbers}: "
                f"the parameter numbers must be at least max_len, {self.max_len}"
            )
        return tuple(str(i) for i in range(self.params.numbers))

    def width(self, length: int) -> int:
        return length + 4

    def _bounds(self, split: Split) -> tuple[int, int]:
        numbers = self.params.numbers
        return round(float(split.shift["low"]) * numbers), round(float(split.shift["high"]) * numbers)

    def longest(self, split: Split) -> int:
        low, high = self._bounds(split)
        return min(self.max_len, high - low)

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        low, high = self._bounds(split)
        first = Vocab.first + rng.integers(low, high - lengths + 1)
        steps = np.arange(int(lengths.max()))
        inside = steps < lengths[:, None]
        ends = Part(np.stack([first, first + lengths - 1], axis=1))
        answer = Part(first[:, None] + steps, scored=True, keep=None if inside.all() else inside)
        return assemble([ends, Part(Vocab.sep), answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        first, last = int(prompt[0]), int(prompt[1])
        return tuple(str(i) for i in range(first, last + 1))

    def chance(self, length: int) -> float:
        return 1 / (self.params.numbers - length + 1)

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        low, high = self._bounds(split)
        firsts = range(low, high - length + 1)
        at = {str(i): ((i in firsts) + (i - length + 1 in firsts)) / len(firsts) for i in range(low, high)}
        return {token: count / 3 for token, count in {**at, ">": 1.0}.items()}


class Mode(Task):
    """Find the most frequent symbol of a string; there are no ties.

    `by-symbol` first writes the count of each symbol, in alphabetical order. `by-count` writes the same counts as
    (count, symbol) pairs in ascending order (ties in alphabetical order), so that the answer comes last. This
    scratchpad looks helpful but hurts, since the counts must be sorted before the first one can be written.

    >>> from genlab.tasks import make
    >>> " ".join(make("mode", max_len=8).solve("a b b c >".split()))
    'b'
    >>> " ".join(make("mode", max_len=8, format="by-symbol").solve("c b b a b c >".split()))
    'a 1 b 3 c 2 b'
    >>> " ".join(make("mode", max_len=8, format="by-count").solve("c b b a b c >".split()))
    '1 a 2 c 3 b'
    """

    name = "mode"
    family = "RASP-L"
    asks = "which symbol is the most frequent?"
    source = _ZHOU
    length_unit = "symbols"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "symbols > the most frequent one",
            "by-symbol": "symbols > each symbol with its count, then the most frequent symbol",
            "by-count": "symbols > each count with its symbol, in ascending order",
        }
    )
    splits = split_map(
        Split(name="id", about="all symbols are equally likely", shift={"favour": 0.0, "lead": 0}),
        Split(
            name="skewed", about="half of the positions are filled with one symbol", shift={"favour": 0.5, "lead": 0}
        ),
        Split(name="close", about="the lead over the next symbol is one or two", shift={"favour": 0.0, "lead": 2}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 1, "positions": "none", "steps": 4000}}
    )

    class Params(Task.Params):
        symbols: int = Field(5, ge=2, le=26, description="size of the alphabet")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        counts = () if self.format == "plain" else tuple(str(i) for i in range(1, self.max_len + 1))
        return (*"abcdefghijklmnopqrstuvwxyz"[: self.params.symbols], *counts)

    def width(self, length: int) -> int:
        pad = {"plain": 0, "by-symbol": 2, "by-count": 2}[self.format] * min(length, self.params.symbols)
        return length + 1 + pad + (self.format != "by-count") + 1

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        k = self.params.symbols
        strings, counts = draw_with_mode(rng, split, lengths, k)
        inside = np.arange(strings.shape[1]) < lengths[:, None]
        prompt = Part(Vocab.first + strings, keep=None if inside.all() else inside)
        answer = Part(Vocab.first + np.argmax(counts, axis=1, keepdims=True), scored=True)
        if self.format == "plain":
            return assemble([prompt, Part(Vocab.sep), answer, _END], lengths)
        by_count = self.format == "by-count"
        letters = (
            np.argsort(counts, axis=1, kind="stable") if by_count else np.broadcast_to(np.arange(k), counts.shape)
        )
        shown = np.take_along_axis(counts, letters, axis=1)
        pair = [Vocab.first + letters, Vocab.first + k - 1 + shown]
        pairs = np.stack(pair[::-1] if by_count else pair, axis=2).reshape(len(counts), -1)
        pad = Part(pairs, scored=True, keep=np.repeat(shown > 0, 2, axis=1))
        return assemble([prompt, Part(Vocab.sep), pad, *([] if by_count else [answer]), _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        body = list(prompt[: list(prompt).index(">")])
        counts = {symbol: body.count(symbol) for symbol in sorted(set(body))}
        mode = max(counts, key=lambda symbol: counts[symbol])
        if self.format == "plain":
            return (mode,)
        if self.format == "by-symbol":
            return (*(token for symbol in counts for token in (symbol, str(counts[symbol]))), mode)
        rising = sorted(counts, key=lambda symbol: counts[symbol])
        return tuple(token for symbol in rising for token in (str(counts[symbol]), symbol))

    def chance(self, length: int) -> float:
        k = self.params.symbols
        return 1 / k if self.format == "plain" else mode_chance(length, k)

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        del split  # by symmetry
        letters = self.symbols()[: self.params.symbols]
        return {**dict.fromkeys(letters, length / len(letters) / (length + 1)), ">": 1 / (length + 1)}

    @property
    def judges(self) -> Mapping[str, str]:
        return {} if self.format == "plain" else {"final_answer": "the symbol after the scratchpad"}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        return {} if self.format == "plain" else {"final_answer": tuple(answer[-1:]) == self.solve(prompt)[-1:]}

    def factors(self, examples: Examples) -> dict[str, Ints]:
        return {"lead": lead(tally(examples, self.params.symbols))}


class Majority(Task):
    """Find the more frequent bit; there are no ties.

    >>> from genlab.tasks import make
    >>> task = make("majority", max_len=8)
    >>> " ".join(task.solve("0 1 1 >".split()))
    '1'
    >>> " ".join(task.solve("0 0 1 0 1 >".split()))
    '0'
    """

    name = "majority"
    family = "RASP-L"
    asks = "are there more ones than zeros?"
    source = "Huang et al. 2024, A Formal Framework for Understanding Length Generalization, arXiv 2410.02140"
    length_unit = "bits"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "bits > the more frequent one"})
    splits = split_map(
        Split(name="id", about="each bit is one with probability 1/2", shift={"favour": 0.0, "lead": 0}),
        Split(name="skewed", about="half of the positions are filled with one bit", shift={"favour": 0.5, "lead": 0}),
        Split(name="close", about="the lead is one or two", shift={"favour": 0.0, "lead": 2}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 1, "positions": "none", "steps": 3000}}
    )

    def symbols(self) -> tuple[str, ...]:
        return ("0", "1")

    def width(self, length: int) -> int:
        return length + 3

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        bits, counts = draw_with_mode(rng, split, lengths, 2)
        inside = np.arange(bits.shape[1]) < lengths[:, None]
        prompt = Part(Vocab.first + bits, keep=None if inside.all() else inside)
        answer = Part(Vocab.first + np.argmax(counts, axis=1, keepdims=True), scored=True)
        return assemble([prompt, Part(Vocab.sep), answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        ones, zeros = list(prompt).count("1"), list(prompt).count("0")
        return ("1" if ones > zeros else "0",)

    def chance(self, length: int) -> float:
        del length
        return 0.5

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        del split  # by symmetry
        return {"0": length / 2 / (length + 1), "1": length / 2 / (length + 1), ">": 1 / (length + 1)}

    def factors(self, examples: Examples) -> dict[str, Ints]:
        return {"lead": lead(tally(examples, 2))}
