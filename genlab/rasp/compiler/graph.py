"""From the graph of a program to attention heads and MLP units.

The construction follows Tracr (Lindner et al. 2023, arXiv 2301.05062): a categorical residual stream, selects as
attention, maps as lookup tables in MLPs. It differs where genlab's models do: attention is causal and its softmax has
a finite temperature, so that

- a start token takes the attention of a query that selects nothing, and stands for the default;
- a count comes from the weight 1 / (n + 1) that the start token gets beside n selected keys, read by steps;
- max and min add the rank of the value to the score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genlab.rasp.analysis.complexity import shared
from genlab.rasp.compiler.parts import (
    MOST_ENTRIES,
    ONE,
    START,
    Array,
    Bools,
    Floats,
    Head,
    Linear,
    Step,
    Table,
    Unit,
    Variable,
    steps_of,
)
from genlab.rasp.lang.functions import apply_map, equals
from genlab.rasp.lang.graph import Graph, Node

MOST_VALUES = 1024
"""The most values of a variable."""
MOST_UNITS = 16384
"""The most units that one map may take."""


class Refused(Exception):
    """An operation that has no construction here; the message says why."""


@dataclass
class Parts:
    """What a program was compiled to.

    Attributes:
        variables: those that live in the residual stream, in the order in which they were made.
        heads, units: what computes them.
        outputs: the next token's value by each program, as a function of at most one variable.
        refused: for each operation that cannot be compiled, why.
    """

    variables: list[Variable] = field(default_factory=list[Variable])
    heads: list[Head] = field(default_factory=list[Head])
    units: list[Unit] = field(default_factory=list[Unit])
    outputs: list[Table] = field(default_factory=list[Table])
    refused: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Setting:
    """What the constructions depend on beside the graph.

    Attributes:
        tokens: int[token], the values of the tokens that a program can read.
        positions: the most positions of an input, without the start token.
        gap: how much larger the score of a key is that shall win against one that shall not.
        first: the index of the first position after the start token: 1 if the program sees the start token itself.
        at_start: node id -> its value at the start token, if the program sees it.
    """

    tokens: Array
    positions: int
    gap: float
    first: int
    at_start: dict[int, int]


def compile_graph(graph: Graph, outputs: Sequence[Node], setting: Setting) -> Parts:
    """Compile a graph, up to its outputs. What cannot be compiled is listed in `refused`, all of it."""
    return _Compiler(graph, setting).run(outputs)


class _Compiler:
    def __init__(self, graph: Graph, setting: Setting):
        self.graph, self.setting, self.parts = graph, setting, Parts()
        self.tokens = Variable("token", setting.tokens, 0)
        self.index = Variable("index", np.arange(setting.positions) + setting.first, 0, distinct=True)
        self.tables: dict[int, Table] = {}
        self.numbers = shared(graph)
        self.known: dict[Any, Table] = {}

    def run(self, outputs: Sequence[Node]) -> Parts:
        """Compile every operation that an output depends on, in order."""
        for node in _needed(self.graph, outputs):
            number = self.numbers[node]
            if node.op != "select" and number not in self.tables and not any(map(self._failed, node.inputs)):
                self._try(node, lambda node=node: self._keep(node))
        for node in outputs if not self.parts.refused else ():
            self._try(node, lambda node=node: self.parts.outputs.append(self._single(self._of(node), "output")))
        return self.parts

    def _try(self, node: Node, work: Callable[[], None]) -> None:
        try:
            work()
        except Refused as why:
            self.parts.refused.append(f"{node.place}: {node.label}: {why}")

    def _keep(self, node: Node) -> None:
        table = self._table(node)
        if len(table.of) < 2:  # that of two variables is checked if it is looked up: heads compare pairs as they are
            _check_values(table.domain)
        self.tables[self.numbers[node]] = table

    def _failed(self, node: Node) -> bool:
        parents = node.inputs if node.op == "select" else (node,)
        return any(self.numbers[parent] not in self.tables for parent in parents)

    def _of(self, node: Node) -> Table:
        return self.tables[self.numbers[node]]

    def _table(self, node: Node) -> Table:
        match node.op:
            case "input":
                return _identity(self._use(self.tokens))
            case "foreign":
                raise Refused("an array that is not computed from the input")
            case "full":
                return Table((), np.array(node.params[0]), np.array(True))
            case "indices":
                return _identity(self._use(self.index))
            case "tok_map" | "seq_map":
                return self._map(node)
            case "sel_width":
                return self._count(node)
            case "aggr":
                return self._aggregate(node)
            case "select":
                raise AssertionError("a select has no table")

    def _use(self, variable: Variable) -> Variable:
        if variable not in self.parts.variables:
            self.parts.variables.append(variable)
        return variable

    # -- Maps

    def _map(self, node: Node) -> Table:
        assert node.func is not None
        given = [self._of(parent) for parent in node.inputs]
        if _variables(given) is None:  # of more than two variables
            given = [self._single(table, parent.label) for table, parent in zip(given, node.inputs, strict=True)]
        fused = self._apply(node, given)
        if len(fused.of) < 2 or all(len(table.of) < 2 for table in given):
            return fused
        # A table of tables takes few units or many: then its arguments are computed first.
        if fused.values.size <= MOST_ENTRIES and self._cost(fused) <= 2 * sum(map(len, fused.of)) + 16:
            return fused
        single = [self._single(table, parent.label) for table, parent in zip(given, node.inputs, strict=True)]
        return self._apply(node, single)

    def _apply(self, node: Node, given: list[Table]) -> Table:
        assert node.func is not None
        variables = _variables(given)
        assert variables is not None
        size = math.prod(len(v) for v in variables)
        if size > MOST_ENTRIES:
            raise Refused(f"is a table of {size:,} entries (at most {MOST_ENTRIES:,})")
        shape = tuple(len(v) for v in variables)
        columns = [np.broadcast_to(table.over(variables)[0], shape) for table in given]
        valid = np.logical_and.reduce([np.broadcast_to(table.over(variables)[1], shape) for table in given])
        values, defined = _called(node.func, columns, valid)
        return _reduced(Table(variables, values.astype(bool if node.is_bool else np.int64), defined))

    def _cost(self, table: Table) -> int:
        """How many units the table takes."""
        if len(table.of) < 2:
            return 0
        return len(steps_of(table.codes(table.domain), table.valid, (table.of[0].values, table.of[1].values))[1])

    def _single(self, table: Table, what: str) -> Table:
        """The same sequence as a function of one variable or none, which an MLP computes if need be."""
        if len(table.of) < 2:
            return table
        key = (table.of, table.values.tobytes(), table.valid.tobytes(), table.values.dtype)
        if key not in self.known:
            self.known[key] = self._looked_up(table, what)
        return self.known[key]

    def _looked_up(self, table: Table, what: str) -> Table:
        """A lookup table in an MLP, one unit per step."""
        domain = table.domain
        _check_values(domain)
        base, steps = steps_of(table.codes(domain), table.valid, (table.of[0].values, table.of[1].values))
        if len(steps) > MOST_UNITS:
            raise Refused(f"is a table that takes {len(steps):,} units (at most {MOST_UNITS:,})")
        layer = table.ready // 2
        out = self._use(Variable(what, domain.astype(np.int64), 2 * layer + 2))
        self._always(layer, out, base)
        for step in steps:
            reads = [(v, c[:, None]) for v, c in zip(table.of, step.reads, strict=True)]
            self._unit(layer, Linear(reads), step.bias, out, step)
        codes = _identity(out)
        return Table(codes.of, domain, codes.valid)

    def _always(self, layer: int, out: Variable, code: int) -> None:
        """Write one value at every token but the start token."""
        reads = Linear([(ONE, np.array([[2.0]]))])
        self.parts.units.append(Unit(layer, reads, -0.5, [(out, _unit_vector(len(out), code))]))

    def _unit(self, layer: int, reads: Linear, bias: float, out: Variable, step: Step) -> None:
        change = _unit_vector(len(out), step.on) - _unit_vector(len(out), step.off)
        if bias > 0:  # off at the start token, where all variables are 0
            reads = Linear([*reads.parts, (START, np.array([[-2.0 * bias - 1.0]]))])
        self.parts.units.append(Unit(layer, reads, bias, [(out, change)]))

    # -- Attention

    def _selected(self, select: Node) -> tuple[Linear, Linear, Array]:
        """Queries and keys whose product is 1 for a selected pair, at most 0 for others; and how many are selected.

        A table of keys and queries, with equal rows and columns taken together; or equality of two variables each.
        The last is int[query], the number of values of the key that each value of the query selects.
        """
        assert select.func is not None
        if not select.params[0]:
            raise Refused("attends to what comes later (causal=False)")
        keys, queries = (self._of(side) for side in select.inputs)
        if select.func is equals and keys is queries and (pairs := _pairs(keys)):
            return *pairs, np.ones(len(keys.domain), int)
        kv, qv = keys.domain, queries.domain
        if len(kv) * len(qv) > MOST_ENTRIES:
            raise Refused(f"compares {len(kv):,} keys with {len(qv):,} queries (at most {MOST_ENTRIES:,} pairs)")
        pairs = np.broadcast_arrays(kv[:, None], qv[None])
        values, defined = _called(select.func, list(pairs), np.ones(pairs[0].shape, bool))
        met = values.astype(bool) & defined
        key_rows, key_class = np.unique(met, axis=0, return_inverse=True)
        table, query_class = np.unique(key_rows, axis=1, return_inverse=True)
        key = self._classes(keys, kv, key_class.reshape(-1), f"key of {select.label}")
        query = self._classes(queries, qv, query_class.reshape(-1), f"query of {select.label}")
        # One output for each class of keys or of queries, whichever are fewer; a class without a match needs none.
        used_keys, used_queries = np.flatnonzero(table.any(1)), np.flatnonzero(table.any(0))
        if len(used_keys) <= len(used_queries):
            k = key.read(_one_hot(key.values, used_keys))
            q = query.read(table[used_keys].T[query.values.reshape(-1)].astype(float))
        else:
            q = query.read(_one_hot(query.values, used_queries))
            k = key.read(table[:, used_queries][key.values.reshape(-1)].astype(float))
        return q, k, met.sum(axis=0)

    def _classes(self, table: Table, domain: Array, classes: Array, what: str) -> Table:
        """The class of each value, as a function of one variable or none."""
        return self._single(_reduced(Table(table.of, classes[table.codes(domain)], table.valid)), what)

    def _start_selected(self, select: Node, queries: Array) -> Bools:
        """For each query, whether it selects the start token, if the program sees that: bool[query]."""
        assert select.func is not None
        if not self.setting.first:
            return np.zeros(len(queries), bool)
        key = select.inputs[0]
        at_start = np.full(len(queries), self.setting.at_start[key.id])
        values, defined = _called(select.func, [at_start.astype(bool) if key.is_bool else at_start, queries])
        return values.astype(bool) & defined

    def _refuse_start(self, select: Node, hits: Array, source: Node | None = None, default: int = 0) -> None:
        """The start token takes the attention of a query that selects nothing, and so stands for the default.

        It may be selected only where nothing else is, and where its own value is the default.
        """
        selected = self._start_selected(select, self._of(select.inputs[1]).domain)
        alone = source is not None and self.setting.at_start.get(source.id) == default
        if selected.any() and not (alone and not hits[selected].any()):
            raise Refused("selects the start token, which stands for the default")

    def _head(self, q: Linear, k: Linear, v: Linear, own: tuple[Linear, Linear], out: Variable, what: str) -> None:
        """A head with the scores of a select, and one more product: that of the key alone."""
        q, k = q.beside(own[0]), k.beside(own[1])
        if max(q.ready, k.ready, v.ready) > out.ready - 1:
            raise AssertionError("a head reads what is not there yet")
        self.parts.heads.append(Head(out.ready // 2, q, k, v, out, what))

    def _own(self, at_start: float, ranks: Linear | None = None) -> tuple[Linear, Linear]:
        """The score of a key alone, for every query: `at_start` at the start token, at others their rank."""
        start = Linear([(START, np.array([[at_start]]))])
        keys = start if ranks is None else Linear([*start.parts, *ranks.parts])
        return Linear([(ONE, np.ones((1, 1)))]), keys

    def _count(self, node: Node) -> Table:
        """The number of selected keys: the start token has their score, and so the weight 1 / (n + 1)."""
        select = node.inputs[0]
        q, k, hits = self._selected(select)
        self._refuse_start(select, hits)
        gap, most = self.setting.gap, self.setting.positions
        if not hits.any():
            return Table((), np.array(0), np.array(True))
        layer = (max(q.ready, k.ready) + 1) // 2
        weight = self._use(Variable(f"weight of {select.label}", np.array([0]), 2 * layer + 1, raw=True))
        weight.at_start = np.ones(1)
        self._head(_times(q, gap), k, Linear([(START, np.ones((1, 1)))]), self._own(gap), weight, node.label)
        every = bool((hits == len(self._of(select.inputs[0]).domain)).all())
        out = self._use(Variable(node.label, np.arange(most + 1), 2 * layer + 2, distinct=every))
        self._staircase(layer, weight, out)
        return _identity(out)

    def _staircase(self, layer: int, weight: Variable, out: Variable) -> None:
        """Read n from the weight 1 / (n + 1): a unit for each n, on above half way from n - 1 to n."""
        self._always(layer, out, 0)
        for n in range(1, len(out)):
            fewer, more = 1.0 / n, 1.0 / (n + 1)
            gain = 2.0 / (fewer - more)
            bias = 0.5 + gain * (fewer + more) / 2
            self._unit(layer, Linear([(weight, np.array([[-gain]]))]), bias, out, Step((), bias, n - 1, n))

    def _aggregate(self, node: Node) -> Table:
        select, source = node.inputs
        default, reduction = node.params
        values = self._single(self._of(source), source.label)
        q, k, hits = self._selected(select)
        domain, gap = values.domain.astype(np.int64), self.setting.gap
        self._refuse_start(select, hits, source, default)
        if not hits.any():
            return Table((), np.array(default), np.array(True))
        if reduction == "mean" and len(domain) > 1 and not self._one_key(select, hits):
            return self._mean(node, values, q, k)
        ranks, beta = None, 2 * gap
        if reduction != "mean" and len(domain) > 1:
            order = np.arange(1, len(domain) + 1) if reduction == "max" else np.arange(len(domain), 0, -1)
            ranks = values.read(gap * order[values.codes(domain)].reshape(-1, 1).astype(float))
            beta = gap * (len(domain) + 1)
        every = np.unique([*domain.tolist(), default])
        reads = values.read(_one_hot(np.searchsorted(every, values.values), np.arange(len(every))))
        at_start = _unit_vector(len(every), int(np.searchsorted(every, default)))
        v = Linear([*reads.parts, (START, at_start[None])])
        own = self._own(beta if ranks is not None else gap, ranks)
        layer = (max(q.ready, k.ready, v.ready, own[1].ready) + 1) // 2
        out = self._use(Variable(node.label, every, 2 * layer + 1, at_start=at_start))
        self._head(_times(q, beta), k, v, own, out, node.label)
        return _identity(out)

    def _one_key(self, select: Node, hits: Array) -> bool:
        """Whether no query can select two keys: keys differ between positions, and each query meets one value."""
        keys = self._of(select.inputs[0])
        if len(keys.of) != 1 or not keys.of[0].distinct:
            return False
        injective = len(np.unique(keys.values[keys.valid])) == int(keys.valid.sum())
        return injective and int(hits.max()) <= 1

    def _mean(self, node: Node, values: Table, q: Linear, k: Linear) -> Table:
        """The mean of numbers, truncated toward zero; the default is a number above all of them."""
        default, domain, gap = node.params[0], values.domain.astype(np.int64), self.setting.gap
        low, high = int(domain[0]), int(domain[-1])
        if high - low >= MOST_VALUES:
            raise Refused(f"is a mean over several keys of values from {low} to {high} (at most {MOST_VALUES} apart)")
        above = float(high + 1 - low)
        v = Linear(
            [*values.read((values.values.reshape(-1, 1) - low).astype(float)).parts, (START, np.array([[above]]))]
        )
        own = self._own(gap)
        layer = (max(q.ready, k.ready, v.ready) + 1) // 2
        raw = self._use(Variable(f"mean of {node.inputs[1].label}", np.array([1]), 2 * layer + 1, raw=True))
        raw.at_start = np.array([above])
        self._head(_times(q, 2 * gap), k, v, own, raw, node.label)
        means = np.arange(low, high + 2)
        out = self._use(Variable(node.label, means, 2 * layer + 2))
        self._always(layer, out, 0)
        half = 1.0 / (2 * self.setting.positions)  # means of n numbers are 1 / n apart
        for code, mean in enumerate(means[:-1].tolist()):
            # Truncation: the next mean starts at mean + 1 from 0 on, and right above `mean` below 0.
            threshold = mean + 0.5 if mean == high else mean + 1 - half if mean >= 0 else mean + half
            gain = 2.0 if mean == high else 1.0 / half
            bias = 0.5 - gain * (threshold - low)
            self._unit(layer, Linear([(raw, np.array([[gain]]))]), bias, out, Step((), bias, code, code + 1))
        given = np.where(means == high + 1, default, means)
        return Table((out,), given, np.ones(len(out), bool))


def _needed(graph: Graph, outputs: Sequence[Node]) -> list[Node]:
    """The operations that an output depends on, in order."""
    found: set[int] = set()
    queue = list(outputs)
    while queue:
        node = queue.pop()
        if node.id not in found:
            found.add(node.id)
            queue += node.inputs
    return [node for node in graph.nodes if node.id in found]


def _identity(variable: Variable) -> Table:
    return Table((variable,), variable.values, np.ones(len(variable), bool))


def _variables(tables: list[Table]) -> tuple[Variable, ...] | None:
    """The variables that the tables read; None if there are more than two."""
    found = tuple(dict.fromkeys(variable for table in tables for variable in table.of))
    return found if len(found) <= 2 else None


def _check_values(domain: Array) -> None:
    if len(domain) > MOST_VALUES:
        raise Refused(f"takes {len(domain):,} values (at most {MOST_VALUES:,})")


def _called(func: Callable[..., Any], columns: list[Array], valid: Bools | None = None) -> tuple[Array, Bools]:
    """A function of values at every entry, and where it has a value: a function of a program may raise."""
    shape = columns[0].shape
    valid = np.ones(shape, bool) if valid is None else valid
    flat = [column[valid] for column in columns]
    out, defined = np.zeros(shape, np.int64), valid.copy()
    if not len(flat[0]):
        return out, defined
    try:
        out[valid] = apply_map(func, *flat)
    except Exception:
        results = [_attempt(func, entries) for entries in zip(*flat, strict=True)]
        out[valid] = [0 if result is None else result for result in results]
        defined[valid] = [result is not None for result in results]
    return out, defined


def _attempt(func: Callable[..., Any], entries: tuple[Any, ...]) -> int | None:
    try:
        return int(apply_map(func, *(np.array([entry]) for entry in entries))[0])
    except Exception:
        return None


def _reduced(table: Table) -> Table:
    """The table without variables that it does not depend on."""
    for axis in range(len(table.of)):
        if table.valid.any():
            values = np.moveaxis(table.values, axis, 0)
            valid = np.moveaxis(table.valid, axis, 0)
            filled = np.where(valid, values, 0)
            high = np.where(valid, values, np.iinfo(np.int64).min).max(0)
            low = np.where(valid, values, np.iinfo(np.int64).max).min(0)
            if (high <= low).all() or (high == low)[valid.any(0)].all():
                known = valid.any(0)
                rest = tuple(v for i, v in enumerate(table.of) if i != axis)
                shrunk = np.where(known, high, filled[0]).astype(table.values.dtype)
                return _reduced(Table(rest, shrunk, np.asarray(known)))
    return table


def _pairs(table: Table) -> tuple[Linear, Linear] | None:
    """Queries and keys whose product is 1 where values are equal, else at most 0: the equal variables, less 1.

    None if the table is not that of a pair, which tells apart whatever differs in one of the two.
    """
    if len(table.of) < 2 or not table.valid.all():
        return None
    rows, of_first = np.unique(table.values, axis=0, return_inverse=True)
    core, of_second = np.unique(rows, axis=1, return_inverse=True)
    if len(np.unique(core)) < core.size:
        return None
    sides = [
        Linear([(variable, _one_hot(classes, np.arange(count)))])
        for variable, classes, count in zip(table.of, (of_first, of_second), core.shape, strict=True)
    ]
    both, one = sides[0].beside(sides[1]), np.ones((1, 1))
    return both.beside(Linear([(ONE, one)])), both.beside(Linear([(ONE, -one)]))


def _unit_vector(width: int, at: int) -> Floats:
    out = np.zeros(width)
    out[at] = 1.0
    return out


def _one_hot(codes: Array, kept: Array) -> Floats:
    """1 in the column of each code that is kept, float[value, kept]."""
    return (codes.reshape(-1, 1) == kept[None]).astype(float)


def _times(linear: Linear, factor: float) -> Linear:
    return Linear([(variable, factor * matrix) for variable, matrix in linear.parts])
