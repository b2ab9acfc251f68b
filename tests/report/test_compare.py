"""`lab compare`: pairs by seed, intervals and sign tests, whether runs fitted, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genlab
from genlab.report.compare import _differences, bootstrap_interval, comparison, holm, sign_test
from genlab.runs import Store

TINY: dict[str, Any] = {"n_layers": 1, "d_model": 16, "n_heads": 2, "batch_size": 16, "steps": 4}


def table(values: dict[tuple[int, float], float], fit: float = 1.0) -> tuple[pd.DataFrame, dict[str, float]]:
    """Runs by (seed, lr) with their value, as a run table and run_id -> value."""
    name = f"{np.random.default_rng(len(values)).integers(1 << 30)}-{sum(values.values()):.9f}"
    rows = [
        {"run_id": f"{name}-{i}", "init_seed": s, "data_seed": s, "lr": lr, "exact_match_in": fit}
        for i, (s, lr) in enumerate(values)
    ]
    frame = pd.DataFrame(rows)
    return frame, dict(zip(frame["run_id"], values.values(), strict=True))


def difference(one: dict, other: dict, **kinds: float):
    (a, of_a), (b, of_b) = table(one), table(other, **kinds)
    return _differences({"a": a, "b": b}, pd.Series({**of_a, **of_b}))


def test_pairs_share_their_seed():
    """Values that differ far more between seeds than within pairs: unpaired, nothing would be seen."""
    seeds = np.arange(8)
    base = np.linspace(0.1, 0.8, 8)
    ((found,), unpaired) = difference(
        {(int(s), 0.1): float(x + 0.05) for s, x in zip(seeds, base, strict=True)},
        {(int(s), 0.1): float(x) for s, x in zip(seeds[::-1], base[::-1], strict=True)},
    )
    assert (found.mean, found.low, found.high) == pytest.approx((0.05, 0.05, 0.05))
    assert (found.higher, found.lower, found.equal, found.p) == (8, 0, 0, 2 / 2**8)
    assert unpaired == 0


def test_the_unit_is_the_seed_not_the_run():
    """Two learning rates were swept in both: 4 seeds, 8 pairs."""
    one = {(s, lr): 0.5 + 0.1 * s + lr for s in range(4) for lr in (0.1, 0.2)}
    other = dict.fromkeys(one, 0.3)
    ((found,), _) = difference(one, other)
    assert (found.pairs, found.seeds) == (8, 4)
    assert found.mean == pytest.approx(np.mean([0.5 + 0.1 * s + 0.15 - 0.3 for s in range(4)]))
    assert found.least_p == found.p == 2 / 2**4


def test_runs_without_a_partner_are_counted_and_left_out():
    ((found,), unpaired) = difference({(s, 0.1): 1.0 for s in range(6)}, {(s, 0.1): 0.0 for s in range(2, 8)})
    assert (found.seeds, unpaired) == (4, 4)


def test_pairs_that_fitted_are_told_apart():
    found, _ = difference({(s, 0.1): 1.0 for s in range(4)}, {(s, 0.1): 0.0 for s in range(4)}, fit=0.5)
    assert [(one.fitted_only, one.seeds) for one in found] == [(False, 4), (True, 0)]
    assert found[1].line(several=False) == "a - b, both fitted: no pairs"


def test_a_run_is_not_compared_with_itself():
    a, values = table({(s, 0.1): 0.5 for s in range(4)})
    (found,), unpaired = _differences({"a": a, "b": a}, pd.Series(values))
    assert (found.seeds, unpaired) == (0, 4)


@pytest.mark.parametrize(("n", "least"), [(5, 0.88), (8, 0.905)])
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(n: int, least: float):
    rng = np.random.default_rng(n)
    held = 0
    for _ in range(400):
        low, high = bootstrap_interval(rng.normal(0.3, 1.0, n))
        assert low is not None
        assert high is not None
        held += low <= 0.3 <= high
    assert least <= held / 400 <= 0.98  # of 1,500: 0.92 and 0.93; plain percentiles: 0.84 and 0.88


def test_few_seeds_have_no_interval():
    assert bootstrap_interval(np.array([0.1, 0.2, 0.3, 0.4])) == (None, None)


def test_sign_test_and_holm_against_their_definitions():
    assert sign_test(7, 1) == pytest.approx(2 * (8 + 1) / 2**8)
    assert holm([0.5, 0.01]) == [0.5, 0.02]


@pytest.fixture(scope="session")
def _compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compared") / "store"
    plans = [
        genlab.plan("parity", 4, 6, seeds=range(2), evals=genlab.Evals(6, n=16), positions=p, **TINY)
        for p in ("rotary", "alibi")
    ]
    genlab.runs.grid(plans, name="pos", store=path, workers=1)
    genlab.runs.grid([genlab.plan("sort", 3, seeds=[0], **TINY)], name="sorting", store=path, workers=1)
    return path


@pytest.fixture
def store(_compared: Path, monkeypatch: pytest.MonkeyPatch, lab) -> Store:
    monkeypatch.setenv("GENLAB_STORE", str(_compared))
    return Store(_compared)


def test_what_did_not_fit_is_said_first(lab, store: Store, tmp_path: Path):
    figure = tmp_path / "c.png"
    status, out, err = lab("compare", "pos", "--by", "positions", "--figure", str(figure))
    assert status == 0
    assert out.startswith("0 of 2 rotary runs fitted (ID accuracy 0.99 or more): what follows says nothing about")
    assert "difference in exact match, mean over lengths 5 to 6, paired by seed" in out
    assert "d_vocab" not in out
    assert err == f"figure: {figure}\n"
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_differences_are_those_of_the_evaluations(store: Store):
    evals = store.evals(store.find("pos"), metric="exact_match")
    runs = store.runs().set_index("run_id")
    told = comparison(["pos"], store, by=["positions"], at=6).as_json()
    values = {
        (runs["positions"][r["run_id"]], int(runs["init_seed"][r["run_id"]])): r["value"]
        for r in evals[(evals["split"] == "id") & (evals["length"] == 6)].to_dict("records")
    }
    mean = np.mean([values["rotary", s] - values["alibi", s] for s in (0, 1)])
    assert told["differences"][0]["mean"] == pytest.approx(mean)
    assert [row["length"] for row in told["exact_match"]] == [6]
    assert told["place"] == "length 6"


def test_two_runs_are_compared_by_name(lab, store: Store, tmp_path: Path):
    one, other = store.find("pos")[0], store.find("pos")[2]
    _, out, _ = lab("compare", one, other, "--json", "--figure", str(tmp_path / "c.svg"))
    told = json.loads(out)
    assert told["settings"]["positions"] == {one: "rotary", other: "alibi"}
    assert told["differences"][0]["seeds"] == 1


BAD = [
    (["last"], "two or more runs, groups"),
    (["pos", "--by", "position"], "did you mean 'positions'"),
    (["pos", "--by", "n_layers"], "all 4 runs have 1; they differ in"),
    (["pos", "--by", "d_vocab"], "unknown setting 'd_vocab'"),
    (["pos", "sorting"], "runs of different tasks cannot be compared (pos: parity; sorting: sort)"),
    (["pos", "--by", "positions", "--at", "60"], "not all runs were evaluated at length 60"),
    (["pos", "--by", "positions", "--split", "dense"], "unknown evaluated split 'dense'"),
    (["pos", "--by", "positions", "--figure", "x.bmp"], "names that end in .png, .svg or .pdf"),
    (["pos", "gone"], "no run or group 'gone'"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words)[-30:] for words, _ in BAD])
def test_bad_input_is_one_line_and_status_2(lab, store: Store, words: list[str], said: str):
    before = sorted(store.path.rglob("*"))
    status, out, err = lab("compare", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert sorted(store.path.rglob("*")) == before
