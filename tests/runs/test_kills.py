"""SIGKILL at random moments: every run ends exactly once, with the weights of a grid that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from small_grids import assert_undisturbed, small_grid, start

from genlab.runs import grid, read_grid
from genlab.runs.devices import cores
from genlab.runs.leases import active

TWO = ("--workers", "2")
SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"


def finish(file: Path, store: Path) -> None:
    """Here, with as many threads as a worker has: their sums are added in the same order."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(max(1, cores() // 2))
        grid(read_grid(file), store=store, workers=1)
    finally:
        torch.set_num_threads(threads)


def finish_by_command(file: Path, store: Path, seconds: float) -> None:
    process = start("grid", file, "--store", store, *TWO)
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == 0, said


def disturb(file: Path, store: Path, victims: Sequence[str], seed: int, seconds: float) -> int:
    """Run a grid, killing the driver or a worker that has a stack at random moments; how many met a stack being done.

    On a fast machine the grid may end before all kills are done.
    """
    rng, while_training, left = random.Random(seed), 0, list(victims)
    deadline = time.monotonic() + seconds
    process = None
    while left and time.monotonic() < deadline:
        if process is None or process.poll() is not None:
            if process is not None and process.returncode >= 0:
                break
            process = start("grid", file, "--store", store, *TWO, "--checkpoint-minutes", "0.005")
        wait_for_work(store, process)
        time.sleep(rng.uniform(0.0, 0.5))
        at_work = [told["pid"] for told in active(store / "leases").values()]
        if left[0] == "worker" and not at_work:
            continue
        try:
            os.kill(rng.choice(at_work) if left[0] == "worker" else process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it had ended in the meantime: no kill
            continue
        del left[0]
        while_training += bool(at_work)
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


def test_a_killed_worker_and_a_killed_driver_change_nothing(tmp_path: Path):
    file, _ = small_grid(tmp_path, steps=200, seeds=1, more='keep_steps = "20:200:60"\n')
    assert disturb(file, tmp_path / "disturbed", ["worker", "driver"], seed=1, seconds=300) >= 1
    finish(file, tmp_path / "disturbed")
    finish(file, tmp_path / "calm")
    assert_undisturbed(tmp_path / "disturbed", tmp_path / "calm")


@pytest.mark.slow
def test_twenty_kills_over_24_runs_change_nothing(tmp_path: Path):
    file = tmp_path / "smoke.toml"
    file.write_text(SMOKE.read_text().replace("steps = 400", "steps = 1500").replace("until = 0.999\n", ""))
    victims = random.Random(2).choices(["worker", "driver"], k=20)
    assert disturb(file, tmp_path / "disturbed", victims, seed=2, seconds=1800) >= 10
    finish_by_command(file, tmp_path / "disturbed", 1800)
    finish_by_command(file, tmp_path / "calm", 1800)
    assert_undisturbed(tmp_path / "disturbed", tmp_path / "calm")
