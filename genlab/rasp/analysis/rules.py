"""What makes a program legal: three rule sets, each a list of named checks with its source.

- `library`: what the published library runs.
- `strict`: RASP-L as the paper means it, made precise. The paper leaves the exact rules for indices open; where a
  rule is our reading it says so.
- `c-rasp`: the counting fragment, for which length generalisation is proven for an idealised learner.

A verdict holds every fault of every rule, never one boolean. It is a function of the program's graph, traced at
several lengths, and of the values that the input can take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from genlab.rasp.analysis.complexity import signature
from genlab.rasp.analysis.crasp import CountingReading
from genlab.rasp.analysis.domain import Domain
from genlab.rasp.analysis.interpret import Fault, Reading
from genlab.rasp.lang.graph import Graph

_PAPER = "Zhou et al. 2023, arXiv 2310.16028"
_HUANG = "Huang et al. 2024, arXiv 2410.02140"
_OURS = "ours"


@dataclass(frozen=True)
class Rule:
    """One named check: what it demands, and where that comes from."""

    name: str
    demands: str
    source: str


_BOTH = (
    Rule("causal", "a query attends to its own position and to earlier ones", _PAPER),
    Rule("closed", "every sequence is computed from the input", _PAPER),
    Rule("same-graph", "the operations are the same at all lengths", _PAPER),
)

RULE_SETS: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "library": _BOTH[:2],
        "strict": (
            *_BOTH,
            Rule("int8", "tokens take at most 256 values", _PAPER),
            Rule("table", "the function of a map or predicate has a value for all values that can come", _OURS),
            Rule(
                "scales",
                "counts, indices and hints are compared within their own kind (an index is a count of positions) "
                "and moved by a constant, and nothing else: no sum, no remainder, no table that grows with length",
                _PAPER + "; that hints are such a scale, and that a constant is at most 8, is ours",
            ),
            Rule("mean", "a mean of counts, indices or hints over several keys does not reach the output", _OURS),
            Rule("count-select", "no selection by equality with a count, or of the place at a count", _PAPER),
            Rule(
                "count-order",
                "no selection that compares counts at two positions, except with their running maximum or minimum "
                "(by order and max it would find the position at a count)",
                _OURS,
            ),
            Rule("output", "predictions are tokens or hints, not the value of a count or an index", _OURS),
        ),
        "c-rasp": (
            *_BOTH,
            Rule("finite", "a sequence takes at most 1024 values, apart from counts", _OURS),
            Rule(
                "linear",
                "counts are added, scaled by constants, compared; positions also modulo a constant",
                _HUANG,
            ),
            Rule("count-select", "a counted formula sees one position, not a count at another", _HUANG),
            Rule("local", "two positions are related by their distance alone, equal to or beyond a constant", _HUANG),
            Rule("counted-value", "what is looked up is a symbol, not a count", _HUANG),
            Rule("finite-output", "predictions are symbols", _HUANG),
        ),
    }
)


@dataclass(frozen=True)
class Verdict:
    """Whether a program is legal under one rule set, with all reasons.

    Attributes:
        rules: the rule set.
        faults: every fault of every rule.
        uses: under `c-rasp`, which position predicates it needs: local, periodic.
    """

    rules: str
    faults: tuple[Fault, ...]
    uses: frozenset[str] = field(default_factory=frozenset[str])

    @property
    def legal(self) -> bool:
        """No rule is broken."""
        return not self.faults

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the broken rules, in the order of the rule set."""
        names = {fault.rule for fault in self.faults}
        return tuple(rule.name for rule in RULE_SETS[self.rules] if rule.name in names)


def verdicts(graphs: Sequence[Graph], given: Domain, alphabet: frozenset[int]) -> dict[str, Verdict]:
    """A program under each rule set.

    Args:
        graphs: its runs at several lengths.
        given: what its input can hold: tokens, and hints if there are any.
        alphabet: the same as one finite set, the hints of some vocabulary among them.
    """
    graph = graphs[-1]
    strict, counting = Reading(graph, given), CountingReading(graph, alphabet)
    changing = _changes(graphs)
    readings = {"library": strict.faults, "strict": strict.faults, "c-rasp": counting.faults}
    out: dict[str, Verdict] = {}
    for name, faults in readings.items():
        rules = {rule.name for rule in RULE_SETS[name]}
        kept = [fault for fault in [*changing, *faults] if fault.rule in rules]
        out[name] = Verdict(name, tuple(kept), frozenset(counting.uses if name == "c-rasp" else ()))
    return out


def _changes(graphs: Sequence[Graph]) -> list[Fault]:
    """The first operation that a program does at one length and not at another."""
    first, signatures = graphs[0], [signature(graph) for graph in graphs]
    for graph, other in zip(graphs, signatures, strict=True):
        if other == signatures[0]:
            continue
        same = [a == b for a, b in zip(signatures[0], other, strict=False)]
        place = same.index(False) if False in same else min(len(first.nodes), len(graph.nodes)) - 1
        return [Fault("same-graph", graph.nodes[place], "the program does something else at another length")]
    return []
