"""Functions of values: the standard comparisons, and the application of Python callables to whole arrays.

A callable that a program passes to an operation is a function of one or two *values*. It is called once for each
distinct value (or pair of values), never on an array, unless it is marked with `elementwise`: such a function works
on whole arrays and is called once.
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
"""Table entry for a pair on which the predicate raises."""

_OPERATORS = frozenset((operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge))


def elementwise(func: Func) -> Func:
    """Mark a function that works elementwise on arrays, so that it is called once for a whole array."""
    func.__rasp_elementwise__ = True  # pyright: ignore[reportFunctionMemberAccess]
    return func


def is_elementwise(func: Callable[..., Any]) -> bool:
    """Whether a function may be called on arrays: a marked function, a numpy ufunc, or a comparison of `operator`."""
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
    """Apply `func` to each value, or to each pair of values at the same position.

    Args:
        func: a function of as many values as there are columns.
        columns: one or two integer or boolean arrays of equal shape.

    Returns:
        Its results, int64 or bool as the function returns them, in the shape of the columns.

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
    """Convert values to int64 or bool; `source` names their origin in the error message.

    Raises:
        ProgramError: a value is neither an integer nor a boolean.
    """
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
    """The value of a predicate for every key and query: int8[key, query], one of 0, 1 and `RAISED`."""
    table = np.empty((len(keys), len(queries)), np.int8)
    for i, key in enumerate(keys):
        for j, query in enumerate(queries):
            try:
                table[i, j] = bool(pred(key, query))
            except Exception:  # only an error if the pair occurs in the input: see `_Table.compare` in kernels.py
                table[i, j] = RAISED
    return table


def _codes(columns: tuple[Values, ...]) -> tuple[Values, Values]:
    """Number the distinct arguments of a function.

    Returns:
        The number of the arguments at each position, int[size], and a position for each number, int[distinct].
    """
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
    last = np.full(room, -1, np.int64)
    last[code] = np.arange(code.size)
    present = np.flatnonzero(last >= 0)
    picks = last[present]
    last[present] = np.arange(len(present))
    return last[code], picks
