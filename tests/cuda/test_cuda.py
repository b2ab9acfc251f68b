"""What only a CUDA device can show: the same batches and weights as on the CPU, the same losses to tolerance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import genlab
from genlab.errors import Interrupted
from genlab.runs import Plan, Store
from genlab.training import fresh, train_stack

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def plan(seeds: int, **options: object) -> Plan:
    small = {"steps": 200, "eval_every": 50, "n_layers": 2, "d_model": 64, **options}
    return genlab.plan("sort", 10, 20, seeds=range(seeds), **small)


def losses(made: Plan, device: torch.device) -> np.ndarray:
    states = train_stack(made.task, fresh(made.specs), device)
    return np.array([[row["loss"] for row in state.history] for state in states])


def test_losses_equal_those_of_the_cpu():
    made = plan(3)
    np.testing.assert_allclose(losses(made, CUDA)[:, 0], losses(made, CPU)[:, 0], rtol=1e-3)


def test_a_run_alone_and_in_a_stack():
    together = losses(plan(16), CUDA)
    np.testing.assert_allclose(
        losses(Plan(plan(16).specs[5:6], plan(1).task, genlab.Evals(), ""), CUDA)[0], together[5], rtol=1e-3
    )


@pytest.mark.parametrize("dtype", ["tf32", "bfloat16"])
def test_other_precisions_train(dtype: str):
    exact = losses(plan(2), CUDA)
    np.testing.assert_allclose(losses(plan(2, dtype=dtype), CUDA)[:, -1], exact[:, -1], rtol=0.2)


def test_stop_and_resume_come_to_the_same(tmp_path: Path):
    made = plan(4)
    genlab.train(made, store=tmp_path / "whole", device="cuda")
    calls = iter([True] * 2 + [False] * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genlab.runs.work._REPORT_SECONDS", 0.0)
        with pytest.raises(Interrupted):
            genlab.train(made, store=tmp_path / "stopped", device="cuda", report=lambda _p: next(calls))
    genlab.train(made, store=tmp_path / "stopped", device="cuda")
    ids = [spec.run_id for spec in made.specs]
    whole, resumed = (Store(tmp_path / name).weights(ids) for name in ("whole", "stopped"))
    torch.testing.assert_close(resumed, whole, rtol=1e-3, atol=1e-5)
