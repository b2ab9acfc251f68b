"""The arithmetic of select and aggregate on a whole batch, [n, pos], without a Python loop over pairs.

A selection is not written out where that can be avoided: a lookup by index gathers, a predicate of the key alone is a
running sum, so is a comparison with each of a few queries, and equality groups the positions of equal value.
Everything else is compared pair by pair, in slices of the batch that fit a cache.
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

# -- Aggregation where few different queries are asked: a running aggregate for each of them, read where it is

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


# -- Aggregation over a selection that is written out, 64 pairs to a machine word
#
# A sum over selected values is a sum over their binary digits: how many selected keys have each digit set, which is
# one `and` and one count of bits for 64 keys. A maximum is found digit by digit, from the highest down. Intermediate
# arrays are written into scratch space, since fresh memory costs more than the arithmetic. Words stand on the first
# axis, so that the long axes are the inner ones.

Words = NDArray[np.uint64]


WORD = 64
"""Keys in a word."""


def pack(chosen: NDArray[np.bool_]) -> Words:
    """Booleans [n, query, key], of at most 64 keys, as words [n, query], the first key in the lowest bit."""
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
        found = scratch.count(scratch.words) > 0
        best += np.left_shift(found, digit, dtype=np.int64)
        np.copyto(left, scratch.words, where=found)
    return np.where(some, best, default)


def _digits(values: Ints) -> list[tuple[int, Words]]:
    """For each binary digit of non-negative values [n, key], the keys that have it, words [key / 64, n, 1]."""
    keys = values.shape[1]
    out: list[tuple[int, Words]] = []
    for digit in range(int(values.max()).bit_length()):
        has = (values >> digit & 1).astype(np.bool_)[:, None]
        out.append((digit, np.stack([pack(has[..., first : first + WORD]) for first in range(0, keys, WORD)])))
    return out


class _Scratch:
    """Space for the words of a selection and for counts of their bits."""

    def __init__(self, like: Words):
        self.words = np.empty_like(like)
        self._bits = np.empty(like.shape, np.uint8)
        self._total = np.empty(like.shape[1:], np.uint32)

    def count(self, words: Words) -> NDArray[Any]:
        """How many bits are set in the words of each query; valid until the next call."""
        np.bitwise_count(words, out=self._bits)
        return np.add.reduce(self._bits, axis=0, dtype=np.uint32, out=self._total)


# -- Aggregation over the keys equal to the query, by sorting

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
