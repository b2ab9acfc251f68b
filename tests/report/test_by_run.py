"""Signals and results by run: `lab probe --per-run`, columns of `lab runs`, `genlab.results`, `genlab.signals`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import genlab
from genlab.runs import Store

TINY: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 2, "batch_size": 16, "steps": 4}


@pytest.fixture(scope="session")
def _probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from genlab.probes import chosen
    from genlab.probes.probing import probe

    path = tmp_path_factory.mktemp("probed") / "store"
    plans = [
        genlab.plan("parity", 4, 6, seeds=range(3), evals=genlab.Evals(6, n=16), positions=p, **TINY)
        for p in ("rotary", "learned")
    ]
    genlab.runs.grid(plans, name="pos", store=path, workers=1)
    store = Store(path)
    probe(store, store.run_ids(), chosen(["start_token", "effective_rank", "weight_norm"]), n=32)
    return path


@pytest.fixture
def store(_probed: Path, monkeypatch: pytest.MonkeyPatch, lab) -> Store:
    monkeypatch.setenv("GENLAB_STORE", str(_probed))
    return Store(_probed)


def test_a_row_per_run_says_where_the_maximum_is_and_what_it_is_worth(lab, store: Store):
    names = "start_token,weight_norm"
    _, out, _ = lab("probe", "pos", "--signals", names, "--probe-n", "32", "--per-run", "--json")
    rows = json.loads(out)["per_run"]
    stored = store.signals.frame()
    assert len(rows) == 12
    for row in rows:
        own = stored[stored["run_id"] == row["run_id"]]
        values = own.set_index("name")["value"].groupby("name").first()
        if row["signal"] == "weight_norm":
            assert (row["noise"], row["null"], row["at_head"]) == (0.0, None, None)
            continue
        heads = own[own["name"] == "start_token"]
        top = heads.sort_values("value").iloc[-1]
        assert (row["at_layer"], row["at_head"]) == (top["layer"], top["head"])
        assert row["value"] == values["start_token.max"]
        assert (row["null"], row["null_sd"]) == (values["start_token.null"], values["start_token.null_sd"])
        halves = values["start_token.max.half1"], values["start_token.max.half2"]
        assert row["noise"] == pytest.approx(abs(halves[0] - halves[1]) / 2)
    _, out, _ = lab("probe", "pos", "--signals", names, "--probe-n", "32", "--per-run")
    assert "start_token.max, weight; reliability over runs" in out
    assert all(out.count(run) == 2 for run in store.run_ids())


def test_signals_are_columns_of_lists_of_runs(lab, store: Store):
    table = pd.read_csv(io.StringIO(lab("runs", "--csv")[1]))
    assert {"start_token.max", "weight_norm", "effective_rank.layer0", "effective_rank.layer1"} <= set(table)
    middle = table["start_token.max"].median()
    above = json.loads(lab("runs", "--where", f"start_token.max > {middle}", "--json")[1])
    assert {row["run_id"] for row in above} == set(table["run_id"][table["start_token.max"] > middle])
    _, out, _ = lab("runs", "--sort", "-weight_norm", "--limit", "2")
    best = table.sort_values("weight_norm", ascending=False)["run_id"].tolist()
    assert [run for run in best if run in out] == best[:2]
    assert "weight norm" in out
    assert [row["runs"] for row in json.loads(lab("runs", "--by", "start_token.max", "--json")[1])] == [1] * 6


def test_lists_show_what_varies_within_80_columns(lab, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = lab("runs")
    first, heads = out.splitlines()[:2]
    assert first.startswith("parity, plain, trained to length 4, 2 layers, d_model 16")
    assert "positions" in heads
    assert "n layers" not in heads
    assert "n ctx" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert lab("runs", "--limit", "2")[1].count("\n") == 4


def test_runs_are_tagged_by_a_condition(lab, store: Store):
    assert lab("tag", "turned", "--where", "positions = rotary")[1] == "turned: 3 runs\n"
    assert set(store.find("turned")) == set(store.runs().query("positions == 'rotary'")["run_id"])
    assert lab("tag", "turned", "pos", "--where", "init_seed < 1")[1] == "turned: 4 runs\n"
    lab("tag", "turned", "pos", "--remove")


def test_results_are_tidy(store: Store):
    table = genlab.results("pos", store)
    assert table["start_token"].all()  # a setting of the task, as its format is
    evals = store.evals(store.find("pos"))
    assert len(table) == len(evals)
    assert {"run_id", "positions", "init_seed", "split", "length", "metric", "value"} <= set(table)
    assert not {"d_vocab", "n_ctx", "stack"} & set(table)
    keys = ["run_id", "split", "length", "metric"]
    assert not table.duplicated(keys).any()
    assert table.set_index(keys)["value"].sort_index().equals(evals.set_index(keys)["value"].sort_index())
    assert set(table.query("in_distribution")["length"]) == {1, 2, 3, 4}
    assert set(table.query("positions == 'rotary'")["run_id"]) == set(store.find("pos")[:3])


def test_signals_are_tidy(store: Store):
    table = genlab.signals(["pos"], store)
    assert set(table["name"]) == {"start_token.max", "effective_rank", "weight_norm"}
    assert len(table) == 6 * (1 + 2 + 1)
    assert {"positions", "at_head", "null", "noise", "value"} <= set(table)


BAD = [
    (["runs", "--sort", "exact_match_oot"], "did you mean 'exact_match_out'"),
    (["runs", "--limit", "0"], "--limit 0 is not allowed"),
    (["runs", "--where", "start_tokn.max > 1"], "did you mean 'start_token.max'"),
    (["runs", "--by", "positons"], "did you mean 'positions'"),
    (["tag", "mine"], "lab tag takes runs or --where"),
    (["tag", "mine", "--where", "n_layers > 9"], "no run matches; nothing was tagged"),
    (["probe", "pos", "--per-run", "--step", "all"], "--per-run shows a single step"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words)[-30:] for words, _ in BAD])
def test_bad_input_is_one_line_and_status_2(lab, store: Store, words: list[str], said: str):
    status, out, err = lab(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_what_python_is_given_for_what_is_not_there(store: Store):
    with pytest.raises(genlab.errors.UserError, match="no run or group 'nope'"):
        genlab.results("nope", store)
