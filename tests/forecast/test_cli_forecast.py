"""The commands of the forecast, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genlab
from genlab.runs import Evals, evaluate, grid
from genlab.runs.store import Store

POPULATION = (
    "--setting",
    "layers,weight_decay,heads",
    "--seeds",
    "init,order",
    "--signals",
    "ambi",
    "--outcome",
    "ood",
)


@pytest.fixture(autouse=True)
def _no_trees(monkeypatch: pytest.MonkeyPatch):
    """Trees are fitted in a test of their own."""
    import genlab.forecast.judge as judging
    import genlab.forecast.sealing as forecasting

    for module in (forecasting, judging):
        made = module.make_predictors
        quick = lambda *a, made=made: [p for p in made(*a) if p.model in ("linear", "threshold")]  # noqa: E731
        monkeypatch.setattr(module, "make_predictors", quick)


@pytest.fixture
def population(tmp_path: Path) -> Path:
    """A small table of the published population's form: layers x weight decay x heads x init seeds x data orders."""
    rng, rows = np.random.default_rng(0), []
    for layers in (1, 2):
        for weight_decay in (0.0, 0.001, 0.01):
            level = rng.normal()
            for heads in (2, 4):
                for init in range(3):
                    for order in range(2):
                        z = level + rng.normal()
                        rows.append(
                            (layers, weight_decay, heads, init, order, z + rng.normal(), 1 / (1 + np.exp(-z)))
                        )
    columns = ["layers", "weight_decay", "heads", "init", "order", "ambi", "ood"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "population.csv", index=False)
    return tmp_path / "population.csv"


def test_a_published_population_gives_its_published_figures(lab, population: Path):
    """The mean over the settings that can be scored, and the pair-weighted one, by their definitions."""
    from sklearn.metrics import roc_auc_score

    words = (
        "forecast",
        "evaluate",
        "--table",
        str(population),
        *POPULATION,
        "--target",
        "ood>=0.5",
        "--signal",
        "ambi",
    )
    status, out, err = lab(*words, "--factors", "layers,weight_decay", "--keep-twins", "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    rows = pd.read_csv(population).assign(yes=lambda t: t["ood"] >= 0.5)
    cells = {k: v for k, v in rows.groupby(["layers", "weight_decay"]) if v["yes"].nunique() == 2}
    own = {k: roc_auc_score(v["yes"], v["ambi"]) for k, v in cells.items()}
    pairs = {k: v["yes"].sum() * (~v["yes"]).sum() for k, v in cells.items()}
    alone = next(p for p in told["predictors"] if p["name"] == "ambi alone")
    assert alone["within"] == pytest.approx(np.mean(list(own.values())))
    assert alone["by_pairs"] == pytest.approx(np.average(list(own.values()), weights=list(pairs.values())))
    assert len(told["settings"]["scored"]) == len(cells)
    assert len(told["settings"]["not_scored"]) == 6 - len(cells)


def test_what_a_person_reads(lab, population: Path):
    words = (
        "forecast",
        "evaluate",
        "--table",
        str(population),
        *POPULATION,
        "--target",
        "ood>=0.5",
        "--signal",
        "ambi",
    )
    status, out, _ = lab(*words, "--by", "few")
    assert status == 0
    assert out.startswith("AUROC within settings, mean and range over overlapping draws\nlabeled runs")


BAD = [
    ([], "takes either --grid NAME, or --table FILE"),
    (["--grid", "x", "--setting", "a", "--target", "b"], "requires --table"),
    (["--grid", "gone", "--target", "b"], "no run or group 'gone'"),
    (["--table", "TABLE", "--outcome", "ood", "--signals", "ambi"], "--target is missing"),
    (["--table", "TABLE", "--outcome", "ood", "--signals", "amby", "--target", "ood"], "did you mean 'ambi'?"),
    (["--table", "TABLE", *POPULATION, "--target", "exact@length=x"], "target 'exact@length=x' is not allowed"),
    (["--table", "TABLE", *POPULATION, "--target", "odd"], "no evaluation yet; did you mean ood"),
    (["--table", "TABLE", *POPULATION, "--target", "ood>=5"], "nothing to forecast"),
    (["--table", "TABLE", *POPULATION, "--target", "ood", "--by", "seed"], "unknown split 'seed'"),
    (["--table", "TABLE", *POPULATION, "--target", "ood", "--by", "task"], "unknown setting 'task'"),
    (["--table", "TABLE", *POPULATION, "--target", "ood", "--model", "oracle"], "unknown model 'oracle'"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[said for _, said in BAD])
def test_bad_input_is_one_line_and_status_2(lab, tmp_path: Path, population: Path, words: list[str], said: str):
    status, out, err = lab("forecast", "evaluate", *(str(population) if word == "TABLE" else word for word in words))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "store").exists()


def test_scores_and_rules_of_nothing_are_told(lab):
    assert "holds no sealed forecasts" in lab("forecast", "score")[2]
    assert "no run or group 'gone'" in lab("forecast", "rules", "--grid", "gone", "--split", "id")[2]


def test_from_a_grid_to_a_sealed_forecast_and_its_score(lab, tmp_path: Path):
    """Train, keep a forecaster, seal forecasts of new seeds, refuse to peek, look, score, and show the history."""
    kept = Store(tmp_path / "store")
    small = {"n_layers": 1, "d_model": 8, "steps": 8, "batch_size": 8, "eval_every": 8}
    for name, seeds, looked in (("old", range(10), Evals(test_len=4, n=16)), ("new", range(20, 26), Evals(n=16))):
        grid([genlab.plan("sort", 2, 4, seeds=seeds, evals=looked, **small)], name=name, store=kept, workers=1)
    target = ("--target", "loss@length=3", "--all-runs")
    asked = ("forecast", "fit", "--grid", "old", *target, "--signal", "training_loss", "--save", "first")
    status, out, err = lab("forecast", "evaluate", *asked[2:-2], "--by", "random")
    assert (status, err) == (0, "")
    assert "what training_loss adds (exploratory" in out
    status, out, err = lab(*asked)
    assert (status, err) == (0, "")
    assert "forecaster first: 10 runs" in out
    status, out, err = lab("forecast", "seal", "--grid", "last", "--with", "first")
    assert (status, err) == (0, "last: group new of lab grid\n")
    assert "lock 1 sealed at" in out
    assert "6 runs of new" in out  # the group, not `last`, which is another one tomorrow
    assert "seen for all 10 runs" in lab("forecast", "seal", "--grid", "old", "--with", "first")[2]
    assert "has no evaluation yet" in lab("forecast", "score", "1")[2]
    kept = Store(tmp_path / "store")
    ids = kept.find("new")
    evaluate(ids, [genlab.runs.load(ids[0], kept).task.split("id").at((3,), 16)], kept)
    assert "are sealed in lock 1" in lab("forecast", "evaluate", "--grid", "new", *target, "--by", "random")[2]
    status, out, err = lab("forecast", "score")
    assert (status, err) == (0, "")
    assert "lock 1 of" in out
    assert lab("forecast", "evaluate", "--grid", "new", *target, "--by", "random")[0] == 0
    assert len(json.loads(lab("forecast", "score", "--json")[1])) == 1
