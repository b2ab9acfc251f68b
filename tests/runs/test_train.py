"""`genlab.train`: found and not retrained, resumed where it stopped, the same through every executor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import genlab
from genlab.errors import Interrupted, UserError
from genlab.runs import Plan, Store
from genlab.runs.leases import active
from genlab.runs.progress import Progress


def weights(store: Path | Store, plan: Plan) -> torch.Tensor:
    kept = store if isinstance(store, Store) else Store(store)
    return kept.weights([spec.run_id for spec in plan.specs])


def values(store: Path | Store) -> pd.DataFrame:
    kept = store if isinstance(store, Store) else Store(store)
    return kept.evals(answers=True).drop(columns="at")


def test_what_is_there_is_found_and_not_trained_again(store: Store, small_plan: Plan):
    heard: list[Progress] = []
    runs = genlab.train(small_plan, store=store, report=lambda p: heard.append(p) is None)
    assert heard == []
    assert [run.run_id for run in runs] == [spec.run_id for spec in small_plan.specs]
    assert all(run.status == "finished" and run.step == 12 for run in runs)


def test_runs_of_two_configurations_and_none_are_refused(store: Store, small_plan: Plan):
    other = genlab.plan("parity", 4, 8, seeds=(0,), steps=4, n_layers=1, d_model=16)
    for specs in ([], [*small_plan.specs, *other.specs]):
        with pytest.raises(UserError, match="takes runs of one configuration"):
            genlab.train(specs, store=store)
    assert Store(store.path).run_ids() == store.run_ids()


def test_again_trains_anew_and_comes_to_the_same(store: Store, small_plan: Plan):
    before, numbers = weights(store, small_plan), values(store)
    heard: list[Progress] = []
    genlab.train(small_plan, store=store, workers=1, again=True, report=lambda p: heard.append(p) is None)
    assert "finished" in {p.doing for p in heard}
    assert torch.equal(weights(store, small_plan), before)
    pd.testing.assert_frame_equal(values(store), numbers)


def test_worker_processes_come_to_the_same_bits(store: Store, small_plan: Plan, tmp_path: Path):
    torch_threads = torch.get_num_threads()
    genlab.train(small_plan, store=tmp_path / "other", workers=2)
    assert torch.get_num_threads() == torch_threads
    assert torch.allclose(weights(tmp_path / "other", small_plan), weights(store, small_plan), rtol=1e-5, atol=1e-7)


def test_a_stop_keeps_what_was_reached_and_the_same_call_goes_on(store: Store, small_plan: Plan, tmp_path: Path):
    path = tmp_path / "stopped"
    calls = iter([True] * 3 + [False] * 1000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genlab.runs.work._REPORT_SECONDS", 0.0)
        with pytest.raises(Interrupted):
            genlab.train(small_plan, store=path, workers=1, report=lambda _p: next(calls))
        kept = Store(path).load_checkpoints(small_plan.specs)
        assert {state.step for state in kept.values()} == {4}
        heard: list[Progress] = []
        genlab.train(small_plan, store=path, workers=1, report=lambda p: heard.append(p) is None)
    first = small_plan.specs[0].run_id
    assert min(p.step for p in heard if p.run_id == first and p.doing == "training") == 5
    assert torch.equal(weights(path, small_plan), weights(store, small_plan))
    pd.testing.assert_frame_equal(values(path), values(store))
    assert not list((path / "checkpoints").glob("*"))
    ids = [spec.run_id for spec in small_plan.specs]
    pd.testing.assert_frame_equal(Store(path).trace(ids), store.trace(ids))


def test_only_missing_evaluations_are_made(store: Store, small_plan: Plan):
    more = genlab.Evals(8, ("id", "dense"), n=32)
    heard: list[Progress] = []
    genlab.train(small_plan.specs, more, store=store, workers=1, report=lambda p: heard.append(p) is None)
    assert {p.doing for p in heard} == {"evaluating"}
    assert set(store.evals()["split"]) == {"id", "dense"}


def test_ctrl_c_of_the_command_keeps_what_was_reached(tmp_path: Path):
    store = tmp_path / "store"
    command = [
        *(sys.executable, "-m", "genlab.cli", "train", "--task", "parity", "--train-len", "4"),
        *("--seeds", "0:2", "--steps", "1000000", "--eval-every", "20", "--d-model", "16", "--workers", "2"),
        *("--store", str(store)),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and sum("step" in told for told in active(store / "leases").values()) < 2:
        time.sleep(0.1)  # until both workers have said how far they are
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "progress is saved" in said
    assert len(list((store / "checkpoints").glob("*.safetensors"))) == 2


def test_specs_of_two_configurations_are_refused(small_plan: Plan, tmp_path: Path):
    other = genlab.plan("parity", 4, 8, steps=13).specs
    with pytest.raises(UserError, match="one configuration"):
        genlab.train([*small_plan.specs, *other], store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_tf32_is_not_silently_something_else(tmp_path: Path):
    plan = genlab.plan("parity", 4, 8, steps=1, dtype="tf32")
    with pytest.raises(UserError, match="requires a CUDA device"):
        genlab.train(plan, store=tmp_path / "s", device="cpu")
    assert not (tmp_path / "s").exists()


def test_a_fault_in_a_worker_is_told(small_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genlab.runs.execute.plugins", lambda: [str(tmp_path / "gone.py")])
    with pytest.raises(UserError, match=r"gone\.py. is not a file"):
        genlab.train(small_plan, store=tmp_path / "s", workers=2)


def test_load_gives_model_and_task(store: Store, small_plan: Plan):
    run = genlab.load(small_plan.specs[0].run_id[:8], store)
    prompt = torch.tensor([run.task.vocab.encode("0 1 1 >").tolist()])
    assert run.model(prompt).shape == (1, 4, len(run.task.vocab))
    with pytest.raises(UserError, match="names 2 runs"):
        genlab.load("last", store)
