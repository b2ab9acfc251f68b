"""Reports on programs, as rows and text: lists of programs, answers to prompts, and traces of runs."""

from __future__ import annotations

import linecache
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genlab.errors import UserError
from genlab.rasp.analysis import Reading
from genlab.rasp.analysis.complexity import shared
from genlab.rasp.checker import Examination, check, examine, lengths_of, right_up_to, size, tokens_of
from genlab.rasp.lang.graph import Graph, Node
from genlab.rasp.programs.failed import TRIED
from genlab.rasp.programs.registry import PROGRAMS, Entry, best, bind, registered
from genlab.rasp.programs.shortcuts import SHORTCUTS
from genlab.rasp.running import Program, decode, trace
from genlab.rasp.tokens import END, NO_TOKEN, SEP, TokenMap
from genlab.tasks import Examples, Task, make

# -- Trace of a run: one row per operation, one column per position

_NAME = re.compile(r"\s*(\w+)(?:\s*:[^=]+)?\s*=(?!=)")
_WIDTH = 80


def trace_table(program: Program, tokens: TokenMap, prompt: str, width: int = _WIDTH) -> str:
    """The intermediate sequences of a run on one prompt, as a table; equal operations appear once.

    Tokens and hints are shown as the task writes them, counts and indices as numbers, Booleans as `.` and `T`; a
    dash stands for negative values that mean none. The left column has the variable names of the program. A select
    has no row: the row of its aggregate describes it. Rows within a library function are marked with `·`.

    Args:
        program: the program.
        tokens: the token values of its task.
        prompt: tokens separated by spaces.
        width: the number of characters per line to aim for; only the left column is truncated.
    """
    graph = trace(program, tokens.parse(prompt), keep=True)
    reading = Reading(graph, tokens.domain)
    shown = [node for node in _distinct(graph) if node.op != "select"]
    rows = [(_title(node, graph, program), _cells(node, graph, reading, tokens)) for node in shown]
    cell = max((len(text) for _, cells in rows for text in cells), default=1)
    longest = max(len(title) for title, _ in rows)
    left = min(longest, max(12, width - (cell + 1) * len(rows[0][1]) - 1))
    table = [("", [str(i) for i in range(len(rows[0][1]))]), *rows]
    lines = (
        f"{_truncate(title, left):{left}} " + " ".join(f"{text:>{cell}}" for text in cells) for title, cells in table
    )
    return "\n".join(line.rstrip() for line in lines)


def _distinct(graph: Graph) -> list[Node]:
    """The operations that the output depends on, without duplicates of earlier ones."""
    first: dict[int, Node] = {}
    for node, number in shared(graph).items():
        first.setdefault(number, node)
    return [node for node in graph.live if node in first.values() or node is graph.output]


def _title(node: Node, graph: Graph, program: Program) -> str:
    """The program's name for the result, and the operation."""
    if node.op == "input":
        return "input"
    last = _is_last_of_call(node, graph)
    operation = node.place.via if node.place.via and last else _describe(node)
    name = _variable_name(node, graph, program)
    if node is graph.output:
        name = "next"
    elif node.place.via and not last:
        return f"· {operation}"
    return f"{name} = {operation}" if name else operation


def _is_last_of_call(node: Node, graph: Graph) -> bool:
    """Whether no later operation belongs to the same call of a library function."""
    return all(other.place != node.place for other in graph.nodes[node.id + 1 :])


def _describe(node: Node) -> str:
    """A short description of an operation."""
    if node.op == "aggr":
        return f"{node.params[1]} where {_relation(node.inputs[0])}"
    if node.op == "sel_width":
        return f"how many {_relation(node.inputs[0])}"
    return node.label.removeprefix("tok_map ").removeprefix("seq_map ").lstrip("_").replace("_", " ")


def _relation(select: Node) -> str:
    name = select.label.removeprefix("select ").lstrip("_")
    return _SIGNS.get(name, name.replace("_", " "))


_SIGNS = {
    **{"equals": "key = query", "gt": "key > query", "geq": "key >= query", "lt": "key < query"},
    **{"leq": "key <= query", "always": "any key", "key_is_true": "key is true"},
}


def _variable_name(node: Node, graph: Graph, program: Program) -> str:
    """The variable assigned in the program's source line, for the last operation of that line; else empty."""
    top, code = node.place.top, getattr(getattr(program, "__wrapped__", program), "__code__", None)
    if code is None or any(other.place.top == top for other in graph.nodes[node.id + 1 :]):
        return ""
    assignment = _NAME.match(linecache.getline(code.co_filename, top))
    return assignment.group(1) if assignment else ""


def _cells(node: Node, graph: Graph, reading: Reading, tokens: TokenMap) -> list[str]:
    kind = reading.of(node).kind
    values = graph.values[node.id][0].tolist()
    if node.op != "full" and (kind == "boolean" or node.is_bool):
        return ["T" if value == 1 else "." if value == 0 else str(int(value)) for value in values]
    if kind in ("token", "hint", "boolean"):
        return [_token(tokens, int(value)) for value in values]
    return ["-" if value < 0 else str(value) for value in values]


def _token(tokens: TokenMap, value: int) -> str:
    if int(tokens.decode(value)) == NO_TOKEN:
        return str(value) if value >= 0 else "-"
    name = tokens.name(value)
    return _SHORT.get(name, name)


_SHORT = {"<end>": "end", "<pad>": "-"}
"""`<pad>` (-1) never occurs in a prompt: here -1 means none."""


def _truncate(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


# -- Lists of programs

_SHOWN_LENGTH = 16


@dataclass(frozen=True)
class ListRow:
    """One program in the list.

    Attributes:
        task, format: the task and format that it solves.
        program: its name.
        legal: `strict`, with `c-rasp` if it is also legal there; or `no:` and the strict rules that it breaks.
        operations: its length, with equal operations shared.
        depth, heads: length of the longest chain of selects, and the most selects at one depth.
        right_up_to: the largest length such that every input up to it was right; None if not checked.
    """

    task: str
    format: str
    program: str
    legal: str
    operations: int
    depth: int
    heads: int
    right_up_to: int | None = None


def list_programs(lengths: Sequence[int] = (), n: int = 100) -> list[ListRow]:
    """Examine every program of the lab.

    Args:
        lengths: lengths at which the programs are also checked; none by default.
        n: number of inputs sampled per length.
    """
    return [_list_row(entry, lengths, n) for entry in (*PROGRAMS, *registered())]


def _list_row(entry: Entry, lengths: Sequence[int], n: int) -> ListRow:
    task, split = task_of(entry, max([_SHOWN_LENGTH, *lengths])), (entry.splits or ("id",))[0]
    program = bind(entry.program, task.params.model_dump())
    examination = examine(program, task, split=split)
    furthest = None
    if lengths:
        checked = [length for length in lengths_of(task, min(lengths), max(lengths), split) if length in set(lengths)]
        furthest = right_up_to(check(program, task, checked, n, np.random.default_rng(0), split))
    sizes = examination.complexity
    return ListRow(
        task=entry.task,
        format=entry.format,
        program=entry.name,
        legal=legality(examination),
        operations=sizes.length,
        depth=sizes.depth,
        heads=sizes.width,
        right_up_to=furthest,
    )


@dataclass(frozen=True)
class WrongRow:
    """One wrong program.

    Attributes:
        task, format: the task and format that it fails to solve.
        program: its name.
        what: `shortcut` (right at all training lengths) or `tried` (legal, but wrong).
        operations: its length, with equal operations shared.
        fails: the split and length at which it fails, or a prompt.
    """

    task: str
    format: str
    program: str
    what: str
    operations: int
    fails: str


def list_wrong() -> list[WrongRow]:
    """All shortcuts and failed attempts, each with an input or a length on which it fails."""
    shortcuts = [(one, "shortcut", f"split {one.fails[0]}, length {one.fails[1]}") for one in SHORTCUTS]
    tried = [(one, "tried", one.fails_on) for one in TRIED]
    rows: list[WrongRow] = []
    for one, what, fails in [*shortcuts, *tried]:
        task = make(one.task, _SHOWN_LENGTH, one.format)
        sizes = size(bind(one.program, task.params.model_dump()), task)
        rows.append(WrongRow(one.task, one.format, one.program.__name__, what, sizes.length, fails))
    return sorted(rows, key=lambda row: (row.task, row.format))


def task_of(entry: Entry, max_len: int) -> Task:
    """Build the task of a program, with a vocabulary large enough for its longest examples."""
    return make(entry.task, max_len, entry.format, params_for(entry.task, max_len))


def params_for(task: str, max_len: int) -> dict[str, int]:
    """The task parameters that examples of length `max_len` require, if they differ from the defaults."""
    return {"n_tokens": max(64, 2 * max_len + 2)} if task == "repeats" else {}


def legality(examination: Examination) -> str:
    """The rule sets under which a program is legal, or the strict rules that it breaks, as text."""
    if not examination.strict.legal:
        return "no: " + ", ".join(examination.strict.broken)
    return "strict, c-rasp" if examination.verdicts["c-rasp"].legal else "strict"


# -- Runs on a prompt


def run_program(task: Task, prompt: str, limit: int = 1000) -> tuple[str, ...]:
    """The answer of the best program to a prompt, decoded token by token up to `<end>`.

    If the task has no end token, the answer is as long as the task's own answer.

    Args:
        task: the task.
        prompt: tokens separated by spaces.
        limit: the maximum number of tokens to decode.

    Raises:
        UserError: an unknown token, a task without a program, or a prompt that the task cannot produce, so that the
            program predicts a value that is not a token, or never ends.
    """
    tokens = tokens_of(task)
    program = program_for(task)
    values = tokens.parse(prompt)
    if not len(values):
        raise UserError("the prompt is empty: give the tokens of a prompt, separated by spaces")
    example = task.sample(np.random.default_rng(0), "id", [lengths_of(task, 1, task.max_len)[0]])
    if _ends_in_sep(example, tokens) and SEP not in values:
        raise UserError(f"the prompt has no `>`, and every prompt of task {task.name!r} ends with one")
    has_end = _has_end(example, tokens)
    if not has_end:
        limit = max(1, len(task.solve(prompt.split())))
    written, counts = decode(program, values[None], np.array([len(values)]), limit, END)
    ids = tokens.decode(written[0, : int(counts[0])])
    if NO_TOKEN in ids:
        value = int(written[0, list(ids).index(NO_TOKEN)])
        raise UserError(
            f"the program predicts {value}, which is not a token of task {task.name!r}: is the prompt complete?"
        )
    if has_end and written[0, int(counts[0]) - 1] != END:
        raise UserError(
            f"the program did not end within {limit} tokens: is this a possible prompt of task {task.name!r}?"
        )
    return tuple(tokens.tokens[i] for i in ids)


def _ends_in_sep(example: Examples, tokens: TokenMap) -> bool:
    return bool(tokens.encode(example.tokens[0])[example.prompt_len(0) - 1] == SEP)


def _has_end(example: Examples, tokens: TokenMap) -> bool:
    return bool((tokens.encode(example.targets)[example.scored] == END).any())


def trace_program(task: Task, prompt: str, width: int = _WIDTH) -> str:
    """The run of the best program on a prompt, as a table; see `trace_table`."""
    return trace_table(program_for(task), tokens_of(task), prompt, width)


def program_for(task: Task) -> Program:
    """The best program for a task, with the task's parameters bound."""
    return bind(best(task.name, task.format).program, task.params.model_dump())
