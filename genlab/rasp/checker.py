"""Check a program against a task: exact match at each length, and examination of its graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genlab.errors import UserError
from genlab.rasp.analysis import Complexity, Reading, Verdict, complexity, largest, verdicts
from genlab.rasp.lang.graph import Graph
from genlab.rasp.running import Program, decode, predict, trace
from genlab.rasp.tokens import END, TokenMap, token_map
from genlab.tasks import Examples, Task

_MORE = 16
"""Factor by which more inputs are sampled if there are few distinct ones."""


@dataclass(frozen=True)
class LengthScore:
    """Exact match of a program on examples of one length.

    Attributes:
        length: the length, in the task's own unit.
        n: number of examples checked; their prompts are distinct.
        right: number of examples answered exactly, including the end token.
        complete: whether the examples appear to be all inputs of this length.
        wrong: prompt, correct answer and the program's answer for one failure; None if there is none.
    """

    length: int
    n: int
    right: int
    complete: bool = False
    wrong: tuple[str, str, str] | None = None

    @property
    def exact_match(self) -> float:
        """The fraction of examples answered exactly."""
        return self.right / self.n


def tokens_of(task: Task) -> TokenMap:
    """The integer values of a task's tokens."""
    return token_map(task.vocab.tokens, task.name, task.format)


def check(
    program: Program,
    task: Task,
    lengths: Iterable[int],
    n: int,
    rng: np.random.Generator,
    split: str = "id",
    token_by_token: bool = False,
) -> list[LengthScore]:
    """Exact match of a program at each length.

    Args:
        program: the program.
        task: the task whose answers are the reference.
        lengths: the lengths to check.
        n: number of examples sampled per length; duplicates are removed.
        rng: source of the examples.
        split: the split to sample from.
        token_by_token: decode each answer token by token, as for a model. By default the program is run once on the
            true sequence, which is equivalent for exact match, since programs are causal.

    Returns:
        One score per length.
    """
    return [_check_length(program, task, length, n, rng, split, token_by_token) for length in lengths]


def right_up_to(scores: Iterable[LengthScore]) -> int:
    """The largest length such that all examples up to this length were right; 0 if the first length has failures."""
    furthest = 0
    for score in scores:
        if score.right < score.n:
            break
        furthest = score.length
    return furthest


def _check_length(
    program: Program, task: Task, length: int, n: int, rng: np.random.Generator, split: str, token_by_token: bool
) -> LengthScore:
    examples = task.sample(rng, split, np.full(n, length))
    firsts, counts = _distinct_prompts(examples)
    if 2 * len(firsts) <= n:  # so few inputs that all of them can be checked
        examples = task.sample(rng, split, np.full(_MORE * n, length))
        firsts, counts = _distinct_prompts(examples)
    examples = examples[np.sort(firsts)]
    tokens = tokens_of(task)
    answers = _true_answers(task, examples, tokens)
    if token_by_token:
        given = _decode_answers(program, examples, answers, tokens)
    else:
        given = _predict_answers(program, examples, tokens)
    right = [a == b for a, b in zip(answers, given, strict=True)]
    wrong = None
    if not all(right):
        row = right.index(False)
        prompt = tokens.encode(examples.tokens[row, : examples.prompt_len(row)])
        wrong = (_text(tokens, prompt), _text(tokens, answers[row]), _text(tokens, given[row]))
    # If each input was sampled at least four times, it is unlikely that another one was never sampled.
    complete = bool(counts.min() >= 4)
    return LengthScore(length, len(right), sum(right), complete, wrong)


def _distinct_prompts(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The first row and the number of rows of each distinct prompt, int[prompt] each."""
    in_prompt = np.cumsum(examples.scored, axis=1) - examples.scored == 0
    prompts = np.where(in_prompt, examples.tokens, -1)
    _, firsts, counts = np.unique(prompts, axis=0, return_index=True, return_counts=True)
    return firsts, counts


def _true_answers(task: Task, examples: Examples, tokens: TokenMap) -> list[tuple[int, ...]]:
    """The answers of `solve` as values, with the end token if the examples have one."""
    ids = {token: i for i, token in enumerate(tokens.tokens)}
    answers: list[tuple[int, ...]] = []
    for row in range(len(examples)):
        answer = task.solve_example(examples, row)
        values = tokens.encode([ids[token] for token in answer]).tolist() if answer else []
        ends = tokens.values[examples.targets[row][examples.scored[row]][-1]] == END
        answers.append((*values, END) if ends else tuple(values))
    return answers


def _predict_answers(program: Program, examples: Examples, tokens: TokenMap) -> list[tuple[int, ...]]:
    """The predictions at the scored positions, in one causal pass over the true sequences."""
    predicted = predict(program, tokens.encode(examples.tokens))
    return [tuple(row[scored].tolist()) for row, scored in zip(predicted, examples.scored, strict=True)]


def _decode_answers(
    program: Program, examples: Examples, answers: list[tuple[int, ...]], tokens: TokenMap
) -> list[tuple[int, ...]]:
    """The answers decoded token by token, up to the end token, or as long as the true answer if there is none."""
    lengths = np.array([examples.prompt_len(row) for row in range(len(answers))])
    limit = max(len(answer) for answer in answers)
    written, counts = decode(program, tokens.encode(examples.tokens), lengths, limit, END)
    ends = [answer[-1] == END for answer in answers]
    stops = [count if end else len(answer) for count, end, answer in zip(counts, ends, answers, strict=True)]
    return [tuple(row[:stop].tolist()) for row, stop in zip(written, stops, strict=True)]


def _text(tokens: TokenMap, values: Iterable[int]) -> str:
    return " ".join(tokens.name(int(value)) for value in values)


def lengths_of(task: Task, low: int, high: int, split: str = "id") -> list[int]:
    """The lengths from `low` to `high` (inclusive) that a split of a task contains.

    Raises:
        UserError: there is none.
    """
    lengths = task.lengths_between(split, low, high).tolist()
    if not lengths:
        raise UserError(f"the task has no example of length {low} to {high} on split {split!r}")
    return lengths


# -- Examination of a graph: legality, complexity, and growth of values

_LONGEST = 16


@dataclass(frozen=True)
class Examination:
    """The properties of a program for a task that follow from its graph.

    Attributes:
        verdicts: rule set -> verdict, with all reasons.
        complexity: its size.
        largest: task length -> kind -> the largest absolute value in a run on a few examples of that length.
        kinds: kind -> the number of its sequences of that kind.
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
        """The kinds whose largest value grows with the length, sorted."""
        first, last = self.largest[min(self.largest)], self.largest[max(self.largest)]
        return tuple(kind for kind in sorted(last) if last[kind] > first.get(kind, 0) and kind != "hint")

    @property
    def growth(self) -> str:
        """The largest values of each growing kind at the examined lengths, as text; empty if none grows."""
        lengths = sorted(self.largest)
        spans = [(kind, [str(self.largest[length].get(kind, 0)) for length in lengths]) for kind in self.growing]
        shown = "; ".join(f"{kind} {', '.join(values)}" for kind, values in spans)
        return f"{shown} at lengths {', '.join(map(str, lengths))}" if shown else ""


def examine(program: Program, task: Task, lengths: Sequence[int] = (), split: str = "id") -> Examination:
    """Examine the graph of a program, traced on a few examples of each length.

    Args:
        program: the program.
        task: the task, which determines the domain of the input.
        lengths: the lengths to trace; by default the shortest, a middle and the longest one up to 16.
        split: the split to sample from.
    """
    chosen = list(lengths) or _spread(lengths_of(task, 1, min(_LONGEST, task.max_len), split))
    tokens, rng = tokens_of(task), np.random.default_rng(0)
    graphs: list[Graph] = []
    for length in chosen:
        examples = task.sample(rng, split, np.full(8, length))
        graphs.append(trace(program, tokens.encode(examples.tokens), keep=True))
    reading = Reading(graphs[-1], tokens.domain)
    kinds = {node.id: reading.of(node).kind for node in graphs[-1].nodes}
    live = [kinds[node.id] for node in graphs[-1].live if node.op not in ("input", "select")]
    # The kinds are those of the last graph: they apply to the graphs that have the same operations.
    comparable = {
        length: graph
        for length, graph in zip(chosen, graphs, strict=True)
        if len(graph.nodes) == len(graphs[-1].nodes)
    }
    return Examination(
        verdicts=verdicts(graphs, tokens.domain, tokens.alphabet),
        complexity=complexity(graphs[-1], reading.steps),
        largest={length: largest(graph, kinds) for length, graph in comparable.items()},
        kinds={kind: live.count(kind) for kind in sorted(set(live))},
    )


def size(program: Program, task: Task) -> Complexity:
    """The complexity of a program, without sampling examples of its task."""
    graph = trace(program, np.zeros(_LONGEST, np.int64))
    return complexity(graph, Reading(graph, tokens_of(task).domain).steps)


def _spread(lengths: list[int]) -> list[int]:
    """The first, a middle and the last length."""
    return sorted({lengths[0], lengths[len(lengths) // 2], lengths[-1]})
