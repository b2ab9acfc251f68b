"""Aggregation over the keys equal to the query, by sorting."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reduction", "grouped", "truncated_mean"]

Values = NDArray[Any]
Ints = NDArray[np.int64]
Reduction = Literal["mean", "max", "min", "width"]
"""`width` counts the selected keys; the others are the reductions of `aggr`."""


def grouped(k: Ints, q: Ints, v: Ints, default: int, reduction: Reduction) -> Ints:
    """Aggregate `v` over the earlier keys equal to the query: int[n, pos] each.

    Keys and queries are sorted together by value, then by position. Each query then stands behind the keys that it
    selects, and a running aggregate within each group of equal value, read at the queries, is the answer. A key
    stands before the query at its own position.

    >>> row = np.array([[5, 7, 5, 7]])
    >>> grouped(row, row, np.arange(4)[None], -1, "min").tolist()
    [[0, 1, 0, 1]]
    """
    n, length = k.shape
    bits = max(1, (length - 1).bit_length())
    low, high = min(int(k.min()), int(q.min())), max(int(k.max()), int(q.max()))
    if (high - low).bit_length() + bits + 1 > 62:
        distinct, codes = np.unique(np.stack([k, q]), return_inverse=True)
        (k, q), low, high = codes.reshape(2, n, length), 0, len(distinct)
    narrow = np.int32 if (high - low).bit_length() + bits + 1 < 31 else np.int64
    places = 2 * np.arange(length, dtype=narrow)
    events = np.empty((n, 2 * length), narrow)  # value, then position, then key before query
    events[:, :length] = ((k - low).astype(narrow) << (bits + 1)) + places
    events[:, length:] = ((q - low).astype(narrow) << (bits + 1)) + (places + 1)
    events.sort(axis=1)
    value = events >> (bits + 1)
    fresh = np.ones(events.shape, np.bool_)
    fresh[:, 1:] = value[:, 1:] != value[:, :-1]
    starts = np.flatnonzero(fresh)
    rows = (np.arange(n) * length)[:, None]
    cell = (((events >> 1) & ((1 << bits) - 1)) + rows).reshape(-1)
    is_key = 1 - (events & 1).reshape(-1)
    queries = np.flatnonzero(is_key == 0)
    groups = _Groups(starts, np.diff(starts, append=fresh.size), is_key, queries)
    out = np.empty(n * length, np.int64)
    out[cell.take(queries)] = groups.aggregate(v.reshape(-1).take(cell), default, reduction)
    return out.reshape(n, length)


class _Groups(NamedTuple):
    """Keys and queries in sorted order, one row of the batch after the other.

    Attributes:
        starts, sizes: where each group of equal value begins, and how many keys and queries it has.
        is_key: 1 for a key, 0 for a query.
        queries: the places of the queries.
    """

    starts: Ints
    sizes: Ints
    is_key: Values
    queries: Ints

    def aggregate(self, v: Ints, default: int, reduction: Reduction) -> Ints:
        """The running aggregate of `v` over the keys of each group, read at its queries."""
        if reduction == "width":
            return self._running_sum(self.is_key.astype(np.int64))
        if reduction == "mean":
            return self._mean(v, default)
        return self._largest(v, default) if reduction == "max" else -self._largest(-v, -default)

    def _mean(self, v: Ints, default: int) -> Ints:
        low, high = int(v.min()), int(v.max())
        if (high - low) * len(v) < 1 << 31:  # sum and count fit one number, and one running sum serves both
            both = self._running_sum(((v - low << 32) + 1) * self.is_key)
            counts = both & (1 << 32) - 1
            return truncated_mean((both >> 32) + low * counts, counts, default)
        counts = self._running_sum(self.is_key.astype(np.int64))
        return truncated_mean(self._running_sum(v * self.is_key), counts, default)

    def _largest(self, v: Ints, default: int) -> Ints:
        """Values from 1 up, so that 0 says that no key has come; each group is lifted above all groups before it."""
        low, high = int(v.min()) - 1, int(v.max())
        lift = np.repeat(np.arange(len(self.starts)) * (high - low), self.sizes)
        best = np.maximum.accumulate((v - low) * self.is_key + lift).take(self.queries)
        best -= lift.take(self.queries)
        return np.where(best == 0, default, best + low)

    def _running_sum(self, amount: Ints) -> Ints:
        total = np.cumsum(amount)
        before = total.take(self.starts) - amount.take(self.starts)
        return total.take(self.queries) - np.repeat(before, self.sizes).take(self.queries)


def truncated_mean(sums: Ints, counts: Ints, default: int) -> Ints:
    """Sum over count, truncated toward zero; `default` where the count is 0."""
    some = np.maximum(counts, 1)
    if int(np.abs(sums).max(initial=0)) < 1 << 52:
        # A quotient of such integers is an integer or further from one than a float's rounding.
        mean = (sums / some).astype(np.int64)
    else:
        mean = np.sign(sums) * (np.abs(sums) // some)
    return np.where(counts == 0, default, mean)
