"""How large a program is: operations, length, depth, width, and how its values grow.

Counted over the operations that the output depends on. `length` shares equal operations, as a compiler would;
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
    """Sizes of one program.

    Attributes:
        operations: calls of each core operation; numpy operators are the maps that they are short for.
        short: how many of the maps were written as numpy operators.
        length: operations after equal ones are shared; a map of several steps counts as that many.
        depth: the longest chain of selects: the layers needed.
        width: the most selects at one depth, each placed as early as it can be: the heads needed.
    """

    operations: Mapping[str, int]
    short: int
    length: int
    depth: int
    width: int


def complexity(graph: Graph, steps: Mapping[int, int] | None = None) -> Complexity:
    """Sizes of the program that left this graph. `steps` says how far each map moves a value (see `Reading`)."""
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
    """A number for each operation such that equal operations on equal inputs have the same."""
    numbers: dict[Node, int] = {}
    seen: dict[tuple[Any, ...], int] = {}
    for node in graph.nodes:
        key = (node.op, function_key(node.func), node.params, tuple(numbers[parent] for parent in node.inputs))
        if node.op in ("full", "indices"):
            key = (node.op, node.params)  # they read nothing but the shape
        if node.op in FREE:
            key = (node.op, node.id)
        numbers[node] = seen.setdefault(key, len(seen))
    return numbers


def signature(graph: Graph) -> tuple[Any, ...]:
    """All that a graph is but its values: equal for two runs of a program that does the same at both lengths."""
    return tuple(
        (node.op, function_key(node.func), node.params, tuple(parent.id for parent in node.inputs))
        for node in graph.nodes
    )


def function_key(func: Callable[..., Any] | None, within: frozenset[int] = frozenset()) -> Any:
    """Equal for functions of equal code, constants and captured values, however often they were made.

    `within` holds the functions that captured this one: one may capture itself.
    """
    if func is None or isinstance(func, Shorthand):
        return func if func is None else func.key
    if id(func) in within:
        return "itself"
    within |= {id(func)}
    if isinstance(func, partial):
        given = (*func.args, *sorted(func.keywords.items()))
        return ("partial", function_key(func.func, within), _value_key(given, within))
    code = getattr(func, "__code__", None)
    if code is None:
        return (type(func).__name__, getattr(func, "__qualname__", repr(func)))
    cells = [cell.cell_contents for cell in getattr(func, "__closure__", None) or ()]
    defaults = getattr(func, "__defaults__", None) or ()
    return (_code_key(code), _value_key((*cells, *defaults), within))


def _value_key(value: Any, within: frozenset[int]) -> Any:
    """Equal for equal values that a function captures."""
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
    """For each operation the longest chain of selects that ends in it."""
    depths: dict[int, int] = {}
    for node in graph.nodes:
        below = max((depths[parent.id] for parent in node.inputs), default=0)
        depths[node.id] = below + (node.op == "select")
    return depths


def largest(graph: Graph, kinds: Mapping[int, str]) -> dict[str, int]:
    """The largest absolute value of the operations of each kind, in a run that kept its values."""
    found: dict[str, int] = {}
    for node in graph.live:
        if node.id in graph.values and node.op != "input":
            value = int(np.abs(graph.values[node.id].astype(np.int64)).max())
            found[kinds[node.id]] = max(found.get(kinds[node.id], 0), value)
    return found
