"""docs/tasks.md from the rows that `learnability.py` keeps, and from the tasks' defaults as they are now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from genlab.runs.plan import Evals, Plan, default_lengths, defaults_of, plan
from genlab.tasks import FIT, Task, names, task_class

__all__ = ["ROWS", "TABLE", "table", "text_of"]

DOCS = Path(__file__).parents[1] / "docs"
ROWS, TABLE = DOCS / "tasks-learnability.csv", DOCS / "tasks.md"

HEAD = """# Tasks

What a small transformer learns within minutes on a CPU, by task. `lab tasks` lists formats, splits and papers.
Written by `python benchmarks/learnability.py --table` from the rows of `tasks-learnability.csv`; do not edit.

- **configuration**: the task's `defaults`, which `lab train --task NAME` uses for options that you omit. Options
  that are not listed have their general defaults: 2 layers, d_model 64, 4 heads, learned positions, batches of 64,
  lr 0.001, cosine schedule.
- **reached**: number of seeds whose ID exact match (at up to 8 training lengths, 64 examples each, every 100
  steps) reached 0.99 at two consecutive checks, out of all seeds trained; training then stopped.
- **steps**, **minutes**: medians up to the first of these checks. Minutes are processor minutes of one core,
  including checks, on a shared machine (2 cores of an x86-64 server). If no run reached 0.99: of the whole run, in
  parentheses.
- **in distribution**, **at twice the length**: exact match of the final weights, 512 examples per length, median
  (range); for an interrupted run, its last check only. The second is blank if the task has no such length. Since runs
  stop as soon as they fit, it shows the result of minimal training, not the best possible.
- **not measured**: no runs of this configuration.
"""
CHECK_EVERY, EXAMPLES = 100, 512
_SEEDS = 10
"""Seeds that rows of a default may have."""

TRIED = """
## What else was tried

Other configurations, and defaults under an earlier recipe: without a start token, with an untied unembedding, four
lengths per batch, initial weights of standard deviation .4 / sqrt(d_model), and gradient clipping at norm 1
(docs/learning.md has the effect of each). A task without 0.99 in any row of this page has not been learned.
`lab tasks` says that a task needs a GPU if three configurations did not learn it in 20 processor minutes each.
"""

_COLUMNS = ("task", "configuration", "reached", "steps", "minutes", "in distribution", "at twice the length")
_HEADER = (f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|")

RESULTS = {"stopped": "interrupted", "diverged": "diverged"}


def text_of(options: Mapping[str, Any]) -> str:
    """Options and parameters of the task as one line, which identifies a configuration.

    >>> text_of({"steps": 3000, "lr": 2e-3, "params": {"p": 7}})
    'lr=0.002 p=7 steps=3000'
    """
    flat = {**options, **options.get("params", {})}
    return " ".join(f"{name}={flat[name]}" for name in sorted(flat.keys() - {"params"}))


def table() -> str:
    """The page: measured defaults by task, then other configurations."""
    rows = pd.read_csv(ROWS, keep_default_na=False)
    for column in ("exact", "twice", "minutes", "steps"):
        rows[column] = pd.to_numeric(rows[column])
    classes = sorted((task_class(name) for name in names()), key=lambda cls: (cls.family, cls.name))
    current = {(cls.name, form): text_of(defaults_of(cls.name, form)) for cls in classes for form in cls.formats}
    planned = {key: _planned(*key) for key in current if (rows["task"] == key[0]).any()}
    is_default = pd.Series([row.run in planned.get((row.task, row.format), ()) for row in rows.itertuples()])
    is_default.index = rows.index
    lines = [HEAD, *_HEADER]
    for cls in classes:
        lines += _default_lines(cls, rows[is_default & (rows["task"] == cls.name)], current)
    lines += [TRIED, *_HEADER]
    for _, group in rows[~is_default].groupby(["task", "format", "options"], sort=False):
        lines.append(_line(group))
    return "\n".join(lines) + "\n"


def plan_of(name: str, format: str, given: Mapping[str, Any], seeds: Sequence[int]) -> Plan:
    """The runs that are measured: until they fit, with a check every 100 steps."""
    train_len, test_len = default_lengths(name, given)
    options = {k: v for k, v in given.items() if k not in ("train_len", "test_len", "params")}
    checked: dict[str, Any] = {"eval_every": CHECK_EVERY, "until": FIT, **options}
    checked |= {"params": given.get("params"), "seeds": seeds, "evals": Evals(0, n=EXAMPLES)}
    return plan(name, train_len, test_len, format=format, **checked)


def _planned(name: str, format: str) -> set[str]:
    """The ids that runs of a task's defaults have today, whatever recipe the lab had when a row was measured."""
    return {spec.run_id for spec in plan_of(name, format, defaults_of(name, format), range(_SEEDS)).specs}


def _default_lines(cls: type[Task], rows: pd.DataFrame, current: Mapping[tuple[str, str], str]) -> list[str]:
    """A line for each format that was measured with its defaults, and for the first one in any case."""
    lines: list[str] = []
    for i, form in enumerate(cls.formats):
        if (rows["format"] == form).any():
            lines.append(_line(rows[rows["format"] == form]))
        elif i == 0:
            lines.append(f"| {_named(cls, form)} | `{current[cls.name, form]}` | not measured | | | | |")
    return lines


def _named(cls: type[Task], form: str) -> str:
    return f"{cls.name}, {form}" if len(cls.formats) > 1 else cls.name


def _line(rows: pd.DataFrame) -> str:
    """All seeds of one configuration."""
    fit, first = rows[rows["result"] == "reached"], rows.iloc[0]
    spent = rows if fit.empty else fit
    steps, minutes = f"{spent['steps'].median():.0f}", f"{spent['minutes'].median():.2f}"
    if fit.empty:
        steps, minutes = f"({steps})", f"({minutes})"
    why = sorted({RESULTS[result] for result in rows["result"] if result in RESULTS})
    cells = [
        _named(task_class(first["task"]), first["format"]),
        f"`{first['options']}`",
        ", ".join([f"{len(fit)} of {len(rows)}", *why]),
        steps,
        minutes,
        _spread(rows["exact"]),
        _spread(rows["twice"]),
    ]
    return f"| {' | '.join(cells)} |"


def _spread(values: pd.Series) -> str:
    """Median (lowest to highest), or the one value."""
    known = values.dropna()
    if known.empty:
        return ""
    told = f"{known.median():.3f}"
    return told if len(known) == 1 else f"{told} ({known.min():.3f} to {known.max():.3f})"
