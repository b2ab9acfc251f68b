"""Abstract interpretation of a graph: the domain of every sequence, and every fault, for all inputs of all lengths.

Nothing is run on data. The graph and the values that its input can take determine the result, so a verdict is a
function of the graph. The analysis is conservative: it may report a fault for values that cannot occur, but it
never misses one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from genlab.rasp.lang.domain import COUNT, INDEX, NOTHING, Domain, Scale, tokens
from genlab.rasp.lang.graph import Graph, Node
from genlab.rasp.lang.shapes import Relation, map_shape, relation, with_article

MOST_TOKENS = 256
"""The number of values of an int8."""


@dataclass(frozen=True)
class Fault:
    """One reason why a program is not legal: the rule, the operation, and what the operation does."""

    rule: str
    node: Node
    reason: str

    def __str__(self) -> str:
        place = "input" if self.node.op == "input" else self.node.place
        return f"{self.rule}: {place}: {self.reason}"


class Reading:
    """The analysis of one graph, from its first operation to its output.

    Attributes:
        domains: node id -> the domain of its values; a select has no values.
        steps: node id of a map -> the most steps by which it moves a value on a scale.
        faults: all faults, in the order of the run.
    """

    def __init__(self, graph: Graph, given: Domain):
        """Analyze `graph`, whose input takes the values of the domain `given`."""
        self.graph, self.given = graph, given
        self.domains: dict[int, Domain] = {}
        self.steps: dict[int, int] = {}
        self.faults: list[Fault] = []
        for node in graph.nodes:
            self.domains[node.id] = self._domain(node)
            self._check_int8(node)
        if graph.output is not None:
            self._check_output(graph.output)

    def of(self, node: Node) -> Domain:
        """The domain of an operation."""
        return self.domains[node.id]

    def _fault(self, rule: str, node: Node, reason: str) -> None:
        fault = Fault(rule, node, reason)
        if fault not in self.faults:
            self.faults.append(fault)

    def _domain(self, node: Node) -> Domain:
        match node.op:
            case "input":
                return self.given
            case "foreign":
                self._fault("closed", node, "an array that is not computed from the input")
                return self.given
            case "full":
                return tokens([node.params[0]])
            case "indices":
                return Domain(scales=frozenset([INDEX]))
            case "tok_map" | "seq_map":
                return self._map(node)
            case "select":
                return self._select(node)
            case "sel_width":
                return Domain(scales=frozenset([COUNT])).after(self.of(node.inputs[0]))
            case "aggr":
                return self._aggr(node)

    def _map(self, node: Node) -> Domain:
        domains = [self.of(parent) for parent in node.inputs]
        assert node.func is not None
        # If int8 is already violated, a subset of the values suffices to find other faults.
        small = [replace(d, tokens=frozenset(_few(d))) for d in domains]
        shape = map_shape(node.func, small, [parent.is_bool for parent in node.inputs])
        for reason in shape.faults[:1]:  # one fault for each operation, whatever the part of its input
            self._fault("table" if reason.startswith("raises") else "scales", node, f"{node.label} {reason}")
        self.steps[node.id] = shape.steps
        return Domain(frozenset(shape.tokens), frozenset(shape.scales)).after(*domains)

    def _select(self, node: Node) -> Domain:
        if not node.params[0]:
            self._fault("causal", node, "attends to what comes later (causal=False)")
        for key, query, related in self._relations(node):
            if related.fault:
                self._fault("scales", node, f"the predicate {related.fault}")
            elif COUNT in (key, query) and related.constant is None:
                self._check_count(node, key, query, related)
        return NOTHING.after(*(self.of(parent) for parent in node.inputs))

    def _relations(self, select: Node) -> Iterator[tuple[Scale | int, Scale | int, Relation]]:
        """The relation of each part of the keys to each part of the queries, if at least one is a scale."""
        assert select.func is not None
        keys, queries = (self.of(side) for side in select.inputs)
        as_bool = [side.is_bool for side in select.inputs]
        sides = ((keys.scales, queries.scales), (keys.scales, _few(queries)), (_few(keys), queries.scales))
        pairs: list[tuple[Scale | int, Scale | int]] = [pair for side in sides for pair in product(*side)]
        for key, query in pairs:
            yield key, query, relation(select.func, key, query, as_bool)

    def _check_count(self, node: Node, key: Scale | int, query: Scale | int, related: Relation) -> None:
        if not related.ordered:
            self._fault("count-select", node, "selects by equality with a count")
        elif isinstance(key, Scale) and isinstance(query, Scale) and not self._is_extreme(node):
            self._fault("count-order", node, "compares a count at one position with a count at another")

    def _is_extreme(self, select: Node) -> bool:
        """Whether the query is the running maximum or minimum of the keys, which attention can select directly."""
        key, query = select.inputs
        if query.op != "aggr" or query.params[1] == "mean" or query.inputs[1] is not key:
            return False
        return all(related.constant for *_, related in self._relations(query.inputs[0]))

    def _aggr(self, node: Node) -> Domain:
        select, values = node.inputs
        default, reduction = node.params
        domain = self.of(values).after(self.of(values), self.of(select))
        if reduction == "mean" and not self._one_key(select):
            if domain.scales:
                domain = replace(domain, undefined=domain.undefined | {node.id})
            elif domain.tokens:
                domain = replace(domain, tokens=between(domain.tokens, MOST_TOKENS + 1))
        return domain | tokens([default])

    def _one_key(self, select: Node) -> bool:
        """Whether no query can match two keys: the keys are distinct, and the predicate holds at one distance."""
        relations = [related for *_, related in self._relations(select)]
        return self._all_differ(select.inputs[0]) and all(r.single or r.constant is False for r in relations)

    def _all_differ(self, node: Node) -> bool:
        """Whether the values at all positions are distinct: the index, moved by a constant."""
        domain = self.of(node)
        if node.op == "indices" or domain.tokens or domain.scales != frozenset([INDEX]):
            return node.op == "indices"
        return node.op == "tok_map" and self._all_differ(node.inputs[0])

    def _check_int8(self, node: Node) -> None:
        many = len(self.of(node).tokens)
        if many > MOST_TOKENS and all(len(self.of(parent).tokens) <= MOST_TOKENS for parent in node.inputs):
            self._fault("int8", node, f"takes {many} different token values; an int8 has {MOST_TOKENS}")

    def _check_output(self, output: Node) -> None:
        domain = self.of(output)
        for kind in sorted({scale.kind for scale in domain.scales} - {"hint"}):
            self._fault(
                "output", output, f"writes the value of {with_article(kind)}: a prediction is a token or a hint"
            )
        for place in sorted(domain.undefined):
            mean = self.graph.nodes[place]
            kind = self.of(mean.inputs[1]).kind
            self._fault(
                "mean",
                mean,
                f"the mean of {with_article(kind)} over several keys reaches the output; take max or min",
            )


def kind_of(graph: Graph, node: Node) -> str:
    """The kind of an operation, in a run whose input holds int8 tokens, and hints if the graph declares them."""
    hints = frozenset() if graph.hints_from is None else frozenset([Scale("hint", graph.hints_from)])
    return Reading(graph, tokens(range(-128, 128)) | Domain(scales=hints)).of(node).kind


def between(values: frozenset[int], most: int) -> frozenset[int]:
    """The values that a mean can take: all from the smallest to the largest, truncated to the first `most`.

    >>> sorted(between(frozenset([3, 7]), most=4))
    [3, 4, 5, 6]
    """
    low, high = min(values), max(values)
    return frozenset(range(low, min(high + 1, low + most)))


def _few(domain: Domain) -> list[int]:
    """The tokens of a domain, at most as many as an int8 has."""
    return sorted(domain.tokens)[:MOST_TOKENS]
