"""Evaluation of committed runs: what the store does not hold yet is made and appended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from genlab.models import Model, model_of
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store, now
from genlab.spec import Split
from genlab.tasks import Task, make
from genlab.training import evaluate
from genlab.training.step import precision

__all__ = ["evaluate_runs", "missing_evals"]

_KEYS = ("run_id", "step", "split", "length", "n", "seed", "offsets")


def evaluate_runs(
    store: Store,
    run_ids: Sequence[str],
    splits: Sequence[Split],
    device: torch.device,
    report: Report,
    again: bool = False,
) -> bool:
    """Evaluate committed runs of one shape, where the store does not hold the numbers yet (or `again`).

    Returns:
        Whether all was done; each length that is done is committed.
    """
    entries = [store.entry(run) for run in run_ids]
    todo = [(s, n) for s in splits for n in s.lengths] if again else missing_evals(store, run_ids, splits)
    if not todo:
        return True
    spec = store.spec(run_ids[0])
    task = make(spec.task)
    model = model_of(spec.model, store.weights(run_ids).to(device))
    rows: list[dict[str, object]] = []
    go_on = True
    for done_now, (split, length) in enumerate(todo, start=1):
        with precision(spec.train.dtype, device):
            rows += _eval_rows(model, entries, split, task, length)
        go_on = all(report(Progress(run, "evaluating", done_now, len(todo))) for run in run_ids)
        if not go_on:
            break
    store.add_evals(rows)
    return go_on


def missing_evals(store: Store, run_ids: Sequence[str], splits: Sequence[Split]) -> list[tuple[Split, int]]:
    """The (split, length) whose exact match the store does not hold for all of the runs."""
    done = store.evaluations.table(run_ids, metric="exact_match").select(_KEYS).to_pydict()
    keys = set(zip(*(done[name] for name in _KEYS), strict=True))
    runs = [(run, store.entry(run)["step"]) for run in run_ids]
    return [
        (split, length)
        for split in splits
        for length in split.lengths
        if any((*run, split.name, length, split.n, split.seed, split.offsets) not in keys for run in runs)
    ]


def _eval_rows(
    model: Model, entries: Sequence[dict[str, object]], split: Split, task: Task, length: int
) -> list[dict[str, object]]:
    """One length of one split, as rows of the store: a row a run and metric."""
    result = evaluate(model, task, split.at((length,), split.n, split.seed, split.offsets))[0]
    at = now()
    rows: list[dict[str, object]] = []
    for i, entry in enumerate(entries):
        shared = {"run_id": entry["run_id"], "step": entry["step"], "split": split.name, "length": length}
        for metric, (values, n) in result.metrics.items():
            row = {**shared, "metric": metric, "value": float(values[i]), "n": n}
            row |= {"seed": split.seed, "offsets": split.offsets, "at": at}
            if metric == "exact_match":
                row |= {"correct": np.packbits(result.correct[i]).tobytes(), "answers": result.answers[i].tobytes()}
            rows.append(row)
    return rows
