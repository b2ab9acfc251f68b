"""The arithmetic of select and aggregate on a whole batch, [n, pos], without a Python loop over pairs.

A selection is not written out where that can be avoided: a lookup by index gathers, a predicate of the key alone is a
running sum, so is a comparison with each of a few queries, and equality groups the positions of equal value.
Everything else is compared pair by pair, in slices of the batch that fit a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.functions import (
    RAISED,
    always,
    equals,
    geq,
    gt,
    is_elementwise,
    key_is_true,
    leq,
    lt,
    pair_table,
)
from genlab.rasp.lang.grouped import Reduction, grouped, truncated_mean
from genlab.rasp.lang.levels import LEVELS, by_levels, levels_of
from genlab.rasp.lang.packed import WORD, Words, pack, reduce_packed

__all__ = ["reduce_matrix", "reduce_selected", "selection"]

Values = NDArray[Any]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Predicate = Callable[[Any, Any], Any]

_PAIRS = 1 << 20
"""Pairs compared at a time."""
_EVENTS = 1 << 16
"""Keys and queries sorted at a time."""
_PACKED = 1 << 23
"""Pairs aggregated at a time, 64 to a word."""
_STANDARD: dict[Any, np.ufunc] = {
    equals: np.equal,
    lt: np.less,
    leq: np.less_equal,
    gt: np.greater,
    geq: np.greater_equal,
}


np.empty(1 << 24, np.uint8)
# Made and freed once: from then on glibc serves arrays up to this size from memory that it keeps. Otherwise it hands
# each large array back to the system, and the pages of the next one are made anew: half of the time of `kqv`.


def reduce_selected(
    k: Values, q: Values, v: Values, pred: Predicate, default: int, reduction: Reduction, causal: bool = True
) -> Ints:
    """Aggregate `v` over the keys that each query selects: int64[n, pos]."""
    v = v.astype(np.int64, copy=False)
    table = None if is_elementwise(pred) else _Table(k, q, pred)
    if table is not None and (known := table.standard()):
        pred, table = known, None
    if causal and pred is equals:
        return _reduce_equal(k.astype(np.int64, copy=False), q.astype(np.int64, copy=False), v, default, reduction)
    if pred is key_is_true or pred is always:
        keep = k != 0 if pred is key_is_true else np.ones(k.shape, np.bool_)
    else:
        keep = None if table is None else table.key_only()
    if causal and keep is not None:
        return _running(keep, v, default, reduction)
    if causal and pred in _STANDARD and (found := _few_queries(k, q, v, pred, default, reduction)) is not None:
        return found
    out = np.empty(v.shape, np.int64)
    for rows in _cut(len(q), _PACKED // (q.shape[1] * k.shape[1])):
        part = pred if table is None else table.of(rows)
        selected = _packed_selection(k[rows], q[rows], part, causal)
        out[rows] = reduce_packed(selected, v[rows], default, reduction)
    return out


def selection(k: Values, q: Values, pred: Predicate, causal: bool = True) -> Bools:
    """The selection written out: bool[n, query, key]."""
    compare = _comparison(k, q, pred if is_elementwise(pred) else _Table(k, q, pred), causal)
    chosen = compare(slice(None), slice(None))
    return chosen & np.tri(q.shape[1], k.shape[1], dtype=np.bool_) if causal else chosen.copy()


def reduce_matrix(chosen: Bools, v: Values, default: int, reduction: Reduction) -> Ints:
    """Aggregate `v` [n, key] over a selection that is written out, [n, query, key]."""
    blocks = range(0, chosen.shape[2], WORD)
    words = np.stack([pack(chosen[..., block : block + WORD]) for block in blocks])
    return reduce_packed(words, v.astype(np.int64, copy=False), default, reduction)


def _packed_selection(k: Values, q: Values, pred: Predicate | _Table, causal: bool) -> Words:
    """The selection, 64 keys a word: [word, n, query]."""
    (n, queries), keys = q.shape, k.shape[1]
    compare = _comparison(k, q, pred, causal)
    levels = None if isinstance(pred, _Table) else levels_of(q, keys)
    if levels is not None:  # few different queries: what each of them selects, once for all places that ask it
        compare = _comparison(k, np.broadcast_to(levels, (n, len(levels))), pred, causal)
    words = np.empty((-(-keys // WORD), n, queries), np.uint64)
    before = np.tri(queries, keys, dtype=np.bool_) if causal else np.ones((queries, keys), np.bool_)
    for place, first in enumerate(range(0, keys, WORD)):
        block = slice(first, first + WORD)
        for rows in _cut(n, _PAIRS // (WORD * queries)):
            met = pack(compare(rows, block))
            words[place, rows] = met if levels is None else np.take_along_axis(met, q[rows] - levels[0], axis=1)
        words[place] &= pack(before[None, :, block])
    return words


class _Table:
    """An opaque predicate as a table over the values that occur."""

    def __init__(self, k: Values, q: Values, pred: Predicate):
        self.pred = pred
        self.keys, codes = np.unique(k, return_inverse=True)
        self.key_codes: Ints = codes.reshape(k.shape)
        self.queries, codes = np.unique(q, return_inverse=True)
        self.query_codes: Ints = codes.reshape(q.shape)
        self.met = pair_table(pred, self.keys, self.queries)

    def of(self, rows: slice) -> _Table:
        """The same table for some rows of the batch."""
        part = copy(self)
        part.key_codes, part.query_codes = self.key_codes[rows], self.query_codes[rows]
        return part

    def standard(self) -> Predicate | None:
        """The standard comparison that the predicate is on these values, if it is one."""
        for pred in _STANDARD:
            if np.array_equal(self.met, pred(self.keys[:, None], self.queries[None, :])):
                return pred
        return None

    def key_only(self) -> Bools | None:
        """Which keys are selected, where that is the same for all queries; else None."""
        if (self.met == self.met[:, :1]).all() and not (self.met == RAISED).any():
            return (self.met[:, 0] == 1)[self.key_codes]
        return None

    def compare(self, rows: slice, keys: slice, causal: bool) -> Bools:
        """What it says of pairs. Raises what the predicate raises on a pair that meets."""
        key_codes, query_codes = self.key_codes[rows, None, keys], self.query_codes[rows, :, None]
        met = self.met[key_codes, query_codes]
        if (met == RAISED).any():
            place = np.arange(self.query_codes.shape[1])
            meets = np.greater_equal.outer(place, place[keys]) | (not causal)
            for row, query, key in np.argwhere((met == RAISED) & meets).tolist():
                self.pred(self.keys[key_codes[row, 0, key]], self.queries[query_codes[row, query, 0]])
        return met == 1


Comparison = Callable[[slice, slice], Bools]


def _comparison(k: Values, q: Values, pred: Predicate | _Table, causal: bool) -> Comparison:
    """A function of rows and keys: what the predicate says of them with all queries, bool[row, query, key].

    `causal` only says which pairs meet, where it matters that one raises.
    """
    if isinstance(pred, _Table):
        table = pred
        return lambda rows, keys: table.compare(rows, keys, causal)
    ufunc = _STANDARD.get(pred)
    if ufunc is not None:
        narrow_k, narrow_q = _alike(k, q)
        return lambda rows, keys: ufunc(narrow_k[rows, None, keys], narrow_q[rows, :, None])

    def called(rows: slice, keys: slice) -> Bools:
        left, right = k[rows, None, keys], q[rows, :, None]
        met = np.asarray(pred(left, right)).astype(np.bool_, copy=False)
        return np.broadcast_to(met, np.broadcast_shapes(left.shape, right.shape))

    return called


def _cut(n: int, step: int) -> Iterator[slice]:
    """Slices of `step` rows that cover n rows."""
    for start in range(0, n, max(1, step)):
        yield slice(start, min(start + max(1, step), n))


def _reduce_equal(k: Ints, q: Ints, v: Ints, default: int, reduction: Reduction) -> Ints:
    length = k.shape[1]
    if (k == k[:, :1] + np.arange(length)).all():
        return _gathered(q - k[:, :1], v, default, reduction)
    if (found := _few_queries(k, q, v, equals, default, reduction)) is not None:
        return found
    out = np.empty(v.shape, np.int64)
    for rows in _cut(len(k), _EVENTS // (2 * length)):
        out[rows] = grouped(k[rows], q[rows], v[rows], default, reduction)
    return out


def _few_queries(k: Values, q: Values, v: Ints, pred: Predicate, default: int, reduction: Reduction) -> Ints | None:
    """Aggregate by a running aggregate for each query, if there are few different ones; else None."""
    levels = levels_of(q, LEVELS)
    if levels is None:
        return None
    out = np.empty(v.shape, np.int64)
    narrow, _ = _alike(k.astype(np.int8) if k.dtype == np.bool_ else k, q)
    for rows in _cut(len(q), _PAIRS // (len(levels) * k.shape[1])):
        found = by_levels(narrow[rows], q[rows], v[rows], _STANDARD[pred], levels, default, reduction)
        if found is None:
            return None
        out[rows] = found
    return out


def _gathered(idx: Ints, v: Ints, default: int, reduction: Reduction) -> Ints:
    """The value at one index for each query; an index outside 0..i selects nothing."""
    there = (idx >= 0) & (idx <= np.arange(idx.shape[1]))
    if reduction == "width":
        return there.astype(np.int64)
    return np.where(there, np.take_along_axis(v, np.where(there, idx, 0), axis=1), default)


def _running(keep: Bools, v: Ints, default: int, reduction: Reduction) -> Ints:
    """Aggregate over the keys so far that are kept, whatever the query."""
    counts = np.cumsum(keep, axis=1, dtype=np.int64)
    if reduction == "width":
        return counts
    if reduction == "mean":
        return truncated_mean(np.cumsum(np.where(keep, v, 0), axis=1), counts, default)
    if reduction == "min":
        return -_running(keep, -v, -default, "max")
    best = np.maximum.accumulate(np.where(keep, v, v.min()), axis=1)
    return np.where(counts == 0, default, best)


def _alike(k: Values, q: Values) -> tuple[Values, Values]:
    """Both in the narrowest signed type that holds all their values; booleans stay booleans."""
    if k.dtype == np.bool_ or q.dtype == np.bool_:
        return k, q
    low, high = min(int(k.min()), int(q.min())), max(int(k.max()), int(q.max()))
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return k.astype(dtype), q.astype(dtype)
    return k, q
