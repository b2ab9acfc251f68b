"""Train and load from Python: `genlab.train(plan)`, `genlab.runs.grid(specs)`, `genlab.load(run)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import pandas as pd
import torch

from genlab.errors import FailedRuns, Interrupted, UserError, unknown
from genlab.models import Model, model_of
from genlab.runs.devices import check_dtype, cores, pick_device
from genlab.runs.estimate import measured_size
from genlab.runs.execute import Executor, InProcess, Processes, drive, interruptible
from genlab.runs.failures import forget, read_failures, summarize
from genlab.runs.gridfile import Grid
from genlab.runs.maintain import tidy
from genlab.runs.plan import Evals, Plan, check_steps, eval_splits
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store, stack_id
from genlab.runs.work import Job, agreed, alike, evaluate_runs, is_complete, pack
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, make

# -- A grid from its runs to its end: devices, stacks, an executor, the driver

Wanted = list[tuple[RunSpec, Evals]]

_SHOWN = 8
"""Steps that are named, at most, where runs lack some."""


class Options(TypedDict, total=False):
    """How runs are trained; no part of what they are.

    Keys:
        store: a store or its directory (default: `GENLAB_STORE`, or `runs`).
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        executor: `local` (this machine) or `ray` (a cluster; needs the extra `ray`).
        address: of a Ray cluster; `auto` for the one that runs here.
        workers: processes on a CPU; 0 is one a core.
        stack: runs a stack; 0: one on a CPU, found by measuring on CUDA, and then kept with the grid.
        checkpoint_minutes: how often where a stack stands is kept.
        again: train even what is there.
        request: kept with the group, for whoever reads it later.
        report: called with every `Progress`; returning False stops.
        tick: called again and again while the grid goes on.
    """

    store: Store | str | Path | None
    device: str
    executor: Literal["local", "ray"]
    address: str | None
    workers: int
    stack: int
    checkpoint_minutes: float
    again: bool
    request: Mapping[str, Any]
    report: Report
    tick: Callable[[], object]


def wanted_runs(what: Grid | Sequence[RunSpec] | Sequence[Plan], evals: Evals | None = None) -> Wanted:
    """Each run with what is to be evaluated of it.

    Raises:
        UserError: no runs, or two of one id.
    """
    found: Wanted = []
    for part in what.plans if isinstance(what, Grid) else what:
        specs = part.specs if isinstance(part, Plan) else [part]
        own = evals or (part.evals if isinstance(part, Plan) else Evals())
        found += [(spec, own) for spec in specs]
    if not found:
        raise UserError("a grid of no runs was asked for")
    ids = [spec.run_id for spec, _ in found]
    if len(set(ids)) < len(ids):
        twice = next(run for i, run in enumerate(ids) if run in ids[:i])
        raise UserError(f"two runs of one id were asked for ({twice}): each seed of a configuration is one run")
    return found


def run_grid(wanted: Wanted, name: str, options: Options) -> Store:
    """Have all runs trained and evaluated, under a group's name; gives the store. Raises as `genlab.runs.grid`."""
    for option in options.keys() - Options.__annotations__.keys():
        raise unknown("option", option, sorted(Options.__annotations__))
    executor, workers = options.get("executor", "local"), options.get("workers", 0)
    device = pick_device(options.get("device", "auto")) if executor == "local" else torch.device("cpu")
    for dtype in {spec.train.dtype for spec, _ in wanted}:
        check_dtype(dtype, device.type)
    for specs, evals in alike(wanted):  # a wrong split or step is told before anything is written
        eval_splits(make(specs[0].task), specs[0].train, evals)
        check_steps(specs[0].train, evals)
    given = options.get("store")
    store = given if isinstance(given, Store) else Store(given)
    store.ready()
    store.save_group(name, [spec.run_id for spec, _ in wanted], options.get("request", {}))
    size = runs_a_stack(store, name, wanted, device, options.get("stack", 0))
    seconds, again = options.get("checkpoint_minutes", 1.0) * 60, options.get("again", False)
    jobs = pack(wanted, size, again=again, checkpoint_seconds=seconds)
    todo = [job for job in jobs if again or not is_complete(store, job)]
    forget(store.path, {spec.run_id for job in jobs if job not in todo for spec in job.specs})
    jobs = _doubtful_last(store, todo)
    report, tick = options.get("report", _unheard), options.get("tick", lambda: None)
    finished = True
    if jobs:
        with interruptible() as stop:

            def heard(progress: Progress) -> bool:
                tick()
                return report(progress) and not stop.is_set()

            hands = _executor(store, device, jobs, executor, options.get("address"), workers, heard)
            finished = drive(store, jobs, hands, report, stop, tick)
    store.refresh()
    tidy(store)
    if not finished:
        raise Interrupted
    _raise_for_failures(store, wanted)
    return store


def _doubtful_last(store: Store, jobs: Sequence[Job]) -> list[Job]:
    """Jobs in their order, but those that failed or whose worker was killed after the others.

    Where the driver itself works, a stack that the system kills takes the driver along: at the next try the others
    are done before it.
    """
    failed = {failure.stack for failure in read_failures(store.path)}
    left = {path.stem for path in (store.path / "leases").glob("*.json")}
    return sorted(jobs, key=lambda job: job.stack in failed or job.stack in left)


def _raise_for_failures(store: Store, wanted: Wanted) -> None:
    found = read_failures(store.path, [spec.run_id for spec, _ in wanted])
    if not found:
        return
    reasons = {run: failure.reason for failure in found for run in failure.runs}
    raise FailedRuns(
        f"{len(reasons)} of {len(wanted)} runs failed: {summarize(found)}; the same command tries them again", reasons
    )


def without_steps(store: Store, wanted: Wanted) -> str:
    """A line about runs that were trained without keeping steps that are wanted of them, or ''."""
    store.refresh()
    there = [(spec.run_id, evals.keep_steps) for spec, evals in wanted if evals.keep_steps and spec.run_id in store]
    lacking: dict[str, list[int]] = {}
    for run, steps in there:
        known = store.steps(run)
        if store.index.status(run) != "diverged":  # that one has kept what it reached, and can reach no more
            lacking |= {run: left} if (left := [s for s in steps if s not in known and s < known[-1]]) else {}
    if not lacking:
        return ""
    steps = sorted({step for left in lacking.values() for step in left})
    shown = ", ".join(map(str, steps[:_SHOWN])) + (", ..." if len(steps) > _SHOWN else "")
    runs = f"{len(lacking)} of {len(wanted)} runs"
    return f"{runs} were trained without keeping steps {shown}: --again trains them anew"


def _unheard(_progress: Progress) -> bool:
    return True


def runs_a_stack(store: Store, name: str, wanted: Wanted, device: torch.device, asked: int) -> int:
    """Runs a stack: as asked, as the grid has them from before, or (on an accelerator) as measured.

    Args:
        asked: 0 leaves it open.
    """
    known, size = (store.named.folder(name) / "how.json").exists(), 1
    if device.type == "cuda" and not known and not asked:
        size = measured_size(max(alike(wanted), key=lambda group: len(group[0]))[0], device)
    return agreed(store, name, {"stack": size}, {"stack": asked} if asked else {})["stack"]


def _executor(
    store: Store,
    device: torch.device,
    jobs: Sequence[Job],
    executor: str,
    address: str | None,
    workers: int,
    heard: Report,
) -> Executor:
    if executor == "ray":
        from genlab.runs.ray_executor import RayTasks

        return RayTasks(store, address)
    if device.type == "cuda":
        count = torch.cuda.device_count() if device.index is None else 1
        devices = [f"cuda:{i}" for i in range(count)] if count > 1 else [str(device)]
        return Processes(store, devices[: len(jobs)])
    processes = min(workers or cores(), len(jobs))
    return InProcess(store, device, heard) if processes == 1 else Processes(store, ["cpu"] * processes)


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
