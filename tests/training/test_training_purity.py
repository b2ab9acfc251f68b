"""In a process of its own, which checks no shapes (the checker itself draws from Python's global generator)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import digest, parity

CHILD = """
import random, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from genlab.training import evaluate, fresh, train_stack
from genlab.models import Transformer
from small_runs import digest, first, parity, runs

for seed in (random.seed, np.random.seed, torch.manual_seed):
    seed(1)
before = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
task = first()
for pool in (0, 10):
    states = train_stack(task, fresh(runs(task, [0, 1], dropout=0.1, pool=pool)), torch.device("cpu"))
model = Transformer(states[0].spec.model, torch.stack([s.weights for s in states]))
evaluate(model, task, task.split("id").at((3, 8), 20))
print(before == (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()))
print(digest(parity("scratchpad"), [7, 2, 4]))
"""


@pytest.fixture(scope="module")
def child() -> list[str]:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_no_global_random_state_is_drawn_from_or_set(child: list[str]) -> None:
    assert child[0] == "True"


def test_another_process_draws_the_same_batches(child: list[str]) -> None:
    assert child[1] == digest(parity("scratchpad"), [7, 2, 4])
    assert child[1] != digest(parity("scratchpad"), [7, 4, 2])
