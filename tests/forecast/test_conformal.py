"""Prediction intervals: how many outcomes they hold where the truth is planted, and what has no end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genlab.errors import UserError
from genlab.forecast import parse_target
from genlab.forecast.judge import judge
from genlab.forecast.ledger import Ledger
from genlab.forecast.predictions import PredictionIntervals, prediction_intervals
from genlab.forecast.predictors import Predictor
from genlab.forecast.roles import frame_of
from genlab.forecast.sealing import Forecaster, lock, save_forecaster, score_lock
from genlab.forecast.show import as_json, lines
from genlab.forecast.splits import Fold, settings_of, twins_of
from genlab.forecast.targets import Values
from genlab.runs.store import Store, now


@pytest.fixture(autouse=True)
def _no_trees(monkeypatch: pytest.MonkeyPatch):
    """Trees are fitted in a test of their own."""
    import genlab.forecast.judge as judging
    import genlab.forecast.sealing as forecasting

    for module in (forecasting, judging):
        of = module.make_predictors
        monkeypatch.setattr(module, "make_predictors", lambda *a, of=of: [p for p in of(*a) if "every" not in p.name])


HEAD = (("signal", "head"),)


def planted(rng: np.random.Generator, settings: int, runs: int, shared: bool = False) -> pd.DataFrame:
    """Outcomes with skewed errors: a setting's own level, a seed's (if shared), a signal's."""
    k = np.repeat(np.arange(settings), runs)
    seed = np.tile(np.arange(runs), settings) if shared else np.arange(settings * runs)
    head = rng.normal(size=len(k))
    level = rng.normal(size=settings)[k] * (settings > 1) + 0.7 * shared * rng.normal(size=runs * settings)[seed]
    return frame_of(
        {
            "setting": pd.DataFrame({"a": k}),
            "seed": pd.DataFrame({"init_seed": seed}),
            "signal": pd.DataFrame({"head": head}),
            "outcome": pd.DataFrame({"score": head + level + rng.exponential(size=len(k))}),
        }
    )


def made(table: pd.DataFrame, fold: Fold, model: str = "linear", censored: np.ndarray | None = None):
    """Intervals of the test runs of a fold, and their outcomes."""
    value, setting = table["outcome"]["score"].to_numpy(), settings_of(table)
    known = Values(value, np.zeros(len(value), bool) if censored is None else censored)
    predictor = Predictor("head", HEAD, model)  # pyright: ignore[reportArgumentType]
    x = table["signal"].to_numpy(float)
    return prediction_intervals(predictor, table, x, known, setting, twins_of(table), fold), value[fold.test]


def held(tables: int, settings: int, runs: int, shared: bool, new_setting: bool, model: str) -> float:
    """The share of outcomes that intervals held: of the last setting, or of a third of the runs."""
    rng, shares = np.random.default_rng(0), list[float]()
    for _ in range(tables):
        table = planted(rng, settings, runs, shared)
        rows = np.arange(len(table))
        test = rows >= len(rows) - runs if new_setting else rows % runs >= 2 * runs // 3
        if shared and new_setting:
            test &= rows % runs >= runs // 2
        train = ~test & (rows % runs < runs // 2) if shared and new_setting else ~test
        intervals, value = made(table, Fold("one", np.flatnonzero(train), np.flatnonzero(test)), model)
        shares.append(float(intervals.holds(value).mean()))
    return float(np.mean(shares))


def test_intervals_hold_as_many_outcomes_as_they_say():
    assert 0.87 < held(60, 1, 90, False, False, "threshold") < 0.94


def test_intervals_of_a_new_setting_hold_outcomes_though_its_level_is_new():
    assert 0.82 < held(40, 13, 15, False, True, "threshold") < 0.97


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linear", "threshold"])
@pytest.mark.parametrize(
    ("settings", "runs", "shared", "new_setting", "least"),
    [
        (1, 75, False, False, 0.88),
        (1, 30, False, False, 0.88),
        (8, 15, True, False, 0.88),
        (12, 15, False, True, 0.82),
        (12, 16, True, True, 0.82),
    ],
)
def test_coverage_over_many_tables(
    settings: int, runs: int, shared: bool, new_setting: bool, least: float, model: str
):
    assert least < held(300, settings, runs, shared, new_setting, model) < 0.97


def test_a_censored_outcome_says_nothing_of_the_upper_end():
    table = planted(np.random.default_rng(0), 1, 60)
    fold = Fold("one", np.arange(40), np.arange(40, 60))
    plain, _ = made(table, fold)
    few, _ = made(table, fold, censored=np.arange(60) % 40 == 0)
    many, _ = made(table, fold, censored=np.arange(60) % 4 == 0)
    assert np.isfinite(plain.high).all()
    assert np.isfinite(few.high).all()
    assert (few.high >= plain.high).all()
    assert np.isinf(many.high).all()
    np.testing.assert_array_equal(many.low, plain.low)


@pytest.mark.parametrize(("settings", "runs", "train"), [(1, 40, 18), (4, 30, 90)])
def test_too_few_runs_or_settings_have_no_ends(settings: int, runs: int, train: int):
    """18 runs cannot tell a twentieth; four settings (three to learn from) cannot tell what a new one brings."""
    table = planted(np.random.default_rng(0), settings, runs)
    intervals, value = made(table, Fold("one", np.arange(train), np.arange(train, len(table))))
    assert np.isinf(intervals.low).all()
    assert np.isinf(intervals.high).all()
    assert intervals.summary(value)["width"] is None
    enough, _ = made(planted(np.random.default_rng(0), 1, 40), Fold("one", np.arange(19), np.arange(19, 40)))
    assert np.isfinite(enough.low).all()


def test_outcomes_of_the_test_runs_are_not_looked_at():
    table = planted(np.random.default_rng(0), 1, 60)
    fold = Fold("one", np.arange(40), np.arange(40, 60))
    before, _ = made(table, fold)
    table.loc[40:, ("outcome", "score")] = np.nan
    after, _ = made(table, fold)
    np.testing.assert_array_equal(before.low, after.low)
    np.testing.assert_array_equal(before.high, after.high)


def test_a_judgement_tells_them_for_numbers_and_leaves_probabilities_alone():
    table = planted(np.random.default_rng(0), 1, 60)
    number = judge(table, parse_target("score"), "random", signal="head")
    shown = "\n".join(lines(number))
    assert "90 % prediction intervals of baselines + head cover 0." in shown
    told = as_json(number)["intervals"]
    assert 0.75 < told["inside"] <= 1
    yes_no = judge(table, parse_target("score>=1"), "random", signal="head")
    assert yes_no.predictions.intervals is None
    assert as_json(yes_no)["intervals"] is None
    few = judge(table.iloc[:20], parse_target("score"), "random", signal="head")
    assert "no 90 % prediction intervals" in "\n".join(lines(few))


@pytest.fixture
def forecaster(tmp_path: Path) -> tuple[Store, Forecaster]:
    store, table = Store(tmp_path / "store"), seen(0)
    return store, save_forecaster(store, table, parse_target("loss@length=50"), "head", "linear", True, 0, "first")


def seen(seed: int) -> pd.DataFrame:
    """Forty runs whose outcome was looked at."""
    table = planted(np.random.default_rng(seed), 1, 40)
    table = table.rename(columns={"score": "loss@split=id,length=50"}, level=1)
    table[("seed", "init_seed")] += 100 * seed
    table[("seen_at", "split=id,length=50")] = "2026-01-01T00:00:00.000000+00:00"
    table.index = pd.Index([f"run{seed}-{i:02d}" for i in range(len(table))])
    return table


def test_intervals_are_sealed_with_the_forecasts_and_scored_after(forecaster: tuple[Store, Forecaster]):
    store, made = forecaster
    after = seen(1)
    before = after.copy()
    before[("outcome", "loss@split=id,length=50")], before[("seen_at", "split=id,length=50")] = np.nan, None
    entry, _ = lock(Ledger(store), before, "new", made)
    sealed = json.loads((store.path / "forecasts" / "0001.json").read_text())["intervals"]
    assert sealed == made.intervals(before) == entry["intervals"]
    assert sealed["of"] == "baselines + head"
    assert all(
        low < entry["forecasts"]["baselines + head"][run][1] < high for run, (low, high) in sealed["runs"].items()
    )
    after[("seen_at", "split=id,length=50")] = now()
    told, _ = score_lock(entry, after)
    assert told["intervals"]["inside"] > 0.75
    older = {key: value for key, value in entry.items() if key != "intervals"}
    assert "intervals" not in score_lock(older, after)[0]
    with pytest.raises(UserError, match="was trained on"):
        made.intervals(seen(0))


def test_ends_that_are_not_there_stay_so_in_a_summary():
    found = PredictionIntervals("head", np.array([0.0, -np.inf]), np.array([1.0, np.inf]))
    assert found.holds(np.array([2.0, 5.0])).tolist() == [False, True]
    assert found.summary(np.array([2.0, 5.0]))["no_end"] == 1
