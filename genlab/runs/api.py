"""Train and load from Python: `genlab.train(plan)`, `genlab.runs.grid(specs)`, `genlab.load(run)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import pandas as pd

from genlab.errors import Interrupted, UserError
from genlab.models import Model, model_of
from genlab.runs.devices import pick_device
from genlab.runs.drive import interruptible
from genlab.runs.evaluating import evaluate_runs
from genlab.runs.gridfile import Grid
from genlab.runs.grids import Options, run_grid, wanted_runs
from genlab.runs.plan import Evals, Plan
from genlab.runs.progress import Report
from genlab.runs.store import Store, stack_id
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, make

__all__ = ["Options", "Run", "evaluate", "grid", "load", "train"]


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
    def model(self) -> Model:
        """The trained model, a stack of one: `model(tokens)` gives logits `[batch, pos, d_vocab]`.

        Raises:
            DamagedFileError: the weights file is not as it was written.
        """
        return model_of(self.spec.model, self.store.weights([self.run_id]))

    @property
    def steps(self) -> list[int]:
        """The training steps whose weights are known: 0, those that were kept (`Evals.keep_steps`), the last."""
        return self.store.steps(self.run_id)

    def at(self, step: int) -> Model:
        """The model as it was after a training step, one of `steps`; 0 is before training.

        Raises:
            UserError: a step that was not kept.
            DamagedFileError: the weights file is not as it was written.
        """
        return model_of(self.spec.model, self.store.weights([self.run_id], step))

    def evals(self) -> pd.DataFrame:
        """Its evaluations, one row a number."""
        return self.store.evals([self.run_id])

    def history(self) -> pd.DataFrame:
        """Loss, gradient norms and in-distribution exact match over training."""
        return self.store.history([self.run_id])

    def trace(self) -> pd.DataFrame:
        """Its evaluations over training, at few examples: step, split, length, metric, value, n."""
        return self.store.trace([self.run_id])


def train(
    what: Plan | RunSpec | Sequence[RunSpec],
    evals: Evals | None = None,
    *,
    group: str | None = None,
    **options: Unpack[Options],
) -> list[Run]:
    """Train runs of one configuration, evaluate them, and keep both in a store: the small case of `grid`.

    Args:
        what: a plan (`genlab.runs.plan`), or specs that differ only in their seeds.
        evals: what to evaluate; a plan brings its own. Default: in distribution only.
        group: name of the group that these runs make (default: from task and run ids).
        options: see `Options`.

    Raises:
        UserError: specs of several configurations, a device that is not there, a store that cannot be written.
        FailedRuns: some failed (an exception, a killed worker, no memory); all others are done and in the store.
        Interrupted: Ctrl-C, or `report` asked to stop; what was reached is kept.
    """
    specs = what.specs if isinstance(what, Plan) else [what] if isinstance(what, RunSpec) else list(what)
    if not specs or any(spec.configuration != specs[0].configuration for spec in specs):
        raise UserError("genlab.train takes runs of one configuration, at one seed or more; grids: genlab.runs.grid")
    wanted = evals or (what.evals if isinstance(what, Plan) else Evals())
    task = specs[0].task
    name = group or f"{task.name}-{task.format}-{stack_id(s.run_id for s in specs)[:6]}"
    return grid(specs, wanted, name=name, **options)


def grid(
    what: Grid | Sequence[RunSpec] | Sequence[Plan],
    evals: Evals | None = None,
    *,
    name: str | None = None,
    **options: Unpack[Options],
) -> list[Run]:
    """Train and evaluate runs of any configurations, as stacks, and keep them in a store.

    A run that the store holds is found, not trained again; one that was interrupted goes on from its checkpoint; a
    stack that another `grid` works on, on this machine or on another that sees the store, is left to it.

    Args:
        what: a grid file's `Grid`, plans, or specs.
        evals: what to evaluate of specs; plans bring their own. Default: in distribution only.
        name: the name of the group that the runs make (default: the grid's, or from the run ids).
        options: see `Options`.

    Raises:
        UserError: two runs of one id, a device that is not there, a store that cannot be written.
        FailedRuns: some failed (an exception, a killed worker, no memory); all others are done and in the store.
        Interrupted: Ctrl-C, or `report` asked to stop; what was reached is kept.
    """
    wanted = wanted_runs(what, evals)
    ids = [spec.run_id for spec, _ in wanted]
    chosen = name or (what.name if isinstance(what, Grid) else f"grid-{stack_id(ids)[:6]}")
    store = run_grid(wanted, chosen, options)
    return [load(run, store) for run in ids]


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
            own = [task.split(s.name).at(s.lengths, s.n, s.seed, s.offsets) for s in splits]
            for run in ids:
                done = evaluate_runs(
                    store, [run], own, pick_device(device), lambda p: report(p) and not stop.is_set()
                )
                if not done:
                    raise Interrupted
