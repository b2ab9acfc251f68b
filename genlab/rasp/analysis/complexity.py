"""The complexity of a program: number of operations, length, depth, width, and the growth of its values.

Only operations that the output depends on are counted. `length` shares equal operations, as a compiler would;
`operations` counts calls at run time, as the published figures do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any

import numpy as np

from genlab.rasp.lang.graph import FREE, Graph, Node
from genlab.rasp.lang.sequence import Shorthand


@dataclass(frozen=True)
class Complexity:
    """The complexity of one program.

    Attributes:
        operations: number of calls of each core operation; numpy operators count as maps.
        short: number of maps that were written as numpy operators.
        length: number of operations after equal ones are shared; a map by several steps counts once for each step.
        depth: length of the longest chain of selects: a lower bound on the layers needed.
        width: the most selects at one depth, with each select at the earliest possible depth: the heads needed.
    """

    operations: Mapping[str, int]
    short: int
    length: int
    depth: int
    width: int


def complexity(graph: Graph, steps: Mapping[int, int] | None = None) -> Complexity:
    """The complexity of the program with this graph.

    Args:
        graph: the graph of one run.
        steps: node id of a map -> the number of steps by which it moves a value (`Reading.steps`).
    """
    live = [node for node in graph.live if node.op not in FREE]
    distinct = list({key: node for node, key in shared(graph).items() if node in live}.values())
    extra = sum(max(0, (steps or {}).get(node.id, 0) - 1) for node in distinct)
    depths = _depths(graph)
    heads = Counter(depths[node.id] for node in distinct if node.op == "select")
    return Complexity(
        operations=Counter(node.op for node in live),
        short=sum(node.short for node in live),
        length=len(distinct) + extra,
        depth=max(heads, default=0),
        width=max(heads.values(), default=0),
    )


def shared(graph: Graph) -> dict[Node, int]:
    """Number the operations such that equal operations on equal inputs have the same number."""
    numbers: dict[Node, int] = {}
    by_key: dict[tuple[Any, ...], int] = {}
    for node in graph.nodes:
        key = (node.op, function_key(node.func), node.params, tuple(numbers[parent] for parent in node.inputs))
        if node.op in ("full", "indices"):
            key = (node.op, node.params)  # they depend on the shape of their input only
        if node.op in FREE:
            key = (node.op, node.id)
        numbers[node] = by_key.setdefault(key, len(by_key))
    return numbers


def signature(graph: Graph) -> tuple[Any, ...]:
    """Everything in a graph except its values: equal for two runs of a program that does the same at both lengths."""
    return tuple(
        (node.op, function_key(node.func), node.params, tuple(parent.id for parent in node.inputs))
        for node in graph.nodes
    )


def function_key(func: Callable[..., Any] | None, within: frozenset[int] = frozenset()) -> Any:
    """A key that is equal for functions with equal code, constants and captured values.

    `within` holds the ids of the functions that capture this one, since a function may capture itself.
    """
    if func is None or isinstance(func, Shorthand):
        return func if func is None else func.key
    if id(func) in within:
        return "itself"
    within |= {id(func)}
    if isinstance(func, partial):
        bound = (*func.args, *sorted(func.keywords.items()))
        return ("partial", function_key(func.func, within), _value_key(bound, within))
    code = getattr(func, "__code__", None)
    if code is None:
        return (type(func).__name__, getattr(func, "__qualname__", repr(func)))
    cells = [cell.cell_contents for cell in getattr(func, "__closure__", None) or ()]
    defaults = getattr(func, "__defaults__", None) or ()
    return (_code_key(code), _value_key((*cells, *defaults), within))


def _value_key(value: Any, within: frozenset[int]) -> Any:
    """A key that is equal for equal captured values."""
    if callable(value):
        return function_key(value, within)
    if isinstance(value, dict):
        return tuple((repr(key), _value_key(each, within)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(_value_key(each, within) for each in value)
    return f"{value.shape} {value.tobytes()!r}" if isinstance(value, np.ndarray) else repr(value)


def _code_key(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(_code_key(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return (code.co_code, constants, code.co_names)


def _depths(graph: Graph) -> dict[int, int]:
    """Node id -> the length of the longest chain of selects that ends in this operation."""
    depths: dict[int, int] = {}
    for node in graph.nodes:
        below = max((depths[parent.id] for parent in node.inputs), default=0)
        depths[node.id] = below + (node.op == "select")
    return depths


def largest(graph: Graph, kinds: Mapping[int, str]) -> dict[str, int]:
    """Kind -> the largest absolute value of its operations, in a run that stored its values."""
    maxima: dict[str, int] = {}
    for node in graph.live:
        if node.id in graph.values and node.op != "input":
            value = int(np.abs(graph.values[node.id].astype(np.int64)).max())
            maxima[kinds[node.id]] = max(maxima.get(kinds[node.id], 0), value)
    return maxima
