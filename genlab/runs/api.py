"""Train and load from Python: `genlab.train(plan)`, `genlab.runs.grid(specs)`, `genlab.load(run)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import pandas as pd
import torch

from genlab.errors import FailedRuns, Interrupted, UserError, unknown
from genlab.models import Model, model_of, with_attention
from genlab.runs.devices import check_dtype, cores, pick_device
from genlab.runs.estimate import measured_size
from genlab.runs.execute import Executor, InProcess, Processes, drive, interruptible
from genlab.runs.failures import forget, read_failures, summarize
from genlab.runs.gridfile import Grid
from genlab.runs.maintain import tidy
from genlab.runs.plan import Evals, Plan, check_examples, check_steps, eval_splits
from genlab.runs.progress import Progress, Report
from genlab.runs.sources import live_task, unavailable
from genlab.runs.store import Store, stack_id
from genlab.runs.work import Job, evaluate_runs, group_stackable, is_complete, pack, stack_options
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, make

# -- Running a grid

Wanted = list[tuple[RunSpec, Evals]]

_SHOWN = 8
"""Maximum number of missing checkpoints listed in a message."""


class Options(TypedDict, total=False):
    """How runs are trained; not part of their identity.

    Keys:
        store: a store or its directory (default: `GENLAB_STORE`, or `runs`).
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        executor: `local` (this machine), `ray` (a cluster; requires the extra `ray`) or `slurm` (a queue; requires
            the extra `slurm`).
        address: address of a Ray cluster; `auto` for the one that runs here.
        slurm: parameters of submitit for Slurm jobs (`genlab.runs.slurm_executor`).
        workers: number of processes on a CPU; 0: one per core. With Slurm: of jobs in the queue.
        stack: runs per stack; 0: one on a CPU, and measured on CUDA, then stored with the grid.
        checkpoint_minutes: minutes between saves of the resume state.
        again: retrain runs that already exist.
        request: stored with the group, for the record.
        report: called with every `Progress`; returning False stops.
        tick: called repeatedly while the grid runs.
    """

    store: Store | str | Path | None
    device: str
    executor: Literal["local", "ray", "slurm"]
    address: str | None
    slurm: Mapping[str, Any]
    workers: int
    stack: int
    checkpoint_minutes: float
    again: bool
    request: Mapping[str, Any]
    report: Report
    tick: Callable[[], object]


def wanted_runs(what: Grid | Sequence[RunSpec] | Sequence[Plan], evals: Evals | None = None) -> Wanted:
    """Pair each run with what to evaluate.

    Raises:
        UserError: no runs, or two with the same id.
    """
    found: Wanted = []
    for part in what.plans if isinstance(what, Grid) else what:
        specs = part.specs if isinstance(part, Plan) else [part]
        own = evals or (part.evals if isinstance(part, Plan) else Evals())
        found += [(spec, own) for spec in specs]
    if not found:
        raise UserError("the grid has no runs")
    ids = [spec.run_id for spec, _ in found]
    if len(set(ids)) < len(ids):
        twice = next(run for i, run in enumerate(ids) if run in ids[:i])
        raise UserError(f"run {twice} was requested twice: each seed of a configuration is one run")
    return found


def run_grid(wanted: Wanted, name: str, options: Options, command: str = "grid") -> Store:
    """Train and evaluate all runs as a named group; returns the store. Raises as `genlab.runs.grid`."""
    for option in options.keys() - Options.__annotations__.keys():
        raise unknown("option", option, sorted(Options.__annotations__))
    executor = options.get("executor", "local")
    device = pick_device(options.get("device", "auto")) if executor == "local" else torch.device("cpu")
    for dtype in {spec.train.dtype for spec, _ in wanted}:
        check_dtype(dtype, device.type)
    for specs, evals in group_stackable(wanted):  # report a wrong split or step before anything is written
        eval_splits(make(specs[0].task), specs[0].train, evals)
        check_steps(specs[0].train, evals)
    if executor == "slurm":
        from genlab.runs.slurm_executor import check_slurm

        check_slurm(options.get("slurm", {}))
    given = options.get("store")
    store = given if isinstance(given, Store) else Store(given)
    store.ready()
    store.save_group(name, [spec.run_id for spec, _ in wanted], options.get("request", {}), command)
    size = runs_a_stack(store, name, wanted, device, options.get("stack", 0))
    seconds, again = options.get("checkpoint_minutes", 1.0) * 60, options.get("again", False)
    jobs = pack(wanted, size, again=again, checkpoint_seconds=seconds)
    todo = [job for job in jobs if again or not is_complete(store, job)]
    forget(store.path, {spec.run_id for job in jobs if job not in todo for spec in job.specs})
    jobs = _risky_last(store, todo)
    report, tick = options.get("report", _ignore), options.get("tick", lambda: None)
    finished = True
    if jobs:
        with interruptible() as stop:

            def report_or_stop(progress: Progress) -> bool:
                tick()
                return report(progress) and not stop.is_set()

            runner = _executor(store, name, device, jobs, options, report_or_stop)
            finished = drive(store, jobs, runner, report, stop, tick)
    store.refresh()
    tidy(store)
    if not finished:
        raise Interrupted
    _raise_for_failures(store, wanted)
    return store


def _risky_last(store: Store, jobs: Sequence[Job]) -> list[Job]:
    """Move jobs that failed or whose worker was killed to the end, otherwise keeping the order.

    If the driver itself trains, a stack killed by the system takes the driver down: at the next attempt the other
    stacks are done first.
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
        f"{len(reasons)} of {len(wanted)} runs failed: {summarize(found)}; rerun the command to retry them",
        reasons,
    )


def without_steps(store: Store, wanted: Wanted) -> str:
    """Return a line about runs that were trained without requested checkpoints, or ''."""
    store.refresh()
    there = [(spec.run_id, evals.keep_steps) for spec, evals in wanted if evals.keep_steps and spec.run_id in store]
    lacking: dict[str, list[int]] = {}
    for run, steps in there:
        known = store.steps(run)
        if store.index.status(run) != "diverged":  # it saved all checkpoints that it reached
            lacking |= {run: left} if (left := [s for s in steps if s not in known and s < known[-1]]) else {}
    if not lacking:
        return ""
    steps = sorted({step for left in lacking.values() for step in left})
    shown = ", ".join(map(str, steps[:_SHOWN])) + (", ..." if len(steps) > _SHOWN else "")
    runs = f"{len(lacking)} of {len(wanted)} runs"
    return f"{runs} were trained without checkpoints at steps {shown}: retrain them with --again"


def _ignore(_progress: Progress) -> bool:
    return True


def runs_a_stack(store: Store, name: str, wanted: Wanted, device: torch.device, asked: int) -> int:
    """Return the number of runs per stack: as requested, as stored with the grid, or (on an accelerator) as measured.

    Args:
        asked: 0 if not requested.
    """
    known, size = (store.named.folder(name) / "how.json").exists(), 1
    if device.type == "cuda" and not known and not asked:
        size = measured_size(max(group_stackable(wanted), key=lambda group: len(group[0]))[0], device)
    return stack_options(store, name, {"stack": size}, {"stack": asked} if asked else {})["stack"]


def _executor(
    store: Store, name: str, device: torch.device, jobs: Sequence[Job], options: Options, report: Report
) -> Executor:
    """The executor of the jobs of a group."""
    workers = options.get("workers", 0)
    if options.get("executor") == "ray":
        from genlab.runs.ray_executor import RayTasks

        return RayTasks(store, options.get("address"))
    if options.get("executor") == "slurm":
        from genlab.runs.slurm_executor import SlurmJobs

        return SlurmJobs(store, store.named.folder(name) / "slurm", options.get("slurm", {}), workers)
    if device.type == "cuda":
        count = torch.cuda.device_count() if device.index is None else 1
        devices = [f"cuda:{i}" for i in range(count)] if count > 1 else [str(device)]
        return Processes(store, devices[: len(jobs)])
    processes = min(workers or cores(), len(jobs))
    return InProcess(store, device, report) if processes == 1 else Processes(store, ["cpu"] * processes)


@dataclass(frozen=True, slots=True)
class Run:
    """A committed run.

    Attributes:
        run_id: its id.
        spec: what was trained.
        status: `finished`, `reached` (stopped early by `until`), `diverged`, or `compiled` (not trained).
        step: the last training step.
        store: where it is stored.
    """

    run_id: str
    spec: RunSpec
    status: str
    step: int
    store: Store

    @property
    def task(self) -> Task:
        """The task it was trained on."""
        return live_task(self.store, self.run_id)

    @property
    def model(self) -> Model:
        """The trained model, a stack of one: `model(tokens)` returns logits `[batch, pos, d_vocab]`.

        Raises:
            DamagedFileError: the checksum of the weights file does not match.
        """
        return model_of(self.spec.model, self.store.weights([self.run_id]))

    @property
    def steps(self) -> list[int]:
        """The training steps with available weights: 0, the checkpoints (`Evals.keep_steps`), the last."""
        return self.store.steps(self.run_id)

    def at(self, step: int) -> Model:
        """Return the model after a training step, one of `steps`; 0 is before training.

        Raises:
            UserError: there is no checkpoint at this step.
            DamagedFileError: the checksum of the weights file does not match.
        """
        return model_of(self.spec.model, self.store.weights([self.run_id], step))

    def evals(self) -> pd.DataFrame:
        """Return its evaluations, one row per number."""
        return self.store.evals([self.run_id])

    def history(self) -> pd.DataFrame:
        """Return loss, gradient norms and ID accuracy over training."""
        return self.store.history([self.run_id])

    def trace(self) -> pd.DataFrame:
        """Return its evaluations during training, on few examples: step, split, length, metric, value, n."""
        return self.store.trace([self.run_id])


def train(
    what: Plan | RunSpec | Sequence[RunSpec],
    evals: Evals | None = None,
    *,
    group: str | None = None,
    **options: Unpack[Options],
) -> list[Run]:
    """Train and evaluate runs of one configuration and commit them to a store; see `grid` for several configurations.

    Args:
        what: a plan (`genlab.runs.plan`), or specs that differ only in their seeds.
        evals: what to evaluate; plans bring their own. Default: ID accuracy only.
        group: name of the group of these runs (default: from the task and run ids).
        options: see `Options`.

    Returns:
        The committed runs, in the order of the specs.

    Raises:
        UserError: several configurations, an unavailable device, or a store that is not writable.
        FailedRuns: some runs failed (exception, killed worker, out of memory); all others are committed.
        Interrupted: Ctrl-C, or `report` returned False; progress is saved.
    """
    specs = what.specs if isinstance(what, Plan) else [what] if isinstance(what, RunSpec) else list(what)
    if not specs or any(spec.configuration != specs[0].configuration for spec in specs):
        raise UserError("genlab.train takes runs of one configuration; for several, use genlab.runs.grid")
    wanted = evals or (what.evals if isinstance(what, Plan) else Evals())
    store = run_grid(wanted_runs(specs, wanted), group or group_name(specs), options, "train")
    return [load(spec.run_id, store) for spec in specs]


def group_name(specs: Sequence[RunSpec]) -> str:
    """Return the name of the group that runs of one configuration make, if they are given none."""
    task = specs[0].task
    return f"{task.name}-{task.format}-{stack_id(s.run_id for s in specs)[:6]}"


def grid(
    what: Grid | Sequence[RunSpec] | Sequence[Plan],
    evals: Evals | None = None,
    *,
    name: str | None = None,
    **options: Unpack[Options],
) -> list[Run]:
    """Train and evaluate runs of any configurations, as stacks, and commit them to a store.

    A run that the store holds is reused, not retrained; an interrupted one resumes; a stack that another `grid` works
    on, on this or another machine that sees the store, is left to it.

    Args:
        what: the `Grid` of a grid file, plans, or specs.
        evals: what to evaluate of specs; plans bring their own. Default: ID accuracy only.
        name: name of the group of these runs (default: the grid's, or from the run ids).
        options: see `Options`.

    Returns:
        The committed runs, in the order given.

    Raises:
        UserError: two runs with the same id, an unavailable device, or a store that is not writable.
        FailedRuns: some runs failed (exception, killed worker, out of memory); all others are committed.
        Interrupted: Ctrl-C, or `report` returned False; progress is saved.
    """
    wanted = wanted_runs(what, evals)
    ids = [spec.run_id for spec, _ in wanted]
    chosen = name or (what.name if isinstance(what, Grid) else f"grid-{stack_id(ids)[:6]}")
    store = run_grid(wanted, chosen, options)
    return [load(run, store) for run in ids]


def load(run: str, store: Store | str | Path | None = None) -> Run:
    """Load a committed run by its id, or a unique prefix of it.

    Raises:
        UserError: no run matches, or several do.
    """
    kept = store if isinstance(store, Store) else Store(store)
    found = kept.find(run)
    if len(found) != 1:
        raise UserError(f"{run!r} names {len(found)} runs ({', '.join(found[:4])}); give the id of one")
    entry = kept.entry(found[0])
    return Run(found[0], kept.spec(found[0]), entry["status"], entry["step"], kept)


def evaluate(
    runs: Sequence[str], splits: Sequence[Split], store: Store, device: str = "auto", report: Report = lambda _p: True
) -> None:
    """Evaluate committed runs, of any configurations, on `splits` (with lengths, n and seed), and store the results.

    Raises:
        UserError: a task has no such split or length, or a model no such attention weights, or there are too many
            examples. Nothing is evaluated.
        Interrupted: Ctrl-C; completed evaluations are stored.
    """
    for split in splits:
        check_examples(split.n, split.seed)
    for run in runs:
        spec = store.spec(run)
        if why := unavailable(store, run):
            raise UserError(why)
        task = make(spec.task)
        for split in splits:
            task.check_lengths(split.name, split.lengths)
            with_attention(spec.model, split.attn_weights)
    by_configuration: dict[str, list[str]] = {}
    for run in runs:
        by_configuration.setdefault(store.spec(run).configuration.run_id, []).append(run)
    with interruptible() as stop:
        for ids in by_configuration.values():
            task = make(store.spec(ids[0]).task)
            own = [task.split(s.name).at(s.lengths, s.n, s.seed, s.offsets, s.attn_weights) for s in splits]
            for run in ids:
                done = evaluate_runs(
                    store, [run], own, pick_device(device), lambda p: report(p) and not stop.is_set()
                )
                if not done:
                    raise Interrupted
