"""A store as the version before the files were moved wrote it: everything in it reads as it did."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genlab
from genlab.runs.parts import Signals
from genlab.runs.plan import Evals
from genlab.runs.store import Store
from genlab.spec import RunSpec

HERE = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "earlier_store.json").read_text())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy, since reading may tidy."""
    shutil.copytree(HERE / "earlier_store", tmp_path / "store")
    return Store(tmp_path / "store")


def same_rows(found: pd.DataFrame, rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    kept = found[columns].astype(object).fillna("nan").to_dict("records")
    assert len(kept) == len(rows)
    for one, other in zip(kept, rows, strict=True):
        for name in columns:
            known = isinstance(other[name], float)
            assert one[name] == (pytest.approx(other[name], rel=1e-9) if known else other[name]), name


def test_runs_have_their_ids_specs_and_weights(store: Store):
    assert sorted(store.run_ids()) == sorted(EXPECTED["runs"])
    for run, known in EXPECTED["runs"].items():
        entry = store.entry(run)
        assert store.spec(run).run_id == run
        assert store.spec(run) == RunSpec.model_validate(known["spec"])
        assert (entry["status"], entry["step"], store.steps(run)) == (known["status"], known["step"], known["steps"])
        weights = store.weights([run]).numpy()
        assert weights.dtype == np.float32
        assert hashlib.sha256(weights.tobytes()).hexdigest() == known["weights"]


def test_evaluations_histories_signals_and_names_are_what_they_were(store: Store):
    ids = list(EXPECTED["runs"])
    same_rows(store.evals(ids).drop(columns=["at"]), EXPECTED["evals"])
    same_rows(store.history(ids), EXPECTED["history"])
    same_rows(Signals(store.path).frame(ids), EXPECTED["signals"])
    assert {name: store.find(name) for name in EXPECTED["groups"]} == EXPECTED["groups"]


def test_the_same_plan_finds_them_and_trains_nothing(store: Store, monkeypatch: pytest.MonkeyPatch):
    from genlab.training.loop import Stack

    def never(*_: object):
        raise AssertionError("a run that is there was trained again")

    monkeypatch.setattr(Stack, "advance", never)
    specs = [store.spec(run) for run in store.run_ids()]
    sort = next(spec.configuration for spec in specs if spec.task.name == "sort")
    shape = {"d_model": 8, "n_layers": 1, "n_heads": 2, "steps": 40, "eval_every": 20, "warmup": 0}
    before = {"grad_clip": 1.0, "init_std": 0.141421, "lengths_per_batch": 2, "start_token": False}
    (planned,) = genlab.plan("sort", 4, 6, seeds=[0], **shape, **before).specs
    warm = planned.train.model_copy(update={"warmup": 100})  # longer than training, which is refused today
    assert planned.model_copy(update={"train": warm}) == sort
    wanted = [spec for spec in specs if spec.configuration == sort]
    runs = genlab.train(wanted, Evals(6, n=16, keep_steps=(20,)), store=store, workers=1)
    assert {run.run_id for run in runs} < set(EXPECTED["runs"])


def test_the_check_of_the_store_finds_nothing(lab, tmp_path: Path, store: Store):
    status, out, err = lab("store", "check")
    assert (status, err) == (0, "")
    assert out.startswith("clean: 3 runs")
