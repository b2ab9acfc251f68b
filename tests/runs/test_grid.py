"""Grids: stacks, two drivers of one file, executors that come to the same, what is halved when memory ends."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_grids import small_grid, start, times_committed

import genlab
from genlab import runs as lab_runs
from genlab.errors import FailedRuns, Interrupted, UserError
from genlab.models import count
from genlab.runs import Store, grid
from genlab.runs.api import wanted_runs
from genlab.runs.estimate import _clock as clock_of
from genlab.runs.estimate import best_size, memory_bytes, seconds_a_step
from genlab.runs.execute import Ended, Processes, drive
from genlab.runs.failures import read_failures
from genlab.runs.files import write_json
from genlab.runs.leases import active, lease
from genlab.runs.maintain import leftovers, tidy
from genlab.runs.plan import Evals
from genlab.runs.status import grid_status
from genlab.runs.work import Job, attempt, pack, stack_options
from genlab.tasks import make
from genlab.training import Stack
from genlab.training.batches import Places

CPU = torch.device("cpu")


def plans(seeds: int = 4, **options: Any) -> list[lab_runs.Plan]:
    shared = {"steps": 12, "eval_every": 4, "n_layers": 1, "d_model": 16, "n_heads": 2, "batch_size": 8}
    return [
        genlab.plan("parity", 4, 6, seeds=range(seeds), evals=Evals(6, n=16), weight_decay=decay, **shared | options)
        for decay in (0.0, 0.1)
    ]


def weights(store: Path, ids: list[str]) -> torch.Tensor:
    return torch.cat([Store(store).weights([run]) for run in ids])


def losses(store: Path, ids: list[str]) -> pd.Series:
    return Store(store).history(ids).set_index(["run_id", "step"])["loss"].sort_index()


def test_a_run_is_the_same_alone_in_a_stack_and_in_another_order(tmp_path: Path):
    made = plans()
    alone = grid(made, store=tmp_path / "alone", workers=1, stack=1)
    ids = [run.run_id for run in alone]
    grid(made, store=tmp_path / "stack", workers=1, stack=8)
    specs = [spec for plan in made for spec in plan.specs][::-1]
    grid(specs, Evals(6, n=16), store=tmp_path / "other", workers=1, stack=5)
    assert len(list((tmp_path / "stack" / "commits").glob("*.json"))) == 1
    assert len(list((tmp_path / "other" / "commits").glob("*.json"))) == 2
    for name in ("stack", "other"):
        pd.testing.assert_series_equal(losses(tmp_path / name, ids), losses(tmp_path / "alone", ids), rtol=1e-4)


def test_a_grid_that_is_there_is_found(tmp_path: Path):
    made = plans(1)
    first = grid(made, name="mine", store=tmp_path / "s", workers=1)
    heard: list[object] = []
    again = grid(made, name="mine", store=tmp_path / "s", report=lambda p: heard.append(p) is None)
    assert (again, heard) == (first, []) or [r.run_id for r in again] == [r.run_id for r in first]
    assert heard == []
    assert Store(tmp_path / "s").find("mine") == [run.run_id for run in first]


def test_a_grid_is_extended_by_its_seeds(tmp_path: Path):
    _, two = small_grid(tmp_path, seeds=1)
    grid(two, store=tmp_path / "s", workers=1)
    _, four = small_grid(tmp_path, seeds=2)
    heard: list[str] = []
    grid(four, store=tmp_path / "s", workers=1, report=lambda p: heard.append(p.run_id) is None)
    old, new = ({spec.run_id for spec, _ in wanted_runs(g)} for g in (two, four))
    assert set(heard) == new - old


def test_two_runs_of_one_id_are_refused(tmp_path: Path):
    (plan, _) = plans(1)
    with pytest.raises(UserError, match="was requested twice"):
        grid([*plan.specs, *plan.specs], store=tmp_path / "s")
    with pytest.raises(UserError, match="no runs"):
        grid([], store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_misspelt_option_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"unknown option 'worker'.*did you mean 'workers'"):
        grid(plans(1), store=tmp_path / "s", worker=1)  # pyright: ignore[reportCallIssue]
    assert not (tmp_path / "s").exists()


def test_packs_hold_what_can_be_stacked_and_do_not_depend_on_what_is_done():
    wanted = wanted_runs(
        [*plans(4), *plans(2, n_layers=2), *plans(1, grad_clip=0.0, lr=1e-2, until=0.9, label_noise=0.1)]
    )
    jobs = pack(wanted, 4)
    assert sorted(len(job.specs) for job in jobs) == [2, 4, 4, 4]
    assert sum(len(job.specs) for job in jobs) == len(wanted)
    assert [job.stack for job in jobs] == [job.stack for job in pack(wanted, 4)]
    assert Job.from_json(jobs[0].as_json()) == jobs[0]


def test_how_a_grid_is_trained_is_agreed_once(tmp_path: Path):
    store = Store(tmp_path)
    assert stack_options(store, "g", {"stack": 64}, {}) == {"stack": 64}
    assert stack_options(store, "g", {"stack": 128}, {}) == {"stack": 64}
    assert stack_options(store, "g", {"stack": 128}, {"stack": 8}) == {"stack": 8}
    assert stack_options(store, "g", {"stack": 128}, {}) == {"stack": 8}


def test_a_grid_of_a_time_when_kernels_were_chosen_goes_on(tmp_path: Path):
    """Its `how.json`, and jobs of a driver of that time, name a kernel: ignored, the rest is obeyed."""
    made, store = plans(3)[:1], Store(tmp_path / "s")
    store.ready()
    write_json(store.named.folder("g") / "how.json", {"stack": 3, "kernel": "onednn"})
    ids = [run.run_id for run in grid(made, name="g", store=store, workers=1)]
    assert len(store.index.stacks()) == 1
    assert set(store.run_ids()) == set(ids)
    (job,) = pack(wanted_runs(made), 3)
    assert Job.from_json({**job.as_json(), "kernel": "onednn"}) == job


def test_two_drivers_of_one_file_share_the_work(tmp_path: Path):
    file, found = small_grid(tmp_path, steps=150, seeds=2)
    other = start("grid", file, "--store", tmp_path / "s", "--workers", "1")
    while other.poll() is None and not active(tmp_path / "s" / "leases"):
        time.sleep(0.02)  # until it works on a stack
    grid(found, store=tmp_path / "s", workers=1)
    _, said = other.communicate(timeout=300)
    assert other.returncode == 0, said
    assert times_committed(tmp_path / "s") == {spec.run_id: 1 for spec, _ in wanted_runs(found)}
    assert len(list((tmp_path / "s" / "evals").glob("*.parquet"))) == 4  # one a run: none was evaluated twice


def test_the_first_commit_wins(tmp_path: Path):
    """Two workers that trained one stack all the same: the second one leaves nothing behind."""
    (plan, _) = plans(1)
    grid(plan.specs, store=tmp_path / "first", workers=1)
    grid(plan.specs, store=tmp_path / "second", workers=1)
    store, other = Store(tmp_path / "first"), Store(tmp_path / "second")
    run = plan.specs[0].run_id
    before = store.entry(run)
    slower = genlab.training.RunState(
        plan.specs[0], 12, "finished", *[other.weights([run])[0] + 1] * 3, [{"step": 12}]
    )
    assert not store.commit([slower], {"device": "another"})
    assert Store(tmp_path / "first").entry(run) == before
    assert torch.equal(store.weights([run]), other.weights([run]))
    assert leftovers(store) == {}
    assert len(list((store.path / "weights").iterdir())) == len(list((store.path / "history").iterdir())) == 1


def test_a_stack_that_somebody_works_on_is_left_to_them(tmp_path: Path):
    (plan, _) = plans(1)
    store = Store(tmp_path / "s")
    store.ready()
    job = Job(plan.specs, plan.evals)
    with lease(store.path / "leases", job.stack):
        assert attempt(store, job, CPU, lambda _p: True) == {"how": "busy"}
    assert attempt(store, job, CPU, lambda _p: True) == {"how": "done"}


def test_a_worker_that_dies_again_and_again_fails_its_stack(tmp_path: Path):
    class Deadly:
        """Every job loses its worker."""

        def __init__(self) -> None:
            self.jobs: list[Job] = []

        def room(self) -> bool:
            return not self.jobs

        def start(self, job: Job) -> None:
            self.jobs.append(job)

        def events(self, seconds: float):
            return [Ended(self.jobs.pop(), "died", "killed")] if self.jobs else []

        def stop(self) -> None: ...

        def close(self) -> None: ...

    import threading

    store = Store(tmp_path / "s")
    store.ready()
    jobs = pack(wanted_runs(plans(1)), 1)
    assert drive(store, jobs, Deadly(), lambda _p: True, threading.Event())
    found = read_failures(store.path)
    assert sorted(failure.stack for failure in found) == sorted(job.stack for job in jobs)
    assert {failure.reason for failure in found} == {"lost its worker 10 times: killed"}


@pytest.mark.parametrize("stopping", [False, True])
def test_a_worker_that_ends_before_it_is_ready_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopping: bool
):
    """Another one may be ready; after Ctrl-C it has only been asked to end."""
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    (plan, _) = plans(1)
    workers = Processes(Store(tmp_path / "s"), ["cpu"])
    workers.start(Job(plan.specs, plan.evals))
    if stopping:
        workers.stop()
    (ended,) = workers.events(60.0)
    workers.close()
    assert isinstance(ended, Ended)
    assert ended.how == ("stopped" if stopping else "died")


def test_out_of_memory_halves_the_stack_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = plans(4)[:1]
    ids = [run.run_id for run in grid(made, store=tmp_path / "room", workers=1, stack=4)]
    real, sizes = Stack.take_step, list[int]()

    def cramped(stack: Stack) -> None:
        sizes.append(len(stack.specs))
        if len(stack.specs) > 2:
            raise torch.OutOfMemoryError("made up")
        real(stack)

    monkeypatch.setattr(Stack, "take_step", cramped)
    grid(made, store=tmp_path / "cramped", workers=1, stack=4)
    assert (sizes[0], set(sizes[1:])) == (4, {2})
    pd.testing.assert_series_equal(losses(tmp_path / "cramped", ids), losses(tmp_path / "room", ids), rtol=1e-4)
    monkeypatch.setattr(Stack, "take_step", lambda _stack: (_ for _ in ()).throw(torch.OutOfMemoryError("made up")))
    with pytest.raises(FailedRuns, match=r"4 of 4 runs failed: .* does not fit into the memory"):
        grid(made, store=tmp_path / "none", workers=1, stack=4)


def test_the_stack_grows_as_long_as_it_pays():
    def memory_for(most: int):
        def seconds(size: int) -> float:
            if size > most:
                raise torch.OutOfMemoryError("made up")
            return 1.0

        return seconds

    assert best_size(1000, memory_for(100)) == 64
    assert best_size(1000, lambda size: float(size)) == 1
    assert best_size(48, lambda size: 1.0) == 48


def test_the_memory_of_a_stack_grows_by_what_is_saved_for_the_backward_pass():
    def of(**options: Any) -> float:
        return memory_bytes(genlab.plan("copy", 10, 10, n_layers=3, batch_size=32, **options).specs[0], 5)

    def saved(narrow: dict[str, Any], wide: dict[str, Any]) -> float:
        weights = [count(genlab.plan("copy", 10, 10, n_layers=3, **o).specs[0].model) for o in (narrow, wide)]
        return of(**wide) - of(**narrow) - 5 * 4 * 4 * (weights[1] - weights[0])

    spec = genlab.plan("copy", 10, 10).specs[0]
    width = make(spec.task).reach(10)
    assert saved({"d_mlp": 64}, {"d_mlp": 164}) == 5 * 4 * 32 * width * 3 * 2 * 100
    assert saved({"n_heads": 2, "d_head": 16}, {"n_heads": 4, "d_head": 8}) == 5 * 4 * 32 * width * 3 * 2 * width
    assert of(dtype="float64") == 2 * of()


def test_the_first_time_of_a_shape_is_no_part_of_a_step(monkeypatch: pytest.MonkeyPatch):
    """By a clock that work alone moves: 10 s the first time a shape is met, 1 s after that, 1 s to make a batch."""
    now, met, steps = 0.0, set[tuple[int, ...]](), list[int]()

    def advance(stack: Stack, batch: Places) -> None:
        nonlocal now
        shape = tuple(batch.inputs.shape)
        now += 1.0 if shape in met else 10.0
        met.add(shape)
        steps.append(stack.step)
        stack.step += 1

    def batch(stack: Stack, real: Callable[[Stack], Places] = Stack.batch) -> Places:
        nonlocal now
        now += 1.0
        return real(stack)

    monkeypatch.setattr(Stack, "advance", advance)
    monkeypatch.setattr(Stack, "batch", batch)
    monkeypatch.setattr("genlab.runs.estimate._ENOUGH", float("inf"))
    monkeypatch.setattr("genlab.runs.estimate._clock", lambda _device: lambda: now)
    specs = genlab.plan("sort", 8, 8, seeds=[0], steps=1000, d_model=16, n_heads=2, batch_size=8, n_layers=1).specs
    assert seconds_a_step(specs, CPU) == 2.0
    assert len(met) > 1
    assert sorted(set(steps)) == [100, 300, 500, 700, 900]


def test_one_thread_is_timed_by_the_processor():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert clock_of(CPU) is time.process_time
        torch.set_num_threads(2)
        assert clock_of(CPU) is time.perf_counter
    finally:
        torch.set_num_threads(threads)


def test_the_status_of_a_grid(tmp_path: Path):
    made = plans(2)
    ids = [spec.run_id for spec, _ in wanted_runs(made)]
    store = Store(tmp_path / "s")
    assert grid_status(store, ids).line() == "0 of 4 runs done, 0 running, 4 waiting"
    grid(made[:1], store=store, workers=1)
    with lease(store.path / "leases", "x", runs=ids[2:3]):
        now = grid_status(store, ids)
        assert (now.done, now.running, now.waiting) == (2, 1, 1)
        assert now.per_hour is not None
    assert grid_status(store, ids[:2]).line() == "2 of 2 runs done"


def test_a_stop_and_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genlab.runs.work._REPORT_SECONDS", 0.0)
    calls = iter([True] * 5)
    with pytest.raises(Interrupted):
        grid(plans(2), store=tmp_path / "s", workers=1, stack=2, report=lambda _p: next(calls, False))
    assert len(list((tmp_path / "s" / "checkpoints").glob("*"))) == 1
    ids = [run.run_id for run in grid(plans(2), store=tmp_path / "s", workers=1, stack=2)]
    grid(plans(2), store=tmp_path / "calm", workers=1, stack=2)
    assert torch.equal(weights(tmp_path / "s", ids), weights(tmp_path / "calm", ids))
    assert tidy(Store(tmp_path / "s")) == []
