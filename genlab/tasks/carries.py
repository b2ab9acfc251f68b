"""Carries: digits drawn so that they carry as asked, chains measured, numbers added."""

from __future__ import annotations

from functools import cache

import numpy as np

from genlab.tasks.base import Ints

__all__ = ["add", "carry_chains", "draw_digits"]


def draw_digits(rng: np.random.Generator, carries: str, lengths: Ints, base: int) -> tuple[Ints, Ints]:
    """The digits of two numbers, int[n, place], ones first: 0 beyond `lengths`, and one place more for the carry.

    Args:
        carries: `any` (uniform digits), `none`, `one chain` (of uniform length 0 to all, anywhere), or
            `whole chain` (over all digits).
    """
    place = np.arange(int(lengths.max()) + 1)
    pairs, first, last = _pairs_by_sum(base)
    kind = _kinds(rng, carries, lengths, place)
    low, high = first[kind], last[kind]
    drawn = low + (rng.random((len(lengths), len(place))) * (high - low)).astype(np.int64)
    drawn *= place < lengths[:, None]  # the first pair is 0, 0
    return pairs[0, drawn], pairs[1, drawn]


def carry_chains(sums: Ints, base: int) -> Ints:
    """How many places the carry out of each place has come, int[n, place]; 0 where none comes out.

    `sums` are the sums of two digits, ones first. A place generates a carry where its sum is at least `base` and
    propagates one where it is `base` - 1; a chain is 1 + the number of propagating places that directly follow a
    generating one.

    >>> carry_chains(np.array([[12, 9, 9, 3, 10]]), base=10)
    array([[1, 2, 3, 0, 1]])
    """
    place = np.arange(sums.shape[1])
    # The last place that does not propagate decides: its number, and in the lowest bit whether it generates.
    decides = np.maximum.accumulate(np.where(sums == base - 1, 0, 2 * place + (sums >= base)), axis=1)
    return (place - decides // 2 + 1) * (decides & 1)


def add(left: Ints, right: Ints, base: int) -> Ints:
    """Digits of the sum, ones first; the last place of the operands is 0."""
    total = left + right
    total[:, 1:] += carry_chains(total, base)[:, :-1] > 0
    return np.where(total >= base, total - base, total)


_ANY, _NO_CARRY, _STOPS, _PROPAGATES, _GENERATES = range(5)


@cache
def _pairs_by_sum(base: int) -> tuple[Ints, Ints, Ints]:
    """All pairs of digits by rising sum, [2, base^2], and for each kind of place where its pairs begin and end."""
    left, right = np.divmod(np.arange(base**2), base)
    order = np.argsort(left + right, kind="stable")
    below = base * (base - 1) // 2  # pairs whose sum is below base - 1
    first, last = np.array(
        [(0, base**2), (0, below + base), (0, below), (below, below + base), (below + base, base**2)]
    ).T
    return np.stack([left, right])[:, order], first, last


def _kinds(rng: np.random.Generator, carries: str, lengths: Ints, place: Ints) -> Ints:
    """What each place does with a carry, int[n, place] or int[1, 1]."""
    if carries in ("any", "none"):
        return np.array([[_ANY if carries == "any" else _NO_CARRY]])
    size = lengths if carries == "whole chain" else rng.integers(0, lengths + 1)
    start = rng.integers(0, lengths - size + 1)
    since, end = place - start[:, None], size[:, None]
    chain = [(since == 0) & (end > 0), (since > 0) & (since < end), (since == end) & (end > 0)]
    return np.select(chain, [_GENERATES, _PROPAGATES, _STOPS], _NO_CARRY)
