"""C-RASP, the counting fragment: a check whether a graph can be written in it.

A formula is a Boolean combination of the symbol at the current position, the symbol at a fixed distance (local), the
position modulo a constant (periodic), and comparisons of linear sums of counts, where a count is the number of
positions up to the current one that satisfy a formula. Huang et al. 2024, A Formal Framework for Understanding Length
Generalization, arXiv 2410.02140 (C-RASP[periodic, local]); Yang and Chiang 2024, arXiv 2404.04393 (C-RASP).

A program is read as formulas, one for each value of a finite sequence. The alphabet is finite: a lookup by equal
symbols is a disjunction over symbols, so that a formula grows with the alphabet but never with the length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.domain import Raised, scalar
from genlab.rasp.lang.graph import Graph, Node
from genlab.rasp.lang.interpret import Fault, between

# -- Linear sums of counts
#
# What a Python function does to them is determined by calling it, as for scales (genlab/rasp/lang/shapes.py).

NEAR = 16
"""Counts may be compared with constants up to this absolute value."""
_FAR = np.concatenate([np.arange(NEAR + 1, NEAR + 34), [200, 201, 404, 811]])
_PERIOD = 8
"""The longest period of a periodic predicate."""


@dataclass(frozen=True)
class Term:
    """A linear sum of counts. `offset` is the constant if the sum is the position plus a constant, else None."""

    offset: int | None = None


@dataclass(frozen=True)
class Values:
    """The values of a sequence: finitely many constants, and possibly a linear sum of counts."""

    finite: frozenset[int] = frozenset()
    term: Term | None = None

    def __or__(self, other: Values) -> Values:
        if self.term is None or other.term is None:
            return Values(self.finite | other.finite, self.term or other.term)
        return Values(self.finite | other.finite, self.term if self.term == other.term else Term())


class Illegal(Exception):
    """An operation that cannot be written as a formula; the message says what it does."""


FULL = np.concatenate([-_FAR[::-1], np.arange(-NEAR, NEAR + 1), _FAR])


def call(node: Node, columns: list[Ints]) -> Ints:
    """Apply the function of a node to columns of values, with the types that it receives in a run."""
    assert node.func is not None
    try:
        return scalar(node.func, [parent.is_bool for parent in node.inputs])(*columns)
    except Raised as raised:
        raise Illegal(f"raises {raised}") from None


def line_of(x: Ints, given: Ints) -> tuple[int, int] | None:
    """Slope and intercept if the values lie on one line with an integer slope, else None. `x` is not constant."""
    slope, rest = divmod(int(given[-1] - given[0]), int(x[-1] - x[0]))
    intercept = int(given[0]) - slope * int(x[0])
    return (slope, intercept) if rest == 0 and (given == slope * x + intercept).all() else None


def two_terms(x: Ints, y: Ints, given: Ints) -> Values:
    """The values of a map of two counts, which must be a linear sum in each case that comparisons can distinguish.

    Raises:
        Illegal: it is not a linear sum in one of these cases.
    """
    far = (np.abs(x) > NEAR) & (np.abs(y) > NEAR)
    gap = np.clip(x - y, -NEAR - 1, NEAR + 1)
    linear = False
    for right, above, distance in product((False, True), (False, True), range(-NEAR - 1, NEAR + 2)):
        case = far & ((x > 0) == right) & ((y > 0) == above) & (gap == distance)
        if case.any():
            linear |= _is_linear(x[case], y[case], given[case])
    return Values(term=Term()) if linear else Values(frozenset(given.tolist()))


def _is_linear(x: Ints, y: Ints, given: Ints) -> bool:
    """Whether the values are a nonconstant linear sum. Raises `Illegal` if they are not a linear sum at all."""
    if (given == given[0]).all():
        return False
    if len(np.unique(x - y)) == 1:  # y is determined by x
        legal = line_of(x, given) is not None
    else:
        columns = np.stack([x, y, np.ones_like(x)], axis=1)
        weights = np.rint(np.linalg.lstsq(columns.astype(float), given.astype(float), rcond=None)[0])
        legal = bool((columns @ weights == given).all())
    if not legal:
        raise Illegal("does more with two counts than add, subtract and compare")
    return True


def is_periodic(x: Ints, given: Ints) -> bool:
    """Whether the values at consecutive non-negative positions repeat with a small period."""
    run = given[(x >= 0) & (x <= NEAR + 33)]
    return any((run[period:] == run[:-period]).all() for period in range(1, _PERIOD + 1))


Ints = NDArray[np.int64]

# -- The analysis of a graph

_MOST = 1024
"""The most values that a sequence may take, not counting linear sums of counts."""


class CountingReading:
    """The analysis of one graph as formulas of C-RASP.

    Attributes:
        faults: every operation that cannot be written as a formula, with the reason.
        uses: the position predicates that the formulas need: "local", "periodic".
    """

    def __init__(self, graph: Graph, alphabet: frozenset[int]):
        """Analyze `graph`, whose input takes the values of `alphabet`."""
        self.faults: list[Fault] = []
        self.uses: set[str] = set()
        self._values: dict[int, Values] = {}
        self._alphabet = alphabet
        self._one_key: set[int] = set()
        for node in graph.nodes:
            self._values[node.id] = self._bounded(node, self._read(node))
        if graph.output is not None and self._values[graph.output.id].term is not None:
            self._fault("finite-output", graph.output, "writes a count: a prediction is one of finitely many symbols")

    def _fault(self, rule: str, node: Node, reason: str) -> None:
        fault = Fault(rule, node, reason)
        if fault not in self.faults:
            self.faults.append(fault)

    def _bounded(self, node: Node, values: Values) -> Values:
        if len(values.finite) <= _MOST:
            return values
        self._fault("finite", node, f"takes {len(values.finite)} values, and each is a formula")
        return replace(values, finite=frozenset(sorted(values.finite)[: _MOST // 4]))

    def _read(self, node: Node) -> Values:
        match node.op:
            case "input":
                return Values(self._alphabet)
            case "foreign":
                self._fault("closed", node, "an array that is not computed from the input")
                return Values(self._alphabet)
            case "full":
                return Values(frozenset([node.params[0]]))
            case "indices":
                return Values(term=Term(offset=0))
            case "tok_map" | "seq_map":
                return self._map(node)
            case "select":
                self._select(node)
                return Values()
            case "sel_width":
                return Values(term=Term())
            case "aggr":
                return self._aggr(node)

    def _map(self, node: Node) -> Values:
        sides = [self._values[parent.id] for parent in node.inputs]
        parts = [[*([side.finite] if side.finite else []), *([side.term] if side.term else [])] for side in sides]
        result = Values()
        for chosen in product(*parts):
            try:
                result |= self._map_part(node, chosen)
            except Illegal as illegal:
                self._fault("linear", node, f"{node.label} {illegal}")
        return result

    def _map_part(self, node: Node, chosen: tuple[frozenset[int] | Term, ...]) -> Values:
        grids = [FULL if isinstance(part, Term) else np.array(sorted(part)) for part in chosen]
        columns = [grid.reshape(-1) for grid in np.meshgrid(*grids, indexing="ij")]
        given = call(node, columns)
        terms = {place: part for place, part in enumerate(chosen) if isinstance(part, Term)}
        if not terms:
            return Values(frozenset(given.tolist()))
        if len(terms) == 2:
            return two_terms(columns[0], columns[1], given)
        ((place, term),) = terms.items()
        result = Values()
        for fixed in np.unique(columns[1 - place]) if len(chosen) == 2 else [None]:
            rows = slice(None) if fixed is None else columns[1 - place] == fixed
            result |= self._one_term(columns[place][rows], given[rows], term)
        return result

    def _one_term(self, x: Ints, given: Ints, term: Term) -> Values:
        below, above = line_of(x[x < -NEAR], given[x < -NEAR]), line_of(x[x > NEAR], given[x > NEAR])
        if below and above:
            if below[0] == above[0] == 0:
                return Values(frozenset(given.tolist()))
            if (line := line_of(x, given)) is not None:
                moved = line[0] == 1 and term.offset is not None
                return Values(term=Term(term.offset + line[1] if moved and term.offset is not None else None))
            return Values(frozenset(given[np.abs(x) <= NEAR].tolist()), Term())  # different sums in different cases
        if term.offset is not None and is_periodic(x, given):
            self.uses.add("periodic")
            return Values(frozenset(given[x >= 0].tolist()))
        raise Illegal("does more with a count than add, scale by a constant and compare")

    def _select(self, node: Node) -> None:
        if not node.params[0]:
            self._fault("causal", node, "attends to what comes later (causal=False)")
        key, query = (self._values[parent.id] for parent in node.inputs)
        if (key.term is None and query.term is None) or _constant(node, key, query):
            return
        if not (_is_position(key) and _is_position(query)):
            self._fault("count-select", node, "selects by a count: a counted formula sees its own position alone")
            return
        columns = [grid.reshape(-1) for grid in np.meshgrid(np.arange(90), np.arange(90), indexing="ij")]
        moved = [column + _offset(side) for column, side in zip(columns, (key, query), strict=True)]
        met = call(node, moved) != 0
        gap = np.clip(columns[1] - columns[0], -1, 40)
        if any(len(np.unique(met[gap == distance])) > 1 for distance in range(41)):
            self._fault("local", node, "selects positions by more than their distance")
            return
        self.uses.add("local")
        if sum(bool(met[gap == distance].all()) for distance in range(41)) == 1:
            self._one_key.add(node.id)

    def _aggr(self, node: Node) -> Values:
        default, reduction = node.params
        values = self._values[node.inputs[1].id]
        if values.term is not None:
            self._fault("counted-value", node, f"takes a {reduction} of counts: only symbols can be looked up")
            return Values(values.finite | {default})
        finite = values.finite
        if reduction == "mean" and finite and node.inputs[0].id not in self._one_key:
            finite = between(finite, _MOST + 1)
        return replace(values, finite=finite | {default})


def _offset(values: Values) -> int:
    return (values.term and values.term.offset) or 0


def _is_position(values: Values) -> bool:
    """Whether all values are the position plus a constant."""
    return values.term is not None and values.term.offset is not None and not values.finite


def _constant(node: Node, key: Values, query: Values) -> bool:
    """Whether a predicate has the same value for all keys and queries."""
    sides = [np.concatenate([FULL if s.term else [], np.array(sorted(s.finite))]).astype(int) for s in (key, query)]
    columns = [grid.reshape(-1) for grid in np.meshgrid(*sides, indexing="ij")]
    try:
        met = call(node, columns) != 0
    except Illegal:
        return False
    return len(set(met.tolist())) <= 1
