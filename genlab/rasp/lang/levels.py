"""Aggregation where few different queries are asked: a running aggregate for each of them, read where it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.grouped import Reduction, truncated_mean

__all__ = ["LEVELS", "by_levels", "levels_of"]

Values = NDArray[Any]
Ints = NDArray[np.int64]

LEVELS = 16
"""The most queries that are worth a running aggregate each."""


def levels_of(q: Values, most: int) -> Ints | None:
    """All values from the smallest query to the largest, if they are at most so many."""
    low, high = int(q.min()), int(q.max())
    return np.arange(low, high + 1) if high - low < most and q.dtype != np.bool_ else None


def by_levels(
    k: Values, q: Ints, v: Ints, compare: np.ufunc, levels: Ints, default: int, reduction: Reduction
) -> Ints | None:
    """Aggregate `v` over the earlier keys that a comparison selects: int64[n, pos]; None where values are too large.

    The keys come in a type that holds the levels too.

    >>> row = np.array([[5, 7, 5, 7]])
    >>> by_levels(row, row, np.arange(4)[None], np.equal, np.arange(5, 8), -1, "min").tolist()
    [[0, 1, 0, 1]]
    """
    met = compare(k[:, None, :], levels.astype(k.dtype)[None, :, None])  # [n, level, key]
    n, length = k.shape
    asked = (np.arange(n)[:, None] * len(levels) + (q - levels[0])) * length + np.arange(length)
    bits, low = length.bit_length(), int(v.min())
    if reduction == "width":
        return _at(np.add.accumulate(met, axis=2, dtype=np.int32), asked)
    if reduction == "min":
        least = by_levels(k, q, -v, compare, levels, -default, "max")
        return None if least is None else -least
    most = int(v.max()) - low + 1
    room = (most * length).bit_length() + bits
    if room > 62:
        return None
    narrow = np.int32 if room < 31 else np.int64
    if reduction == "max":  # values from 1 up, so that 0 says that no key has come
        best = _at(np.maximum.accumulate(met * (v - low + 1).astype(narrow)[:, None], axis=2), asked)
        return np.where(best == 0, default, best + (low - 1))
    both = ((v - low << bits) + 1).astype(narrow)  # sum and count in one number, and one running sum serves both
    total = _at(np.add.accumulate(met * both[:, None], axis=2, dtype=narrow), asked)
    counts = total & (1 << bits) - 1
    return truncated_mean((total >> bits) + low * counts, counts, default)


def _at(running: Values, asked: Ints) -> Ints:
    """Each query's own running aggregate, where it is asked: int64[n, pos]."""
    return running.reshape(-1).take(asked).astype(np.int64)
