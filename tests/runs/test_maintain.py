"""Upkeep: check finds damage and leftovers, compact changes no answer, delete leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import genlab
from genlab.errors import UserError
from genlab.report.tables import filtered, run_table, summary
from genlab.runs import Plan, Store
from genlab.runs.files import host
from genlab.runs.leases import lease
from genlab.runs.maintain import check_store, compact_store, delete_runs
from genlab.runs.weights import save_tensors


def answers_of(store: Store) -> list[pd.DataFrame]:
    fresh = Store(store.path)
    ids = fresh.run_ids()
    return [
        fresh.evals(answers=True),
        fresh.history(ids).sort_values(["run_id", "step"], ignore_index=True),
        run_table(fresh),
    ]


@pytest.mark.parametrize("times", [1, 2])
def test_compact_changes_no_answer(store: Store, small_plan: Plan, times: int):
    before, specs = answers_of(store), {run: store.spec(run) for run in store.run_ids()}
    entries = {run: store.entry(run) for run in store.run_ids()}
    for _ in range(times):
        compact_store(store)
    for one, other in zip(answers_of(store), before, strict=True):
        pd.testing.assert_frame_equal(one, other)
    after = Store(store.path)
    assert {run: after.spec(run) for run in after.run_ids()} == specs
    same = {run: {**after.entry(run), "history": 0} for run in after.run_ids()}
    assert same == {run: {**entry, "history": 0} for run, entry in entries.items()}
    assert not list((store.path / "commits").glob("*.json"))
    assert len(list((store.path / "evals").glob("*.parquet"))) == 1
    assert check_store(after) == ({}, {})
    assert genlab.load(small_plan.specs[0].run_id, after).evals().equals(store.evals([small_plan.specs[0].run_id]))


def test_a_store_that_is_open_goes_on_after_compact(store: Store, small_plan: Plan):
    reader = Store(store.path)
    before = reader.evals()
    compact_store(store)
    pd.testing.assert_frame_equal(reader.evals(), before)
    reader.refresh()
    assert reader.weights(reader.run_ids()).shape[0] == 2
    genlab.train(small_plan.specs, small_plan.evals, store=reader, workers=1)
    more = genlab.plan("parity", 4, 8, seeds=(5,), steps=4, n_layers=1, d_model=16)
    genlab.train(more, store=reader, workers=1)
    assert len(Store(store.path).run_ids()) == 3
    compact_store(store)
    assert len(Store(store.path).run_ids()) == 3
    assert check_store(Store(store.path)) == ({}, {})


def test_a_compact_that_was_killed_half_way_counts_nothing_twice(store: Store, monkeypatch: pytest.MonkeyPatch):
    before = answers_of(store)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compact_store(store)
    for one, other in zip(answers_of(store), before, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_trained_again_counts_and_its_evaluations_too(store: Store, small_plan: Plan):
    run = small_plan.specs[0].run_id
    first = store.entry(run)["at"]
    compact_store(store)
    genlab.train(small_plan.specs[:1], small_plan.evals, store=store, workers=1, again=True)
    again = Store(store.path)
    assert again.entry(run)["at"] > first
    assert len(again.evals([run])) == len(again.evals([small_plan.specs[1].run_id]))
    compact_store(again)
    assert Store(store.path).entry(run)["again"]


def test_check_names_damage(store: Store):
    parts = {kind: next((store.path / kind).glob("*.*")) for kind in ("weights", "history", "evals")}
    parts["weights"].write_bytes(parts["weights"].read_bytes()[:-3])
    data = bytearray(parts["evals"].read_bytes())
    data[100] ^= 4
    parts["evals"].write_bytes(data)
    parts["history"].unlink()
    damaged, _ = check_store(store)
    assert set(damaged) == set(parts.values())
    assert "missing" in damaged[parts["history"]]


def test_check_names_a_record_that_is_no_json(store: Store):
    record = next((store.path / "commits").glob("*.json"))
    record.write_text(record.read_text()[:-9])
    assert list(check_store(store)[0]) == [record]
    record.write_text("{}")
    with pytest.raises(UserError, match="it has no 'stack'"):
        Store(store.path).run_ids()


def test_leftovers_of_killed_processes_are_named_and_taken_away(store: Store, small_plan: Plan):
    entry = store.entry(store.run_ids()[0])
    half = store.path / "evals" / f".x.parquet.{host()}.999999999.ab.tmp"
    more = store.path / "weights" / f"{entry['stack']}-0123456789abcdef.safetensors"
    half.write_bytes(b"")
    shutil.copy(store.path / "weights" / entry["weights"], more)
    assert check_store(store) == ({}, {half: "half-written"})  # a young file may be on its way to a record
    os.utime(more, (time.time() - 7200,) * 2)
    left = {half: "half-written", more: "not named by any commit"}
    mine = store.path / "evals" / f".x.parquet.elsewhere.{1}.ab.tmp"
    mine.write_bytes(b"")
    _, found = check_store(store)
    assert found == left
    compact_store(store)
    assert not any(path.exists() for path in left)
    assert mine.exists()


def test_a_checkpoint_of_completed_runs_goes_unless_they_are_worked_on(store: Store):
    runs = store.run_ids()
    kept = store.path / "checkpoints" / "0123456789abcdef.safetensors"
    kept.parent.mkdir(exist_ok=True)
    save_tensors(kept, {"step": torch.zeros(1)}, {"runs": json.dumps([{"run_id": run} for run in runs])})
    with lease(store.path / "leases", "x", runs=runs[:1]):
        assert check_store(store) == ({}, {})
    assert check_store(store) == ({}, {kept: "a checkpoint of completed runs"})
    save_tensors(kept, {"step": torch.zeros(1)}, {"runs": json.dumps([{"run_id": run} for run in [*runs, "f" * 12]])})
    assert check_store(store) == ({}, {})


def test_what_cannot_be_read_is_put_aside(store: Store):
    """Nobody knows of which runs it is."""
    path = store.path / "weights" / "0123456789abcdef-0123456789abcdef.safetensors"
    path.write_bytes(b"")
    os.utime(path, (time.time() - 7200,) * 2)
    assert list(check_store(store)[0]) == [path]
    compact_store(store)
    assert (store.path / "lost" / "weights" / path.name).exists()
    assert check_store(store) == ({}, {})


def test_deleted_runs_leave_nothing_and_can_be_trained_anew(store: Store, small_plan: Plan):
    first, second = (spec.run_id for spec in small_plan.specs)
    weights = store.weights([first])
    compact_store(store)
    delete_runs(store, [first])
    kept = Store(store.path)
    assert kept.run_ids() == [second]
    assert set(kept.evals()["run_id"]) == {second}
    assert check_store(kept) == ({}, {})
    genlab.train(small_plan.specs, small_plan.evals, store=kept, workers=1)
    assert torch.equal(kept.weights([first]), weights)
    assert set(kept.evals()["run_id"]) == {first, second}


def test_a_run_that_is_worked_on_is_not_deleted(store: Store):
    run = store.run_ids()[0]
    with lease(store.path / "leases", "x", runs=[run]), pytest.raises(UserError, match="is being trained"):
        delete_runs(store, [run])
    with lease(store.path / "leases", "upkeep"), pytest.raises(UserError, match="by another process"):
        compact_store(store)


def test_tags_name_runs(store: Store):
    first, second = store.run_ids()
    assert store.named.tag("good", [first]) == [first]
    assert store.named.tag("good", [second, first]) == [first, second]
    assert store.find("good") == [first, second]
    assert store.named.tag("good", [first], remove=True) == [second]
    assert store.named.tag("good", [second], remove=True) == []
    with pytest.raises(UserError, match="not a group's name"):
        store.named.tag(store.groups()[0], [first])


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("learning_rate = 1", "unknown field 'learning_rate'"),
        ("lr", "is not a condition"),
        ("lr = fast", "lr is a number"),
        ("bias = maybe", "bias is true or false"),
    ],
)
def test_where_says_what_it_cannot(store: Store, where: str, said: str):
    with pytest.raises(UserError, match=said):
        filtered(run_table(store), where)


def test_in_is_the_training_split_within_the_training_lengths_and_out_is_all_else(store: Store):
    run = store.run_ids()[0]
    about = {"run_id": run, "step": 12, "n": 32, "seed": 0, "at": "", "metric": "exact_match"}
    inside, beyond = run_table(store, [run])[["exact_match_in", "exact_match_out"]].iloc[0]
    store.add_evals([{**about, "split": "dense", "length": 2, "value": 5.0, "correct": None, "answers": None}])
    after = run_table(store, [run])
    assert after["exact_match_in"].item() == inside
    assert after["exact_match_out"].item() == pytest.approx((4 * beyond + 5.0) / 5)  # lengths 5 to 8, and this one


def test_where_and_by(store: Store):
    runs = run_table(store)
    assert next(iter(runs.columns)) == "run_id"
    assert list(filtered(runs, "init_seed = 1 and bias = true and task != sort")["init_seed"]) == [1]
    assert len(filtered(runs, "lr < 0.0001")) == 0
    cells = summary(runs, ["n_layers", "init_seed"])
    assert list(cells["runs"]) == [1, 1]
    assert summary(runs, ["n_layers"])["runs"].item() == 2
    with pytest.raises(UserError, match="unknown field"):
        summary(runs, ["layers"])
