"""Slurm through submitit, with its local executor in place of a queue: one job per stack; killed jobs are resumed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_grids import small_grid, start, times_committed

from genlab.runs import Store, grid
from genlab.runs.api import wanted_runs
from genlab.runs.leases import active

pytest.importorskip("submitit")

HERE: dict[str, Any] = {"executor": "slurm", "slurm": {"cluster": "local"}, "workers": 2}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--slurm-partition", "gpu"], "--executor slurm: "),  # there is no Slurm where tests run
        (["--slurm", "cluster=local", "--slurm", "partitoin=gpu"], "unknown Slurm option 'partitoin'; did you mean"),
        (["--slurm", "cluster=local", "--slurm", "cpus_per_task=many"], "cpus_per_task"),
        (["--slurm", "cluster=loca"], "did you mean 'local'?"),
    ],
)
def test_what_submitit_refuses_is_one_line(lab, tmp_path: Path, monkeypatch, given: list[str], said: str):
    monkeypatch.chdir(tmp_path)
    file, _ = small_grid(tmp_path)
    status, out, err = lab("grid", str(file), "--executor", "slurm", *given)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [file]


def test_without_submitit_the_line_that_installs_it(lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    file, _ = small_grid(tmp_path)
    status, _, err = lab("grid", str(file), "--executor", "slurm")
    assert status == 2
    assert "pip install 'genlab[slurm]'" in err


@pytest.mark.slow
def test_jobs_come_to_the_same_losses(tmp_path: Path):
    _, found = small_grid(tmp_path, steps=100, seeds=1)
    ids = [run.run_id for run in grid(found, store=tmp_path / "slurm", **HERE)]
    grid(found, store=tmp_path / "here", workers=1)
    both = [Store(tmp_path / name).history(ids).set_index(["run_id", "step"])["loss"] for name in ("slurm", "here")]
    pd.testing.assert_series_equal(*(losses.sort_index() for losses in both), rtol=1e-4)
    assert list((tmp_path / "slurm" / "groups" / "small" / "slurm").glob("*_log.out"))


def _signal_one(store: Path, number: signal.Signals) -> threading.Thread:
    """Send a signal to the first process that works on a stack."""

    def send() -> None:
        while not (at_work := active(store / "leases")):
            time.sleep(0.05)
        time.sleep(0.5)  # some steps and a checkpoint
        os.kill(next(iter(at_work.values()))["pid"], number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2], ids=["killed", "preempted"])
def test_a_job_that_is_lost_goes_on_in_another(tmp_path: Path, number: signal.Signals):
    _, found = small_grid(tmp_path, steps=800, seeds=1)
    thread = _signal_one(tmp_path / "s", number)
    runs = grid(found, store=tmp_path / "s", checkpoint_minutes=0.001, **HERE)
    thread.join()
    assert len(runs) == 2
    assert times_committed(tmp_path / "s") == {run.run_id: 1 for run in runs}
    logs = list((tmp_path / "s" / "groups" / "small" / "slurm").glob("*_log.out"))
    assert len(logs) == 3  # one stack took two jobs


@pytest.mark.slow
def test_a_driver_that_is_stopped_goes_on(tmp_path: Path):
    file, found = small_grid(tmp_path, steps=800, seeds=1)
    words = ("grid", file, "--store", tmp_path / "s", "--executor", "slurm", "--slurm", "cluster=local")
    process = start(*words)
    while process.poll() is None and not active(tmp_path / "s" / "leases"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    assert not active(tmp_path / "s" / "leases")  # its jobs have ended with it
    process = start(*words)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert times_committed(tmp_path / "s") == {spec.run_id: 1 for spec, _ in wanted_runs(found)}
