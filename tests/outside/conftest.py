"""Four runs of sort, trained once for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import genlab


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store, and runs that are right on two items and, on three to five, right on some and wrong on others."""
    folder = tmp_path_factory.mktemp("outside") / "store"
    size = {"n_layers": 2, "d_model": 32, "n_heads": 2, "lr": 5e-3, "batch_size": 32, "eval_every": 50}
    evals = genlab.Evals(test_len=5, n=32)
    plan = genlab.plan("sort", train_len=2, test_len=5, steps=200, seeds=range(4), evals=evals, **size)
    genlab.train(plan, store=folder, device="cpu", workers=1)
    return folder, [spec.run_id for spec in plan.specs]
