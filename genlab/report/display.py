"""Terminal output: progress bars during training, and tables of results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from genlab.runs.progress import Progress
from genlab.tasks import TrainingLaw, place_in_words, split_in_words

_QUIET_SECONDS = 10.0


class Count:
    """Progress of equal pieces of work on standard error: one line in place on a terminal, else one every 10 seconds.

    Use it as a context manager, and call it with the number of pieces done and in total.
    """

    def __init__(self, what: str, console: Console):
        self._what, self._console = what, console
        self._status, self._printed_at = console.status(what), time.monotonic()

    def __enter__(self) -> Count:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def __call__(self, done: int, total: int) -> None:
        line = f"{self._what}: {done} of {total}"
        self._status.update(line)
        if not self._console.is_terminal and time.monotonic() - self._printed_at >= _QUIET_SECONDS:
            self._printed_at = time.monotonic()
            self._console.print(line, highlight=False)


class Display:
    """Progress of runs on standard error: bars on a terminal, otherwise a line every 10 seconds.

    Use it as a context manager, and call it with every `Progress`; it never requests a stop.
    """

    def __init__(self, names: Mapping[str, str], console: Console):
        """`names`: run_id -> displayed name, in display order."""
        self._names, self._console = names, console
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  exact match {task.fields[exact]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks = {
            run: self._bars.add_task(name, total=None, loss="-", exact="-", visible=False)
            for run, name in names.items()
        }
        self._printed_at = time.monotonic()

    def __enter__(self) -> Display:
        self._bars.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.__exit__(kind, error, trace)

    def __call__(self, progress: Progress) -> bool:
        known = progress.loss == progress.loss  # not NaN: measured
        fields: dict[str, Any] = (
            {"loss": f"{progress.loss:.4f}", "exact": f"{progress.exact_match:.3f}"} if known else {}
        )
        self._bars.update(
            self._tasks[progress.run_id],
            description=f"{self._names[progress.run_id]} {progress.doing}",
            total=progress.steps,
            completed=progress.step,
            visible=True,
            **fields,
        )
        if not self._console.is_terminal and time.monotonic() - self._printed_at > _QUIET_SECONDS:
            self._printed_at = time.monotonic()
            measured = f", loss {fields['loss']}, exact match {fields['exact']}" if fields else ""
            where = f"{progress.step}/{progress.steps}"
            self._console.print(f"{self._names[progress.run_id]} {progress.doing} {where}{measured}", highlight=False)
        return True


_NOTHING = 0.005
"""A baseline below this value at every length is not shown."""

Baselines = Mapping[tuple[str, int], Mapping[str, float]]
"""(split, length) -> exact match of each shortcut there."""


def print_lengths(
    console: Console, table: pd.DataFrame, law: TrainingLaw, unit: str, baselines: Baselines | None = None
) -> None:
    """Print exact match by length over all seeds, with that of shortcuts; training lengths are marked.

    On a shifted split nothing was trained; there, they are marked as training lengths only.
    """
    for split, rows in table.groupby("split", sort=False):
        title = f"exact match{place_in_words(str(split), rows['length'].to_numpy(), [law])}"
        shown = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        at = {int(length): (baselines or {}).get((str(split), int(length)), {}) for length in rows["length"]}
        names = dict.fromkeys(name for own in at.values() for name in own)
        shortcuts = [name for name in names if max(own.get(name, 0.0) for own in at.values()) >= _NOTHING]
        for name in (unit, "", "median", "lowest", "highest", "at 0.99+", "(95 %)"):
            shown.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
        for name in shortcuts:
            shown.add_column(name, justify="right", overflow="fold", min_width=len("0.000"))
        for row in rows.to_dict("records"):
            shown.add_row(
                str(row["length"]),
                "trained" if row["in_distribution"] else "training length" if row["trained"] else "",
                *(f"{row[name]:.3f}" for name in ("median", "low", "high")),
                f"{round(row['fraction'] * row['runs'])}/{row['runs']}",
                f"({row['fraction_low']:.2f}-{row['fraction_high']:.2f})",
                *(f"{at[row['length']][name]:.3f}" if name in at[row["length"]] else "-" for name in shortcuts),
            )
        console.print(shown)


def print_factors(console: Console, table: pd.DataFrame, law: TrainingLaw) -> None:
    """Print exact match by a property of the examples, within and beyond the training lengths."""
    for place, rows in table.groupby(["factor", "split"], sort=False):
        factor, split = place  # pyright: ignore[reportGeneralTypeIssues]
        where = place_in_words(str(split), [], [law])
        title = f"exact match{where} by {str(factor).replace('_', ' ')} (median run)"
        shown = Table(title=title, title_justify="left", box=None, padding=(0, 2))
        for name in (str(factor).replace("_", " "), "within training lengths", "examples", "beyond", "examples"):
            shown.add_column(name, justify="right")
        for row in rows.to_dict("records"):
            cells = [
                cell
                for part in ("within", "beyond")
                for cell in (f"{row[part]:.3f}" if row[f"n_{part}"] else "-", str(row[f"n_{part}"]))
            ]
            shown.add_row(str(row["value"]), *cells)
        console.print(shown)


def print_rules(console: Console, table: pd.DataFrame, law: TrainingLaw) -> None:
    """Print the agreement of answers with each rule of a task; an answer that two rules give counts for both."""
    if table.empty:
        return
    title = "fraction of answers that agree with each rule (median run, lowest to highest)"
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 2))
    for name in ("split", "rule", "training lengths", "beyond"):
        shown.add_column(name, justify="left" if name in ("split", "rule") else "right")
    for row in table.to_dict("records"):
        cells = [
            "-"
            if row[part] != row[part] or row[part] is None  # NaN: no such lengths
            else f"{row[part]:.3f} ({row[f'{part}_low']:.3f}-{row[f'{part}_high']:.3f})"
            for part in ("within", "beyond")
        ]
        shown.add_row(split_in_words(str(row["split"]), [law]), str(row["rule"]), *cells)
    console.print(shown)


_WIDEST_CELL = 40


def print_rows(console: Console, columns: Sequence[str], rows: Iterable[Sequence[Any]], keys: int = 1) -> None:
    """Print a table without breaking headings; columns that do not fit continue below, after the first `keys`."""
    cells = [[str(cell) for cell in row] for row in rows]
    held = [max([0, *(min(_WIDEST_CELL, len(row[i])) for row in cells)]) for i in range(len(columns))]
    widths = [max(len(name), width) + 1 for name, width in zip(columns, held, strict=True)]
    if sum(widths) > console.width:  # headings wrap between words
        words = [max(map(len, name.split() or [""])) for name in columns]
        widths = [max(pair) + 1 for pair in zip(words, held, strict=True)]
    for number, block in enumerate(_blocks(widths, keys, console.width)):
        if number:
            console.print()
        shown = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
        for i in block:
            shown.add_column(columns[i], overflow="fold", width=widths[i] - 1)
        for row in cells:
            shown.add_row(*(Text(row[i]) for i in block))
        console.print(shown)


def _blocks(widths: Sequence[int], keys: int, room: int) -> list[list[int]]:
    """Distribute columns over tables, so that each fits the terminal.

    >>> _blocks([4, 6, 6, 6], 1, 16)
    [[0, 1, 2], [0, 3]]
    """
    blocks = [list(range(keys))]
    for i in range(keys, len(widths)):
        if sum(widths[j] for j in blocks[-1]) + widths[i] > room and len(blocks[-1]) > keys:
            blocks.append(list(range(keys)))
        blocks[-1].append(i)
    return blocks
