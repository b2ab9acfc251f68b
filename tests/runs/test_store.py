"""The store: what was committed is whole and found again; damage is noticed; readers see commits only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import genlab
from genlab.errors import DamagedFileError, UserError
from genlab.models import initial
from genlab.runs import Plan, Store
from genlab.runs.store import stack_id
from genlab.runs.weights import load_tensors, save_tensors
from genlab.training import RunState


def test_committed_runs_come_back_as_they_were(store: Store, small_plan: Plan):
    ids = [spec.run_id for spec in small_plan.specs]
    assert sorted(store.run_ids()) == sorted(ids)
    assert [store.spec(run) for run in ids] == small_plan.specs
    both = store.weights(ids)
    assert torch.equal(both[0], store.weights(ids[:1])[0])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both, initial(small_plan.specs[0].model, [0, 1]))
    history = store.history(ids)
    assert list(history["step"]) == [4, 8, 12] * 2
    trace = store.trace(ids)
    assert set(trace.columns) == {"run_id", "step", "split", "length", "metric", "value", "n"}
    assert set(trace["length"]) == set(range(1, 9))  # within the training lengths and beyond
    assert set(trace["step"]) == {4, 8, 12}
    environment = store.entry(ids[0])["environment"]
    assert {"git_commit", "torch", "device", "threads"} <= set(environment)
    assert isinstance(environment["git_commit"], str)  # '' outside a checkout


def test_evaluations_keep_a_bit_and_a_hash_an_example(store: Store):
    found = store.evals(answers=True)
    exact = found[found["metric"] == "exact_match"]
    assert len(exact) == 2 * 8
    for row in exact.to_dict("records"):
        bits = np.unpackbits(np.frombuffer(row["correct"], np.uint8), count=row["n"])
        assert bits.mean() == pytest.approx(row["value"])
        assert len(np.frombuffer(row["answers"], np.uint64)) == row["n"]
    assert found[found["metric"] == "loss"]["correct"].isna().all()


def test_the_same_evaluation_twice_counts_once(store: Store):
    before = store.evals(answers=True)
    store.add_evals(before.astype(object).where(before.notna(), None).to_dict("records"))
    pd.testing.assert_frame_equal(store.evals(answers=True), before)


def test_a_commit_without_its_record_is_not_there(store: Store):
    for record in (store.path / "commits").glob("*.json"):
        record.unlink()
    assert Store(store.path).run_ids() == []


@pytest.mark.parametrize("place", [0, 9, 200, -1])
def test_one_flipped_bit_of_the_weights_is_noticed(store: Store, place: int):
    run = store.run_ids()[0]
    file = store.path / "weights" / store.entry(run)["weights"]
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedFileError, match="is damaged"):
        genlab.load(run, store).model  # noqa: B018


def test_one_flipped_bit_of_the_evaluations_is_noticed(store: Store):
    file = next((store.path / "evals").glob("*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedFileError, match="is damaged"):
        store.evals()


def test_missing_weights_are_named(store: Store):
    run = store.run_ids()[0]
    (store.path / "weights" / store.entry(run)["weights"]).unlink()
    with pytest.raises(DamagedFileError, match="is missing"):
        store.weights([run])


def test_metadata_stands_under_the_checksum_too(tmp_path: Path):
    file = tmp_path / "x.safetensors"
    save_tensors(file, {"a": torch.ones(3)}, {"name": "first"})
    assert load_tensors(file)[1] == {"name": "first"}
    file.write_bytes(file.read_bytes().replace(b"first", b"fifth"))
    with pytest.raises(DamagedFileError, match="checksum"):
        load_tensors(file)


def test_find_takes_ids_prefixes_groups_and_last(store: Store, small_plan: Plan):
    ids = [spec.run_id for spec in small_plan.specs]
    assert store.find("last") == ids
    assert store.find(store.groups()[0]) == ids
    assert store.find(ids[1]) == [ids[1]]
    assert store.find(ids[1][:8]) == [ids[1]]
    with pytest.raises(UserError, match=f"did you mean '{ids[0]}'"):
        store.find(ids[0][:-1] + "z")
    with pytest.raises(UserError, match="is a prefix of 2 runs"):
        store.find("")


def test_checkpoints_give_the_furthest_state(tmp_path: Path, small_plan: Plan):
    store = Store(tmp_path / "new")
    store.ready()
    spec = small_plan.specs[0]
    rows = [torch.full((5,), value) for value in (1.0, 2.0, 3.0)]
    for step, with_others in ((7, small_plan.specs), (3, [spec])):
        store.save_checkpoint([RunState(s, step, "training", *rows, history=[{"step": step}]) for s in with_others])
    assert set(store.load_checkpoints([spec])) == {spec.run_id}
    state = store.load_checkpoints([spec])[spec.run_id]
    assert (state.step, state.spec, state.history) == (7, spec, [{"step": 7}])
    assert state.exp_avg.tolist() == [2.0] * 5


def test_a_store_is_not_any_directory(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Store(tmp_path / "file")
    with pytest.raises(UserError, match="not a genlab store"):
        Store(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"genlab_store": 99}))
    with pytest.raises(UserError, match="format 99"):
        Store(tmp_path)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.access", lambda _path, _mode: False)  # permission bits do not bind root
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        Store(tmp_path / "store").ready()


def test_a_store_that_another_process_is_just_making_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".store.json.host.1.0.tmp").write_text("{")
    Store(tmp_path).ready()
    looked = Store._has_content
    (tmp_path / "store.json").unlink()

    def made_while_we_look(self: Store) -> bool:
        (tmp_path / "store.json").write_text('{"genlab_store": 1}')
        (tmp_path / "groups").mkdir()
        return looked(self)

    monkeypatch.setattr(Store, "_has_content", made_while_we_look)
    assert Store(tmp_path).path == tmp_path


def test_opening_writes_nothing(tmp_path: Path):
    assert Store(tmp_path / "none").run_ids() == []
    assert not (tmp_path / "none").exists()


def test_the_name_of_a_stack_does_not_depend_on_the_order():
    assert stack_id(["a", "b"]) == stack_id(["b", "a"]) != stack_id(["a", "c"])
