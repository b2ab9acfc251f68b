"""Train and load from Python: `genlab.train(plan)`, `genlab.load(run)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from genlab.errors import Interrupted, UserError
from genlab.models import Transformer
from genlab.runs.execute import execute, pick_device
from genlab.runs.plan import Evals, Plan, eval_splits
from genlab.runs.progress import Report
from genlab.runs.store import Store, stack_id
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, make

__all__ = ["Run", "check_dtype", "evaluate", "load", "train"]


@dataclass(frozen=True, slots=True)
class Run:
    """A committed run.

    Attributes:
        status: `finished`, `reached` (stopped early by `until`) or `diverged`.
    """

    run_id: str
    spec: RunSpec
    status: str
    step: int
    store: Store

    @property
    def task(self) -> Task:
        """The task, as it was trained on."""
        return make(self.spec.task)

    @property
    def model(self) -> Transformer:
        """The trained model, a stack of one: `model(tokens)` gives logits `[batch, pos, d_vocab]`.

        Raises:
            DamagedFileError: the weights file is not as it was written.
        """
        return Transformer(self.spec.model, self.store.weights([self.run_id]))

    def evals(self) -> pd.DataFrame:
        """Its evaluations, one row a number."""
        return self.store.evals([self.run_id])

    def history(self) -> pd.DataFrame:
        """Loss and in-distribution exact match over training."""
        return self.store.history([self.run_id])


def train(
    what: Plan | RunSpec | Sequence[RunSpec],
    evals: Evals | None = None,
    *,
    store: Store | str | Path | None = None,
    device: str = "auto",
    workers: int = 0,
    again: bool = False,
    group: str | None = None,
    request: Mapping[str, Any] | None = None,
    report: Report = lambda _progress: True,
) -> list[Run]:
    """Train runs of one configuration, evaluate them, and keep both in a store.

    A run that the store holds is found, not trained again; one that was interrupted goes on from its checkpoint.

    Args:
        what: a plan (`genlab.runs.plan`), or specs that differ only in their seeds.
        evals: what to evaluate; a plan brings its own. Default: in distribution only.
        store: a directory (default: `GENLAB_STORE`, or `runs`).
        workers: processes on a CPU; 0 is one a core.
        again: train even what is there.
        group: name of the group that these runs make (default: from task and run ids).
        request: kept with the group, for whoever reads it later.
        report: called with every `Progress`; returning False stops.

    Raises:
        UserError: specs of several configurations, a device that is not there, a store that cannot be written.
        Interrupted: Ctrl-C, or `report` asked to stop; what was reached is kept.
    """
    specs = what.specs if isinstance(what, Plan) else [what] if isinstance(what, RunSpec) else list(what)
    if not specs or any(spec.configuration != specs[0].configuration for spec in specs):
        raise UserError("genlab.train takes runs of one configuration, at one seed or more")
    task = make(specs[0].task)
    wanted = evals or (what.evals if isinstance(what, Plan) else Evals())
    splits = eval_splits(task, specs[0].train, wanted)
    chosen = pick_device(device)
    check_dtype(specs[0].train.dtype, chosen.type)
    kept = store if isinstance(store, Store) else Store(store)
    kept.ready()
    ids = [spec.run_id for spec in specs]
    kept.save_group(group or f"{task.name}-{task.format}-{stack_id(ids)[:6]}", ids, dict(request or {}))
    if not execute(kept, specs, splits, chosen, report, workers, again):
        raise Interrupted
    return [load(run, kept) for run in ids]


def check_dtype(dtype: str, device_type: str) -> None:
    """Raise `UserError` for a precision that a device does not have."""
    if dtype == "tf32" and device_type != "cuda":
        raise UserError("dtype 'tf32' needs a CUDA device (allowed on the CPU: float32, float64, bfloat16)")


def load(run: str, store: Store | str | Path | None = None) -> Run:
    """A committed run by its id, or a unique prefix of one.

    Raises:
        UserError: no such run, or several.
    """
    kept = store if isinstance(store, Store) else Store(store)
    found = kept.find(run)
    if len(found) != 1:
        raise UserError(f"{run!r} holds {len(found)} runs ({', '.join(found[:4])}); give the id of one")
    entry = kept.entry(found[0])
    return Run(found[0], kept.spec(found[0]), entry["status"], entry["step"], kept)


def evaluate(
    runs: Sequence[str], splits: Sequence[Split], store: Store, device: str = "auto", report: Report = lambda _p: True
) -> None:
    """Evaluate committed runs, of any configurations, at `splits` (with lengths, n and seed), and keep the numbers.

    Raises:
        UserError: a split or a length that a run's task cannot make; nothing is evaluated then.
        Interrupted: Ctrl-C; what was evaluated is kept.
    """
    from genlab.runs.execute import interruptible
    from genlab.runs.work import evaluate_runs

    for run in runs:
        spec = store.spec(run)
        task = make(spec.task)
        for split in splits:
            task.check_lengths(split.name, split.lengths)
    alike: dict[str, list[str]] = {}
    for run in runs:
        alike.setdefault(store.spec(run).configuration.run_id, []).append(run)
    with interruptible() as stop:
        for ids in alike.values():
            task = make(store.spec(ids[0]).task)
            own = [task.split(s.name).at(s.lengths, s.n, s.seed) for s in splits]
            for run in ids:
                done = evaluate_runs(
                    store, [run], own, pick_device(device), lambda p: report(p) and not stop.is_set()
                )
                if not done:
                    raise Interrupted
