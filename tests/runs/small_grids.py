"""Helpers of the tests of grids: grid files, and real `lab grid` processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import torch

from genlab.runs.gridfile import Grid, read_grid
from genlab.runs.maintain import check_store
from genlab.runs.store import Store

SMALL = """
[base]
task = "parity"
train_len = 4
test_len = 6
n_layers = 1
d_model = 16
n_heads = 2
batch_size = 16
steps = {steps}
eval_every = 50
[sweep]
weight_decay = [0.0, 0.1]
[seeds]
together = "0:{seeds}"
[evals]
n = 32
"""


def small_grid(folder: Path, steps: int = 12, seeds: int = 2, more: str = "") -> tuple[Path, Grid]:
    """A grid file of 2 x seeds tiny runs."""
    file = folder / "small.toml"
    file.write_text(SMALL.format(steps=steps, seeds=seeds) + more)
    return file, read_grid(file)


def lab(*words: str | Path) -> list[str]:
    """The command line of `lab`."""
    return [sys.executable, "-m", "genlab.cli", *map(str, words)]


def start(*words: str | Path) -> subprocess.Popen[str]:
    """A `lab` process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(lab(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def times_committed(store: Path) -> Counter[str]:
    """run_id -> in how many commit records it stands."""
    records = [json.loads(path.read_text()) for path in (store / "commits").glob("*.json")]
    return Counter(run["run_id"] for record in records for run in record["runs"])


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
