"""What the length of a bracket string says about its label, in a pool without duplicates.

Half of the strings of the pool are uniform nested words, half independent brackets without equal counts. Both have
2 + 2 Binomial(longest / 2 - 1, 1/2) brackets; in place of a string with equal counts another one of another such
length is drawn. Strings are drawn until each half holds `pool` / 2 different ones; `pool` 0 keeps duplicates.
"""

from __future__ import annotations

from functools import cache
from math import comb, expm1

from genlab.errors import UserError

__all__ = ["kept", "nested_share"]


def nested_share(pool: int, longest: int, length: int) -> float:
    """How likely a string of the pool is nested, given its length.

    Beyond `longest`, where no string is drawn twice, the share is that of a pool without duplicates.

    >>> [round(nested_share(200_000, 40, length), 2) for length in (4, 8, 20, 40, 60)]
    [0.44, 0.11, 0.44, 0.61, 0.61]
    """
    nested, others = kept(pool, longest, length)
    return nested / (nested + others)


@cache
def kept(pool: int, longest: int, length: int) -> tuple[float, float]:
    """Nested and other strings of a length that the pool is expected to hold, for each draw of that length."""
    drawn = _draws(pool, longest)
    return _kept(drawn[0], longest, length, nested=True), _kept(drawn[1], longest, length, nested=False)


def _kept(draws: float, longest: int, length: int, nested: bool) -> float:
    """Different strings among this many draws of all lengths, divided by the probability of the length."""
    rate = draws if nested else draws * (1 - _equal(length)) / _accepted(longest)
    if draws <= 1 or length > longest:
        return rate
    strings = comb(length, length // 2)
    strings = strings // (length // 2 + 1) if nested else 2**length - strings
    often = rate * _binomial(longest, length) / strings  # draws of each string of this length
    return rate * -expm1(-often) / often


@cache
def _draws(pool: int, longest: int) -> tuple[float, float]:
    """How many nested and other strings must be drawn until half of the pool each are different ones."""
    return (_until(pool, longest, nested=True), _until(pool, longest, nested=False)) if pool else (1.0, 1.0)


def _until(pool: int, longest: int, nested: bool) -> float:
    def different(draws: float) -> float:
        lengths = range(2, longest + 1, 2)
        return sum(_binomial(longest, length) * _kept(draws, longest, length, nested) for length in lengths)

    low, high = pool / 2, pool / 2 * 1e6
    if different(high) < pool / 2:
        raise UserError(
            f"a pool of {pool} different strings of at most {longest} brackets cannot be drawn: "
            f"there are too few {'nested' if nested else 'other'} ones"
        )
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if different(middle) < pool / 2 else (low, middle)
    return high


def _binomial(longest: int, length: int) -> float:
    return comb(longest // 2 - 1, length // 2 - 1) / 2 ** (longest // 2 - 1)


def _equal(length: int) -> float:
    """How likely independent brackets have equal counts."""
    return comb(length, length // 2) / 2**length


def _accepted(longest: int) -> float:
    return sum(_binomial(longest, length) * (1 - _equal(length)) for length in range(2, longest + 1, 2))
