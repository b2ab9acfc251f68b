"""The work of one stack: what is there already, what goes on from a checkpoint, what is new; trained and evaluated.

Every executor ends here. A stack is worked on under a lease: of several workers, drivers or machines one does it.
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
from genlab.models import Model, count, model_of
from genlab.runs.devices import cores, environment
from genlab.runs.files import StoreWriteError, create_json, read_json, write_json
from genlab.runs.leases import Lease, lease
from genlab.runs.plan import Evals, eval_splits
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store, now, stack_id
from genlab.spec import RunSpec, Split, canonical_json
from genlab.tasks import Task, make
from genlab.training import RunState, Stack, evaluate, fresh, stack_key, train_stack
from genlab.training.loop import precision

# -- Evaluation of committed runs: what the store does not hold yet is made and appended

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


_TRACE_EXAMPLES = 64
"""Examples a length in an evaluation while training."""
_REPORT_SECONDS = 0.5
_REASON = 200
"""Characters of an exception's message that a reason holds; the trace holds all."""
_TELL_SECONDS = 2.0

Outcome = Literal["done", "stopped", "busy"]
"""How work on a stack ended: `stopped` when asked to, with a checkpoint kept; `busy`: another works on it."""

_NO_MEMORY = ("not enough memory", "can't allocate memory")
"""What torch's allocator says on a CPU, in a plain RuntimeError."""


@dataclass(frozen=True, slots=True)
class Job:
    """One stack to train and evaluate.

    Attributes:
        specs: runs that can be stacked (`stack_key`).
        evals: what to evaluate of each, and which steps of its training to keep.
        again: do it again, though it is there.
        checkpoint_seconds: how often where it stands is kept.
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
        """For another process."""
        evals = {"test_len": self.evals.test_len, "splits": list(self.evals.splits)}
        return {
            "specs": [spec.model_dump(mode="json") for spec in self.specs],
            "evals": {**evals, "n": self.evals.n, "seed": self.evals.seed, "keep_steps": list(self.evals.keep_steps)},
            "again": self.again,
            "checkpoint_seconds": self.checkpoint_seconds,
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Job:
        """What `as_json` wrote."""
        evals = given["evals"]
        numbers = (evals["n"], evals["seed"], tuple(evals.get("keep_steps", ())))
        evals = Evals(evals["test_len"], tuple(evals["splits"]), *numbers)
        specs = [RunSpec.model_validate(spec) for spec in given["specs"]]
        return cls(specs, evals, given["again"], given["checkpoint_seconds"])

    def splits(self) -> list[tuple[list[RunSpec], list[Split]]]:
        """Runs with the splits that they are evaluated at (those depend on the training lengths)."""
        found: dict[tuple[int, int, str], list[RunSpec]] = {}
        for spec in self.specs:
            train = spec.train
            found.setdefault((train.min_len, train.train_len, train.train_split), []).append(spec)
        task = make(self.specs[0].task)
        return [(specs, eval_splits(task, specs[0].train, self.evals)) for specs in found.values()]

    def watched(self, spec: RunSpec) -> list[Split]:
        """What is evaluated of a run while it trains, at few examples: what lies beyond the in-distribution check."""
        _, *beyond = eval_splits(make(spec.task), spec.train, self.evals)
        return [split.at(split.lengths, _TRACE_EXAMPLES, self.evals.seed) for split in beyond]


def is_complete(store: Store, job: Job) -> bool:
    """Whether the store holds all runs of a stack and their evaluations."""
    if not all(spec.run_id in store for spec in job.specs):
        return False
    return not any(missing_evals(store, [s.run_id for s in specs], splits) for specs, splits in job.splits())


def do(store: Store, job: Job, device: torch.device, report: Report) -> Outcome:
    """Train and evaluate a stack; what the store holds already is not done again.

    Args:
        report: hears of every run now and then; False asks to stop, and what was reached is kept.
    """
    about = {"runs": [spec.run_id for spec in job.specs]}
    with lease(store.path / "leases", job.stack, **about) as held:
        if held is None:
            return "busy"
        store.refresh()
        watch = _Watch(store, report, held, job)
        if not _train_missing(store, job, device, watch):
            return "stopped"
        for specs, splits in job.splits():
            if not evaluate_runs(store, [s.run_id for s in specs], splits, device, report, job.again):
                return "stopped"
    return "done"


def attempt(store: Store, job: Job, device: torch.device, report: Report) -> dict[str, Any]:
    """`do`, whatever happens: the same for every executor, as text that another process can be sent.

    Returns:
        `how`: the outcome, `failed` (this stack cannot be done as it is; others may) or `fault` (no stack can: the
        store cannot be written). For the last two also `reason`, one line, and `trace`.
    """
    try:
        return {"how": do(store, job, device, report)}
    except StoreWriteError as error:
        return {"how": "fault", "reason": str(error)}
    except UserError as error:
        return {"how": "failed", "reason": str(error), "trace": traceback.format_exc()}
    except Exception as error:
        said = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {said[:_REASON]}" if said else type(error).__name__
        return {"how": "failed", "reason": reason, "trace": traceback.format_exc()}


def _train_missing(store: Store, job: Job, device: torch.device, watch: _Watch) -> bool:
    missing = [spec for spec in job.specs if job.again or spec.run_id not in store]
    kept = {} if job.again else store.load_checkpoints(missing)
    states = [kept.get(spec.run_id) or fresh([spec])[0] for spec in missing]
    ended = [state for state in states if state.status != "training"]
    for step in sorted({state.step for state in states if state.status == "training"}):
        together = [s for s in states if s.step == step and s.status == "training"]
        trained = _train(together, device, watch, job)
        if any(state.status == "training" for state in trained):
            store.save_checkpoint([*ended, *trained])
            return False
        ended += trained
    if ended:
        store.commit(ended, environment(device), job.again)
    return True


def _train(states: Sequence[RunState], device: torch.device, watch: _Watch, job: Job) -> list[RunState]:
    """Train runs to their ends, in halves where the device has not the memory for all at once."""
    try:
        task = make(states[0].spec.task)
        makers = cores() - 1 if device.type == "cuda" else 0  # a core that trains has nobody to wait for
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
    if any(state.status == "training" for state in first):  # asked to stop
        return [*first, *states[half:]]
    return [*first, *_train(states[half:], device, watch, job)]


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a device's memory, or this machine's, has ended."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in _NO_MEMORY)


class _Watch:
    """Looks at a stack after each step: reports, tells its lease, and keeps a checkpoint from time to time."""

    def __init__(self, store: Store, report: Report, held: Lease, job: Job):
        self._store, self._report, self._lease, self._job = store, report, held, job
        self._reported = self._told = self._kept = time.monotonic()

    def after_step(self, stack: Stack) -> bool:
        at = time.monotonic()
        if at - self._kept >= self._job.checkpoint_seconds and stack.specs:
            self._store.save_checkpoint([*stack.ended, *stack.states()])
            self._kept = at
        if at - self._told >= _TELL_SECONDS:
            self._lease.record(step=stack.step, steps=stack.train.steps, running=len(stack.specs))
            self._told = at
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


# -- Which runs are trained together, and how a grid said so the first time


def alike(wanted: Iterable[tuple[RunSpec, Evals]]) -> list[tuple[list[RunSpec], Evals]]:
    """Runs that can be one stack and are evaluated alike, together; in the order given."""
    found: dict[tuple[str, Evals], list[RunSpec]] = {}
    for spec, evals in wanted:
        found.setdefault((canonical_json(stack_key(spec)), evals), []).append(spec)
    return [(specs, evals) for (_, evals), specs in found.items()]


def pack(wanted: Sequence[tuple[RunSpec, Evals]], size: int, **options: Any) -> list[Job]:
    """Jobs of at most `size` runs each (`options`: fields of `Job`). The same runs always make the same jobs."""
    return [
        Job(specs[start : start + size], evals, **options)
        for specs, evals in alike(wanted)
        for start in range(0, len(specs), size)
    ]


def agreed(store: Store, group: str, chosen: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """How a group is trained: as its first driver chose, unless the user asks otherwise now.

    What is chosen by measuring is kept with the group, so that a resume, and a second driver, do the same.
    """
    path = store.named.folder(group) / "how.json"
    if create_json(path, {**chosen, **asked}):
        return {**chosen, **asked}
    kept = {**chosen, **read_json(path)}
    if any(kept.get(name) != value for name, value in asked.items()):
        kept |= asked
        write_json(path, kept)
    return kept
