"""The first study's tables say what its page says; its pairs of runs do what they are kept for."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from genlab.models import model_of
from genlab.runs.gridfile import read_grid
from genlab.runs.store import Store
from genlab.tasks import make
from genlab.training import evaluate

ROOT = Path(__file__).parents[1]
STUDY, PAIRS = ROOT / "docs" / "study-1", ROOT / "benchmarks" / "pairs"
PAGE = (ROOT / "docs" / "study-1.md").read_text("utf-8")


def test_the_separation_of_the_arms_follows_from_their_table():
    rows, told = pd.read_csv(STUDY / "implanted.csv"), json.loads((STUDY / "implanted.json").read_text())
    two = rows[rows["fits"] & (rows["arm"] != "ambiguous")]
    value = roc_auc_score(two["arm"] == "nested", two[told["sealed signal"]])
    assert told["AUROC"]["value"] == pytest.approx(value, abs=2e-3)
    assert f"{value:.3f}" in PAGE


def test_what_was_forecast_ranks_the_sealed_runs_as_the_ledger_says():
    rows, told = pd.read_csv(STUDY / "sealed.csv"), json.loads((STUDY / "sealed.json").read_text())
    first = told["history"][0]
    for column, name, row in (
        ("baselines", "baselines", "| baselines (loss, "),
        ("forecast", "baselines + bracket_ambi.max", "| baselines + `bracket_ambi.max` |"),
    ):
        value = spearmanr(rows[column], rows["outcome"]).statistic
        assert first["scores"][name]["within"] == pytest.approx(value, abs=5e-3)
        told_there = next(line for line in PAGE.splitlines() if line.startswith(row))
        assert f"| {value:.2f} |" in told_there


def test_many_tasks_are_as_many_as_the_page_says():
    rows = pd.read_csv(STUDY / "tasks.csv")
    assert f"\n{len(rows)} runs: sort" in PAGE
    assert f" {int(rows['fits'].sum())} of them\nlearned" in PAGE
    settings = rows[rows["fits"]].groupby(["task", "format", "positions", "rasp_expected"])["beyond"].mean()
    expected, others = (settings.xs(said, level="rasp_expected") for said in (1.0, 0.0))
    assert f"is .{expected.mean() * 100:.0f} over the {len(expected)} where" in PAGE
    assert f".{others.mean() * 100:.0f} over the other {len(others)}" in PAGE


def test_pairs_are_right_in_distribution_and_differ_outside():
    kept, rows = Store(PAIRS / "store"), pd.read_csv(PAIRS / "pairs.csv")
    assert (rows["exact_match"] >= 0.99).all()
    for number, pair in rows.groupby("pair"):
        ids = list(pair["run_id"])
        assert sorted(kept.named.runs(f"pair-{number}")) == sorted(ids)
        assert kept.spec(ids[0]).configuration == kept.spec(ids[1]).configuration
        spec = kept.spec(ids[0])
        model, task = model_of(spec.model, kept.weights(ids)), make(spec.task)
        found = {}
        for split in ("id", "matched-unnested"):
            asked = task.split(split).at((14, 22, 30), 128, 5)
            results = evaluate(model, task, asked, judge=False)
            found[split] = np.mean([r.metrics["exact_match"][0] for r in results], axis=0)
        assert (found["id"] >= 0.98).all()
        assert found["matched-unnested"][1] - found["matched-unnested"][0] > 0.15
        assert found["matched-unnested"] == pytest.approx(pair["outside"], abs=0.12)


@pytest.mark.parametrize(
    ("recipe", "rows"),
    [
        ("study-1-implanted", "study-1/implanted.csv"),
        ("study-1-sealed", "study-1/sealed.csv"),
        ("study-1-tasks", "study-1/tasks.csv"),
        ("models", "models.csv"),
    ],
)
def test_a_recipe_still_stands_for_the_runs_that_were_measured(recipe: str, rows: str):
    """A recipe that leaves an option to a task's defaults names other runs once these change."""
    measured = pd.read_csv(ROOT / "docs" / rows).rename(columns={"run": "run_id"})["run_id"]
    plans = read_grid(ROOT / "recipes" / f"{recipe}.toml").plans
    assert {spec.run_id for plan in plans for spec in plan.specs} == set(measured)
