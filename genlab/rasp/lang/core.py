"""The core of RASP-L: eight operations on sequences (Zhou et al. 2023, arXiv 2310.16028, listing of the core).

Every operation takes sequences of shape [pos] or [n, pos] and returns one of the same shape. Plain arrays give a
plain array; a `Seq` gives a `Seq`, and the operation is recorded in its graph. A whole batch is computed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.functions import apply_map, as_integers
from genlab.rasp.lang.graph import Graph, Node, ProgramError, here
from genlab.rasp.lang.kernels import reduce_matrix, reduce_selected, selection
from genlab.rasp.lang.sequence import Seq, lift, unlift

Values = NDArray[Any]
Predicate = Callable[[Any, Any], Any]
REDUCTIONS = ("mean", "max", "min")


class Selector:
    """The keys that each query attends to: pred(k[j], q[i]), with j <= i if causal. Materialized only on demand."""

    __slots__ = ("causal", "graph", "k", "node", "pred", "q")

    def __init__(self, k: Seq, q: Seq, pred: Predicate, causal: bool):
        self.k, self.q, self.pred, self.causal = k, q, pred, causal
        self.graph: Graph = k.graph
        self.node: Node = self.graph.add("select", (k.node, q.node), pred, (causal,))

    def matrix(self) -> NDArray[np.bool_]:
        """The selection matrix: bool[n, query, key]."""
        return selection(self.k.values, self.q.values, self.pred, self.causal)


def full(x: Any, const: int) -> Any:
    """The constant at every position.

    >>> full(np.array([4, 5, 6]), 7).tolist()
    [7, 7, 7]
    """
    (x,), axes = lift(x)
    value = int(as_integers(np.asarray(const), "the constant of full"))
    values = np.full(x.shape, value, np.int64)
    return unlift(_record(x.graph, "full", (x.node,), None, (value,), values), axes)


def indices(x: Any) -> Any:
    """The position itself, from 0.

    >>> indices(np.array([4, 5, 6])).tolist()
    [0, 1, 2]
    """
    (x,), axes = lift(x)
    values = np.broadcast_to(np.arange(x.shape[1]), x.shape).copy()
    return unlift(_record(x.graph, "indices", (x.node,), None, (), values), axes)


def tok_map(x: Any, func: Callable[[Any], Any]) -> Any:
    """Apply `func` to the value at every position.

    >>> tok_map(np.array([4, 5, 6]), lambda v: v % 2).tolist()
    [0, 1, 0]
    """
    (x,), axes = lift(x)
    values = apply_map(func, x.values).astype(np.int64)
    return unlift(_record(x.graph, "tok_map", (x.node,), func, (), values), axes)


def seq_map(x: Any, y: Any, func: Callable[[Any, Any], Any]) -> Any:
    """Apply `func` to the values of two sequences at every position.

    >>> seq_map(np.array([4, 5, 6]), np.array([1, 9, 3]), max).tolist()
    [4, 9, 6]
    """
    (x, y), axes = lift(x, y)
    values = apply_map(func, x.values, y.values).astype(np.int64)
    return unlift(_record(x.graph, "seq_map", (x.node, y.node), func, (), values), axes)


def select(k: Any, q: Any, pred: Predicate, causal: bool = True) -> Any:
    """The keys that each query attends to: A[i, j] = pred(k[j], q[i]), and j <= i if causal.

    Plain arrays give the selection matrix, bool[query, key] or bool[n, query, key]; sequences give a `Selector`.

    >>> select(np.array([4, 5, 4]), np.array([4, 4, 4]), lambda k, q: k == q).astype(int).tolist()
    [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    """
    (k, q), axes = lift(k, q)
    if axes is None:
        return Selector(k, q, pred, bool(causal))
    matrix = selection(k.values, q.values, pred, bool(causal))
    return matrix if axes == 2 else matrix[0]


def sel_width(A: Any) -> Any:
    """The number of keys that each query attends to.

    >>> x = np.array([4, 5, 4])
    >>> sel_width(select(x, x, lambda k, q: k == q)).tolist()
    [1, 1, 2]
    """
    if not isinstance(A, Selector):
        return np.asarray(A).astype(np.int64).sum(axis=-1)
    values = reduce_selected(A.k.values, A.q.values, A.k.values, A.pred, 0, "width", A.causal)
    return _record(A.graph, "sel_width", (A.node,), None, (), values)


def aggr(A: Any, v: Any, default: int = 0, reduction: Literal["mean", "max", "min"] = "mean") -> Any:
    """Mean (truncated toward zero), max or min of the values that each query attends to; `default` if there are none.

    >>> x = np.array([4, 5, 4])
    >>> aggr(select(x, x, lambda k, q: k < q), np.array([7, 8, 9]), default=-1).tolist()
    [-1, 7, -1]
    """
    if reduction not in REDUCTIONS:
        raise ProgramError(f"{here()}: unknown reduction {reduction!r} (allowed: {', '.join(REDUCTIONS)})")
    default = int(as_integers(np.asarray(default), "the default of aggr"))
    if isinstance(A, Selector):
        (_, v), _ = lift(A.k, v)
        values = reduce_selected(A.k.values, A.q.values, v.values, A.pred, default, reduction, A.causal)
        return _record(A.graph, "aggr", (A.node, v.node), None, (default, reduction), values)
    (v,), axes = lift(v)
    if axes is None:
        raise ProgramError(f"{here()}: the selection must come from select")

    chosen = np.asarray(A).astype(np.bool_)
    chosen = np.broadcast_to(chosen, (v.shape[0], *chosen.shape[-2:]))
    values = reduce_matrix(chosen, v.values, default, reduction)
    return values if axes == 2 else values[0]


def aggr_mean(A: Any, v: Any, default: int = 0) -> Any:
    """`aggr` with reduction mean."""
    return aggr(A, v, default, "mean")


def aggr_max(A: Any, v: Any, default: int = 0) -> Any:
    """`aggr` with reduction max."""
    return aggr(A, v, default, "max")


def kqv(
    k: Any, q: Any, v: Any, pred: Predicate, default: int = 0, reduction: Literal["mean", "max", "min"] = "mean"
) -> Any:
    """`aggr` of a causal `select`: for each query, aggregate the values whose keys it matches.

    >>> x = np.array([4, 5, 4])
    >>> kqv(x, x, np.array([7, 8, 9]), lambda k, q: k == q, reduction="max").tolist()
    [7, 8, 9]
    """
    (k, q, v), axes = lift(k, q, v)
    return unlift(aggr(Selector(k, q, pred, causal=True), v, default, reduction), axes)


def _record(
    graph: Graph, op: Any, inputs: tuple[Node, ...], func: Any, params: tuple[Any, ...], values: Values
) -> Seq:
    return Seq(values, graph.add(op, inputs, func, params, values), graph)
