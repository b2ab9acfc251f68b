"""Results of the `lab rasp` commands: lists of programs, answers, traces, checks, predictions, generated pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from genlab.errors import UserError
from genlab.rasp.own_files import FileReport
from genlab.rasp.prediction import Prediction, predict_all
from genlab.rasp.programs.registry import OPEN
from genlab.rasp.reports import ListRow, WrongRow, list_programs, list_wrong, run_program, trace_program
from genlab.rasp.sealing import Outcome, changed_since, misses, score, sealed
from genlab.rasp.search.run import INPUTS, Say, Search, SearchResult
from genlab.rasp.search.table import add_to, rows_of, searched
from genlab.report.output import print_lines
from genlab.tasks import Task
from genlab.text import columns_of


@dataclass(frozen=True)
class ProgramList:
    """The programs of genlab; `without`: tasks and formats without one."""

    rows: list[ListRow]
    without: list[tuple[str, str]]

    def as_json(self) -> dict[str, Any]:
        """Return one row per program, and the formats without one."""
        return {"programs": [asdict(row) for row in self.rows], "without_program": self.without}

    def print(self, console: Console) -> None:
        """Print a table, then the formats without a program."""
        table = [("task", "format", "program", "legal", "ops", "depth", "heads", "right to")]
        for r in self.rows:
            right = "-" if r.right_up_to is None else str(r.right_up_to)
            table.append((r.task, r.format, r.program, r.legal, str(r.operations), str(r.depth), str(r.heads), right))
        names = ", ".join(f"{task} ({format})" for task, format in self.without)
        last = f"no program: {names}; see lab rasp predict for the reasons"
        print_lines(console, [*columns_of(table[0], table[1:]), last])


def program_list(lengths: Sequence[int] = (), n: int = 100) -> ProgramList:
    """Analyze every program, and check it on n inputs at each length."""
    return ProgramList(list_programs(lengths, n), sorted(OPEN))


@dataclass(frozen=True)
class WrongProgramList:
    """Shortcuts and failed attempts, with the inputs on which they fail."""

    rows: list[WrongRow]

    def as_json(self) -> list[dict[str, Any]]:
        """A row per program."""
        return [asdict(row) for row in self.rows]

    def print(self, console: Console) -> None:
        """A table."""
        head = ("task", "format", "program", "what", "ops", "wrong on")
        rows = [(r.task, r.format, r.program, r.what, str(r.operations), r.fails) for r in self.rows]
        print_lines(console, columns_of(head, rows))


def wrong_program_list() -> WrongProgramList:
    """Return all programs that are known to be wrong."""
    return WrongProgramList(list_wrong())


@dataclass(frozen=True)
class ProgramAnswer:
    """The answer of the best program for a task to a prompt."""

    prompt: str
    answer: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return prompt and answer."""
        return {"prompt": self.prompt, "answer": " ".join(self.answer)}

    def print(self, console: Console) -> None:
        """Print the answer."""
        print_lines(console, [" ".join(self.answer)])


def program_answer(task: Task, prompt: str) -> ProgramAnswer:
    """Run the best program for a task, decoded token by token."""
    return ProgramAnswer(prompt, list(run_program(task, prompt)))


@dataclass(frozen=True)
class ProgramTrace:
    """The intermediate sequences of a program on one prompt, as a table."""

    table: str

    def as_json(self) -> list[str]:
        """Return one line per operation."""
        return self.table.splitlines()

    def print(self, console: Console) -> None:
        """Print the table."""
        print_lines(console, self.table.splitlines())


def program_trace(task: Task, prompt: str) -> ProgramTrace:
    """Trace the best program for a task on a prompt."""
    return ProgramTrace(trace_program(task, prompt))


@dataclass(frozen=True)
class ProgramCheck:
    """Analysis and check of a user's program."""

    report: FileReport

    def as_json(self) -> dict[str, Any]:
        """Return size, legality by rule set, and exact match by length."""
        examination, sizes = self.report.examination, self.report.examination.complexity
        return {
            "operations": sizes.length,
            "depth": sizes.depth,
            "heads": sizes.width,
            "verdicts": {
                rules: {"legal": verdict.legal, "faults": [str(fault) for fault in verdict.faults]}
                for rules, verdict in examination.verdicts.items()
            },
            "grows_with_length": examination.growth,
            "exact_match": {str(one.length): one.right / one.n for one in self.report.scores},
            "missing_lengths": list(self.report.missing),
        }

    def print(self, console: Console) -> None:
        """Print everything as lines."""
        print_lines(console, self.report.lines)


@dataclass(frozen=True)
class Predictions:
    """Predictions of the rule for every task and format, compared with the sealed ones.

    Attributes:
        rows: the predictions.
        reasons: whether to print reasons.
        sealed: date and hash of the sealed document.
        changed: tasks and formats whose prediction has changed since.
        right, wrong: counts over outcomes that were known when the document was sealed.
        misses: the wrong ones.
        searched: results of searches for the shortest program, by task and format.
    """

    rows: list[Prediction]
    reasons: bool
    sealed: dict[str, str]
    changed: list[tuple[str, str]]
    right: int
    wrong: int
    misses: list[Outcome]
    searched: dict[tuple[str, str], list[dict[str, Any]]]

    def as_json(self) -> dict[str, Any]:
        """Return the predictions and their score."""
        scores = {"right": self.right, "wrong": self.wrong, "misses": [str(outcome) for outcome in self.misses]}
        return {
            "predictions": [{**row.row(), "searched": self.searched[row.task, row.format]} for row in self.rows],
            "sealed": self.sealed,
            "changed": self.changed,
            "retrodictions": scores,
        }

    def print(self, console: Console) -> None:
        """Print one line per task and format, then the score."""
        lines: list[str] = []
        for row in self.rows:
            encodings = f" with positions {', '.join(row.encodings)}" if row.encodings else ""
            unknown = f"; unknown with {', '.join(row.unknown)}" if row.unknown and row.encodings else ""
            lines.append(f"{row.task} ({row.format}): {row.verdict}{encodings}{unknown}")
            lines += [f"    {row.reason}"] if self.reasons else []
            lines += [f"    {_found(row, found)}" for found in self.searched[row.task, row.format]]
        lines.append(f"sealed on {self.sealed['date']}, SHA-256 {self.sealed['hash']}")
        lines += [f"changed since: {task} ({format})" for task, format in self.changed]
        lines.append(f"retrodictions (outcome known when sealed): {self.right} right, {self.wrong} wrong")
        print_lines(console, [*lines, *(f"wrong: {outcome}" for outcome in self.misses)])


def predictions(reasons: bool = True) -> Predictions:
    """Apply the rule to every task and format, and compare it with known outcomes."""
    rows, document = predict_all(), sealed()
    scores = score(rows)
    about = {name: document[name] for name in ("date", "hash")}
    changed = list(changed_since(document, rows))
    found = {(row.task, row.format): searched(row.task, row.format) for row in rows}
    return Predictions(rows, reasons, about, changed, scores["right"], scores["wrong"], misses(rows), found)


def _found(prediction: Prediction, row: dict[str, Any]) -> str:
    """Describe the result of a search, with the length of our own program."""
    if row["operations"]:
        found = f"{row['operations']} operations"
    else:
        found = f"none of at most {row['excluded']} operations"
    ours = f"; {prediction.program} has {prediction.length}" if prediction.length else ""
    return f"shortest by search ({row['grammar']}): {found}{ours}"


@dataclass(frozen=True)
class ProgramSearch:
    """The shortest program found by a search, or a lower bound on its length."""

    result: SearchResult

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return self.result.row()

    def print(self, console: Console) -> None:
        """Print the program or the bound, and the size of the search."""
        one = self.result
        what = f"{one.task} ({one.format}), grammar {one.grammar}"
        if one.program:
            lengths = f"{one.checked[0]} to {one.checked[-1]}"
            lines = [
                f"{what}: shortest program has {one.operations} operations",
                "",
                *one.program.splitlines(),
                "",
                f"right on {INPUTS:,} inputs at each of {len(one.checked)} lengths from {lengths}",
            ]
        else:
            lines = [f"{what}: no program of at most {one.excluded} operations in this grammar"]
        if one.illegal:
            lines.append(f"right, but not legal as a whole: {one.illegal} programs")
        seen = one.behaviors[-1] if one.behaviors else 1
        lines.append(
            f"{seen:,} behaviors on {one.inputs} inputs, {one.candidates:,} candidates, {one.batches} batches, "
            f"{one.seconds:.0f} s"
        )
        print_lines(console, lines)


def search_program(
    task: Task,
    max_ops: int,
    grammar: str,
    memory: float,
    checkpoint: Path | None,
    table: Path | None,
    say: Say,
) -> ProgramSearch:
    """Search for the shortest program of a task (see `genlab.rasp.search.run.Search`).

    Args:
        table: a table of results to add the result to, or None.

    Raises:
        UserError: the task has no fixed answers, the grammar is unknown, or memory does not suffice.
    """
    if table is not None and table.exists():
        rows_of(table)
    result = Search(task, max_ops, grammar, memory, checkpoint, say).run()
    if table is not None:
        add_to(table, result)
    return ProgramSearch(result)


@dataclass(frozen=True)
class GeneratedPairs:
    """Pairs of tasks written to a file: task, rule that it breaks ('': none), operations, prediction."""

    file: Path
    rows: list[tuple[str, str, int, bool]]

    def as_json(self) -> list[dict[str, Any]]:
        """Return one row per task."""
        return [dict(zip(("task", "breaks", "operations", "expected"), row, strict=True)) for row in self.rows]

    def print(self, console: Console) -> None:
        """Print a table."""
        rows = [
            (task, f"breaks {rule}" if rule else "legal", str(size), "yes" if expected else "no")
            for task, rule, size, expected in self.rows
        ]
        print_lines(console, columns_of(("task", "rule", "operations", "expected"), rows))


_MOST_PAIRS = 1000


def generate_pairs(file: Path, pairs: int, seed: int, date: str) -> GeneratedPairs:
    """Draw pairs of tasks whose programs differ in one legality rule, and write them as a plugin.

    Raises:
        UserError: the file exists, or a number is out of range.
    """
    from genlab.rasp.generating import draw_pairs
    from genlab.rasp.plugin import pair_predictions, plugin_text

    if file.exists():
        raise UserError(f"--out {str(file)!r} already exists; predictions are not overwritten")
    if pairs > _MOST_PAIRS:
        raise UserError(f"--pairs {pairs} is not allowed: at most {_MOST_PAIRS:,}")
    if pairs < 1 or seed < 0:
        raise UserError(f"--pairs {pairs} --seed {seed}: --pairs must be at least 1, and --seed at least 0")
    drawn = draw_pairs(pairs, np.random.default_rng(seed), prefix=f"rasp-{seed}")
    command = f"lab rasp generate --pairs {pairs} --seed {seed}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(plugin_text(drawn, sealed()["hash"], date, command), "utf-8")
    rows = [
        (one.task, rule, one.length, one.expected)
        for pair, *predicted in pair_predictions(drawn)
        for one, rule in zip(predicted, ("", pair.rule), strict=True)
    ]
    return GeneratedPairs(file, rows)
