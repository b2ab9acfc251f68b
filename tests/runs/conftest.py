"""A small trained group, made once a test session and copied into each test's own store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import genlab
from genlab.runs import Plan, Store


@pytest.fixture(scope="session")
def small_plan() -> Plan:
    """Two runs of a tiny parity model, a few steps each."""
    return genlab.plan(
        "parity", 4, 8, seeds=(0, 1), evals=genlab.Evals(8, n=32), steps=12, eval_every=4, n_layers=1, d_model=16
    )


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory, small_plan: Plan) -> Path:
    path = tmp_path_factory.mktemp("trained") / "store"
    genlab.train(small_plan, store=path, workers=1)
    return path


@pytest.fixture
def store(_trained: Path, tmp_path: Path) -> Store:
    """A store of its own that holds the two runs of `small_plan`, evaluated."""
    shutil.copytree(_trained, tmp_path / "store")
    return Store(tmp_path / "store")
