"""The work of a plan: what is there already, what goes on from a checkpoint, what is new; trained and evaluated."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from genlab.models import Transformer
from genlab.runs.environment import environment
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store, now
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, make
from genlab.training import RunState, Stack, evaluate, fresh, train_stack
from genlab.training.step import precision

__all__ = ["evaluate_runs", "is_complete", "train_and_evaluate"]

_CHECKPOINT_SECONDS = 60.0
_REPORT_SECONDS = 0.5


def train_and_evaluate(
    store: Store,
    specs: Sequence[RunSpec],
    splits: Sequence[Split],
    device: torch.device,
    report: Report,
    again: bool = False,
) -> bool:
    """Train runs of one shape as a stack and evaluate them; what the store holds already is not done again.

    Args:
        again: do it again all the same.

    Returns:
        Whether all was done; False where `report` asked to stop. What was reached is kept as a checkpoint.
    """
    missing = [spec for spec in specs if again or spec.run_id not in store]
    kept = {} if again else store.load_checkpoints(missing)
    states = [kept.get(spec.run_id) or fresh([spec])[0] for spec in missing]
    for step in sorted({state.step for state in states if state.status == "training"}):
        together = [s for s in states if s.step == step and s.status == "training"]
        if not _train(store, together, device, report):
            return False
    ended = [state for state in states if state.status != "training"]
    if ended:  # ended inside a stack whose others had not when the checkpoint was made
        store.commit(ended, environment(device))
    return evaluate_runs(store, [spec.run_id for spec in specs], splits, device, report, again)


def _train(store: Store, states: Sequence[RunState], device: torch.device, report: Report) -> bool:
    watch = _Watch(store, report)
    ended = train_stack(make(states[0].spec.task), states, device, watch.after_step)
    if all(state.status != "training" for state in ended):
        store.commit(ended, environment(device))
        return True
    store.save_checkpoint(ended)
    return False


class _Watch:
    """Looks at a stack after each step: reports, and keeps a checkpoint from time to time."""

    def __init__(self, store: Store, report: Report):
        self.store, self.report = store, report
        self._reported = self._kept = time.monotonic()

    def after_step(self, stack: Stack) -> bool:
        at = time.monotonic()
        if at - self._kept >= _CHECKPOINT_SECONDS and stack.specs:
            self.store.save_checkpoint([*stack.ended, *stack.states()])
            self._kept = at
        if at - self._reported < _REPORT_SECONDS and stack.specs:
            return True
        self._reported = at
        answers = [self.report(_progress_of(s.spec, s.status, s.step, s.history)) for s in stack.ended]
        running = zip(stack.specs, stack.history, strict=True)
        answers += [self.report(_progress_of(spec, "training", stack.step, rows)) for spec, rows in running]
        return all(answers)


def _progress_of(spec: RunSpec, doing: str, step: int, history: list[dict[str, int | float]]) -> Progress:
    last = history[-1] if history else {"loss": float("nan"), "exact_match": float("nan")}
    return Progress(spec.run_id, doing, step, spec.train.steps, last["loss"], last["exact_match"])


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
    todo = _to_evaluate(store, run_ids, splits, again)
    if not todo:
        return True
    spec = store.spec(run_ids[0])
    task = make(spec.task)
    model = Transformer(spec.model, store.weights(run_ids).to(device))
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


def is_complete(store: Store, spec: RunSpec, splits: Sequence[Split]) -> bool:
    """Whether the store holds a run and all its evaluations."""
    return spec.run_id in store and not _to_evaluate(store, [spec.run_id], splits, again=False)


def _to_evaluate(
    store: Store, run_ids: Sequence[str], splits: Sequence[Split], again: bool
) -> list[tuple[Split, int]]:
    """The (split, length) whose exact match the store does not hold for all of the runs."""
    done = store.evals(run_ids)
    done = done[done["metric"] == "exact_match"]
    keys = set(zip(done["run_id"], done["step"], done["split"], done["length"], done["n"], done["seed"], strict=True))
    runs = [(run, store.entry(run)["step"]) for run in run_ids]
    return [
        (split, length)
        for split in splits
        for length in split.lengths
        if again or any((*run, split.name, length, split.n, split.seed) not in keys for run in runs)
    ]


def _eval_rows(
    model: Transformer, entries: Sequence[dict[str, object]], split: Split, task: Task, length: int
) -> list[dict[str, object]]:
    """One length of one split, as rows of the store: a row a run and metric."""
    result = evaluate(model, task, split.at((length,), split.n, split.seed))[0]
    at = now()
    rows: list[dict[str, object]] = []
    for i, entry in enumerate(entries):
        shared = {"run_id": entry["run_id"], "step": entry["step"], "split": split.name, "length": length}
        for metric, (values, n) in result.metrics.items():
            row = {**shared, "metric": metric, "value": float(values[i]), "n": n, "seed": split.seed, "at": at}
            if metric == "exact_match":
                row |= {"correct": np.packbits(result.correct[i]).tobytes(), "answers": result.answers[i].tobytes()}
            rows.append(row)
    return rows
