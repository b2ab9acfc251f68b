"""A stack that fails is recorded with its reason, the others go on, and the next try is a try: in every executor."""

from __future__ import annotations

import json
import shutil
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from small_grids import times_committed

import genlab
from genlab.errors import FailedRuns, UserError
from genlab.runs import Plan, Store, grid
from genlab.runs.estimate import best_size
from genlab.runs.failures import read_failures
from genlab.runs.leases import lease
from genlab.runs.maintain import check_store
from genlab.runs.plan import Evals
from genlab.runs.status import grid_status
from genlab.tasks import load_plugin
from genlab.training import Stack

GRID = """
[base]
task = "failing-bit"
train_len = 4
test_len = 6
n_layers = 1
d_model = 16
n_heads = 2
batch_size = 8
steps = 6
eval_every = 3
[sweep]
format = {formats}
[seeds]
together = "0:{seeds}"
[evals]
n = 16
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The plugin, loaded, in a folder of its own."""
    file = tmp_path / "plugin" / "failing_task.py"
    file.parent.mkdir()
    shutil.copy(Path(__file__).with_name("failing_task.txt"), file)
    load_plugin(file)
    return file


def plans(*formats: str, seeds: int = 1) -> list[Plan]:
    shared: dict[str, Any] = {"steps": 6, "eval_every": 3, "n_layers": 1, "d_model": 16, "batch_size": 8}
    return [
        genlab.plan("failing-bit", 4, 6, format=name, seeds=range(seeds), evals=Evals(6, n=16), **shared)
        for name in formats
    ]


def ids(made: list[Plan]) -> list[str]:
    return [spec.run_id for plan in made for spec in plan.specs]


def test_a_grid_goes_on_without_what_fails_and_says_so_everywhere(lab, plugin: Path, tmp_path: Path):
    file = tmp_path / "g.toml"
    file.write_text(GRID.format(formats='["raises", "fine", "memory"]', seeds=2))
    words = ("grid", str(file), "--plugin", str(plugin))
    status, out, err = lab(*words, "--workers", "1")
    assert status == 1
    assert err.splitlines()[-1].startswith("lab: 4 of 6 runs failed: ")
    assert "ArithmeticError: planted: no bits today" in err.splitlines()[-1]
    assert "does not fit into the memory of cpu" in err.splitlines()[-1]
    assert "2 of 6 runs done, 4 failed" in out
    status, out, _ = lab(*words, "--status")
    assert status == 0
    assert out.count("failed: 1 run of failing-bit (") == 4
    assert json.loads(lab(*words, "--status", "--json")[1])["failed"] == 4
    status, out, err = lab("runs")
    assert (status, err.count("failed: 1 run of failing-bit (")) == (0, 4)
    assert "failing-bit, fine" in out  # what the two runs that ended have in common
    assert sum(line[:12].isalnum() and len(line.split()[0]) == 12 for line in out.splitlines() if line.split()) == 2
    assert lab("runs", "--task", "sort")[2] == ""

    plugin.with_name("mended").touch()
    status, out, err = lab(*words, "--workers", "1")
    assert (status, "6 of 6 runs done" in out, "failed" in out + err) == (0, True, False)
    store = Store(tmp_path / "store")
    assert set(times_committed(store.path).values()) == {1}
    assert read_failures(store.path) == []
    assert check_store(store) == ({}, {})


def test_worker_processes_raise_run_out_of_memory_and_are_killed(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("genlab.runs.execute._DEATHS", 2)
    made = plans("killed", "raises", "fine", "memory")
    heard: list[tuple[str, str]] = []
    with pytest.raises(FailedRuns, match="3 of 4 runs failed") as failed:
        grid(made, store=tmp_path / "s", workers=2, report=lambda p: heard.append((p.run_id, p.doing)) is None)
    killed, raised, fine, memory = ids(made)
    assert "lost its worker 2 times: a worker process was ended by signal 9" in failed.value.reasons[killed]
    assert failed.value.reasons[raised] == "ArithmeticError: planted: no bits today"
    assert "does not fit into the memory" in failed.value.reasons[memory]
    assert {run for run, doing in heard if doing == "failed"} == {killed, raised, memory}
    store = Store(tmp_path / "s")
    assert store.run_ids() == [fine]
    traces = {failure.runs[0]: failure.trace for failure in read_failures(store.path)}
    assert "raise ArithmeticError" in traces[raised]
    assert traces[killed] == ""
    plugin.with_name("mended").touch()
    grid(made, store=tmp_path / "s", workers=1)
    assert set(times_committed(store.path).values()) == {1}
    assert read_failures(store.path) == []


@dataclass(eq=False)
class StandInTask:
    function: Callable[..., object]
    given: tuple[Any, ...]


class StandInRay(types.ModuleType):
    """Ray's calls as genlab makes them, the tasks done here one at a time."""

    class exceptions:
        class RayError(Exception): ...

        class TaskCancelledError(RayError): ...

        class RayTaskError(RayError): ...

    def init(self, **_options: object) -> None: ...

    def shutdown(self) -> None: ...

    def cancel(self, _task: object) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def remote(self, **_options: object) -> Callable[[Callable[..., object]], Any]:
        return lambda function: types.SimpleNamespace(remote=lambda *given: StandInTask(function, given))

    def wait(self, tasks: list[Any], **_options: object) -> tuple[list[Any], list[Any]]:
        return tasks, []

    def get(self, task: StandInTask) -> object:
        name = task.given[0]["specs"][0]["task"]["format"]
        if name == "killed":
            raise self.exceptions.RayError("The node is gone\nits worker died")
        if name == "memory":
            raise self.exceptions.RayTaskError("ray::_do()\nImportError: no genlab there")
        return task.function(*task.given)


def test_ray_tasks_that_fail_leave_the_others(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", StandInRay("ray"))
    made = plans("killed", "raises", "memory", "fine")
    threads = torch.get_num_threads()
    try:
        with pytest.raises(FailedRuns) as failed:
            grid(made, store=tmp_path / "s", executor="ray")
    finally:
        torch.set_num_threads(threads)
    killed, raised, memory, fine = ids(made)
    assert failed.value.reasons == {
        killed: "lost its worker 10 times: a Ray worker was lost: its worker died",
        raised: "ArithmeticError: planted: no bits today",
        memory: "a Ray task failed: ImportError: no genlab there",
    }
    assert Store(tmp_path / "s").run_ids() == [fine]


def planted_at(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of runs of an initial seed fails."""
    real = Stack.take_step

    def step(stack: Stack) -> None:
        if stack.specs[0].train.init_seed == seed:
            raise FloatingPointError("planted")
        real(stack)

    monkeypatch.setattr(Stack, "take_step", step)


TRAIN = ("train", "--task", "parity", "--train-len", "4", "--steps", "4", "--d-model", "16", "--eval-n", "16")


def test_lab_train_shows_the_seeds_that_are_there(lab, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as planted:
        planted_at(1, planted)
        status, out, err = lab(*TRAIN, "--seeds", "0:3", "--workers", "1", "--json")
    assert status == 1
    assert "lab: 1 of 3 runs failed: " in err
    assert "(FloatingPointError: planted)" in err
    assert len(json.loads(out)["runs"]) == 2
    assert lab(*TRAIN, "--seeds", "0:3", "--workers", "1")[0] == 0


def test_lab_train_of_nothing_but_failures_says_why(lab, monkeypatch: pytest.MonkeyPatch):
    planted_at(1, monkeypatch)
    status, out, err = lab(*TRAIN, "--seeds", "1:2", "--workers", "1")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].endswith("(FloatingPointError: planted); rerun the command to retry them")


def test_a_run_that_is_trained_but_cannot_be_evaluated_has_failed(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made, store = plans("fine", seeds=2), Store(tmp_path / "s")
    first, second = ids(made)

    def unable(_store: Store, runs: list[str], *rest: Any) -> bool:
        if runs == [first]:
            raise FloatingPointError("planted")
        return True

    with monkeypatch.context() as planted:
        planted.setattr("genlab.runs.work.evaluate_runs", unable)
        with pytest.raises(FailedRuns, match="1 of 2 runs failed"):
            grid(made, store=store, workers=1)
    assert set(store.run_ids()) == {first, second}
    status = grid_status(store, [first, second])
    assert (status.done, status.failed, status.waiting) == (1, 1, 0)
    grid(made, store=store, workers=1, stack=2)  # in another stack: the record of the first goes all the same
    assert grid_status(store, [first, second]).line() == "2 of 2 runs done"


def test_what_failed_or_was_killed_comes_after_the_rest(plugin: Path, tmp_path: Path):
    made, store = plans("raises", "fine", seeds=2), Store(tmp_path / "s")
    with pytest.raises(FailedRuns):
        grid(made[:1], store=store, workers=1)
    with lease(store.path / "leases", genlab.runs.store.stack_id([made[1].specs[0].run_id])):
        (held,) = (store.path / "leases").glob("*.json")
        content = held.read_text()
    held.write_text(content.replace('"born": "', '"born": "0'))  # of a process that is no more
    heard: list[str] = []
    with pytest.raises(FailedRuns):
        grid(made, store=store, workers=1, report=lambda p: heard.append(p.run_id) is None)
    order = list(dict.fromkeys(heard))
    fine, left = made[1].specs[1].run_id, made[1].specs[0].run_id
    assert order[0] == fine
    assert set(order) == {fine, left, *ids(made[:1])}


def test_a_store_that_cannot_be_written_ends_the_grid_at_once(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tried: list[object] = []

    def full(_store: Store, states: Any, *_rest: object) -> bool:
        tried.append(states)
        raise genlab.runs.files.StoreWriteError("no space")

    monkeypatch.setattr(Store, "commit", full)
    with pytest.raises(UserError, match="no space"):
        grid(plans("fine", seeds=3), store=tmp_path / "s", workers=1)
    assert len(tried) == 1
    assert read_failures(tmp_path / "s") == []


def test_deleted_runs_have_not_failed_any_more(lab, plugin: Path, tmp_path: Path):
    made, store = plans("raises", "fine"), Store(tmp_path / "store")
    with pytest.raises(FailedRuns):
        grid(made, name="g", store=store, workers=1)
    assert lab("delete", "g", "--yes")[0] == 0
    assert read_failures(store.path) == []


def test_a_device_too_small_for_one_run_is_told_by_its_stack():
    def seconds(_size: int) -> float:
        raise torch.OutOfMemoryError("made up")

    assert best_size(8, seconds) == 1
