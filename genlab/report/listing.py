"""Lists for the terminal: runs of a store, tasks, examples. No torch is imported for tasks and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genlab.errors import UserError
from genlab.spec import Scalar
from genlab.tasks import Task, make, names, task_class

__all__ = ["run_rows", "show_examples", "show_runs", "show_tasks"]


def show_tasks(as_json: bool) -> None:
    """Print all tasks, by family."""
    rows = [_task_row(name) for name in names()]
    rows.sort(key=lambda row: (row["family"], row["name"]))
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("task", "asks", "formats", "splits", "source"):
        table.add_column(column, overflow="fold")
    family = ""
    for row in rows:
        if row["family"] != family:
            family = row["family"]
            table.add_row(Text(family, style="bold"))
        formats, splits = "\n".join(row["formats"]), ", ".join(row["splits"])
        table.add_row(row["name"], row["asks"], formats, splits, row["source"])
    Console().print(table)


def _task_row(name: str) -> dict[str, Any]:
    cls = task_class(name)
    return {
        "name": name,
        "family": cls.family,
        "asks": cls.asks,
        "length_unit": cls.length_unit,
        "formats": dict(cls.formats),
        "splits": {split.name: split.about for split in cls.splits.values()},
        "source": cls.source,
    }


def show_examples(
    name: str,
    length: int,
    format: str | None,
    split: str,
    n: int,
    seed: int,
    max_len: int | None,
    params: Mapping[str, Scalar],
    as_json: bool,
) -> None:
    """Print examples of a task, each with its answer."""
    if n < 1 or seed < 0:
        raise UserError(f"-n {n} --seed {seed} is not allowed: -n is at least 1, --seed at least 0")
    task = make(name, max_len or max(length, 1), format, params)
    examples = task.sample(np.random.default_rng(seed), split, [length] * n)
    pairs = [task.read(examples, row) for row in range(n)]
    if as_json:
        print(json.dumps([{"prompt": " ".join(p), "answer": " ".join(a)} for p, a in pairs], indent=1))
        return
    console = Console()
    about = task.split(split).about
    console.print(f"{task.name}, format {task.format}: {task.formats[task.format]}", highlight=False)
    console.print(f"split {split}: {about}; length {length} ({task.length_unit})\n", highlight=False)
    for prompt, answer in pairs:
        console.print(Text(" ".join(prompt) + " ") + Text(" ".join(answer), style="bold green underline"))
    console.print(f"\n{_scores(task, length)}", highlight=False)


def _scores(task: Task, length: int) -> str:
    shortcuts = "".join(f"; {name.replace('_', ' ')} {score:.3g}" for name, score in task.baseline(length).items())
    return f"exact match by chance {task.chance(length):.3g}{shortcuts}"


def show_runs(task: str | None, store_path: Path | None, as_json: bool) -> None:
    """Print the runs of a store."""
    from genlab.runs.store import Store

    if task is not None:
        task_class(task)  # an unknown name is an error, not an empty list
    rows = run_rows(Store(store_path), task)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("run", "task", "lengths", "model", "seed", "steps", "exact in", "exact out", "status"):
        table.add_column(column, overflow="fold")
    for row in rows:
        shown = [("-" if row[k] is None else f"{row[k]:.3f}") for k in ("exact_match_in", "exact_match_out")]
        model = f"{row['n_layers']} layers d {row['d_model']} {row['positions']}"
        lengths = f"{row['min_len']} to {row['train_len']}"
        task_name = f"{row['task']} {row['format']}"
        table.add_row(row["run_id"], task_name, lengths, model, row["seeds"], str(row["step"]), *shown, row["status"])
    Console().print(table if rows else "no runs yet; `lab train` makes some")


def run_rows(store: Any, task: str | None = None) -> list[dict[str, Any]]:
    """A row a run: settings, steps, and mean exact match within and beyond the training lengths (`id` split)."""
    evals = store.evals()
    exact = evals[evals["metric"] == "exact_match"]
    rows: list[dict[str, Any]] = []
    for run in store.run_ids():
        spec, entry = store.spec(run), store.entry(run)
        if task not in (None, spec.task.name):
            continue
        own = exact[exact["run_id"] == run]
        inside = own[own["length"] <= spec.train.train_len]["value"]
        outside = own[own["length"] > spec.train.train_len]["value"]
        init, data = spec.train.init_seed, spec.train.data_seed
        rows.append(
            {
                "run_id": run,
                "task": spec.task.name,
                "format": spec.task.format,
                "min_len": spec.train.min_len,
                "train_len": spec.train.train_len,
                **spec.model.model_dump(include={"n_layers", "d_model", "n_heads", "positions"}),
                "seeds": str(init) if init == data else f"{init}/{data}",
                "step": entry["step"],
                "status": entry["status"],
                "exact_match_in": float(inside.mean()) if len(inside) else None,
                "exact_match_out": float(outside.mean()) if len(outside) else None,
            }
        )
    return rows
