"""What the command line asks of this room: rows and texts, no printing.

This room imports no task: where a function needs one it is handed over, or `make(name, max_len, format)` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genlab.errors import UserError, unknown
from genlab.rasp.analysis import RULE_SETS
from genlab.rasp.checker import LengthScore, check, lengths_of, right_up_to, tokens_of
from genlab.rasp.examine import Examination, examine
from genlab.rasp.programs.registry import PROGRAMS, Entry, best, bind
from genlab.rasp.running import Program, decode
from genlab.rasp.show import trace_table
from genlab.rasp.tokens import END, NO_TOKEN, SEP, TokenMap

__all__ = ["FileReport", "ListRow", "check_file", "list_programs", "load_program", "run_program", "trace_program"]

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


def task_of(entry: Entry, make: Make, max_len: int) -> Any:
    """The task of a program, with room for texts as long as its examples need."""
    params = {"n_tokens": max(64, 2 * max_len + 2)} if entry.task == "repeats" else {}
    return make(entry.task, max_len, entry.format, params)


def legality(found: Examination) -> str:
    """The rule sets that a program is legal under, in a few words, or the strict rules that it breaks."""
    if not found.strict.legal:
        return "no: " + ", ".join(found.strict.broken)
    return "strict, c-rasp" if found.verdicts["c-rasp"].legal else "strict"


def run_program(task: Any, prompt: str, limit: int = 1000) -> tuple[str, ...]:
    """The answer of the best program to a prompt, written token by token to `<end>`.

    Where a task has no end token it is as long as the task's own answer.

    Raises:
        UserError: an unknown token, a task without a program, or a prediction that is no token of the task.
    """
    tokens = tokens_of(task)
    program = program_for(task)
    given = tokens.parse(prompt)
    if not len(given):
        raise UserError("the prompt is empty: it is the tokens that the task shows, apart by spaces")
    example = _an_example(task)
    if _ends_in_sep(example, tokens) and SEP not in given:
        raise UserError(f"the prompt has no `>`, and every prompt of task {task.name!r} ends in one")
    if not _has_end(example, tokens):
        limit = max(1, len(task.solve(prompt.split())))
    written, counts = decode(program, given[None], np.array([len(given)]), limit, END)
    ids = tokens.decode(written[0, : int(counts[0])])
    if NO_TOKEN in ids:
        value = int(written[0, list(ids).index(NO_TOKEN)])
        raise UserError(
            f"the program predicts {value}, which is no token of task {task.name!r}: is the prompt whole?"
        )
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


def load_program(path: str | Path, name: str = "") -> Program:
    """The program of a file: the function called `program`, or `name`, or the only one that it defines.

    Raises:
        UserError: no such file, a syntax error (with its line), a failure while it runs, or no such function.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"program {str(path)!r} is not a file")
    try:
        code = compile(file.read_text(), str(file), "exec")
    except SyntaxError as error:
        raise UserError(f"{file.name}:{error.lineno}: syntax error: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{file.name} is not a Python file: {error}") from None
    space: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(code, space)
    except Exception as error:
        raise UserError(f"{file.name} does not run: {type(error).__name__}: {error}") from error
    own = {k: v for k, v in space.items() if callable(v) and getattr(v, "__module__", "") == file.stem}
    for wanted in (name.replace("-", "_"), "program"):
        if wanted in own:
            return own[wanted]
    if len(own) == 1:
        return next(iter(own.values()))
    if not own:
        raise UserError(f"{file.name} defines no function: a program is a function of one sequence")
    raise unknown(f"program of {file.name}, which should be called", "program", own)


@dataclass(frozen=True)
class FileReport:
    """What is said of a user's program."""

    found: Examination
    scores: list[LengthScore]
    not_made: tuple[int, ...] = ()
    """Lengths that were asked for and that the task does not make."""

    @property
    def lines(self) -> list[str]:
        """The report as text."""
        sizes = self.found.complexity
        out = [f"{sizes.length} operations, depth {sizes.depth}, {sizes.width} heads at one depth"]
        for rules, verdict in self.found.verdicts.items():
            out.append(f"{rules}: {'legal' if verdict.legal else 'not legal'} ({len(RULE_SETS[rules])} rules)")
            out += [f"  {fault}" for fault in verdict.faults]
        if self.found.growing:
            out.append(f"grows with the length: {', '.join(self.found.growing)}")
        furthest = right_up_to(self.scores)
        out.append(
            f"right at every length checked up to {furthest}" if furthest else "wrong at the first length already"
        )
        if self.not_made:
            out.append(f"not checked, for the task has none of these lengths: {_spans(self.not_made)}")
        if complete := [score.length for score in self.scores if score.complete]:
            out.append(f"all inputs of these lengths were tried, as far as drawing tells: {_spans(complete)}")
        wrong = [score for score in self.scores if score.right < score.n]
        for score in wrong[:3]:
            assert score.wrong is not None
            prompt, answer, given = score.wrong
            out.append(f"length {score.length}: {score.right} of {score.n} right; {prompt} -> {given}, not {answer}")
        return out


def _spans(lengths: Sequence[int]) -> str:
    """Numbers with runs closed up.

    >>> _spans([1, 2, 3, 7])
    '1 to 3, 7'
    """
    runs: list[list[int]] = []
    for length in lengths:
        if runs and runs[-1][-1] == length - 1:
            runs[-1].append(length)
        else:
            runs.append([length])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def check_file(
    path: str | Path, task: Any, lengths: Iterable[int], n: int = 100, split: str = "id", token_by_token: bool = False
) -> FileReport:
    """Examine and check a user's program against a task.

    Raises:
        ProgramError: what it does is not in the language; the message names the line.
        UserError: the file cannot be read, or the task cannot make these lengths.
    """
    program = load_program(path, task.name)
    wanted = sorted(set(lengths))
    if not wanted:
        raise UserError("no lengths to check")
    possible = set(lengths_of(task, wanted[0], wanted[-1], split))
    made = [length for length in wanted if length in possible]
    if not made:
        raise UserError(f"the task has no example of the lengths {_spans(wanted)} on split {split!r}")
    found = examine(program, task, split=split)
    scores = check(program, task, made, n, np.random.default_rng(0), split, token_by_token)
    return FileReport(found, scores, tuple(length for length in wanted if length not in possible))
