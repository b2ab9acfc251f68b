"""Lists of tasks, examples and signals, without importing torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from genlab.errors import UserError
from genlab.probes.calibrated import calibrated
from genlab.probes.signal import Signal
from genlab.report.output import print_lines
from genlab.spec import Scalar
from genlab.tasks import Examples, Task, make, names, task_class

NEEDS_GPU = "needs a GPU: not learned in ten minutes on two cores (docs/tasks.md)"


@dataclass(frozen=True)
class TaskList:
    """All tasks by family, one row each."""

    rows: list[dict[str, Any]]

    def as_json(self) -> list[dict[str, Any]]:
        """Return the rows."""
        return self.rows

    def print(self, console: Console) -> None:
        """Print by family: name, class in the Chomsky hierarchy, question, formats, splits, paper."""
        for family, members in groupby(self.rows, key=lambda row: row["family"]):
            console.print(Text(family, style="bold underline"))
            for row in members:
                language = f" ({row['language_class']})" if row["language_class"] else ""
                title = Text.assemble((row["name"], "bold"), language, f"  {row['asks']}")
                console.print(Padding(title, (0, 0, 0, 2)))
                about = [
                    f"formats: {', '.join(row['formats'])}",
                    f"splits: {', '.join(row['splits'])}",
                    row["source"],
                ]
                about += [NEEDS_GPU] * row["needs_gpu"]
                console.print(Padding(Text("\n".join(about)), (0, 0, 0, 6)))
            console.print()
        console.print("lab show TASK prints examples of each format and split", style="dim")


def task_list() -> TaskList:
    """Return all tasks, including those of plugins."""
    return TaskList(sorted((_task_row(name) for name in names()), key=lambda row: (row["family"], row["name"])))


def _task_row(name: str) -> dict[str, Any]:
    cls = task_class(name)
    return {
        "name": name,
        "family": cls.family,
        "asks": cls.asks,
        "length_unit": cls.length_unit,
        "language_class": cls.language_class,
        "formats": dict(cls.formats),
        "splits": {split.name: split.about for split in cls.splits.values()},
        "source": cls.source,
        "needs_gpu": cls.needs_gpu,
    }


# -- Examples of a task: of every format and split, or of the ones named

_MOST = 10_000
"""Maximum number of examples."""
_FIGURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for examples; None means the default."""

    task: str
    length: int | None = None
    format: str | None = None
    split: str | None = None
    n: int | None = None
    seed: int = 0
    max_len: int | None = None
    params: Mapping[str, Scalar] | None = None

    def made(self, format: str | None = None) -> Task:
        """The task, in this format or the requested one."""
        usual = task_class(self.task).shown_length
        asked = usual if self.length is None or self.length < 1 else self.length
        longest = asked if self.max_len is None else self.max_len
        return make(self.task, longest, format or self.format, self.params)

    def length_on(self, task: Task, split: str) -> int:
        """The requested length, or the longest of the split up to the task's maximum.

        Raises:
            UserError: the split has no such length.
        """
        if self.length is not None:
            shortest = task.min_len(task.split(split))
            if self.length < shortest:  # do not report the maximum: it is the requested length
                raise UserError(
                    f"task {task.name!r} cannot make length {self.length} on split {split!r}: "
                    f"its shortest has {shortest} {task.length_unit}"
                )
            task.check_lengths(split, [self.length])
            return self.length
        known = task.lengths_between(split, 0, task.max_len)
        if not len(known):
            raise UserError(
                f"task {task.name!r} has no example up to length {task.max_len} on split {split!r}; give --length"
            )
        return int(known[-1])


@dataclass(frozen=True, slots=True)
class _Block:
    """Examples of one format and split, at one length."""

    task: Task
    split: str
    length: int
    examples: Examples

    def pairs(self) -> list[tuple[str, str]]:
        """Prompts and answers in readable form."""
        return [self.task.written(self.examples, row) for row in range(len(self.examples))]

    def drawing(self, row: int) -> str:
        return self.task.drawing(*self.task.read(self.examples, row), self.length)


@dataclass(frozen=True)
class ExampleList:
    """Examples of a task, by format and split.

    Attributes:
        blocks: examples of each format and split.
        named: whether one format or split was requested, and is shown in full.
        figure: file of the drawing of the first example.
    """

    blocks: list[_Block]
    named: bool
    figure: Path | None

    def as_json(self) -> list[dict[str, Any]]:
        """Return one row per example."""
        return [
            {"format": b.task.format, "split": b.split, "length": b.length, "prompt": prompt, "answer": answer}
            for b in self.blocks
            for prompt, answer in b.pairs()
        ]

    def print(self, console: Console) -> None:
        """Print prompts with their answers marked."""
        if self.named:
            _print_one(console, self.blocks[0])
        else:
            _print_every(console, self.blocks)
        if self.figure is not None:
            print_lines(console, [f"figure: {self.figure}"])


def example_list(asked: Asked, figure: Path | None = None) -> ExampleList:
    """Generate examples of a task, with a drawing of the first if requested.

    Raises:
        UserError: an unknown task, format or split, a length it cannot generate, or a task without a drawing.
    """
    if asked.n is not None and asked.n < 1:
        raise UserError(f"-n {asked.n} is not allowed: at least 1")
    if asked.seed < 0:
        raise UserError(f"--seed {asked.seed} is not allowed: at least 0")
    if asked.n is not None and asked.n > _MOST:
        raise UserError(f"-n {asked.n} is not allowed: the maximum is {_MOST:,} examples")
    if figure is not None and figure.suffix.lower() not in _FIGURES:
        raise UserError(f"--png {str(figure)!r} is not allowed (allowed: names that end in {', '.join(_FIGURES)})")
    named = asked.format is not None or asked.split is not None
    blocks = [_drawn(asked, asked.made(), asked.split or "id", 3)] if named else _every(asked)
    if figure is not None:
        first = blocks[0]
        first.task.draw_figure(figure, *first.task.read(first.examples, 0), first.length)
    return ExampleList(blocks, named, figure)


def _drawn(asked: Asked, task: Task, split: str, usual: int) -> _Block:
    length = asked.length_on(task, split)
    rng = np.random.default_rng(asked.seed)
    return _Block(task, split, length, task.sample(rng, split, [length] * (asked.n or usual)))


def _every(asked: Asked) -> list[_Block]:
    """Two examples of each format, then one of each other split that has the requested length, if any."""
    cls = task_class(asked.task)
    blocks = [_drawn(asked, asked.made(format), "id", 2) for format in cls.formats]
    for split in list(cls.splits)[1:]:
        task = asked.made()
        if asked.length is None and not len(task.lengths_between(split, 0, task.max_len)):
            task = make(asked.task, max(task.min_len(task.split(split)), 1), None, asked.params)
        if asked.length is None or asked.length in task.lengths_between(split, asked.length, asked.length):
            blocks.append(_drawn(asked, task, split, 1))
    return blocks


def _print_one(console: Console, block: _Block) -> None:
    task = block.task
    console.print(f"{task.name}, format {task.format}: {task.formats[task.format]}")
    console.print(
        f"split {block.split}: {task.split(block.split).about}; length {block.length} ({task.length_unit})\n"
    )
    for row, pair in enumerate(block.pairs()):
        console.print(_marked(*pair))
        if drawing := block.drawing(row):
            console.print(Padding(Text(drawing), (1, 0, 1, 2)))
    console.print(f"\n{_scores(block)}")


def _print_every(console: Console, blocks: list[_Block]) -> None:
    task = blocks[0].task
    console.print(Text.assemble((task.name, "bold"), f": {task.asks}"))
    console.print(task.source)
    for number, block in enumerate(blocks):
        own, of_format = block.task, block.split == "id"
        about = f"format {own.format}: {own.formats[own.format]}"
        if not of_format:
            about = f"split {block.split}: {own.split(block.split).about}"
        console.print(f"\n{about} (length {block.length}, {own.length_unit})")
        for row, pair in enumerate(block.pairs()):
            drawing = block.drawing(row)
            if not drawing or of_format:
                console.print(Padding(_marked(*pair), (0, 0, 0, 2)))
            if drawing and (number == 0 or not of_format):  # all formats show the same examples
                console.print(Padding(Text(drawing), (0, 0, 0, 2)))
    console.print(f"\n{_scores(blocks[0])}")


def _marked(prompt: str, answer: str) -> Text:
    return Text(prompt + " ") + Text(answer, style="bold green underline")


def _scores(block: _Block) -> str:
    task, length = block.task, block.length
    shortcuts = task.baseline_on(task.split(block.split), length)
    others = "".join(f"; {name.replace('_', ' ')} {score:.3g}" for name, score in shortcuts.items())
    return f"exact match by chance {task.chance(length):.3g}{others} (split {block.split}, length {length})"


# -- The list of signals

_WIDEST, _NAMES = 100, 12


@dataclass(frozen=True)
class SignalList:
    """Signals by family."""

    signals: Sequence[Signal]

    def as_json(self) -> list[dict[str, Any]]:
        """Return one row per signal."""
        return [_as_json(s) for s in self.signals]

    def print(self, console: Console) -> None:
        """Print one paragraph per signal, as wide as the terminal (piped: 80 columns)."""
        width = min(console.width, _WIDEST)
        for family, members in groupby(self.signals, key=lambda s: s.family):
            console.print(Text(family, style="bold underline"))
            for s in members:
                console.print()
                console.print(Text(s.name, style="bold"))
                print_lines(console, paragraph(s, width))
            console.print()
        print_lines(console, ["slow signals are measured only if named: lab probe RUNS --signals NAME,FAMILY"])


def paragraph(s: Signal, width: int) -> list[str]:
    """Describe a signal in lines of at most `width` characters, to go below its name."""
    entries = {
        "measures": s.about,
        "formula": s.formula,
        "range": f"{_end(s.low)} to {_end(s.high)}",
        "unit": s.unit,
        "one per": f"{s.per} (slow: measured only if named)" if s.slow else s.per,
        "source": s.source,
        "read from": f"{s.reads} (no reading noise)" if s.exact else s.reads,
        "admissible": "yes" if s.admissible else f"no: {s.why_not}",
        "blind spots": s.blind or "not stated",
        "calibrated": ". ".join(calibrated(s)),
    }
    found: list[str] = []
    for name, text in entries.items():
        start = f"  {name:<{_NAMES}}"
        found += textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start))
    return found


def _as_json(s: Signal) -> dict[str, Any]:
    names = (
        "name",
        "family",
        "per",
        "about",
        "formula",
        "unit",
        "source",
        "admissible",
        "why_not",
        "blind",
        "slow",
        "version",
        "reads",
        "exact",
    )
    ends = {"low": s.low if math.isfinite(s.low) else None, "high": s.high if math.isfinite(s.high) else None}
    return {**{name: getattr(s, name) for name in names}, **ends, "calibrated": calibrated(s)}


def _end(value: float) -> str:
    return "any" if math.isinf(value) else f"{value:g}"
