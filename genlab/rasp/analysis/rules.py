"""Legality of a program: three rule sets, each a list of named rules with their sources.

- `library`: whatever the published library runs.
- `strict`: RASP-L as intended by the paper, made precise. The paper leaves the exact rules for indices open; rules
  that are our interpretation are marked as ours.
- `c-rasp`: the counting fragment, for which length generalization is proven for an idealized learner.

A verdict lists every fault under every rule, not a single Boolean. It is a function of the program's graph, traced
at several lengths, and of the values that the input can take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from genlab.rasp.analysis.complexity import signature
from genlab.rasp.analysis.crasp import CountingReading
from genlab.rasp.lang.domain import Domain
from genlab.rasp.lang.graph import Graph
from genlab.rasp.lang.interpret import Fault, Reading

_PAPER = "Zhou et al. 2023, arXiv 2310.16028"
_HUANG = "Huang et al. 2024, arXiv 2410.02140"
_OURS = "ours"


@dataclass(frozen=True)
class Rule:
    """One named rule.

    Attributes:
        name: the name shown in verdicts.
        source: the paper it comes from, or "ours".
    """

    name: str
    source: str


_BOTH = (
    # A query attends to its own position and to earlier ones.
    Rule("causal", _PAPER),
    # Every sequence is computed from the input.
    Rule("closed", _PAPER),
    # The operations are the same at all lengths.
    Rule("same-graph", _PAPER),
)

RULE_SETS: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "library": _BOTH[:2],
        "strict": (
            *_BOTH,
            # Tokens take at most 256 values.
            Rule("int8", _PAPER),
            # The function of a map or predicate has a value for every value that can occur.
            Rule("table", _OURS),
            # Counts, indices and hints are compared only within their own kind (an index is a count of positions)
            # and shifted by a constant, nothing else: no sum, no remainder, no table that grows with length.
            Rule("scales", _PAPER + "; that hints are such a scale, and that a constant is at most 8, is ours"),
            # A mean of counts, indices or hints over several keys does not reach the output.
            Rule("mean", _OURS),
            # No selection by equality with a count, or of the position given by a count.
            Rule("count-select", _PAPER),
            # No selection that compares counts at two positions, except with their running maximum or minimum
            # (ordering and max would find the position at a count).
            Rule("count-order", _OURS),
            # Predictions are tokens or hints, not the value of a count or an index.
            Rule("output", _OURS),
        ),
        "c-rasp": (
            *_BOTH,
            # A sequence takes at most 1024 values, apart from counts.
            Rule("finite", _OURS),
            # Counts are added, scaled by constants, compared; positions also modulo a constant.
            Rule("linear", _HUANG),
            # A counted formula sees one position, not a count at another.
            Rule("count-select", _HUANG),
            # Two positions are related by their distance alone, equal to or beyond a constant.
            Rule("local", _HUANG),
            # What is looked up is a symbol, not a count.
            Rule("counted-value", _HUANG),
            # Predictions are symbols.
            Rule("finite-output", _HUANG),
        ),
    }
)


@dataclass(frozen=True)
class Verdict:
    """Whether a program is legal under one rule set, with all reasons.

    Attributes:
        rules: the name of the rule set.
        faults: every fault under every rule of the set.
        uses: under `c-rasp`, the position predicates that the program needs: local, periodic.
    """

    rules: str
    faults: tuple[Fault, ...]
    uses: frozenset[str] = field(default_factory=frozenset[str])

    @property
    def legal(self) -> bool:
        """Whether no rule is broken."""
        return not self.faults

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the broken rules, in the order of the rule set."""
        names = {fault.rule for fault in self.faults}
        return tuple(rule.name for rule in RULE_SETS[self.rules] if rule.name in names)


def verdicts(graphs: Sequence[Graph], given: Domain, alphabet: frozenset[int]) -> dict[str, Verdict]:
    """The verdict on a program under each rule set.

    Args:
        graphs: the graphs of its runs at several lengths.
        given: the domain of its input: tokens, and hints if there are any.
        alphabet: the values of its input as one finite set, including the hints of one vocabulary.

    Returns:
        Name of the rule set -> verdict.
    """
    graph = graphs[-1]
    strict, counting = Reading(graph, given), CountingReading(graph, alphabet)
    changing = _changes(graphs)
    readings = {"library": strict.faults, "strict": strict.faults, "c-rasp": counting.faults}
    out: dict[str, Verdict] = {}
    for name, faults in readings.items():
        rules = {rule.name for rule in RULE_SETS[name]}
        relevant = [fault for fault in [*changing, *faults] if fault.rule in rules]
        out[name] = Verdict(name, tuple(relevant), frozenset(counting.uses if name == "c-rasp" else ()))
    return out


def _changes(graphs: Sequence[Graph]) -> list[Fault]:
    """The first operation that differs between two lengths, as a fault; empty if there is none."""
    first, signatures = graphs[0], [signature(graph) for graph in graphs]
    for graph, other in zip(graphs, signatures, strict=True):
        if other == signatures[0]:
            continue
        same = [a == b for a, b in zip(signatures[0], other, strict=False)]
        position = same.index(False) if False in same else min(len(first.nodes), len(graph.nodes)) - 1
        return [Fault("same-graph", graph.nodes[position], "the program does something else at another length")]
    return []
