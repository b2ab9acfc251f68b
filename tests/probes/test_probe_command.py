"""`lab signals` and `lab probe`: rows in the store, found again, resumed; one clear line for what cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import genlab
from genlab.errors import Interrupted
from genlab.probes import all_signals, chosen, probe
from genlab.runs import Store
from genlab.runs.devices import environment
from genlab.runs.files import read_json, write_json
from genlab.runs.maintain import check_store, compact_store, delete_runs
from genlab.runs.parts import Signals
from genlab.training import fresh

HEADS = ("previous_token", "start_token")


@pytest.fixture(scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "store"
    evals = genlab.Evals(0, n=16, keep_steps=(2, 4))
    plan = genlab.plan("parity", 4, 8, seeds=(0, 1, 2), evals=evals, steps=6, eval_every=2, n_layers=2, d_model=16)
    genlab.train(plan, store=path, workers=1, group="few")
    return path


@pytest.fixture
def store(_trained: Path, tmp_path: Path) -> Store:
    shutil.copytree(_trained, tmp_path / "store")
    return Store(tmp_path / "store")


def test_every_signal_is_declared_in_full(lab):
    status, out, _ = lab("signals", "--json")
    listed = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert len(listed) == len(all_signals())
    for s in all_signals():
        assert s.about
        assert s.formula
        assert s.unit
        assert s.source
        assert s.low < s.high
        assert listed[s.name]["admissible"] == (not s.why_not)
    assert not any(listed[name]["admissible"] for name in listed if name.startswith("random_"))


def test_values_are_rows_found_again(lab, store: Store):
    status, out, _ = lab("probe", "few", "--signals", ",".join(HEADS), "--json")
    first = json.loads(out)
    assert status == 0
    files = sorted(path.name for path in (store.path / "signals").iterdir())
    frame = Signals(store.path).frame()
    assert set(frame["run_id"]) == set(store.run_ids())
    one = frame[(frame["run_id"] == store.run_ids()[0]) & (frame["signal"] == "previous_token")]
    heads = one[one["layer"] >= 0]
    assert sorted(zip(heads["layer"], heads["head"], strict=True)) == [(i, j) for i in range(2) for j in range(4)]
    value = one.set_index("name")["value"]
    halves = [value[f"previous_token.max.half{half}"] for half in (1, 2)]
    assert value["previous_token.max"] == pytest.approx(np.mean(halves))
    assert value["previous_token.max"] <= heads["value"].max() + 1e-6
    assert set(one["n"]) == {512}
    assert set(one["unit"]) == {"weight"}
    assert set(one["step"]) == {6}
    assert {"previous_token.null", "previous_token.null_sd"} < set(one["name"])

    status, out, _ = lab("probe", "--grid", "few", "--signals", ",".join(HEADS))
    assert status == 0
    assert "0 measured now, 6 found in the store" in out
    assert sorted(path.name for path in (store.path / "signals").iterdir()) == files
    figure = store.path.parent / "new" / "attention.png"
    status, out, _ = lab("probe", "few", "--signals", ",".join(HEADS), "--figure", str(figure))
    assert (status, "figure: " in out) == (0, True)
    assert figure.read_bytes().startswith(b"\x89PNG")
    again = json.loads(lab("probe", "few", "--signals", ",".join(HEADS), "--json")[1])
    assert again["values"] == first["values"]


def test_a_run_alone_and_in_a_stack_give_the_same(store: Store, tmp_path: Path):
    shutil.copytree(store.path, tmp_path / "other")
    other = Store(tmp_path / "other")
    probe(store, store.run_ids(), chosen(["heads"]), null=False)
    for run in other.run_ids():
        probe(other, [run], chosen(["heads"]), null=False)
    together, alone = (Signals(s.path).frame() for s in (store, other))
    assert together["name"].tolist() == alone["name"].tolist()
    assert np.allclose(together["value"], alone["value"], atol=1e-6)


def test_interrupted_it_goes_on_where_it_stopped(store: Store, monkeypatch: pytest.MonkeyPatch):
    """One run a stack; the second one is interrupted by the user after it was kept."""
    import signal

    monkeypatch.setattr("genlab.probes.probing._BYTES", 0)
    wanted = chosen(HEADS)

    def stop(done: int, _all: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        probe(store, store.run_ids(), wanted, report=stop, null=False)
    assert len(set(Signals(store.path).frame()["run_id"])) == 2
    result = probe(store, store.run_ids(), wanted, null=False)
    assert (result.read, result.found) == (2, 4)


def test_initial_weights_are_another_step(store: Store):
    run = store.run_ids()[0]
    probe(store, [run], chosen(HEADS), null=False)
    probe(store, [run], chosen(HEADS), step=0, null=False)
    frame = Signals(store.path).frame([run])
    values = [frame.loc[frame["step"] == step, "value"].to_numpy() for step in (0, 6)]
    assert not np.allclose(*values)


def test_weights_of_a_kept_step_and_training_up_to_it(lab, store: Store):
    """Read alone, as one of several, and as one of all, a step gives the same."""
    words = (
        "probe",
        "few",
        "--signals",
        "weight_norm,time_to_fit,final_training_loss,largest_gradient_norm",
        "--json",
    )
    rows = json.loads(lab(*words, "--step", "2")[1])["values"]
    found = {(row["run_id"], row["name"]): row["value"] for row in rows}
    assert {row["step"] for row in rows} == {2}
    for run in store.run_ids():
        assert found[run, "weight_norm"] == pytest.approx(float(store.weights([run], 2).norm()), rel=1e-6)
        first = store.history([run]).iloc[0]
        assert first["step"] == 2
        assert found[run, "final_training_loss"] == first["loss"]
        assert found[run, "largest_gradient_norm"] == first["grad_norm_max"]
    several = json.loads(lab(*words, "--step", "6,2,4")[1])["values"]
    every = json.loads(lab(*words, "--step", "all")[1])["values"]
    assert {row["step"] for row in several} == {2, 4, 6}
    assert {row["step"] for row in every} == {0, 2, 4, 6}
    assert [row for row in every if row["step"] > 0] == several
    assert [row for row in every if row["step"] == 2] == rows
    assert {row["step"] for row in json.loads(lab(*words)[1])["values"]} == {6}
    _, out, _ = lab(*words[:-1], "--step", "all")
    told = [line.split()[:4] for line in out.splitlines() if line.startswith("weight_norm")]
    assert told == [["weight_norm", "norm", str(step), "3"] for step in (0, 2, 4, 6)]
    assert "0 measured now, 48 found in the store" in out


def test_all_steps_are_those_of_each_run(store: Store, lab):
    """A run that lacks a step is read at its others; to name that step is a mistake, and nothing is read."""
    run = store.run_ids()[0]
    for record in (store.path / "commits").glob("*.json"):
        content = read_json(record)
        for entry in content["runs"]:
            if entry["run_id"] == run:
                entry["kept"].pop("4")
        write_json(record, content)
    status, _, err = lab("probe", "few", "--signals", "weight_norm", "--step", "2,4")
    assert (status, err.count("\n")) == (2, 1)
    assert f"run {run} has no checkpoint at step 4; available, nearest first: 2, 6 (final), 0 (initial)" in err
    assert not (store.path / "signals").exists()
    rows = json.loads(lab("probe", "few", "--signals", "weight_norm", "--step", "all", "--json")[1])["values"]
    assert {row["step"] for row in rows if row["run_id"] == run} == {0, 2, 6}
    assert {row["step"] for row in rows if row["run_id"] != run} == {0, 2, 4, 6}


def test_upkeep_knows_of_signals(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genlab.probes.probing._BYTES", 0)
    probe(store, store.run_ids(), chosen(HEADS), null=False)
    before = Signals(store.path).frame()
    compact_store(store)
    assert len(list((store.path / "signals").iterdir())) == 1
    assert Signals(store.path).frame().equals(before)
    assert check_store(store) == ({}, {})
    gone = store.run_ids()[0]
    delete_runs(store, [gone])
    assert set(Signals(store.path).frame()["run_id"]) == set(store.run_ids())
    part = next((store.path / "signals").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    assert list(check_store(store)[0]) == [part]


def test_what_does_not_apply_is_listed_at_the_end(lab, store: Store):
    status, out, _ = lab("probe", "few", "--signals", "same_hint,start_token")
    assert status == 0
    assert "skipped same_hint (3 of 3 runs): format 'plain' of parity has no index hints" in out


@pytest.mark.parametrize("step", [(), ("--step", "0"), ("--step", "all")], ids=" ".join)
def test_where_nothing_applies_there_is_nothing_to_show(lab, store: Store, step: tuple[str, ...]):
    status, out, err = lab("probe", "few", "--signals", "same_hint", *step)
    assert (status, err) == (0, "")
    assert "skipped same_hint (3 of 3 runs)" in out
    assert json.loads(lab("probe", "few", "--signals", "same_hint", *step, "--json")[1])["values"] == []


BAD = [
    (["probe"], "lab probe takes either runs or --grid NAME"),
    (["probe", "few", "--grid", "few"], "lab probe takes either runs or --grid NAME"),
    (["probe", "fewer"], "did you mean 'few'?"),
    (["probe", "few", "--signals", "inductoin"], "unknown signal 'inductoin'; did you mean 'induction'"),
    (
        ["probe", "few", "--step", "3"],
        "has no checkpoint at step 3; available, nearest first: 2, 4, 0 (initial), 6 (final)",
    ),
    (
        ["probe", "few", "--step", "7"],
        "has no checkpoint at step 7; available, nearest first: 6 (final), 4, 2, 0 (initial)",
    ),
    (["probe", "few", "--step", "-2"], "--step '-2' is not a valid range"),
    (["probe", "few", "--step", "last"], "--step: 'last' is not an integer"),
    (["probe", "few", "--step", "all", "--figure", "x.png"], "--figure shows a single step"),
    (["probe", "few", "--probe-n", "63"], "--probe-n 63 is not allowed (allowed: even numbers from 16"),
    (["probe", "few", "--device", "tpu"], "allowed: auto, cpu, cuda"),
    (["probe", "few", "--figure", "x.xyz"], "--figure 'x.xyz' is not allowed"),
    (["signals", "haeds"], "did you mean 'heads'"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda x: x if isinstance(x, str) else " ".join(x[-2:]))
def test_bad_input_is_one_line_and_status_2(lab, store: Store, words: list[str], said: str):
    status, out, err = lab(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (store.path / "signals").exists()


def test_a_run_without_weights(lab, store: Store):
    for file in (store.path / "weights").iterdir():
        file.unlink()
    status, _, err = lab("probe", "few", "--signals", "heads")
    assert status == 2
    assert "has no weights" in err
    assert err.count("\n") == 1


def test_a_signal_of_one_s_own_is_one_file(lab, store: Store, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from genlab.probes import signal\n"
        "@signal('first_layer_norm', per='run', about='norm of all weights', formula='|w|', unit='norm', low=0,\n"
        "        high=float('inf'), source='mine')\n"
        "def norm(given):\n"
        "    return given.model.flat.norm(dim=1)\n"
    )
    status, out, _ = lab("probe", "few", "--plugin", str(file), "--signals", "first_layer_norm", "--json")
    values = {row["run_id"]: row["value"] for row in json.loads(out)["values"]}
    assert status == 0
    assert values == pytest.approx({r: float(store.weights([r]).norm()) for r in store.run_ids()}, rel=1e-6)


def test_runs_of_other_training_lengths_are_each_read_within_their_own(tmp_path: Path):
    """They are trained in one stack; read in one, the shorter one would be shown what it was not trained on."""
    shape = {"steps": 0, "n_layers": 1, "d_model": 16}
    plans = [genlab.plan("parity", length, 8, seeds=(0,), **shape) for length in (8, 3)]
    both, alone = tmp_path / "both", tmp_path / "alone"
    ids = [run.run_id for run in genlab.runs.grid(plans, store=both, workers=1)]
    genlab.runs.grid(plans[1:], store=alone, workers=1)
    values = []
    for path, wanted in ((both, ids), (alone, ids[1:])):
        probe(Store(path), wanted, chosen(["start_token"]))
        rows = Signals(path).frame([ids[1]])
        values.append(rows.set_index(["name", "layer", "head"])["value"].sort_index())
    assert len(values[0])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


def test_runs_without_a_history_are_read(tmp_path: Path):
    store = Store(tmp_path / "store")
    store.ready()
    specs = genlab.plan("parity", 4, seeds=(0, 1), steps=0, n_layers=1, d_model=16).specs
    store.commit([replace(state, status="finished") for state in fresh(specs)], environment(torch.device("cpu")))
    result = probe(store, store.run_ids(), chosen([*HEADS, "time_to_fit"]))
    assert result.read == 6
    frame = Signals(store.path).frame()
    assert frame[frame["signal"] == "time_to_fit"]["value"].isna().all()
