"""Weights of steps on the way: committed with their stack, found again, checked, deleted, resumed."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import genlab
from genlab.errors import DamagedFileError, Interrupted, UserError
from genlab.models import initial
from genlab.runs import Plan, Store
from genlab.runs.api import wanted_runs, without_steps
from genlab.runs.files import read_json, read_table, write_json, write_table
from genlab.runs.maintain import check_store, compact_store, delete_runs, leftovers
from genlab.runs.work import Job

STEPS = (2, 5, 8)


def planned(keep: tuple[int, ...] = STEPS, **options: object) -> Plan:
    sizes = {"steps": 12, "eval_every": 4, "n_layers": 1, "d_model": 16, "n_heads": 2, "batch_size": 8, **options}
    evals = genlab.Evals(6, n=16, keep_steps=keep)
    return genlab.plan("parity", 4, 6, seeds=(0, 1), evals=evals, **sizes)


@pytest.fixture(scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "store"
    genlab.train(planned(), store=path, workers=1, group="kept", stack=2)
    return path


@pytest.fixture
def store(_kept: Path, tmp_path: Path) -> Store:
    shutil.copytree(_kept, tmp_path / "store")
    return Store(tmp_path / "store")


def all_weights(store: Store) -> dict[tuple[str, int], torch.Tensor]:
    return {(run, step): store.weights([run], step)[0] for run in store.run_ids() for step in store.steps(run)}


def same(one: Store, other: Store) -> bool:
    ours, theirs = all_weights(one), all_weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_they_are_no_part_of_a_run_and_come_back(store: Store):
    assert planned().specs == planned(()).specs
    run = genlab.load(store.run_ids()[0], store)
    assert run.steps == [0, 2, 5, 8, 12]
    assert torch.equal(run.at(0).flat, initial(run.spec.model, [run.spec.train.init_seed]))
    assert torch.equal(run.at(12).flat, run.model.flat)
    distances = [float((run.at(step).flat - run.model.flat).norm()) for step in run.steps]
    assert distances == sorted(distances, reverse=True)
    both = store.weights(store.run_ids(), 5)
    assert torch.equal(both[1:], store.weights(store.run_ids()[1:], 5))
    assert not torch.equal(both[0], both[1])
    with pytest.raises(UserError, match="no run 'abc' in store"):
        store.weights(["abc"], 5)
    with pytest.raises(UserError, match=r"no checkpoint at step 6; available, nearest first: 5, 8, 2, 0 \(initial"):
        run.at(6)


def test_a_run_that_is_trained_to_a_step_has_the_weights_kept_there(store: Store, tmp_path: Path):
    alike = {"warmup": 0, "curriculum": 0.0, "schedule": "constant"}  # whatever the number of steps
    shorter, longer = planned((), steps=5, **alike), planned((5,), **alike)
    for name, plan in (("shorter", shorter), ("longer", longer)):
        genlab.train(plan, store=tmp_path / name, workers=1)
    ended = Store(tmp_path / "shorter").weights([s.run_id for s in shorter.specs])
    assert torch.equal(ended, Store(tmp_path / "longer").weights([s.run_id for s in longer.specs], 5))


def test_the_end_of_one_run_is_a_step_on_the_way_of_another(store: Store):
    """Each comes from its own file, though both files hold both runs."""
    first, second = store.run_ids()
    ((record, entry),) = [(path, read_json(path)) for path in (store.path / "commits").glob("*.json")]
    for run in entry["runs"]:
        if run["run_id"] == first:
            run["step"] = 5
    write_json(record, entry)
    fresh = Store(store.path)
    found = fresh.weights([first, second], 5)
    assert torch.equal(found, torch.cat([fresh.weights([first]), store.weights([second], 5)]))
    assert not torch.equal(found[1], fresh.weights([second])[0])


@pytest.mark.parametrize("times", [1, 2])
def test_compacted_they_are_still_there(store: Store, times: int):
    before = all_weights(store)
    for _ in range(times):
        compact_store(store)
    after = all_weights(Store(store.path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert check_store(Store(store.path)) == ({}, {})


def test_check_knows_them_and_delete_leaves_none(store: Store):
    files = sorted((store.path / "steps").iterdir())
    assert len(files) == 3
    more = store.path / "steps" / f"{store.entry(store.run_ids()[0])['stack']}-3-0123456789abcdef.safetensors"
    shutil.copy(files[0], more)
    os.utime(more, (time.time() - 7200,) * 2)
    assert leftovers(store) == {more: "not named by any commit"}
    compact_store(store)
    data = bytearray(files[0].read_bytes())
    data[-1] ^= 1
    files[0].write_bytes(data)
    files[1].unlink()
    damaged, left = check_store(store)
    assert (set(damaged), left) == (set(files[:2]), {})
    assert "missing" in damaged[files[1]]
    with pytest.raises(DamagedFileError, match="is damaged"):
        store.weights(store.run_ids(), int(files[0].stem.split("-")[1]))
    first, second = store.run_ids()
    delete_runs(store, [first])
    assert files[2].exists()
    assert Store(store.path).steps(second) == [0, *STEPS, 12]
    delete_runs(store, [second])
    assert not list((store.path / "steps").iterdir())


def test_stopped_and_resumed_the_same_weights_are_kept(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped after every second step, so before, at and after those that are kept."""
    monkeypatch.setattr("genlab.runs.work._REPORT_SECONDS", 0.0)
    resumed = tmp_path / "resumed"
    for _ in range(5):
        left = iter([True] * 2 + [False] * 1000)
        with pytest.raises(Interrupted):
            genlab.train(planned(), store=resumed, workers=1, stack=2, report=lambda _p, left=left: next(left))
        assert Store(resumed).run_ids() == []
    genlab.train(planned(), store=resumed, workers=1, stack=2)
    assert same(Store(resumed), store)
    assert check_store(Store(resumed)) == ({}, {})


def test_another_process_is_told_of_them():
    job = Job(planned().specs, planned().evals)
    assert Job.from_json(json.loads(json.dumps(job.as_json()))) == job


def test_a_store_of_the_first_version_is_read(store: Store):
    """Records and tables without kept steps, histories without norms of gradients."""
    for path in (store.path / "commits").glob("*.json"):
        record = read_json(path)
        (old,) = (store.path / "history").iterdir()
        history = read_table(old).drop_columns(["grad_norm", "grad_norm_max"])
        record["history"] = write_table(old.parent, record["stack"], history)
        runs = [{k: v for k, v in run.items() if k != "kept"} for run in record["runs"]]
        write_json(path, {**record, "runs": runs})
        old.unlink()
    shutil.rmtree(store.path / "steps")
    first = Store(store.path)
    ids = first.run_ids()
    assert first.steps(ids[0]) == [0, 12]
    assert np.isnan(first.history(ids)[["grad_norm", "grad_norm_max"]]).all(axis=None)
    assert first.history(ids)["loss"].notna().all()
    compact_store(first)
    (table,) = (store.path / "commits").iterdir()
    write_table(table.parent, "table", read_table(table).drop_columns(["kept"]))
    table.unlink()
    assert Store(store.path).steps(ids[0]) == [0, 12]
    assert Store(store.path).entry(ids[0])["kept"] == {}
    more = planned(STEPS, weight_decay=0.5)
    genlab.train(more, store=first, workers=1, stack=2)
    both = [*ids, *(spec.run_id for spec in more.specs)]
    assert Store(store.path).history(both).groupby("run_id")["grad_norm"].count().loc[both].tolist() == [0, 0, 3, 3]
    compact_store(Store(store.path))
    assert Store(store.path).history(both).groupby("run_id")["grad_norm"].count().loc[both].tolist() == [0, 0, 3, 3]
    assert Store(store.path).steps(both[-1]) == [0, *STEPS, 12]


# -- what a user is told ---------------------------------------------------------------------------------------------

SMALL = (
    "train --task parity --train-len 4 --test-len 6 --steps 12 --eval-every 4 --n-layers 1 --d-model 16 --n-heads 2"
)
COMMAND = [*SMALL.split(), "--batch-size", "8", "--eval-n", "16", "--seeds", "0:2", "--workers", "1", "--evals", "id"]


def test_runs_that_are_there_without_them_are_told_in_one_line_and_again_keeps_them(lab, tmp_path: Path):
    assert lab(*COMMAND, "--keep-steps", "5")[0] == 0
    _, _, err = lab(*COMMAND, "--keep-steps", "0,2,5,12")
    line = "2 of 2 runs were trained without checkpoints at steps 2: retrain them with --again"
    assert err.splitlines().count(line) == 1
    _, _, err = lab(*COMMAND, "--keep-steps", "2:9:3", "--again")
    assert "without keeping" not in err
    store = Store(tmp_path / "store")
    assert [store.steps(run) for run in store.run_ids()] == [[0, 2, 5, 8, 12]] * 2
    assert "without keeping" not in lab(*COMMAND, "--keep-steps", "8")[2]


def test_what_a_run_did_not_reach_is_not_lacking(store: Store):
    wanted = wanted_runs([planned((2, 8))])
    assert without_steps(store, wanted) == ""
    assert "1 of 2 runs were trained without checkpoints at steps 3" in without_steps(
        store, [(wanted[0][0], genlab.Evals(keep_steps=(3,))), wanted[1]]
    )
    ((record, entry),) = [(path, read_json(path)) for path in (store.path / "commits").glob("*.json")]
    for status, step, told in (("reached", 2, False), ("diverged", 12, False), ("reached", 9, True)):
        runs = [{**run, "status": status, "step": step, "kept": {}} for run in entry["runs"]]
        write_json(record, {**entry, "runs": runs})
        assert bool(without_steps(Store(store.path), wanted)) == told, status


BAD = [
    ("13", "keep_steps 13 is beyond the 12 steps of training"),
    ("5,900", "keep_steps 900 is beyond the 12 steps of training"),
    ("-1", "--keep-steps '-1' is not a valid range"),
    ("five", "--keep-steps: 'five' is not an integer"),
    ("2:2", "--keep-steps '2:2' is not a valid range"),
]


@pytest.mark.parametrize(("steps", "said"), BAD)
def test_a_step_that_cannot_be_is_one_line_and_nothing_is_written(lab, tmp_path: Path, steps: str, said: str):
    status, out, err = lab(*COMMAND, "--keep-steps", steps)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_so_it_is_from_python(tmp_path: Path):
    with pytest.raises(UserError, match="keep_steps 13 is beyond"):
        planned((13,))
    for step, said in ((13, "beyond the 12 steps"), (-1, "steps count from 0")):
        with pytest.raises(UserError, match=said):
            genlab.train(planned().specs, genlab.Evals(keep_steps=(step,)), store=tmp_path / "s")
    assert not (tmp_path / "s").exists()
