"""The arithmetic of select and aggregate on a whole batch, [n, pos], without a Python loop over pairs.

A selection is not written out where that can be avoided: equality groups the positions of equal value, a lookup by
index gathers, a predicate of the key alone is a running sum. Everything else is compared pair by pair, in slices of
the batch that fit a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

__all__ = ["reduce_matrix", "reduce_selected", "selection"]

Values = NDArray[Any]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Predicate = Callable[[Any, Any], Any]

_PAIRS = 1 << 19
"""Pairs compared at a time."""
_EVENTS = 1 << 13
"""Keys and queries sorted at a time."""
_STANDARD: tuple[Predicate, ...] = (equals, lt, leq, gt, geq)


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
    out = np.empty(v.shape, np.int64)
    for rows, chosen in _slices(k, q, table or pred, causal):
        out[rows] = reduce_matrix(chosen, v[rows], default, reduction)
    return out


def selection(k: Values, q: Values, pred: Predicate, causal: bool = True) -> Bools:
    """The selection written out: bool[n, query, key]."""
    out = np.empty((*q.shape, k.shape[1]), np.bool_)
    for rows, chosen in _slices(k, q, pred if is_elementwise(pred) else _Table(k, q, pred), causal):
        out[rows] = chosen
    return out


def reduce_matrix(chosen: Bools, v: Values, default: int, reduction: Reduction) -> Ints:
    """Aggregate `v` [n, key] over a selection that is written out, [n, query, key]."""
    v = v.astype(np.int64, copy=False)
    if reduction == "width":
        return _sums(chosen, np.ones_like(v))[0]
    if reduction == "mean":
        sums, counts = _sums(chosen, v, np.ones_like(v))
        return truncated_mean(sums, counts, default)
    if reduction == "min":
        return -reduce_matrix(chosen, -v, -default, "max")
    low = int(v.min()) - 1
    height = _narrow(v - low)  # at least 1, so that 0 is left for the keys not selected
    best = (chosen.astype(height.dtype) * height[:, None, :]).max(axis=2).astype(np.int64)
    return np.where(best == 0, default, best + low)


class _Table:
    """An opaque predicate as a table over the values that occur."""

    def __init__(self, k: Values, q: Values, pred: Predicate):
        self.pred = pred
        self.keys, codes = np.unique(k, return_inverse=True)
        self.key_codes = codes.reshape(k.shape)
        self.queries, codes = np.unique(q, return_inverse=True)
        self.query_codes = codes.reshape(q.shape)
        self.met = pair_table(pred, self.keys, self.queries)

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

    def compare(self, rows: slice, allowed: Bools) -> Bools:
        """The selection of some rows. Raises what the predicate raises on a pair that meets."""
        met = self.met[self.key_codes[rows, None, :], self.query_codes[rows, :, None]]
        if (raised := (met == RAISED) & allowed).any():
            row, query, key = (int(places[0]) for places in np.nonzero(raised))
            key_code, query_code = self.key_codes[rows][row, key], self.query_codes[rows][row, query]
            self.pred(self.keys[key_code], self.queries[query_code])
        return (met == 1) & allowed


def _slices(k: Values, q: Values, pred: Predicate | _Table, causal: bool) -> Iterator[tuple[slice, Bools]]:
    """The selection written out, some rows of the batch at a time."""
    (n, queries), keys = q.shape, k.shape[1]
    allowed = np.tri(queries, keys, dtype=np.bool_) if causal else np.ones((queries, keys), np.bool_)
    if pred in _STANDARD:
        k, q = _alike(k, q)
    for rows in _cut(n, _PAIRS // max(1, queries * keys)):
        if isinstance(pred, _Table):
            yield rows, pred.compare(rows, allowed)
            continue
        met = np.asarray(pred(k[rows, None, :], q[rows, :, None])).astype(np.bool_, copy=False)
        yield rows, np.broadcast_to(met, (rows.stop - rows.start, *allowed.shape)) & allowed


def _cut(n: int, step: int) -> Iterator[slice]:
    """Slices of `step` rows that cover n rows."""
    for start in range(0, n, max(1, step)):
        yield slice(start, min(start + max(1, step), n))


def _reduce_equal(k: Ints, q: Ints, v: Ints, default: int, reduction: Reduction) -> Ints:
    length = k.shape[1]
    if (k == k[:, :1] + np.arange(length)).all():
        return _gathered(q - k[:, :1], v, default, reduction)
    out = np.empty(v.shape, np.int64)
    for rows in _cut(len(k), _EVENTS // (2 * length)):
        out[rows] = grouped(k[rows], q[rows], v[rows], default, reduction)
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


def _sums(chosen: Bools, *columns: Ints) -> list[Ints]:
    """Sums of each column over a selection, exact: in the narrowest float that holds every partial sum."""
    largest = max(int(np.abs(column).max(initial=0)) for column in columns) * chosen.shape[2]
    if largest >= 1 << 53:
        return [np.where(chosen, column[:, None, :], 0).sum(axis=2) for column in columns]
    dtype = np.float32 if largest < 1 << 24 else np.float64
    sums = chosen.astype(dtype) @ np.stack(columns, axis=2).astype(dtype)
    return list(np.moveaxis(sums, 2, 0).astype(np.int64))


def _narrow(values: Ints) -> Values:
    """Non-negative values in the narrowest unsigned type that holds them."""
    high = int(values.max())
    for dtype in (np.uint8, np.uint16, np.uint32):
        if high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values


def _alike(k: Values, q: Values) -> tuple[Values, Values]:
    """Both in the narrowest signed type that holds all their values; booleans stay booleans."""
    if k.dtype == np.bool_ or q.dtype == np.bool_:
        return k, q
    low, high = min(int(k.min()), int(q.min())), max(int(k.max()), int(q.max()))
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return k.astype(dtype), q.astype(dtype)
    return k, q
