"""Exactly uniform sampling of bracket strings, nested and otherwise.

A word is a row of booleans, True for an opening bracket. Rows of different lengths share an array; entries beyond the
length of a row are arbitrary.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from genlab.tasks.examples import Bools, Ints

_N = TypeVar("_N", bound=np.generic)


def small_ints(largest: int) -> type[np.signedinteger]:
    """Return the smaller of int16 and int32 that holds `largest`; small types use caches better."""
    return np.int16 if largest <= np.iinfo(np.int16).max else np.int32


def running(op: np.ufunc, x: NDArray[_N]) -> NDArray[_N]:
    """Accumulate `op` over rows, in place. Faster than `op.accumulate`, which works column by column.

    >>> running(np.add, np.array([[1, 0], [1, 5], [1, 0]])).tolist()
    [[1, 0], [2, 5], [3, 5]]
    """
    for above, row in pairwise(x):
        op(above, row, out=row)
    return x


def arranged(rng: np.random.Generator, cells: Ints, ones: Ints) -> Bools:
    """Draw rows with `ones` True entries among the first `cells`, uniformly: bool[n, max(cells)].

    >>> arranged(np.random.default_rng(0), cells=np.array([4, 2]), ones=np.array([1, 2])).sum(axis=1)
    array([1, 2])
    """
    width = int(cells.max()) + 1
    place = np.arange(width)
    bits = width.bit_length()
    # Distinct random keys (the last bits are the position); the ones are at the smallest `ones` keys.
    keys = rng.integers(0, 2 ** (62 - bits), (len(cells), width))
    keys <<= bits
    keys |= place
    keys[place >= cells[:, None]] = np.iinfo(np.int64).max
    bound = np.take_along_axis(np.sort(keys, axis=1), ones[:, None], axis=1)
    return (keys < bound)[:, :-1]


def nested(rng: np.random.Generator, lengths: Ints) -> Bools:
    """Draw uniform nested words of even lengths: bool[n, max(lengths)].

    Uses the cycle lemma: exactly one rotation of a word with one extra closing bracket is a nested word followed by a
    closing bracket. It starts after the first position at which the depth is minimal.
    """
    loop = arranged(rng, lengths + 1, lengths // 2)
    place = np.arange(loop.shape[1])
    low = heights(loop)
    low[place > lengths[:, None]] = loop.shape[1]
    source = np.argmin(low, axis=1)[:, None] + 1 + place[:-1]
    source -= (source > lengths[:, None]) * (lengths[:, None] + 1)
    source += (np.arange(len(loop)) * loop.shape[1])[:, None]
    return loop.ravel()[source]


def wrapped(rng: np.random.Generator, lengths: Ints, pairs: int) -> Bools:
    """Draw uniform nested words inside `pairs` more pairs of brackets: bool[n, max(lengths)]."""
    if not pairs:
        return nested(rng, lengths)
    inner = nested(rng, lengths - 2 * pairs) & (
        np.arange(int(lengths.max()) - 2 * pairs) < lengths[:, None] - 2 * pairs
    )
    return np.pad(inner, ((0, 0), (pairs, pairs))) | (np.arange(int(lengths.max())) < pairs)


def independent(rng: np.random.Generator, lengths: Ints) -> Bools:
    """Draw words of independent brackets, each opening with probability 1/2: bool[n, max(lengths)]."""
    return rng.integers(0, 2, (len(lengths), int(lengths.max())), dtype=np.int8) == 1


def equal_counts(opens: Bools, lengths: Ints) -> Bools:
    """Whether words have as many opening as closing brackets: bool[n]."""
    inside = np.arange(opens.shape[1]) < lengths[:, None]
    return 2 * np.count_nonzero(opens & inside, axis=1) == lengths


def unequal(rng: np.random.Generator, lengths: Ints) -> Bools:
    """Draw words of independent brackets, conditioned on unequal counts: bool[n, max(lengths)]."""
    return redrawn(lambda lengths: independent(rng, lengths), equal_counts, lengths)


def heights(opens: Bools) -> Ints:
    """Return the depth after each position, negative after too many closing brackets: int[n, width].

    >>> heights(np.array([[True, False, False, True]])).tolist()
    [[1, 0, -1, 0]]
    """
    steps = 2 * opens.T.astype(small_ints(opens.shape[1]), order="C") - 1
    return running(np.add, steps).T


def is_nested(opens: Bools, lengths: Ints) -> Bools:
    """Whether words are nested: bool[n]."""
    height = heights(opens)
    inside = np.arange(opens.shape[1]) < lengths[:, None]
    last = np.take_along_axis(height, lengths[:, None] - 1, axis=1)[:, 0]
    return (last == 0) & ~((height < 0) & inside).any(axis=1)


def partners(opens: Bools, lengths: Ints) -> Ints:
    """Return the positions of matching brackets in nested words, as pairs of opening and closing: int[n, width].

    >>> partners(np.array([[True, True, False, False]]), np.array([4]))
    array([[0, 3, 1, 2]])
    """
    level = heights(opens) + ~opens
    level[np.arange(opens.shape[1]) >= lengths[:, None]] = np.iinfo(level.dtype).max
    return np.argsort(level, axis=1, kind="stable")  # at each level, opening and closing brackets alternate


def different(draw: Callable[[Ints], Bools], length: int, count: int) -> Bools:
    """Return the first `count` distinct words that `draw` gives at this length: bool[count, length].

    If all words are equally likely, so are all sets of words.
    """
    found = np.empty((0, length), bool)
    while len(found) < count:
        found = np.concatenate([found, draw(np.full(count, length))])
        packed = np.packbits(found, axis=1)
        first = np.unique(packed.view(f"S{packed.shape[1]}"), return_index=True)[1]
        found = found[np.sort(first)[:count]]
    return found


def redrawn(
    draw: Callable[[Ints], np.ndarray], refused: Callable[[np.ndarray, Ints], Bools], lengths: Ints
) -> np.ndarray:
    """Rejection sampling: return `draw(lengths)`, redrawing rows until none is refused."""
    rows = draw(lengths)
    while len(again := np.flatnonzero(refused(rows, lengths))):
        fresh = draw(lengths[again])
        rows[again, : fresh.shape[1]] = fresh
    return rows
