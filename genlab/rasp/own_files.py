"""A user's own program: read from a file, examined, checked against a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genlab.errors import UserError, unknown
from genlab.rasp.analysis import RULE_SETS
from genlab.rasp.checker import Examination, LengthScore, check, examine, lengths_of, right_up_to
from genlab.rasp.running import Program


def load_program(path: str | Path, name: str = "") -> Program:
    """The program of a file: the function called `program`, or `name`, or the only one that it defines.

    Raises:
        UserError: no such file, a syntax error (with its line), a failure while it runs, or no such function.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"program {str(path)!r} is not a file")
    try:
        code = compile(file.read_bytes(), str(file), "exec")  # in the encoding that it declares
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
        calls = ", ".join(f"{op} {count}" for op, count in sorted(sizes.operations.items()))
        out = [
            f"{sizes.length} operations, depth {sizes.depth}, {sizes.width} heads at one depth",
            f"calls: {calls} ({sizes.short} of the maps written as operators)",
        ]
        for rules, verdict in self.found.verdicts.items():
            out.append(f"{rules}: {'legal' if verdict.legal else 'not legal'} ({len(RULE_SETS[rules])} rules)")
            out += [f"  {fault}" for fault in verdict.faults]
        if self.found.growth:
            out.append(f"grows with the length: {self.found.growth}")
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
