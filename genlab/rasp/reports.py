"""What the command line asks of this room: rows and texts, no printing.

This room imports no task: where a function needs one it is handed over, or `make(name, max_len, format)` is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genlab.errors import UserError
from genlab.rasp.checker import check, lengths_of, right_up_to, tokens_of
from genlab.rasp.examine import Examination, examine, size
from genlab.rasp.programs.registry import PROGRAMS, Entry, best, bind
from genlab.rasp.programs.shortcuts import SHORTCUTS
from genlab.rasp.programs.tried import TRIED
from genlab.rasp.running import Program, decode
from genlab.rasp.show import trace_table
from genlab.rasp.tokens import END, NO_TOKEN, SEP, TokenMap

__all__ = [
    "ListRow",
    "WrongRow",
    "list_programs",
    "list_wrong",
    "room_for",
    "run_program",
    "task_of",
    "trace_program",
]

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
    return [_list_row(entry, make, lengths, n) for entry in PROGRAMS]


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
