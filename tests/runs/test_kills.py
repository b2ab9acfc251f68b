"""SIGKILL at random moments: every run ends exactly once, with the weights of a grid that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_grids import children, small_grid, start, times_committed

from genlab.runs.leases import active
from genlab.runs.maintain import check_store
from genlab.runs.store import Store

TWO = ("--workers", "2")
SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"


def finish(file: Path, store: Path, seconds: float) -> None:
    process = start("grid", file, "--store", store, *TWO)
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == 0, said


def disturb(file: Path, store: Path, kills: int, seed: int, seconds: float) -> int:
    """Run a grid, killing the driver or a worker at random moments; how many of the kills met a stack being done.

    On a fast machine the grid may end before all kills are done.
    """
    rng, while_training, done = random.Random(seed), 0, 0
    deadline = time.monotonic() + seconds
    process = None
    while done < kills and time.monotonic() < deadline:
        if process is None or process.poll() is not None:
            if process is not None and process.returncode >= 0:
                break
            process = start("grid", file, "--store", store, *TWO, "--checkpoint-minutes", "0.005")
        wait_for_work(store, process)
        time.sleep(rng.uniform(0.0, 1.0))
        workers = children(process.pid)
        trains = bool(active(store / "leases"))
        try:
            os.kill(rng.choice(workers) if workers and rng.random() < 0.5 else process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it had ended in the meantime: no kill
            continue
        done += 1
        while_training += trains
        time.sleep(0.05)
    if process and process.poll() is None:
        process.kill()
    if process:
        process.wait()
    return while_training


def wait_for_work(store: Path, process: subprocess.Popen[str]) -> None:
    """Until somebody works on a stack."""
    while process.poll() is None and not active(store / "leases"):
        time.sleep(0.05)


def assert_undisturbed(file_store: Path, other: Path) -> None:
    """Both stores hold the same runs, once each, with the same bits."""
    kept, wanted = Store(file_store), Store(other)
    assert set(times_committed(file_store).values()) == {1}
    ids = wanted.run_ids()
    assert sorted(kept.run_ids()) == sorted(ids)
    for run in ids:
        assert kept.steps(run) == wanted.steps(run)
        for step in wanted.steps(run):
            assert torch.equal(kept.weights([run], step), wanted.weights([run], step))
        assert kept.entry(run)["status"] == wanted.entry(run)["status"]
        columns = ["step", "loss", "lr", "exact_match", "grad_norm", "grad_norm_max"]
        pd.testing.assert_frame_equal(kept.history([run])[columns], wanted.history([run])[columns])
    pd.testing.assert_frame_equal(
        kept.evals(answers=True).drop(columns="at"), wanted.evals(answers=True).drop(columns="at")
    )
    assert check_store(kept) == ({}, {})


def test_a_killed_worker_and_a_killed_driver_change_nothing(tmp_path: Path):
    file, _ = small_grid(tmp_path, steps=400, seeds=2, more='keep_steps = "20:400:60"\n')
    assert disturb(file, tmp_path / "disturbed", kills=3, seed=1, seconds=300) >= 1
    finish(file, tmp_path / "disturbed", 300)
    finish(file, tmp_path / "calm", 300)
    assert_undisturbed(tmp_path / "disturbed", tmp_path / "calm")


@pytest.mark.slow
def test_twenty_kills_over_24_runs_change_nothing(tmp_path: Path):
    file = tmp_path / "smoke.toml"
    file.write_text(SMOKE.read_text().replace("steps = 400", "steps = 1500").replace("until = 0.999\n", ""))
    assert disturb(file, tmp_path / "disturbed", kills=20, seed=2, seconds=1800) >= 10
    finish(file, tmp_path / "disturbed", 1800)
    finish(file, tmp_path / "calm", 1800)
    assert_undisturbed(tmp_path / "disturbed", tmp_path / "calm")
