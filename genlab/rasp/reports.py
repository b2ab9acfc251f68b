"""What the command line asks of this room: rows and texts, no printing.

This room imports no task: where a function needs one it is handed over, or `make(name, max_len, format)` is.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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

# -- A run as a table: a row an operation, a column a position

_NAME = re.compile(r"\s*(\w+)(?:\s*:[^=]+)?\s*=(?!=)")
_WIDTH = 80


def trace_table(program: Program, tokens: TokenMap, prompt: str, width: int = _WIDTH) -> str:
    """Every intermediate sequence of a run on one prompt, equal operations once.

    Tokens and hints are shown as the task writes them, counts and indices as numbers, booleans as `.` and `T`; a
    dash stands for the negative values that mean none. What the program gives a name has it on the left. A select
    has no row of its own: the row of its values says what it selects. Rows within a library function are marked `·`.
    """
    graph = trace(program, tokens.parse(prompt), keep=True)
    reading = Reading(graph, tokens.domain)
    shown = [node for node in _distinct(graph) if node.op != "select"]
    rows = [(_title(node, graph, program), _cells(node, graph, reading, tokens)) for node in shown]
    cell = max((len(text) for _, cells in rows for text in cells), default=1)
    longest = max(len(title) for title, _ in rows)
    room = min(longest, max(12, width - (cell + 1) * len(rows[0][1]) - 1))
    table = [("", [str(i) for i in range(len(rows[0][1]))]), *rows]
    lines = (f"{_cut(title, room):{room}} " + " ".join(f"{text:>{cell}}" for text in cells) for title, cells in table)
    return "\n".join(line.rstrip() for line in lines)


def _distinct(graph: Graph) -> list[Node]:
    """The operations that the output depends on, without those that repeat an earlier one."""
    first: dict[int, Node] = {}
    for node, number in shared(graph).items():
        first.setdefault(number, node)
    return [node for node in graph.live if node in first.values() or node is graph.output]


def _title(node: Node, graph: Graph, program: Program) -> str:
    """The name that the program gives the result, and the operation."""
    if node.op == "input":
        return "input"
    last = _is_last_of_call(node, graph)
    done = node.place.via if node.place.via and last else _deed(node)
    name = _given_name(node, graph, program)
    if node is graph.output:
        name = "next"
    elif node.place.via and not last:
        return f"· {done}"
    return f"{name} = {done}" if name else done


def _is_last_of_call(node: Node, graph: Graph) -> bool:
    """Whether no later operation belongs to the same call of a library function."""
    return all(other.place != node.place for other in graph.nodes[node.id + 1 :])


def _deed(node: Node) -> str:
    """What an operation does, in a few words."""
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


def _given_name(node: Node, graph: Graph, program: Program) -> str:
    """The variable on the left of the program's own line, for the last operation of that line."""
    top, code = node.place.top, getattr(getattr(program, "__wrapped__", program), "__code__", None)
    if code is None or any(other.place.top == top for other in graph.nodes[node.id + 1 :]):
        return ""
    found = _NAME.match(linecache.getline(code.co_filename, top))
    return found.group(1) if found else ""


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
"""What stands for -1 is no token of a prompt: it means none."""


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


Make = Callable[..., Any]
_SHOWN_LENGTH = 16


@dataclass(frozen=True)
class ListRow:
    """One program in the list.

    Attributes:
        legal: `strict`, and `c-rasp` where it is that too; or the strict rules that it breaks.
        operations: its length, with equal operations shared.
        depth, heads: layers needed, and selects at one depth.
        right_up_to: the largest length up to which every input was right; None if not checked.
    """

    task: str
    format: str
    program: str
    legal: str
    operations: int
    depth: int
    heads: int
    right_up_to: int | None = None


def list_programs(make: Make, lengths: Sequence[int] = (), n: int = 100) -> list[ListRow]:
    """Every program of the lab, examined; with `lengths`, checked on n inputs of each of them."""
    return [_list_row(entry, make, lengths, n) for entry in (*PROGRAMS, *registered())]


def _list_row(entry: Entry, make: Make, lengths: Sequence[int], n: int) -> ListRow:
    task, split = task_of(entry, make, max([_SHOWN_LENGTH, *lengths])), (entry.splits or ("id",))[0]
    program = bind(entry.program, task.params.model_dump())
    found = examine(program, task, split=split)
    furthest = None
    if lengths:
        made = [length for length in lengths_of(task, min(lengths), max(lengths), split) if length in set(lengths)]
        furthest = right_up_to(check(program, task, made, n, np.random.default_rng(0), split))
    sizes = found.complexity
    return ListRow(
        entry.task, entry.format, entry.name, legality(found), sizes.length, sizes.depth, sizes.width, furthest
    )


@dataclass(frozen=True)
class WrongRow:
    """One wrong program.

    Attributes:
        what: `shortcut`, which fits all training lengths, or `tried`, which is legal.
        operations: its length, with equal operations shared.
        fails: the split and length at which it fails, or the prompt.
    """

    task: str
    format: str
    program: str
    what: str
    operations: int
    fails: str


def list_wrong(make: Make) -> list[WrongRow]:
    """Every shortcut, and every attempt where no legal program is known, with what it fails on."""
    shortcuts = [(one, "shortcut", f"split {one.fails[0]}, length {one.fails[1]}") for one in SHORTCUTS]
    tried = [(one, "tried", one.fails_on) for one in TRIED]
    rows: list[WrongRow] = []
    for one, what, fails in [*shortcuts, *tried]:
        task = make(one.task, _SHOWN_LENGTH, one.format)
        sizes = size(bind(one.program, task.params.model_dump()), task)
        rows.append(WrongRow(one.task, one.format, one.program.__name__, what, sizes.length, fails))
    return sorted(rows, key=lambda row: (row.task, row.format))


def task_of(entry: Entry, make: Make, max_len: int) -> Any:
    """The task of a program, with room for texts as long as its examples need."""
    return make(entry.task, max_len, entry.format, room_for(entry.task, max_len))


def room_for(task: str, max_len: int) -> dict[str, int]:
    """The parameters of a task that its longest examples need."""
    return {"n_tokens": max(64, 2 * max_len + 2)} if task == "repeats" else {}


def legality(found: Examination) -> str:
    """The rule sets that a program is legal under, in a few words, or the strict rules that it breaks."""
    if not found.strict.legal:
        return "no: " + ", ".join(found.strict.broken)
    return "strict, c-rasp" if found.verdicts["c-rasp"].legal else "strict"


def run_program(task: Any, prompt: str, limit: int = 1000) -> tuple[str, ...]:
    """The answer of the best program to a prompt, written token by token to `<end>`.

    Where a task has no end token it is as long as the task's own answer.

    Raises:
        UserError: an unknown token, a task without a program, a prompt that is not one of the task's, so that the
            program predicts what is no token or finds no end.
    """
    tokens = tokens_of(task)
    program = program_for(task)
    given = tokens.parse(prompt)
    if not len(given):
        raise UserError("the prompt is empty: it is the tokens that the task shows, apart by spaces")
    example = _an_example(task)
    if _ends_in_sep(example, tokens) and SEP not in given:
        raise UserError(f"the prompt has no `>`, and every prompt of task {task.name!r} ends in one")
    has_end = _has_end(example, tokens)
    if not has_end:
        limit = max(1, len(task.solve(prompt.split())))
    written, counts = decode(program, given[None], np.array([len(given)]), limit, END)
    ids = tokens.decode(written[0, : int(counts[0])])
    if NO_TOKEN in ids:
        value = int(written[0, list(ids).index(NO_TOKEN)])
        raise UserError(
            f"the program predicts {value}, which is no token of task {task.name!r}: is the prompt whole?"
        )
    if has_end and written[0, int(counts[0]) - 1] != END:
        raise UserError(f"the program finds no end in {limit} tokens: does task {task.name!r} make such a prompt?")
    return tuple(tokens.tokens[i] for i in ids)


def _an_example(task: Any) -> Any:
    return task.sample(np.random.default_rng(0), "id", [lengths_of(task, 1, task.max_len)[0]])


def _ends_in_sep(example: Any, tokens: TokenMap) -> bool:
    return bool(tokens.encode(example.tokens[0])[example.prompt_len(0) - 1] == SEP)


def _has_end(example: Any, tokens: TokenMap) -> bool:
    return bool((tokens.encode(example.targets)[example.scored] == END).any())


def trace_program(task: Any, prompt: str, width: int = 80) -> str:
    """The best program's run on a prompt as a table."""
    return trace_table(program_for(task), tokens_of(task), prompt, width)


def program_for(task: Any) -> Program:
    """The best program for a task, with its parameters."""
    return bind(best(task.name, task.format).program, task.params.model_dump())
