"""All that can be said of a program for a task from its graph: legality, complexity, and how its values grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genlab.rasp.analysis import Complexity, Reading, Verdict, complexity, largest, verdicts
from genlab.rasp.checker import lengths_of, tokens_of
from genlab.rasp.running import Program, trace

__all__ = ["Examination", "examine", "size"]

_LONGEST = 16


@dataclass(frozen=True)
class Examination:
    """What a graph says of a program.

    Attributes:
        verdicts: by rule set, each with all its reasons.
        complexity: its sizes.
        largest: task length -> kind -> the largest absolute value in a run of a few examples of that length.
        kinds: how many of its sequences are of each kind.
    """

    verdicts: Mapping[str, Verdict]
    complexity: Complexity
    largest: Mapping[int, Mapping[str, int]]
    kinds: Mapping[str, int]

    @property
    def strict(self) -> Verdict:
        """The verdict under the strict rules."""
        return self.verdicts["strict"]

    @property
    def growing(self) -> tuple[str, ...]:
        """The kinds whose largest value grows with the length."""
        first, last = self.largest[min(self.largest)], self.largest[max(self.largest)]
        return tuple(kind for kind in sorted(last) if last[kind] > first.get(kind, 0) and kind != "hint")

    @property
    def growth(self) -> str:
        """The largest value of each kind that grows, at each length that was examined."""
        lengths = sorted(self.largest)
        spans = [(kind, [str(self.largest[length].get(kind, 0)) for length in lengths]) for kind in self.growing]
        shown = "; ".join(f"{kind} {', '.join(values)}" for kind, values in spans)
        return f"{shown} at lengths {', '.join(map(str, lengths))}" if shown else ""


def examine(program: Program, task: Any, lengths: Sequence[int] = (), split: str = "id") -> Examination:
    """Examine a program on a few examples of each length (a handful up to 16 unless given)."""
    chosen = list(lengths) or _a_few(lengths_of(task, 1, min(_LONGEST, getattr(task, "max_len", _LONGEST)), split))
    tokens, rng = tokens_of(task), np.random.default_rng(0)
    graphs = []
    for length in chosen:
        examples = task.sample(rng, split, np.full(8, length))
        graphs.append(trace(program, tokens.encode(examples.tokens), keep=True))
    reading = Reading(graphs[-1], tokens.domain)
    kinds = {node.id: reading.of(node).kind for node in graphs[-1].nodes}
    live = [kinds[node.id] for node in graphs[-1].live if node.op not in ("input", "select")]
    same = {length: graph for length, graph in zip(chosen, graphs, strict=True) if _same(graph, graphs)}
    return Examination(
        verdicts=verdicts(graphs, tokens.domain, tokens.alphabet),
        complexity=complexity(graphs[-1], reading.steps),
        largest={length: largest(graph, kinds) for length, graph in same.items()},
        kinds={kind: live.count(kind) for kind in sorted(set(live))},
    )


def size(program: Program, task: Any) -> Complexity:
    """The sizes of a program alone, without examples of its task."""
    graph = trace(program, np.zeros(_LONGEST, np.int64))
    return complexity(graph, Reading(graph, tokens_of(task).domain).steps)


def _a_few(lengths: list[int]) -> list[int]:
    """The first, a middle and the last length."""
    return sorted({lengths[0], lengths[len(lengths) // 2], lengths[-1]})


def _same(graph: Any, graphs: Sequence[Any]) -> bool:
    """Whether a graph has the operations of the last one, so that their kinds are the same."""
    return len(graph.nodes) == len(graphs[-1].nodes)
