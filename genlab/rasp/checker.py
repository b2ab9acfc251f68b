"""Is a program right? Its predictions against a task's own slow answers, at each length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from genlab.errors import UserError
from genlab.rasp.analysis import Complexity, Reading, Verdict, complexity, largest, verdicts
from genlab.rasp.running import Program, decode, predict, trace
from genlab.rasp.tokens import END, TokenMap, token_map

_MORE = 16
"""How many times more inputs are drawn where there are few different ones."""


class Samples(Protocol):
    """What the checker asks of a task: examples, answers and a vocabulary. Every task of the lab has them."""

    vocab: Any
    """With `tokens`, the token strings in the order of their ids."""

    def sample(self, rng: np.random.Generator, split: Any, lengths: Any) -> Any:
        """Examples with `tokens`, `targets` and `scored`, [n, pos] each."""
        ...

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        """The answer to a prompt, without its end token."""
        ...


@dataclass(frozen=True)
class LengthScore:
    """How many examples of one length a program gets wholly right.

    Attributes:
        length: the task's own length.
        n: different examples that were tried (all prompts differ).
        right: how many of them the program answers exactly, the end token included.
        complete: whether these are, as far as drawing tells, all inputs of that length.
        wrong: the prompt, the right answer and the program's, for one that it gets wrong.
    """

    length: int
    n: int
    right: int
    complete: bool = False
    wrong: tuple[str, str, str] | None = None

    @property
    def exact_match(self) -> float:
        """The share that is right."""
        return self.right / self.n


def tokens_of(task: Samples) -> TokenMap:
    """The values of a task's tokens."""
    return token_map(task.vocab.tokens, getattr(task, "name", ""), getattr(task, "format", ""))


def check(
    program: Program,
    task: Samples,
    lengths: Iterable[int],
    n: int,
    rng: np.random.Generator,
    split: str = "id",
    token_by_token: bool = False,
) -> list[LengthScore]:
    """Exact match of a program at each length.

    By one causal pass over the true sequence (right there means right token by token, and conversely), or, with
    `token_by_token`, decoded as a model would, from its own answer so far.
    """
    return [_check_length(program, task, length, n, rng, split, token_by_token) for length in lengths]


def right_up_to(scores: Iterable[LengthScore]) -> int:
    """The largest length up to which every example was right; 0 if none was."""
    furthest = 0
    for score in scores:
        if score.right < score.n:
            break
        furthest = score.length
    return furthest


def _check_length(
    program: Program, task: Samples, length: int, n: int, rng: np.random.Generator, split: str, free: bool
) -> LengthScore:
    examples = task.sample(rng, split, np.full(n, length))
    firsts, counts = _different(examples)
    if 2 * len(firsts) <= n:  # so few inputs that all of them may be tried
        examples = task.sample(rng, split, np.full(_MORE * n, length))
        firsts, counts = _different(examples)
    rows = examples[np.sort(firsts)]
    tokens = tokens_of(task)
    wanted = _answers(task, rows, tokens)
    given = (_decoded if free else _predicted)(program, rows, wanted, tokens)
    right = [a == b for a, b in zip(wanted, given, strict=True)]
    wrong = None
    if not all(right):
        row = right.index(False)
        prompt = tokens.encode(rows.tokens[row, : rows.prompt_len(row)])
        wrong = (_text(tokens, prompt), _text(tokens, wanted[row]), _text(tokens, given[row]))
    # Drawn four times each at least, it is unlikely that an input was never drawn.
    complete = bool(counts.min() >= 4)
    return LengthScore(length, len(right), sum(right), complete, wrong)


def _different(examples: Any) -> tuple[np.ndarray, np.ndarray]:
    """The row in which each different prompt comes first, and how often it comes."""
    _, firsts, counts = np.unique(_prompts(examples), axis=0, return_index=True, return_counts=True)
    return firsts, counts


def _prompts(examples: Any) -> np.ndarray:
    """The tokens of each prompt, everything after them blanked."""
    shown = np.cumsum(examples.scored, axis=1) - examples.scored == 0
    return np.where(shown, examples.tokens, -1)


def _answers(task: Samples, rows: Any, tokens: TokenMap) -> list[tuple[int, ...]]:
    """What `solve` says, as values, with the end token where the examples have one."""
    ids = {token: i for i, token in enumerate(tokens.tokens)}
    solve: Callable[[Any, int], tuple[str, ...]] | None = getattr(task, "solve_example", None)
    out: list[tuple[int, ...]] = []
    for row in range(len(rows.tokens)):
        prompt = [tokens.tokens[i] for i in rows.tokens[row, : rows.prompt_len(row)]]
        answer = task.solve(prompt) if solve is None else solve(rows, row)
        values = tokens.encode([ids[token] for token in answer]).tolist() if answer else []
        ends = tokens.values[rows.targets[row][rows.scored[row]][-1]] == END
        out.append((*values, END) if ends else tuple(values))
    return out


def _predicted(program: Program, rows: Any, wanted: list[tuple[int, ...]], tokens: TokenMap) -> list[tuple[int, ...]]:
    del wanted
    said = predict(program, tokens.encode(rows.tokens))
    return [tuple(row[scored].tolist()) for row, scored in zip(said, rows.scored, strict=True)]


def _decoded(program: Program, rows: Any, wanted: list[tuple[int, ...]], tokens: TokenMap) -> list[tuple[int, ...]]:
    lengths = np.array([rows.prompt_len(row) for row in range(len(wanted))])
    limit = max(len(answer) for answer in wanted)
    written, counts = decode(program, tokens.encode(rows.tokens), lengths, limit, END)
    ends = [answer[-1] == END for answer in wanted]
    stops = [count if end else len(answer) for count, end, answer in zip(counts, ends, wanted, strict=True)]
    return [tuple(row[:stop].tolist()) for row, stop in zip(written, stops, strict=True)]


def _text(tokens: TokenMap, values: Iterable[int]) -> str:
    return " ".join(tokens.name(int(value)) for value in values)


def lengths_of(task: Any, low: int, high: int, split: str = "id") -> list[int]:
    """The lengths from `low` to `high` that a task makes. Raises `UserError` if there is none."""
    between = getattr(task, "lengths_between", None)
    found = list(range(low, high + 1)) if between is None else [int(length) for length in between(split, low, high)]
    if not found:
        raise UserError(f"the task has no example of length {low} to {high} on split {split!r}")
    return found


# -- All that can be said of a program for a task from its graph: legality, complexity, and how its values gro

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
