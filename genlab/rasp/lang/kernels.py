"""Vectorized kernels for select and aggregate on a whole batch, [n, pos].

The selection matrix is materialized only if it cannot be avoided. A lookup by index is a gather, a predicate of the
key alone is a running sum, and so is a comparison with each of a few distinct queries; equality sorts the positions
into groups of equal value. All other predicates are evaluated pair by pair, on slices of the batch that fit in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, Literal, NamedTuple

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

Values = NDArray[Any]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]
Predicate = Callable[[Any, Any], Any]
Reduction = Literal["mean", "max", "min", "width"]
"""`width` counts the selected keys; the others are the reductions of `aggr`."""


def truncated_mean(sums: Ints, counts: Ints, default: int) -> Ints:
    """Sum over count, truncated toward zero; `default` where the count is 0."""
    some = np.maximum(counts, 1)
    if int(np.abs(sums).max(initial=0)) < 1 << 52:
        # Such a quotient is an integer, or differs from the nearest one by more than the rounding error of a float.
        mean = (sums / some).astype(np.int64)
    else:
        mean = np.sign(sums) * (np.abs(sums) // some)
    return np.where(counts == 0, default, mean)


# -- Few distinct queries: one running aggregate for each

LEVELS = 16
"""The most distinct queries for which one running aggregate each is worthwhile."""


def query_levels(q: Values, most: int) -> Ints | None:
    """All integers from the smallest query to the largest, int[level]; None if there are more than `most`."""
    low, high = int(q.min()), int(q.max())
    return np.arange(low, high + 1) if high - low < most and q.dtype != np.bool_ else None


def by_levels(
    k: Values, q: Ints, v: Ints, compare: np.ufunc, levels: Ints, default: int, reduction: Reduction
) -> Ints | None:
    """Aggregate `v` over the keys up to each query that a comparison selects.

    Args:
        k, q, v: keys, queries and values, [n, pos] each; the type of the keys must also hold the levels.
        compare: the comparison, compare(key, query).
        levels: all integers from the smallest query to the largest, int[level].
        default: the result for a query that selects no key.
        reduction: how the selected values are aggregated.

    Returns:
        int64[n, pos], or None if the values are too large for this method.

    >>> row = np.array([[5, 7, 5, 7]])
    >>> by_levels(row, row, np.arange(4)[None], np.equal, np.arange(5, 8), -1, "min").tolist()
    [[0, 1, 0, 1]]
    """
    met = compare(k[:, None, :], levels.astype(k.dtype)[None, :, None])  # [n, level, key]
    n, length = k.shape
    index = (np.arange(n)[:, None] * len(levels) + (q - levels[0])) * length + np.arange(length)
    bits, low = length.bit_length(), int(v.min())
    if reduction == "width":
        return _gather(np.add.accumulate(met, axis=2, dtype=np.int32), index)
    if reduction == "min":
        least = by_levels(k, q, -v, compare, levels, -default, "max")
        return None if least is None else -least
    most = int(v.max()) - low + 1
    room = (most * length).bit_length() + bits
    if room > 62:
        return None
    narrow = np.int32 if room < 31 else np.int64
    if reduction == "max":  # values are shifted to start from 1, so that 0 means that no key was selected
        best = _gather(np.maximum.accumulate(met * (v - low + 1).astype(narrow)[:, None], axis=2), index)
        return np.where(best == 0, default, best + (low - 1))
    both = ((v - low << bits) + 1).astype(narrow)  # sum and count packed into one number: one running sum for both
    total = _gather(np.add.accumulate(met * both[:, None], axis=2, dtype=narrow), index)
    counts = total & (1 << bits) - 1
    return truncated_mean((total >> bits) + low * counts, counts, default)


def _gather(running: Values, index: Ints) -> Ints:
    """The running aggregates of all levels at flat indices, int64[n, pos]."""
    return running.reshape(-1).take(index).astype(np.int64)


# -- Materialized selections, with 64 pairs to a machine word
#
# A sum of selected values is computed digit by digit in binary: the number of selected keys with a digit set takes
# one `and` and one bit count for 64 keys. A maximum is found digit by digit, from the highest down. Intermediate
# arrays are written to scratch space, since allocating memory costs more than the arithmetic. Words are on the first
# axis, so that the long axes are the inner ones.

WORD = 64
"""Keys per word."""


def pack(chosen: NDArray[np.bool_]) -> Words:
    """Pack booleans [n, query, key] of at most 64 keys into words [n, query], the first key in the lowest bit."""
    bits = np.packbits(chosen, axis=-1, bitorder="little")
    if spare := WORD // 8 - bits.shape[-1]:
        bits = np.concatenate([bits, np.zeros((*bits.shape[:-1], spare), np.uint8)], axis=-1)
    return bits.view(np.uint64)[..., 0]


def reduce_packed(selected: Words, v: Ints, default: int, reduction: Reduction) -> Ints:
    """Aggregate `v` [n, key] over a selection [word, n, query]: int64[n, query].

    >>> chosen = np.array([[[True, False], [True, True]]])
    >>> reduce_packed(pack(chosen)[None], np.array([[4, 9]]), 0, "max").tolist()
    [[4, 9]]
    """
    scratch = _Scratch(selected)
    if reduction == "width":
        return scratch.count(selected).astype(np.int64)
    if reduction == "mean":
        return _mean(scratch, selected, v, default)
    if reduction == "min":
        return -_largest(scratch, selected, -v, -default)
    return _largest(scratch, selected, v, default)


def _mean(scratch: _Scratch, selected: Words, v: Ints, default: int) -> Ints:
    low, counts = int(v.min()), scratch.count(selected).astype(np.int64)
    sums = low * counts
    for digit, has in _digits(v - low):
        np.bitwise_and(selected, has, out=scratch.words)
        sums += np.left_shift(scratch.count(scratch.words), digit, dtype=np.int64)
    return truncated_mean(sums, counts, default)


def _largest(scratch: _Scratch, selected: Words, v: Ints, default: int) -> Ints:
    low, some = int(v.min()), scratch.count(selected) > 0
    best, left = np.full(some.shape, low, np.int64), selected.copy()
    for digit, has in reversed(_digits(v - low)):
        np.bitwise_and(left, has, out=scratch.words)
        has_digit = scratch.count(scratch.words) > 0
        best += np.left_shift(has_digit, digit, dtype=np.int64)
        np.copyto(left, scratch.words, where=has_digit)
    return np.where(some, best, default)


def _digits(values: Ints) -> list[tuple[int, Words]]:
    """For each binary digit of non-negative values [n, key], the keys whose digit is set: words [key / 64, n, 1]."""
    keys = values.shape[1]
    out: list[tuple[int, Words]] = []
    for digit in range(int(values.max()).bit_length()):
        has = (values >> digit & 1).astype(np.bool_)[:, None]
        out.append((digit, np.stack([pack(has[..., first : first + WORD]) for first in range(0, keys, WORD)])))
    return out


class _Scratch:
    """Scratch space for the words of a selection and for the counts of their bits."""

    def __init__(self, like: Words):
        self.words = np.empty_like(like)
        self._bits = np.empty(like.shape, np.uint8)
        self._total = np.empty(like.shape[1:], np.uint32)

    def count(self, words: Words) -> NDArray[Any]:
        """The number of bits set in the words of each query, uint32[n, query]; valid until the next call."""
        _count_bits(words, self._bits)
        return np.add.reduce(self._bits, axis=0, dtype=np.uint32, out=self._total)


_OF_BYTE = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)


def _count_bits(words: Words, out: NDArray[np.uint8]) -> None:
    """Write the number of bits set in each word to `out`.

    >>> out = np.empty(3, np.uint8)
    >>> _count_bits(np.array([0, 5, 2**64 - 1], dtype=np.uint64), out)
    >>> out.tolist()
    [0, 2, 64]
    """
    if hasattr(np, "bitwise_count"):
        np.bitwise_count(words, out=out)
    else:  # NumPy 1
        in_bytes = np.ascontiguousarray(words)[..., None].view(np.uint8)
        np.add.reduce(_OF_BYTE[in_bytes], axis=-1, dtype=np.uint8, out=out)


# -- Keys equal to the query, by sorting


def aggregate_equal(k: Ints, q: Ints, v: Ints, default: int, reduction: Reduction) -> Ints:
    """Aggregate `v` over the keys up to each query that equal it, int[n, pos] each.

    Keys and queries are sorted together by value, then by position, a key before the query at the same position.
    Each query then follows the keys that it selects, and the result is the running aggregate within each group of
    equal value, read at the queries.

    >>> row = np.array([[5, 7, 5, 7]])
    >>> aggregate_equal(row, row, np.arange(4)[None], -1, "min").tolist()
    [[0, 1, 0, 1]]
    """
    n, length = k.shape
    bits = max(1, (length - 1).bit_length())
    low, high = min(int(k.min()), int(q.min())), max(int(k.max()), int(q.max()))
    if (high - low).bit_length() + bits + 1 > 62:
        distinct, codes = np.unique(np.stack([k, q]), return_inverse=True)
        (k, q), low, high = codes.reshape(2, n, length), 0, len(distinct)
    narrow = np.int32 if (high - low).bit_length() + bits + 1 < 31 else np.int64
    positions = 2 * np.arange(length, dtype=narrow)
    events = np.empty((n, 2 * length), narrow)  # value, then position, then key before query
    events[:, :length] = ((k - low).astype(narrow) << (bits + 1)) + positions
    events[:, length:] = ((q - low).astype(narrow) << (bits + 1)) + (positions + 1)
    events.sort(axis=1)
    value = events >> (bits + 1)
    fresh = np.ones(events.shape, np.bool_)
    fresh[:, 1:] = value[:, 1:] != value[:, :-1]
    starts = np.flatnonzero(fresh)
    rows = (np.arange(n) * length)[:, None]
    index = (((events >> 1) & ((1 << bits) - 1)) + rows).reshape(-1)
    is_key = 1 - (events & 1).reshape(-1)
    queries = np.flatnonzero(is_key == 0)
    groups = _Groups(starts, np.diff(starts, append=fresh.size), is_key, queries)
    out = np.empty(n * length, np.int64)
    out[index.take(queries)] = groups.aggregate(v.reshape(-1).take(index), default, reduction)
    return out.reshape(n, length)


class _Groups(NamedTuple):
    """Keys and queries in sorted order, the rows of the batch one after another.

    Attributes:
        starts, sizes: start and size of each group of equal value, int[group].
        is_key: 1 for a key, 0 for a query, int[event].
        queries: the indices of the queries, int[query].
    """

    starts: Ints
    sizes: Ints
    is_key: Values
    queries: Ints

    def aggregate(self, v: Ints, default: int, reduction: Reduction) -> Ints:
        """The running aggregate of `v` over the keys of each group, at its queries, int64[query]."""
        if reduction == "width":
            return self._running_sum(self.is_key.astype(np.int64))
        if reduction == "mean":
            return self._mean(v, default)
        return self._largest(v, default) if reduction == "max" else -self._largest(-v, -default)

    def _mean(self, v: Ints, default: int) -> Ints:
        low, high = int(v.min()), int(v.max())
        if (high - low) * len(v) < 1 << 31:  # sum and count fit into one number: one running sum for both
            both = self._running_sum(((v - low << 32) + 1) * self.is_key)
            counts = both & (1 << 32) - 1
            return truncated_mean((both >> 32) + low * counts, counts, default)
        counts = self._running_sum(self.is_key.astype(np.int64))
        return truncated_mean(self._running_sum(v * self.is_key), counts, default)

    def _largest(self, v: Ints, default: int) -> Ints:
        # Values are shifted to start from 1, so that 0 means no key; each group is lifted above all groups before it.
        low, high = int(v.min()) - 1, int(v.max())
        lift = np.repeat(np.arange(len(self.starts)) * (high - low), self.sizes)
        best = np.maximum.accumulate((v - low) * self.is_key + lift).take(self.queries)
        best -= lift.take(self.queries)
        return np.where(best == 0, default, best + low)

    def _running_sum(self, amount: Ints) -> Ints:
        total = np.cumsum(amount)
        before = total.take(self.starts) - amount.take(self.starts)
        return total.take(self.queries) - np.repeat(before, self.sizes).take(self.queries)


# -- Choice of the kernel

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
# Allocated and freed once: afterwards glibc serves arrays up to this size from memory that it retains. Otherwise it
# returns each large array to the system and maps new pages for the next one, which takes half the time of `kqv`.


def reduce_selected(
    k: Values, q: Values, v: Values, pred: Predicate, default: int, reduction: Reduction, causal: bool = True
) -> Ints:
    """Aggregate `v` over the keys that each query selects.

    Args:
        k, q, v: keys, queries and values, [n, pos] each.
        pred: the predicate, pred(key, query).
        default: the result for a query that selects no key.
        reduction: how the selected values are aggregated.
        causal: whether a query selects only keys at its own and earlier positions.

    Returns:
        int64[n, pos].
    """
    v = v.astype(np.int64, copy=False)
    table = None if is_elementwise(pred) else _Table(k, q, pred)
    if table is not None and (comparison := table.standard()):
        pred, table = comparison, None
    if causal and pred is equals:
        return _reduce_equal(k.astype(np.int64, copy=False), q.astype(np.int64, copy=False), v, default, reduction)
    if pred is key_is_true or pred is always:
        chosen = k != 0 if pred is key_is_true else np.ones(k.shape, np.bool_)
    else:
        chosen = None if table is None else table.key_only()
    if causal and chosen is not None:
        return _running(chosen, v, default, reduction)
    if causal and pred in _STANDARD and (result := _few_queries(k, q, v, pred, default, reduction)) is not None:
        return result
    out = np.empty(v.shape, np.int64)
    for rows in _slices(len(q), _PACKED // (q.shape[1] * k.shape[1])):
        part = pred if table is None else table.restrict(rows)
        selected = _packed_selection(k[rows], q[rows], part, causal)
        out[rows] = reduce_packed(selected, v[rows], default, reduction)
    return out


def selection(k: Values, q: Values, pred: Predicate, causal: bool = True) -> Bools:
    """The selection matrix: bool[n, query, key]."""
    compare = _comparison(k, q, pred if is_elementwise(pred) else _Table(k, q, pred), causal)
    chosen = compare(slice(None), slice(None))
    return chosen & np.tri(q.shape[1], k.shape[1], dtype=np.bool_) if causal else chosen.copy()


def reduce_matrix(chosen: Bools, v: Values, default: int, reduction: Reduction) -> Ints:
    """Aggregate `v` [n, key] over a selection matrix [n, query, key]: int64[n, query]."""
    blocks = range(0, chosen.shape[2], WORD)
    words = np.stack([pack(chosen[..., block : block + WORD]) for block in blocks])
    return reduce_packed(words, v.astype(np.int64, copy=False), default, reduction)


def _packed_selection(k: Values, q: Values, pred: Predicate | _Table, causal: bool) -> Words:
    """The selection with 64 keys per word: [word, n, query]."""
    (n, queries), keys = q.shape, k.shape[1]
    compare = _comparison(k, q, pred, causal)
    levels = None if isinstance(pred, _Table) else query_levels(q, keys)
    if levels is not None:  # few distinct queries: compute the selection of each once
        compare = _comparison(k, np.broadcast_to(levels, (n, len(levels))), pred, causal)
    words = np.empty((-(-keys // WORD), n, queries), np.uint64)
    before = np.tri(queries, keys, dtype=np.bool_) if causal else np.ones((queries, keys), np.bool_)
    for word, first in enumerate(range(0, keys, WORD)):
        block = slice(first, first + WORD)
        for rows in _slices(n, _PAIRS // (WORD * queries)):
            met = pack(compare(rows, block))
            words[word, rows] = met if levels is None else np.take_along_axis(met, q[rows] - levels[0], axis=1)
        words[word] &= pack(before[None, :, block])
    return words


class _Table:
    """A table of an arbitrary predicate over the keys and queries that occur."""

    def __init__(self, k: Values, q: Values, pred: Predicate):
        self.pred = pred
        self.keys, codes = np.unique(k, return_inverse=True)
        self.key_codes: Ints = codes.reshape(k.shape)
        self.queries, codes = np.unique(q, return_inverse=True)
        self.query_codes: Ints = codes.reshape(q.shape)
        self.met = pair_table(pred, self.keys, self.queries)

    def restrict(self, rows: slice) -> _Table:
        """The table for some rows of the batch."""
        part = copy(self)
        part.key_codes, part.query_codes = self.key_codes[rows], self.query_codes[rows]
        return part

    def standard(self) -> Predicate | None:
        """The standard comparison that agrees with the predicate on all of these values, or None."""
        for pred in _STANDARD:
            if np.array_equal(self.met, pred(self.keys[:, None], self.queries[None, :])):
                return pred
        return None

    def key_only(self) -> Bools | None:
        """The selected keys, bool[n, pos], if they are the same for all queries, else None."""
        if (self.met == self.met[:, :1]).all() and not (self.met == RAISED).any():
            return (self.met[:, 0] == 1)[self.key_codes]
        return None

    def compare(self, rows: slice, keys: slice, causal: bool) -> Bools:
        """The predicate on pairs, bool[row, query, key]. Raises its exception if it raises on a pair that occurs."""
        key_codes, query_codes = self.key_codes[rows, None, keys], self.query_codes[rows, :, None]
        met = self.met[key_codes, query_codes]
        if (met == RAISED).any():
            position = np.arange(self.query_codes.shape[1])
            occurs = np.greater_equal.outer(position, position[keys]) | (not causal)
            for row, query, key in np.argwhere((met == RAISED) & occurs).tolist():
                self.pred(self.keys[key_codes[row, 0, key]], self.queries[query_codes[row, query, 0]])
        return met == 1


Comparison = Callable[[slice, slice], Bools]


def _comparison(k: Values, q: Values, pred: Predicate | _Table, causal: bool) -> Comparison:
    """A function of rows and keys that evaluates the predicate with all queries, bool[row, query, key].

    `causal` only determines which pairs occur, which matters for a predicate that raises.
    """
    if isinstance(pred, _Table):
        table = pred
        return lambda rows, keys: table.compare(rows, keys, causal)
    ufunc = _STANDARD.get(pred)
    if ufunc is not None:
        narrow_k, narrow_q = _narrowest(k, q)
        return lambda rows, keys: ufunc(narrow_k[rows, None, keys], narrow_q[rows, :, None])

    def compare(rows: slice, keys: slice) -> Bools:
        left, right = k[rows, None, keys], q[rows, :, None]
        met = np.asarray(pred(left, right)).astype(np.bool_, copy=False)
        return np.broadcast_to(met, np.broadcast_shapes(left.shape, right.shape))

    return compare


def _slices(n: int, step: int) -> Iterator[slice]:
    """Slices of `step` rows that cover n rows."""
    for start in range(0, n, max(1, step)):
        yield slice(start, min(start + max(1, step), n))


def _reduce_equal(k: Ints, q: Ints, v: Ints, default: int, reduction: Reduction) -> Ints:
    length = k.shape[1]
    if (k == k[:, :1] + np.arange(length)).all():
        return _lookup(q - k[:, :1], v, default, reduction)
    if (result := _few_queries(k, q, v, equals, default, reduction)) is not None:
        return result
    out = np.empty(v.shape, np.int64)
    for rows in _slices(len(k), _EVENTS // (2 * length)):
        out[rows] = aggregate_equal(k[rows], q[rows], v[rows], default, reduction)
    return out


def _few_queries(k: Values, q: Values, v: Ints, pred: Predicate, default: int, reduction: Reduction) -> Ints | None:
    """Aggregate with one running aggregate for each distinct query; None if there are too many."""
    levels = query_levels(q, LEVELS)
    if levels is None:
        return None
    out = np.empty(v.shape, np.int64)
    narrow, _ = _narrowest(k.astype(np.int8) if k.dtype == np.bool_ else k, q)
    for rows in _slices(len(q), _PAIRS // (len(levels) * k.shape[1])):
        result = by_levels(narrow[rows], q[rows], v[rows], _STANDARD[pred], levels, default, reduction)
        if result is None:
            return None
        out[rows] = result
    return out


def _lookup(idx: Ints, v: Ints, default: int, reduction: Reduction) -> Ints:
    """The value at one index for each query i; an index outside 0..i selects nothing."""
    valid = (idx >= 0) & (idx <= np.arange(idx.shape[1]))
    if reduction == "width":
        return valid.astype(np.int64)
    return np.where(valid, np.take_along_axis(v, np.where(valid, idx, 0), axis=1), default)


def _running(chosen: Bools, v: Ints, default: int, reduction: Reduction) -> Ints:
    """Aggregate over the chosen keys up to each position, for a selection that does not depend on the query."""
    counts = np.cumsum(chosen, axis=1, dtype=np.int64)
    if reduction == "width":
        return counts
    if reduction == "mean":
        return truncated_mean(np.cumsum(np.where(chosen, v, 0), axis=1), counts, default)
    if reduction == "min":
        return -_running(chosen, -v, -default, "max")
    best = np.maximum.accumulate(np.where(chosen, v, v.min()), axis=1)
    return np.where(counts == 0, default, best)


def _narrowest(k: Values, q: Values) -> tuple[Values, Values]:
    """Convert both to the narrowest signed type that holds all their values; booleans are not converted."""
    if k.dtype == np.bool_ or q.dtype == np.bool_:
        return k, q
    low, high = min(int(k.min()), int(q.min())), max(int(k.max()), int(q.max()))
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return k.astype(dtype), q.astype(dtype)
    return k, q
