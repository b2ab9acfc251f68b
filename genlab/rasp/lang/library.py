"""The library of RASP-L, written in terms of the core, with the published names, argument orders and defaults.

Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028. In the published version `argmax`,
`argmin` and `mode` raise an exception; here they work. `minimum` and `first_true` take a min where the published ones
negate and take a mean: the values are the same, but no mean over indices is used to read a single key.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genlab.rasp.lang.core import full, indices, kqv, sel_width, select, seq_map
from genlab.rasp.lang.functions import always, elementwise, equals, gt, key_is_true


def shift_right(x: Any, n: int, default: int = 0) -> Any:
    """The value n positions back.

    >>> shift_right(np.array([4, 5, 6]), 1).tolist()
    [0, 4, 5]
    """
    return kqv(indices(x) + n, indices(x), x, equals, default=default)


def cumsum(bool_array: Any) -> Any:
    """The number of true values so far.

    >>> cumsum(np.array([1, 0, 1])).tolist()
    [1, 1, 2]
    """
    return sel_width(select(bool_array, bool_array, key_is_true))


def where(condition: Any, x_if: Any, y_else: Any) -> Any:
    """`x_if` where the condition is true, else `y_else`. Three maps, since a map reads two sequences.

    >>> where(np.array([1, 0]), np.array([4, 5]), np.array([6, 7])).tolist()
    [4, 7]
    """
    x_masked = seq_map(x_if, condition, kept_if)
    y_masked = seq_map(y_else, condition, kept_unless)
    return seq_map(x_masked, y_masked, second_or_first)


def mask(x: Any, bool_mask: Any, mask_val: int = 0) -> Any:
    """`x` where the mask is true, else `mask_val`.

    >>> mask(np.array([4, 5]), np.array([1, 0]), -1).tolist()
    [4, -1]
    """
    return where(bool_mask, x, full(x, mask_val))


def maximum(x: Any) -> Any:
    """The largest value so far.

    >>> maximum(np.array([3, 1, 4, 1])).tolist()
    [3, 3, 4, 4]
    """
    return kqv(x, x, x, always, reduction="max")


def minimum(x: Any) -> Any:
    """The smallest value so far.

    >>> minimum(np.array([3, 1, 4, 1])).tolist()
    [3, 1, 1, 1]
    """
    return kqv(x, x, x, always, reduction="min")


def argmax(x: Any) -> Any:
    """The index of the largest value so far, the last one if there are several.

    >>> argmax(np.array([3, 1, 4, 1, 5, 9, 2, 6])).tolist()
    [0, 0, 2, 2, 4, 5, 5, 5]
    """
    return kqv(x, maximum(x), indices(x), equals, reduction="max")


def argmin(x: Any) -> Any:
    """The index of the smallest value so far, the last one if there are several.

    >>> argmin(np.array([3, 1, 4, 1])).tolist()
    [0, 1, 1, 3]
    """
    return kqv(x, minimum(x), indices(x), equals, reduction="max")


def num_prev(x: Any, queries: Any) -> Any:
    """The number of values so far that equal the query.

    >>> num_prev(np.array([4, 5, 4]), np.array([4, 4, 4])).tolist()
    [1, 1, 2]
    """
    return sel_width(select(x, queries, equals))


def has_seen(x: Any, queries: Any) -> Any:
    """1 where some value so far equals the query, else 0.

    >>> has_seen(np.array([4, 5, 4]), np.array([5, 5, 6])).tolist()
    [0, 1, 0]
    """
    return kqv(x, queries, full(x, 1), equals, default=0)


def firsts(x: Any, queries: Any, default: int = -1) -> Any:
    """The index of the first value that equals the query; `default` if there is none so far.

    >>> firsts(np.array([4, 5, 4]), np.array([4, 4, 6])).tolist()
    [0, 0, -1]
    """
    return kqv(x, queries, indices(x), equals, default=default, reduction="min")


def lasts(x: Any, queries: Any, default: int = -1) -> Any:
    """The index of the last value so far that equals the query; `default` if there is none.

    >>> lasts(np.array([4, 5, 4]), np.array([4, 4, 4])).tolist()
    [0, 0, 2]
    """
    return kqv(x, queries, indices(x), equals, default=default, reduction="max")


def index_select(x: Any, idx: Any, default: int = 0) -> Any:
    """The value at an index; `default` if the index is negative or beyond this position.

    >>> index_select(np.array([4, 5, 6]), np.array([0, 2, 1])).tolist()
    [4, 0, 5]
    """
    return kqv(indices(x), idx, x, equals, default=default)


def first_true(x: Any, default: int = -1) -> Any:
    """The index of the first true value; `default` if there is none so far.

    >>> first_true(np.array([0, 1, 1])).tolist()
    [-1, 1, 1]
    """
    any_true = kqv(x, full(x, 1), full(x, 1), equals, default=0)
    first = seq_map(any_true, shift_right(any_true, 1), newly_true)
    return kqv(first, full(x, 1), indices(x), equals, default=default, reduction="min")


def mode(x: Any) -> Any:
    """The most frequent value so far; in case of a tie the one that reached that count last.

    >>> mode(np.array([4, 5, 5, 4])).tolist()
    [4, 5, 5, 4]
    """
    return index_select(x, argmax(sel_width(select(x, x, equals))))


def binary_mode(x: Any) -> Any:
    """1 where there are more ones than zeros so far, else 0.

    >>> binary_mode(np.array([0, 1, 1])).tolist()
    [0, 0, 1]
    """
    zeros = sel_width(select(x, full(x, 0), equals))
    ones = sel_width(select(x, full(x, 1), equals))
    return seq_map(ones, zeros, gt) * 1


def induct_kqv(k: Any, q: Any, v: Any, offset: int, default: int = 0, null_val: int = -999) -> Any:
    """The value `offset` positions after the first key that equals the query.

    `null_val` must be a value that occurs neither among the keys nor among the queries.

    >>> x = np.array([7, 4, 5, 7])
    >>> induct_kqv(x, x, x, offset=1).tolist()
    [0, 0, 0, 4]
    """
    index = firsts(shift_right(k, offset, default=null_val), q, default=null_val)
    return index_select(v, index, default=default)


def induct(k: Any, q: Any, offset: int, default: int = 0, null_val: int = -999) -> Any:
    """The key `offset` positions after the first key that equals the query.

    >>> induct(np.array([7, 4, 5]), np.array([7, 7, 4]), offset=1).tolist()
    [0, 4, 5]
    """
    return induct_kqv(k, q, k, offset=offset, default=default, null_val=null_val)


def induct_prev(k: Any, q: Any, offset: int, default: int = 0, null_val: int = -999) -> Any:
    """`induct` for a negative offset.

    >>> induct_prev(np.array([7, 4, 5]), np.array([7, 4, 5]), offset=-1).tolist()
    [0, 7, 4]
    """
    index = firsts(k, q, default=null_val) + offset
    return index_select(k, index, default=default)


# The functions below work on single values and on arrays.


@elementwise
def kept_if(x: Any, m: Any) -> Any:
    return np.where(m, x, 0)


@elementwise
def kept_unless(y: Any, m: Any) -> Any:
    return np.where(m, 0, y)


@elementwise
def second_or_first(x: Any, y: Any) -> Any:
    return np.where(np.equal(y, 0), x, y)


@elementwise
def newly_true(now: Any, before: Any) -> Any:
    return np.not_equal(now, 0) & np.equal(before, 0)
