"""A user's own program: load it from a file, examine it, and check it against a task."""

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
from genlab.tasks import Task


def load_program(path: str | Path, name: str = "") -> Program:
    """Load a program from a Python file: the function called `name` or `program`, or the only one that it defines.

    Args:
        path: the file.
        name: the preferred function name, such as the name of a task; hyphens are read as underscores.

    Raises:
        UserError: the file does not exist, has a syntax error (reported with its line), fails when it is run, or
            defines no such function.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"program {str(path)!r} is not a file")
    try:
        code = compile(file.read_bytes(), str(file), "exec")  # bytes, so that its declared encoding is used
    except SyntaxError as error:
        raise UserError(f"{file.name}:{error.lineno}: syntax error: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{file.name} is not a Python file: {error}") from None
    namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(code, namespace)
    except Exception as error:
        raise UserError(f"{file.name} does not run: {type(error).__name__}: {error}") from error
    own = {k: v for k, v in namespace.items() if callable(v) and getattr(v, "__module__", "") == file.stem}
    for preferred in (name.replace("-", "_"), "program"):
        if preferred in own:
            return own[preferred]
    if len(own) == 1:
        return next(iter(own.values()))
    if not own:
        raise UserError(f"{file.name} defines no function: a program is a function of one sequence")
    raise unknown(f"program of {file.name}, which should be called", "program", own)


@dataclass(frozen=True)
class FileReport:
    """The result of checking a user's program.

    Attributes:
        examination: legality and complexity.
        scores: exact match at each length that was checked.
        missing: requested lengths of which the task has no examples.
    """

    examination: Examination
    scores: list[LengthScore]
    missing: tuple[int, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The report as lines of text."""
        sizes = self.examination.complexity
        calls = ", ".join(f"{op} {count}" for op, count in sorted(sizes.operations.items()))
        out = [
            f"{sizes.length} operations, depth {sizes.depth}, {sizes.width} heads at one depth",
            f"calls: {calls} ({sizes.short} of the maps written as operators)",
        ]
        for rules, verdict in self.examination.verdicts.items():
            out.append(f"{rules}: {'legal' if verdict.legal else 'not legal'} ({len(RULE_SETS[rules])} rules)")
            out += [f"  {fault}" for fault in verdict.faults]
        if self.examination.growth:
            out.append(f"grows with the length: {self.examination.growth}")
        furthest = right_up_to(self.scores)
        out.append(
            f"right at every length checked up to {furthest}" if furthest else "wrong at the first length checked"
        )
        if self.missing:
            out.append(f"not checked, since the task has no examples of these lengths: {_spans(self.missing)}")
        if complete := [score.length for score in self.scores if score.complete]:
            out.append(f"probably all inputs of these lengths were checked: {_spans(complete)}")
        wrong = [score for score in self.scores if score.right < score.n]
        for score in wrong[:3]:
            assert score.wrong is not None
            prompt, answer, given = score.wrong
            out.append(f"length {score.length}: {score.right} of {score.n} right; {prompt} -> {given}, not {answer}")
        return out


def _spans(lengths: Sequence[int]) -> str:
    """Format increasing numbers, with consecutive ones as ranges.

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
    path: str | Path,
    task: Task,
    lengths: Iterable[int],
    n: int = 100,
    split: str = "id",
    token_by_token: bool = False,
) -> FileReport:
    """Examine a user's program, and check it against a task.

    Args:
        path: the Python file, see `load_program`.
        task: the task.
        lengths: the lengths to check; lengths of which the task has no examples are skipped.
        n: number of examples sampled per length.
        split: the split to sample from.
        token_by_token: decode each answer token by token, as for a model.

    Raises:
        ProgramError: the program uses something that is not in the language; the message names the line.
        UserError: the file cannot be loaded, or the task has no examples of any of these lengths.
    """
    program = load_program(path, task.name)
    requested = sorted(set(lengths))
    if not requested:
        raise UserError("no lengths to check")
    available = set(lengths_of(task, requested[0], requested[-1], split))
    checked = [length for length in requested if length in available]
    if not checked:
        raise UserError(f"the task has no example of the lengths {_spans(requested)} on split {split!r}")
    examination = examine(program, task, split=split)
    scores = check(program, task, checked, n, np.random.default_rng(0), split, token_by_token)
    return FileReport(examination, scores, tuple(length for length in requested if length not in available))
