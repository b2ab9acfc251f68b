"""Functions of values: the standard comparisons, and how any Python callable is applied to whole arrays.

A callable of a program is a function of one or two *values*. It is called once for each value (or pair of values)
that occurs, never on an array, unless it is marked with `elementwise`: then it gives on arrays what it gives on
their elements, and is called once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.graph import ProgramError, here

Values = NDArray[Any]
Func = TypeVar("Func", bound=Callable[..., Any])

RAISED = 2
"""Entry of a predicate's table for a pair on which the predicate raises."""

_OPERATORS = frozenset((operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge))


def elementwise(func: Func) -> Func:
    """Mark a function that does on arrays what it does on each of their values, so that one call serves all."""
    func.__rasp_elementwise__ = True  # pyright: ignore[reportFunctionMemberAccess]
    return func


def is_elementwise(func: Callable[..., Any]) -> bool:
    """Whether a function may be called on arrays: marked, a numpy ufunc, or a comparison of `operator`."""
    if isinstance(func, np.ufunc):
        return True
    try:
        return func in _OPERATORS or hasattr(func, "__rasp_elementwise__")
    except TypeError:  # an unhashable callable
        return hasattr(func, "__rasp_elementwise__")


@elementwise
def equals(x: Any, y: Any) -> Any:
    return x == y


@elementwise
def leq(x: Any, y: Any) -> Any:
    return x <= y


@elementwise
def lt(x: Any, y: Any) -> Any:
    return x < y


@elementwise
def geq(x: Any, y: Any) -> Any:
    return x >= y


@elementwise
def gt(x: Any, y: Any) -> Any:
    return x > y


@elementwise
def always(k: Any, q: Any) -> Any:
    return np.logical_or(np.equal(k, k), q)


@elementwise
def key_is_true(k: Any, q: Any) -> Any:
    return np.logical_and(k, np.equal(q, q))


def apply_map(func: Callable[..., Any], *columns: Values) -> Values:
    """`func` of each value, or of each pair of values at one place; integers or booleans as it gives them.

    >>> apply_map(lambda a, b: a if b else -1, np.array([3, 4]), np.array([0, 1])).tolist()
    [-1, 4]
    """
    if is_elementwise(func):
        return as_integers(np.broadcast_to(func(*columns), columns[0].shape), func)
    codes, picks = _codes(columns)
    arguments = [column.reshape(-1)[picks] for column in columns]
    results = [func(*values) for values in zip(*arguments, strict=True)]
    return as_integers(np.array(results), func)[codes].reshape(columns[0].shape)


def as_integers(values: Values, source: object) -> Values:
    """Values as int64 or bool. Raises `ProgramError` where one is neither an integer nor a boolean."""
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind in "iu":
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "f":
        whole = np.isfinite(values)
        whole &= np.where(whole, values, 0.5) % 1 == 0
        if whole.all():
            return values.astype(np.int64)
        values = values[~whole]
    name = getattr(source, "__name__", str(source))
    example = values.reshape(-1)[0] if values.size else "nothing"
    raise ProgramError(f"{here()}: {name} gives {example}: the values of a sequence are integers or booleans")


def pair_table(pred: Callable[[Any, Any], Any], keys: Values, queries: Values) -> NDArray[np.int8]:
    """A predicate of every key with every query: int8[keys, queries], 0, 1, or `RAISED`."""
    table = np.empty((len(keys), len(queries)), np.int8)
    for i, key in enumerate(keys):
        for j, query in enumerate(queries):
            try:
                table[i, j] = bool(pred(key, query))
            except Exception:  # a pair that never meets may raise; `reduce_selected` raises for one that does
                table[i, j] = RAISED
    return table


def _codes(columns: tuple[Values, ...]) -> tuple[Values, Values]:
    """A code for each place (int[size]) such that equal arguments share it, and a place for each code."""
    code = np.zeros(columns[0].size, np.int64)
    room = 1
    for column in columns:
        flat = column.reshape(-1).astype(np.int64)
        low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
        if (span := high - low + 1) > 4 * flat.size + 1024:
            distinct, flat = np.unique(flat, return_inverse=True)
            low, span = 0, len(distinct)
        code, room = code * span + (flat - low), room * span
    if room > 4 * code.size + 65536:
        _, picks, code = np.unique(code, return_index=True, return_inverse=True)
        return code, picks
    seen = np.full(room, -1, np.int64)
    seen[code] = np.arange(code.size)
    present = np.flatnonzero(seen >= 0)
    picks = seen[present]
    seen[present] = np.arange(len(present))
    return seen[code], picks
