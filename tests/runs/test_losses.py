"""Nothing is lost: not to a deletion by an older view, not with a lost record, not at the end of the interpreter."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_grids import lab, small_grid

import genlab
from genlab.errors import UserError
from genlab.forecast.roles import read_table as read_own_table
from genlab.runs import Plan, Store, grid, index
from genlab.runs import maintain as leftovers
from genlab.runs.files import read_json, read_table, write_table
from genlab.runs.leases import lease
from genlab.runs.maintain import check_store, compact_store, delete_runs, tidy
from genlab.runs.parts import SIGNAL_COLUMNS, Signals
from genlab.runs.repair import _final_steps
from genlab.runs.store import no_history
from genlab.spec import RunSpec

RUNS = Path(genlab.__file__).parent / "runs"


# -- at the end of the interpreter -----------------------------------------------------------------------------------


def owned_by_arrow(source: object) -> bool:
    """Whether what a Parquet reader is given lies in Arrow's own memory, or is a file that Arrow opens itself."""
    return isinstance(source, str | Path) or (isinstance(source, pa.Buffer) and source.parent is None)


def noting(real: Callable[..., object], given: list[object]) -> Callable[..., object]:
    """A function that notes what it is given first."""

    def noted(source: object, *arguments: object, **options: object) -> object:
        given.append(source.read_buffer(4) if isinstance(source, pa.BufferReader) else source)
        return real(source, *arguments, **options)

    return noted


def test_tables_are_read_into_memory_of_arrow(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A thread of Arrow's that lets go of Python bytes while the interpreter ends aborts the process: status 134."""
    given: list[object] = []
    for name in ("ParquetFile", "read_table"):
        monkeypatch.setattr(pq, name, noting(getattr(pq, name), given))
    assert read_table(next((store.path / "evals").iterdir())).num_rows
    frame = pd.DataFrame({"run_id": ["a", "b"], "x": [1.0, 2.0], "y": [0.0, 1.0]})
    frame.to_parquet(tmp_path / "own.parquet")
    read = read_own_table(tmp_path / "own.parquet", {"signal": ["x"], "outcome": ["y"]})
    assert list(read.index) == ["a", "b"]
    assert len(given) == 2
    assert all(map(owned_by_arrow, given))


@pytest.mark.slow
def test_a_command_that_is_refused_ends_with_status_2_every_time(store: Store):
    compact_store(store)
    command = lab("delete", "5:1", "--yes", "--store", store.path)
    statuses = [subprocess.run(command, capture_output=True).returncode for _ in range(60)]
    assert statuses == [2] * 60


# -- deletion by an older view ---------------------------------------------------------------------------------------


@contextmanager
def before_call(name: str, intrude: Callable[[], object]) -> Iterator[list[str]]:
    """Run `intrude` before the first call of a function of `genlab.runs`; gives the list of all that are called."""
    calls: list[str] = []

    def on(frame: FrameType, event: str, _arg: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(RUNS)) and not code.co_name.startswith("<"):
            calls.append(f"{Path(code.co_filename).stem}.{code.co_qualname}")
            if calls[-1] == name and name not in calls[:-1]:
                sys.setprofile(None)
                intrude()
                sys.setprofile(on)

    sys.setprofile(on)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.fixture(params=[4, pytest.param(1, marks=pytest.mark.slow)], ids=["some moments", "every moment"])
def every(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many moments to go on from one that is tried to the next; and no waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _number: None)
    return request.param


def moments(work: Callable[[], object], every: int) -> list[str]:
    """The functions before which something may happen: those that are called, but for helpers."""
    with before_call("", lambda: None) as calls:
        work()
    apart = ("processes.", "leases.", "tensor_files.", "weights.", "store.")
    return [name for name in dict.fromkeys(calls) if not name.startswith(apart)][::every]


def signal_rows(runs: list[str]) -> dict[str, list[object]]:
    values = {"step": 12, "signal": "s", "version": 1, "name": "s", "layer": -1, "head": -1, "value": 1.0}
    values |= {"unit": "", "at": "", "n": 0}
    return {
        name: [runs[i] if name == "run_id" else values[name] for i in range(len(runs))] for name in SIGNAL_COLUMNS
    }


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory, small_plan: Plan) -> Path:
    """A store of a third run, and of the first one of `small_plan` trained on another machine, as it were."""
    path = tmp_path_factory.mktemp("other") / "store"
    more = genlab.plan("parity", 4, 8, seeds=(7,), evals=small_plan.evals, steps=4, n_layers=1, d_model=16)
    genlab.train(more, store=path, workers=1)
    return path


def states_of(store: Store, more: float = 0.0) -> list[genlab.training.RunState]:
    """Committed runs, to be committed elsewhere."""
    found = []
    for run in store.run_ids():
        weights = store.weights([run])[0] + more
        rows = store.history([run]).drop(columns="run_id").to_dict("records")
        step, status = store.entry(run)["step"], store.entry(run)["status"]
        found.append(genlab.training.RunState(store.spec(run), step, status, weights, weights, weights, rows))
    return found


def bring(path: Path, states: list[genlab.training.RunState], evals: pd.DataFrame, again: bool = False) -> None:
    """Commit and evaluate runs, as another process would."""
    store = Store(path)
    for state in states:
        store.commit([state], {"device": "another"}, again)
    store.add_evals(evals.astype(object).where(evals.notna(), None).to_dict("records"))
    ids = [state.spec.run_id for state in states]
    Signals(store.path).add(signal_rows(ids), "new")


WORK: dict[str, Callable[[Store], object]] = {
    "compact": compact_store,
    "tidy": tidy,
    "delete": lambda store: delete_runs(store, store.run_ids()[:1]),
}


@pytest.mark.parametrize("name", WORK)
def test_what_is_committed_meanwhile_is_whole(
    store: Store, other_store: Path, tmp_path: Path, name: str, every: int, monkeypatch: pytest.MonkeyPatch
):
    """Whenever it comes, though nobody holds a lease and no file is too young to be removed."""
    monkeypatch.setattr(leftovers, "_OLD_SECONDS", -1.0)
    Signals(store.path).add(signal_rows(store.run_ids()), "old")
    Signals(store.path).add(signal_rows(store.run_ids()[:1]), "older")
    other = Store(other_store)
    new, evals, states = other.run_ids(), other.evals(answers=True), states_of(other)

    def fresh_copy() -> Store:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        return Store(shutil.copytree(store.path, tmp_path / "copy"))

    first = fresh_copy()
    for moment in moments(lambda: WORK[name](first), every):
        kept = fresh_copy()
        with before_call(moment, lambda: bring(tmp_path / "copy", states, evals)):
            WORK[name](kept)
        after = Store(kept.path)
        assert set(new) <= set(after.run_ids()), moment
        pd.testing.assert_frame_equal(after.evals(new, answers=True), evals, obj=moment)
        assert len(Signals(kept.path).frame(new)) == len(new), moment
        assert torch.equal(after.weights(new), other.weights(new))
        assert len(after.history(new)) == len(other.history(new))
        assert check_store(after)[0] == {}, moment


def test_a_run_that_is_trained_again_while_records_are_compacted_counts(store: Store, tmp_path: Path, every: int):
    """Its record takes the place of the old one, under the same name."""
    states, run = states_of(store, more=1.0), store.run_ids()[0]
    wanted, evals = store.weights([run]) + 1.0, store.evals(answers=True)
    first = Store(shutil.copytree(store.path, tmp_path / "first"))
    for moment in moments(lambda: compact_store(first), every):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        kept = Store(shutil.copytree(store.path, tmp_path / "copy"))
        with before_call(moment, lambda: bring(tmp_path / "copy", states, evals, again=True)):
            compact_store(kept)
        assert torch.equal(Store(kept.path).weights([run]), wanted), moment
        assert check_store(Store(kept.path))[0] == {}, moment


def test_a_run_that_is_trained_again_while_it_is_deleted_stays(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The deletion has been decided before: it takes what it has seen, and nothing later."""
    states, evals, ids = states_of(store, more=1.0), store.evals(answers=True), store.run_ids()
    wanted = store.weights(ids) + 1.0
    real, left = index.Index.drop, [1]

    def drop(self: index.Index, *arguments: object) -> None:
        if left:
            left.pop()
            bring(store.path, states, evals, again=True)
        real(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(index.Index, "drop", drop)
    delete_runs(store, ids)
    after = Store(store.path)
    assert after.run_ids() == ids
    assert torch.equal(after.weights(ids), wanted)
    pd.testing.assert_frame_equal(after.evals(answers=True), evals)
    assert check_store(after) == ({}, {})


def test_a_table_that_was_moved_past_a_reader_is_read(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A folder that changes while it is listed may show neither the old file nor the new one."""
    compact_store(store)
    ids, real, missed = store.run_ids(), index._listed, [True]

    def listed(folder: Path, ending: str) -> object:
        return [] if ending == ".parquet" and missed and missed.pop() else real(folder, ending)

    monkeypatch.setattr(index, "_listed", listed)
    assert Store(store.path).run_ids() == ids
    assert missed == []


def test_only_the_file_that_was_seen_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from genlab.runs.files import file_id, move_if_same, remove_if_same, write_json

    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    before = file_id(path)
    write_json(path, {"a": 2})
    assert not remove_if_same(path, before)
    assert not move_if_same(path, before, tmp_path / "aside")
    now, rename = file_id(path), Path.rename

    def late(self: Path, target: Path) -> Path:
        write_json(path, {"a": 3})  # after the look, before the renaming
        monkeypatch.setattr(Path, "rename", rename)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert not remove_if_same(path, now)
    assert read_json(path) == {"a": 3}
    assert move_if_same(path, file_id(path), tmp_path / "aside")
    assert [p.name for p in tmp_path.iterdir()] == ["aside"]
    assert remove_if_same(tmp_path / "aside" / "x.json", file_id(tmp_path / "aside" / "x.json"))
    assert not remove_if_same(path, None)


def test_the_history_of_a_run_that_was_trained_again_stands_there_once(tmp_path: Path, small_plan: Plan):
    """The file of its first stack, which its neighbor is still read from, holds it as it was before."""
    store = Store(tmp_path / "two")
    genlab.train(small_plan, store=store, workers=1, stack=2)
    genlab.train(small_plan.specs[:1], small_plan.evals, store=store, workers=1, again=True)
    for _ in range(2):
        history = Store(store.path).history(store.run_ids())
        assert list(history.groupby("run_id").size()) == [3, 3]
        compact_store(store)


def test_a_missing_history_is_named(store: Store):
    next((store.path / "history").iterdir()).unlink()
    with pytest.raises(UserError, match="is missing"):
        store.history(store.run_ids())


# -- a record that is lost -------------------------------------------------------------------------------------------


def age(store: Store) -> None:
    """Make every file two hours old."""
    for path in store.path.rglob("*.*"):
        os.utime(path, (time.time() - 7200,) * 2)


def all_of(store: Store) -> list[object]:
    """What a store says of its runs."""
    fresh = Store(store.path)
    ids = fresh.run_ids()
    weights = {(run, step): fresh.weights([run], step).tolist() for run in ids for step in fresh.steps(run)}
    entries = [{**fresh.entry(run), "history": 0} for run in ids]
    history = fresh.history(ids).sort_values(["run_id", "step"]).to_json()
    return [entries, weights, history, fresh.evals(answers=True).drop(columns=["correct", "answers"]).to_json()]


@pytest.fixture
def kept_store(tmp_path: Path) -> Store:
    """Four runs of a grid file, with steps on the way, signals, and their commits in one table."""
    _, found = small_grid(tmp_path, more="keep_steps = [4, 8]\n")
    grid(found, store=tmp_path / "grid", workers=1, stack=2, request={"toml": found.text})
    store = Store(tmp_path / "grid")
    Signals(store.path).add(signal_rows(store.run_ids()), "s")
    compact_store(store)
    return Store(store.path)


def lose_records(store: Store) -> None:
    for path in (store.path / "commits").iterdir():
        path.unlink()


@pytest.mark.parametrize("tidied", [False, True], ids=["in place", "put aside"])
def test_lost_records_are_told_kept_and_made_again(kept_store: Store, other_store: Path, tidied: bool):
    """The table of commits is gone, and a later run has a record: before, `tidy` took all other weights away."""
    store, before, lost = kept_store, all_of(kept_store), kept_store.run_ids()
    count = len(list((store.path / "steps").iterdir()))
    lose_records(store)
    age(store)
    other = Store(other_store)
    bring(store.path, states_of(other), other.evals(answers=True))
    if tidied:
        moved = tidy(Store(store.path))
        assert {path.parent.name for path in moved} == {"weights", "history", "steps"}
        assert len(list((store.path / "lost" / "steps").iterdir())) == count
        assert len(list((store.path / "weights").iterdir())) == 1
    damaged, left = check_store(Store(store.path))
    assert left == {}
    assert list(damaged) == [store.path / "commits"]
    assert "no record of 4 runs" in damaged[store.path / "commits"]
    told = json.loads(run_lab("store", "check", "--store", store.path, "--json", status=1))
    places = {f"lost/{folder}" if tidied else folder for folder in ("history", "steps", "weights")}
    assert told["lost"] == {run: sorted({"evals", "signals", *places}) for run in sorted(lost)}
    compact_store(Store(store.path))  # keeps their evaluations
    assert "4 runs (" in run_lab("store", "repair", "--store", store.path)
    delete_runs(Store(store.path), other.run_ids())
    after = all_of(store)
    assert after == before
    assert check_store(Store(store.path)) == ({}, {})
    assert len(Signals(store.path).frame(lost)) == len(lost)
    assert tidy(Store(store.path)) == []
    assert "no run restored" in run_lab("store", "repair", "--store", store.path)


def run_lab(*words: str | Path, status: int = 0) -> str:
    """Type a command; gives its standard output."""
    from genlab.cli import main

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", ["lab", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
    assert (left.value.code or 0) == status
    return said.getvalue()


@pytest.mark.parametrize("how", ["a grid asks for it", "another seed is there"])
def test_files_of_before_say_less_and_are_entered_too(kept_store: Store, monkeypatch: pytest.MonkeyPatch, how: str):
    """Weights that do not say what their record said: the spec is found by its hash, the rest in the history."""
    from genlab.runs import repair

    monkeypatch.setattr(repair, "record_of", lambda _meta: {})
    before, ids = all_of(kept_store), kept_store.run_ids()
    if how == "a grid asks for it":
        gone = ids
        lose_records(kept_store)
    else:
        shutil.rmtree(kept_store.path / "groups")
        gone = [run for run in ids if kept_store.spec(run).train.init_seed == 1]
        commits = kept_store.index.commits(gone)
        kept_store.index.drop(commits)
        # A stack of two runs: those of seed 0 name its file of weights. They go to one of their own.
        stay = [run for run in ids if run not in gone]
        states = [s for s in states_of(kept_store) if s.spec.run_id in stay]
        for one in states:
            Store(kept_store.path).commit([one], {}, again=True)
    done = repair.repair_store(Store(kept_store.path))
    assert done.entered == sorted(gone)
    assert done.aside == {}
    entries = {entry["run_id"]: entry for entry in before[0]}  # pyright: ignore[reportGeneralTypeIssues]
    again = Store(kept_store.path)
    for run in gone:
        known = ("run_id", "stack", "status", "step", "spec", "weights", "kept", "again")
        assert {k: again.entry(run)[k] for k in known} == {k: entries[run][k] for k in known}
        assert len(again.history([run])) == 1
    assert check_store(again)[0] == {}


def test_a_store_of_before_is_repaired_from_the_settings_of_its_other_runs(tmp_path: Path):
    """One that was written before weights said what their record says."""
    old = Path(__file__).parents[2] / "benchmarks" / "pairs" / "store"
    store = Store(shutil.copytree(old, tmp_path / "pairs"))
    entries = {run: store.entry(run) for run in store.run_ids()}
    weights = {run: store.weights([run]) for run in entries}
    (store.path / "commits" / f"{entries[store.run_ids()[0]]['stack']}.json").unlink()
    from genlab.runs.repair import repair_store

    done = repair_store(Store(store.path))
    assert (done.entered, done.aside) == ([next(iter(entries))], {})
    again = Store(store.path)
    for run, entry in entries.items():
        # What a record of before leaves out, a field that came later, stands there at what it means.
        other = {"at": 0, "environment": 0, "law": None, "spec": again.spec(run)}
        assert {**again.entry(run), **other} == {**entry, **other}
        assert again.spec(run).run_id == RunSpec.model_validate(entry["spec"]).run_id == run
        assert torch.equal(again.weights([run]), weights[run])


def test_what_cannot_be_entered_is_put_aside_and_comes_back(kept_store: Store, tmp_path: Path):
    """Without weights there is no record; what is left of the run waits for them."""
    before = all_of(kept_store)
    run = kept_store.run_ids()[0]
    weights = kept_store.path / "weights" / kept_store.entry(run)["weights"]
    both = [r for r in kept_store.run_ids() if kept_store.entry(r)["weights"] == weights.name]
    lose_records(kept_store)
    shutil.move(weights, tmp_path / "backup")
    age(kept_store)
    said = run_lab("store", "repair", "--store", kept_store.path)
    assert "2 runs (" in said
    assert all(f"not restored: run {run}: its weights are missing" in said for run in both)
    store = Store(kept_store.path)
    assert not set(both) & set(store.run_ids())
    assert not set(both) & (set(store.evals()["run_id"]) | set(Signals(store.path).frame()["run_id"]))
    assert "no record of 2 runs" in check_store(store)[0][store.path / "commits"]
    (store.path / "lost" / "weights").mkdir()
    shutil.move(tmp_path / "backup", store.path / "lost" / "weights" / weights.name)
    assert "2 runs (" in run_lab("store", "repair", "--store", store.path)
    assert all_of(store) == before
    assert check_store(Store(store.path)) == ({}, {})


def test_damaged_weights_are_not_entered(kept_store: Store):
    lose_records(kept_store)
    for path in (kept_store.path / "weights").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    said = run_lab("store", "repair", "--store", kept_store.path)
    assert said.count("is damaged") == 4
    assert len(list((kept_store.path / "lost" / "weights").iterdir())) == 2


def test_files_that_records_name_come_back_from_aside(store: Store):
    """Somebody took them for lost."""
    name = store.entry(store.run_ids()[0])["weights"]
    (store.path / "lost" / "weights").mkdir(parents=True)
    (store.path / "weights" / name).rename(store.path / "lost" / "weights" / name)
    assert "missing" in check_store(store)[0][store.path / "weights" / name]
    assert "moved back" in run_lab("store", "repair", "--store", store.path)
    assert check_store(Store(store.path)) == ({}, {})


def test_deleted_runs_are_no_loss(store: Store, small_plan: Plan):
    """Neither those that share their files with others, nor those that were trained twice."""
    first, second = (spec.run_id for spec in small_plan.specs)
    genlab.train(small_plan.specs[:1], small_plan.evals, store=store, workers=1, again=True)
    delete_runs(store, [first])
    age(store)
    assert check_store(Store(store.path)) == ({}, {})
    assert "no run restored" in run_lab("store", "repair", "--store", store.path)
    assert Store(store.path).run_ids() == [second]
    told = run_lab("store", "check", "--store", store.path)
    assert f"deleted, or lost): 1 run ({first}) of group" in told
    genlab.train(small_plan.specs[1:], small_plan.evals, store=store, workers=1, again=True)
    delete_runs(store, [second])
    assert [path for folder in ("weights", "history") for path in (store.path / folder).iterdir()] == []


def test_files_on_their_way_to_a_record_are_no_loss(store: Store):
    """Young ones, and those of runs that somebody works on: `tidy` leaves them where they are."""
    ids, evals = store.run_ids(), store.path / "evals"
    lose_records(store)
    shutil.rmtree(evals)
    shutil.rmtree(store.path / "parts")
    assert check_store(Store(store.path)) == ({}, {})
    assert tidy(Store(store.path)) == []
    age(store)
    with lease(store.path / "leases", "another stack", runs=ids):
        assert check_store(Store(store.path)) == ({}, {})
        assert tidy(Store(store.path)) == []
    assert "no record of 2 runs" in check_store(Store(store.path))[0][store.path / "commits"]
    assert len(tidy(Store(store.path))) == 4


def test_several_files_of_one_run_the_one_that_counted_is_entered(store: Store, small_plan: Plan):
    run = small_plan.specs[0].run_id
    genlab.train(small_plan.specs[:1], small_plan.evals, store=store, workers=1, again=True)
    wanted = Store(store.path).entry(run)
    lose_records(store)
    from genlab.runs.repair import repair_store

    assert len(repair_store(Store(store.path)).entered) == 2
    assert Store(store.path).entry(run) == wanted
    assert all(a <= b for a, b in pairwise(Store(store.path).index.at(r) for r in Store(store.path).run_ids()))


def test_the_last_loss_of_a_history_counts_only_if_it_is_a_number(tmp_path: Path):
    losses = {"a": [0.5, 0.25], "b": [0.5, math.inf], "c": [0.5, -math.inf], "d": [0.5, math.nan]}
    rows = {name: [None] * 8 for name in no_history().schema.names}
    rows |= {
        "run_id": [run for run in losses for _ in range(2)],
        "step": [1, 2] * 4,
        "loss": [x for both in losses.values() for x in both],
    }
    file = write_table(tmp_path, "history", pa.table(rows, no_history().schema))
    found = _final_steps(["a", "b", "c", "d"], [tmp_path / file])
    assert found == {"a": (2, 0.25), "b": (2, None), "c": (2, None), "d": (2, None)}
