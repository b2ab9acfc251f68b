"""How long the strings of a pool of brackets without duplicates are, and what their length says about their label.

Half of the strings of the pool are uniform nested words, half independent brackets without equal counts. Lengths are
drawn as shortest + 2 Binomial((longest - shortest) / 2, 1/2). A string that is in the pool already is discarded, and
a new one of a newly drawn length takes its turn, until each half holds `pool` / 2 different strings; `pool` 0 keeps
duplicates. Two laws differ in what happens to a string with equal counts (`Redraw`):

- `same-length`: another one of the same length is drawn, as in the published generator, so that refusals leave the
  law of the lengths as it is.
- `any-length`: another length is drawn too, so that short strings, which more often have equal counts, become rarer
  among those that are not nested. Runs recorded before there was a choice have this one.
"""

from __future__ import annotations

from functools import cache, partial
from math import comb, expm1
from typing import Literal

import numpy as np

from genlab.errors import UserError
from genlab.tasks.examples import Bools, Floats, Ints
from genlab.tasks.words import different, nested, unequal

__all__ = ["Redraw", "kept", "nested_fraction", "pool_words", "strings_held"]

Redraw = Literal["any-length", "same-length"]
"""What is drawn in place of a string that has equal counts though it is to be one that is not nested."""


def nested_fraction(pool: int, longest: int, length: int, redraw: Redraw) -> float:
    """How likely a string of the pool is nested, given its length.

    Beyond `longest`, where no string is drawn twice, the fraction is that of a pool without duplicates.

    >>> [round(nested_fraction(200_000, 40, length, "same-length"), 2) for length in (4, 8, 20, 40, 60)]
    [0.38, 0.1, 0.44, 0.63, 0.63]
    """
    nested, others = kept(pool, longest, length, redraw)
    return nested / (nested + others)


def pool_words(
    rng: np.random.Generator, pool: int, longest: int, redraw: Redraw, shortest: int = 2
) -> tuple[Bools, Bools, Ints]:
    """A pool, lengths rising: its words, bool[pool, longest], whether each is nested, bool[pool], and int[pool]."""
    held = strings_held(pool, longest, redraw, shortest)
    opens, is_nested = np.zeros((pool, longest), bool), np.zeros(pool, bool)
    lengths = np.repeat(np.arange(shortest, longest + 1, 2), held.sum(axis=0))
    end = 0
    for length, (words, others) in zip(range(shortest, longest + 1, 2), held.T.tolist(), strict=True):
        for count, draw in ((words, nested), (others, unequal)):
            start, end = end, end + count
            opens[start:end, :length] = different(partial(draw, rng), length, count)
            is_nested[start:end] = draw is nested
    return opens, is_nested, lengths


def strings_held(pool: int, longest: int, redraw: Redraw, shortest: int = 2) -> Ints:
    """How many nested and other strings of each length the pool holds, int[2, length]: the expected numbers, rounded.

    >>> strings_held(30, longest=8, redraw="same-length")               # of 2, 4, 6 and 8 brackets
    array([[1, 2, 5, 7],
           [1, 5, 7, 2]])

    Raises:
        UserError: there are too few strings of these lengths.
    """
    lengths = range(shortest, longest + 1, 2)
    probabilities = np.array([_binomial(longest, length, shortest) for length in lengths])
    held = probabilities[:, None] * np.array([kept(pool, longest, length, redraw, shortest) for length in lengths])
    return np.stack(
        [_rounded(half, count) for half, count in zip(held.T, (pool // 2, pool - pool // 2), strict=True)]
    )


def _rounded(expected: Floats, total: int) -> Ints:
    """Whole numbers with this sum, each next to what is expected; the largest remainders are rounded up."""
    floor = np.floor(expected * total / expected.sum()).astype(np.int64)
    floor[np.argsort(floor - expected, kind="stable")[: total - int(floor.sum())]] += 1
    return floor


@cache
def kept(pool: int, longest: int, length: int, redraw: Redraw, shortest: int = 2) -> tuple[float, float]:
    """Nested and other strings of a length that the pool is expected to hold, for each draw of that length."""
    law = (longest, shortest, redraw)
    drawn = _draws(pool, *law)
    return _kept(drawn[0], *law, length, nested=True), _kept(drawn[1], *law, length, nested=False)


def _kept(draws: float, longest: int, shortest: int, redraw: Redraw, length: int, nested: bool) -> float:
    """Different strings among this many draws of all lengths, divided by the probability of the length."""
    refused = 0.0 if nested or redraw == "same-length" else _equal_by_chance(length)
    rate = draws * (1 - refused)
    if not nested and redraw == "any-length":
        rate /= _accepted(longest, shortest)
    if draws <= 1 or length > longest:
        return rate
    often = rate * _binomial(longest, length, shortest) / _strings(length, nested)  # draws of each string
    return rate * -expm1(-often) / often


def _strings(length: int, nested: bool) -> int:
    """Nested words of this length, or words without equal counts."""
    equal = comb(length, length // 2)
    return equal // (length // 2 + 1) if nested else 2**length - equal


@cache
def _draws(pool: int, longest: int, shortest: int, redraw: Redraw) -> tuple[float, float]:
    """How many nested and other strings must be drawn until half of the pool each are different ones."""
    law = (longest, shortest, redraw)
    return (_until(pool, *law, nested=True), _until(pool, *law, nested=False)) if pool else (1.0, 1.0)


def _until(pool: int, longest: int, shortest: int, redraw: Redraw, nested: bool) -> float:
    lengths = range(shortest, longest + 1, 2)

    def different(draws: float) -> float:
        each = (_kept(draws, longest, shortest, redraw, length, nested) for length in lengths)
        return sum(_binomial(longest, n, shortest) * count for n, count in zip(lengths, each, strict=True))

    low, high = pool / 2, pool / 2 * 1e6
    if different(high) < pool / 2:
        half = "nested" if nested else "other"
        raise UserError(
            f"a pool of {pool} different strings of {shortest} to {longest} brackets cannot be drawn: of its {half} "
            f"half there are only {sum(_strings(length, nested) for length in lengths)}"
        )
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if different(middle) < pool / 2 else (low, middle)
    return high


def _binomial(longest: int, length: int, shortest: int) -> float:
    trials = (longest - shortest) // 2
    return comb(trials, (length - shortest) // 2) / 2**trials


def _equal_by_chance(length: int) -> float:
    """How likely independent brackets have equal counts."""
    return comb(length, length // 2) / 2**length


def _accepted(longest: int, shortest: int) -> float:
    lengths = range(shortest, longest + 1, 2)
    return sum(_binomial(longest, length, shortest) * (1 - _equal_by_chance(length)) for length in lengths)
