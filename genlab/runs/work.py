"""The work of one stack: reuse, resume or start its runs, train and evaluate them.

Every executor ends here. A stack is worked on under a lease, so only one of several workers, drivers or machines does
it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from genlab.errors import UserError
from genlab.models import Model, count, model_of, with_attention
from genlab.runs.devices import cores, environment
from genlab.runs.files import StoreWriteError, create_json, read_json, write_json
from genlab.runs.leases import Lease, lease
from genlab.runs.plan import Evals, eval_splits
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store, now, stack_id
from genlab.spec import RunSpec, Split, canonical_json
from genlab.tasks import Task, code_of, make
from genlab.training import RunState, Stack, evaluate, fresh, stack_key, train_stack
from genlab.training.loop import precision

# -- Evaluation of committed runs

_KEYS = ("run_id", "step", "split", "length", "n", "seed", "offsets", "attn_weights")


def evaluate_runs(
    store: Store,
    run_ids: Sequence[str],
    splits: Sequence[Split],
    device: torch.device,
    report: Report,
    again: bool = False,
) -> bool:
    """Evaluate committed runs of one shape, where the store has no results yet (or `again`).

    Returns:
        Whether all was done; lengths that were completed are committed in any case.
    """
    entries = [store.entry(run) for run in run_ids]
    todo = [(s, n) for s in splits for n in s.lengths] if again else missing_evals(store, run_ids, splits)
    if not todo:
        return True
    spec = store.spec(run_ids[0])
    task = make(spec.task)
    weights, models = store.weights(run_ids).to(device), dict[str, Model]()
    rows: list[dict[str, object]] = []
    go_on = True
    for done_now, (split, length) in enumerate(todo, start=1):
        if split.attn_weights not in models:
            models[split.attn_weights] = model_of(with_attention(spec.model, split.attn_weights), weights)
        with precision(spec.train.dtype, device):
            rows += _eval_rows(models[split.attn_weights], entries, split, task, length)
        go_on = all(report(Progress(run, "evaluating", done_now, len(todo))) for run in run_ids)
        if not go_on:
            break
    store.add_evals(rows)
    return go_on


def missing_evals(store: Store, run_ids: Sequence[str], splits: Sequence[Split]) -> list[tuple[Split, int]]:
    """Return the (split, length) for which the store lacks the exact match of at least one run."""
    done = store.evaluations.table(run_ids, metric="exact_match").select(_KEYS).to_pydict()
    keys = set(zip(*(done[name] for name in _KEYS), strict=True))
    runs = [(run, store.entry(run)["step"]) for run in run_ids]
    return [
        (split, length)
        for split in splits
        for length in split.lengths
        if any(
            (*run, split.name, length, split.n, split.seed, split.offsets, split.attn_weights) not in keys
            for run in runs
        )
    ]


def _eval_rows(
    model: Model, entries: Sequence[dict[str, object]], split: Split, task: Task, length: int
) -> list[dict[str, object]]:
    """Evaluate one length of one split: one row per run and metric."""
    result = evaluate(model, task, split.at((length,), split.n, split.seed, split.offsets))[0]
    at = now()
    rows: list[dict[str, object]] = []
    for i, entry in enumerate(entries):
        shared = {"run_id": entry["run_id"], "step": entry["step"], "split": split.name, "length": length}
        for metric, (values, n) in result.metrics.items():
            row = {**shared, "metric": metric, "value": float(values[i]), "n": n}
            row |= {"seed": split.seed, "offsets": split.offsets, "attn_weights": split.attn_weights, "at": at}
            if metric == "exact_match":
                row |= {"correct": np.packbits(result.correct[i]).tobytes(), "answers": result.answers[i].tobytes()}
            rows.append(row)
    return rows


_TRACE_EXAMPLES = 64
"""Examples per length in evaluations during training."""
_REPORT_SECONDS = 0.5
_REASON = 200
"""Maximum length of an exception message in a reason, in characters; the trace holds all of it."""
_LEASE_SECONDS = 2.0

Outcome = Literal["done", "stopped", "busy"]
"""How work on a stack ended: `stopped` on request, with resume state saved; `busy`: another process works on it."""

_NO_MEMORY = ("not enough memory", "can't allocate memory")
"""Messages of torch's CPU allocator, which raises a plain RuntimeError."""


@dataclass(frozen=True, slots=True)
class Job:
    """One stack to train and evaluate.

    Attributes:
        specs: runs that can be stacked (`stack_key`).
        evals: what to evaluate, and which checkpoints to save.
        again: retrain and reevaluate even if the store has the results.
        checkpoint_seconds: seconds between saves of the resume state.
    """

    specs: list[RunSpec]
    evals: Evals
    again: bool = False
    checkpoint_seconds: float = 60.0

    @property
    def stack(self) -> str:
        """The name of the stack."""
        return stack_id(spec.run_id for spec in self.specs)

    def as_json(self) -> dict[str, Any]:
        """Serialize for another process."""
        evals = {"test_len": self.evals.test_len, "splits": list(self.evals.splits)}
        return {
            "specs": [spec.model_dump(mode="json") for spec in self.specs],
            "evals": {**evals, "n": self.evals.n, "seed": self.evals.seed, "keep_steps": list(self.evals.keep_steps)},
            "again": self.again,
            "checkpoint_seconds": self.checkpoint_seconds,
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Job:
        """Deserialize the result of `as_json`."""
        evals = given["evals"]
        numbers = (evals["n"], evals["seed"], tuple(evals.get("keep_steps", ())))
        evals = Evals(evals["test_len"], tuple(evals["splits"]), *numbers)
        specs = [RunSpec.model_validate(spec) for spec in given["specs"]]
        return cls(specs, evals, given["again"], given["checkpoint_seconds"])

    def splits(self) -> list[tuple[list[RunSpec], list[Split]]]:
        """Group runs by the splits on which they are evaluated, which depend on the training lengths."""
        found: dict[tuple[int, int, str], list[RunSpec]] = {}
        for spec in self.specs:
            train = spec.train
            found.setdefault((train.min_len, train.train_len, train.train_split), []).append(spec)
        task = make(self.specs[0].task)
        return [(specs, eval_splits(task, specs[0].train, self.evals)) for specs in found.values()]

    def watched(self, spec: RunSpec) -> list[Split]:
        """Return what is evaluated during training, on few examples: all splits but the ID check."""
        _, *beyond = eval_splits(make(spec.task), spec.train, self.evals)
        return [split.at(split.lengths, _TRACE_EXAMPLES, self.evals.seed) for split in beyond]


def is_complete(store: Store, job: Job) -> bool:
    """Whether the store holds all runs of a stack and their evaluations."""
    if not all(spec.run_id in store for spec in job.specs):
        return False
    return not any(missing_evals(store, [s.run_id for s in specs], splits) for specs, splits in job.splits())


def attempt(store: Store, job: Job, device: torch.device, report: Report) -> dict[str, Any]:
    """Train and evaluate a stack, except for what the store already holds; the result can be sent to another process.

    Args:
        store: where the runs are committed.
        job: the stack.
        device: where it is trained.
        report: called with the progress of every run; returning False stops, with the resume state saved.

    Returns:
        `how`: an `Outcome`, `failed` (this stack failed; others may succeed) or `fault` (no stack can succeed: the
        store is not writable). For the last two also `reason`, one line, and `trace`.
    """
    try:
        with lease(store.path / "leases", job.stack, runs=[spec.run_id for spec in job.specs]) as held:
            if held is None:
                return {"how": "busy"}
            _check_code(job.specs[0])
            store.refresh()
            ended, waiting, watch = *_states(store, job), _Watch(store, report, held, job)
            for together in waiting:
                trained = _train(together, device, watch, job)
                if any(state.status == "training" for state in trained):
                    store.save_checkpoint([*ended, *trained])
                    return {"how": "stopped"}
                ended += trained
            if ended:
                store.commit(ended, environment(device), job.again)
            for specs, splits in job.splits():
                if not evaluate_runs(store, [s.run_id for s in specs], splits, device, report, job.again):
                    return {"how": "stopped"}
            return {"how": "done"}
    except StoreWriteError as error:
        return {"how": "fault", "reason": str(error)}
    except UserError as error:
        return {"how": "failed", "reason": str(error), "trace": traceback.format_exc()}
    except Exception as error:
        message = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {message[:_REASON]}" if message else type(error).__name__
        return {"how": "failed", "reason": reason, "trace": traceback.format_exc()}


def _check_code(spec: RunSpec) -> None:
    """Raise `UserError` if a plugin is another here than where these runs were planned."""
    if (here := code_of(spec.task, spec.model)) != spec.code:
        raise UserError(
            f"a plugin was edited since these runs were planned ({spec.code or 'none'}, now {here or 'none'})"
        )


def _states(store: Store, job: Job) -> tuple[list[RunState], list[list[RunState]]]:
    """The runs of a stack that the store does not hold: those that have ended, and the others by their step."""
    missing = [spec for spec in job.specs if job.again or spec.run_id not in store]
    saved = {} if job.again else store.load_checkpoints(missing)
    states = [saved.get(spec.run_id) or fresh([spec])[0] for spec in missing]
    by_step: dict[int, list[RunState]] = {}
    for state in states:
        if state.status == "training":
            by_step.setdefault(state.step, []).append(state)
    return [s for s in states if s.status != "training"], [by_step[step] for step in sorted(by_step)]


def _train(states: Sequence[RunState], device: torch.device, watch: _Watch, job: Job) -> list[RunState]:
    """Train runs to the end, in halves if the device has not enough memory for all of them."""
    try:
        task = make(states[0].spec.task)
        makers = cores() - 1 if device.type == "cuda" else 0  # on a CPU batches are made in place
        keep = job.evals.keep_steps
        return train_stack(task, states, device, watch.after_step, job.watched, makers, keep)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        if len(states) == 1:
            size = count(states[0].spec.model)
            raise UserError(f"one run of {size:,} parameters does not fit into the memory of {device}") from None
    if device.type == "cuda":
        torch.cuda.empty_cache()
    half = len(states) // 2
    first = _train(states[:half], device, watch, job)
    if any(state.status == "training" for state in first):  # stopped on request
        return [*first, *states[half:]]
    return [*first, *_train(states[half:], device, watch, job)]


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an exception means that the memory of the device or of this machine is exhausted."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in _NO_MEMORY)


class _Watch:
    """Called after each step of a stack: reports, records progress in the lease, and saves the resume state."""

    def __init__(self, store: Store, report: Report, held: Lease, job: Job):
        self._store, self._report, self._lease, self._job = store, report, held, job
        self._reported = self._recorded = self._saved = time.monotonic()

    def after_step(self, stack: Stack) -> bool:
        at = time.monotonic()
        if at - self._saved >= self._job.checkpoint_seconds and stack.specs:
            self._store.save_checkpoint([*stack.ended, *stack.states()])
            self._saved = at
        if at - self._recorded >= _LEASE_SECONDS:
            self._lease.record(step=stack.step, steps=stack.train.steps, running=len(stack.specs))
            self._recorded = at
        if at - self._reported < _REPORT_SECONDS and stack.specs:
            return True
        self._reported = at
        answers = [self._report(_progress_of(s.spec, s.status, s.step, s.history)) for s in stack.ended]
        running = zip(stack.specs, stack.history, strict=True)
        answers += [self._report(_progress_of(spec, "training", stack.step, rows)) for spec, rows in running]
        return all(answers)


def _progress_of(spec: RunSpec, doing: str, step: int, history: list[dict[str, int | float]]) -> Progress:
    last = history[-1] if history else {"loss": float("nan"), "exact_match": float("nan")}
    return Progress(spec.run_id, doing, step, spec.train.steps, last["loss"], last["exact_match"])


# -- Which runs are trained together


def group_stackable(wanted: Iterable[tuple[RunSpec, Evals]]) -> list[tuple[list[RunSpec], Evals]]:
    """Group runs that can be stacked and have the same evaluations, in the order given."""
    found: dict[tuple[str, Evals], list[RunSpec]] = {}
    for spec, evals in wanted:
        found.setdefault((canonical_json(stack_key(spec)), evals), []).append(spec)
    return [(specs, evals) for (_, evals), specs in found.items()]


def pack(wanted: Sequence[tuple[RunSpec, Evals]], size: int, **options: Any) -> list[Job]:
    """Split runs into jobs of at most `size` runs; the same runs always give the same jobs.

    Args:
        wanted: runs, each with what to evaluate.
        size: runs per stack.
        options: fields of `Job`.
    """
    return [
        Job(specs[start : start + size], evals, **options)
        for specs, evals in group_stackable(wanted)
        for start in range(0, len(specs), size)
    ]


def stack_options(
    store: Store, group: str, chosen: Mapping[str, Any], requested: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how a group is trained: as its first driver chose, unless the user now requests otherwise.

    Measured choices are stored with the group, so that a resume or a second driver makes the same stacks.
    """
    path = store.named.folder(group) / "how.json"
    if create_json(path, {**chosen, **requested}):
        return {**chosen, **requested}
    options = {**chosen, **read_json(path)}
    if any(options.get(name) != value for name, value in requested.items()):
        options |= requested
        write_json(path, options)
    return options
