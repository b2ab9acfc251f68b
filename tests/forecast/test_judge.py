"""Judging planted tables: what is there is found, what is not there is not, and bad input is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted import Planted, draw

from genlab.errors import UserError
from genlab.forecast import parse_target
from genlab.forecast.judge import By, judge, learning_curve
from genlab.forecast.roles import frame_of
from genlab.forecast.show import as_json, claim, lines, suspects

TARGET = parse_target("generalises>=0.5")
QUICK = ("hyper-parameters", "baselines", "head alone", "baselines + head")


@pytest.fixture(autouse=True)
def _quick_predictors(monkeypatch: pytest.MonkeyPatch):
    """All predictors are fitted in a test of their own."""
    import genlab.forecast.judge as judging

    made = judging.make_predictors
    monkeypatch.setattr(judging, "make_predictors", lambda *a: [p for p in made(*a) if p.name in QUICK])


def planted(seed: int = 0, **what: float) -> pd.DataFrame:
    return draw(Planted(**what), np.random.default_rng(seed))  # pyright: ignore[reportArgumentType]


def test_a_signal_that_adds_is_said_to_add():
    found = judge(planted(effect=2.0, settings=7, noise=3), TARGET, "setting", signal="head")
    assert claim(found, found.claims[0]).startswith("head adds +0.")
    assert claim(found, found.claims[0]).endswith("over baselines on unseen settings")
    assert min(found.tried, key=lambda t: t.p_all).name == "head"
    # Hyper-parameters do not vary within a setting that is held out: they rank nothing there.
    assert next(s for s in found.scores if s.name == "hyper-parameters").mean.value == pytest.approx(0.5)


def test_a_signal_that_only_encodes_the_setting_adds_nothing():
    table = planted(setting_sd=2.0, settings=9, runs=30)
    rate = table["outcome"]["generalises"].groupby([table["setting"]["a"], table["setting"]["b"]]).transform("mean")
    table[("signal", "head")] = rate + 0.01 * np.random.default_rng(0).normal(size=len(table))
    found = judge(table, TARGET, "random", signal="head")
    alone = next(s for s in found.scores if s.name == "head alone")
    assert alone.across > 0.75
    assert abs(alone.weighted.value - 0.5) < 0.08
    assert "adds nothing detectable" in claim(found, found.claims[0])


def test_a_leak_through_the_setting_is_caught_by_leaving_the_setting_out():
    """The mean outcome of a run's setting, its own among them: it tells runs apart on new runs alone."""
    table = planted(setting_sd=3.0, settings=6, runs=20)
    where = [table["setting"]["a"], table["setting"]["b"]]
    table[("signal", "head")] = table["outcome"]["generalises"].groupby(where).transform("mean")
    found = judge(table, TARGET, "setting", signal="head")
    alone = next(s for s in found.scores if s.name == "head alone")
    assert set(alone.settings.values()) == {(0.5, pairs) for _, pairs in alone.settings.values()}
    assert judge(table, TARGET, "random", signal="head").scores[-2].across > 0.8


def test_a_leak_from_the_outcome_is_pointed_at():
    table = planted(effect=1.0, settings=6)
    assert suspects(judge(table, TARGET, "random", signal="head")) == []
    table[("signal", "head")] = table["outcome"]["generalises"]
    found = judge(table, TARGET, "random", signal="head")
    assert suspects(found) == ["head"]
    assert any(line.startswith("possible leak: head") for line in lines(found))


def test_a_setting_of_one_outcome_is_counted_and_not_dropped_in_silence():
    table = planted(effect=1.0, settings=7)
    first = ((table["setting"]["a"] == 0) & (table["setting"]["b"] == 0)).to_numpy()
    table.loc[first, ("outcome", "generalises")] = 1.0
    found = judge(table, TARGET, "setting", signal="head")
    assert found.unscored == ["a 0, b 0"]
    assert "a 0, b 0" not in found.scores[0].settings
    assert any("not scored (constant outcome): 1 settings (a 0, b 0)" in line for line in lines(found))


def test_few_settings_give_no_interval_and_few_tasks_a_description():
    table = planted(effect=1.0, settings=4)
    found = judge(table, TARGET, "setting", signal="head")
    assert found.claims[0].interval.low is None
    assert "is inconclusive" in claim(found, found.claims[0])
    table[("setting", "task")] = np.where(table["setting"]["a"] == 0, "sort", "copy")
    described = judge(table, TARGET, "task", signal="head")
    assert described.descriptive
    assert "descriptive only, with 2 tasks" in claim(described, described.claims[0])


def test_only_runs_that_fit_are_asked_unless_told():
    table = planted(effect=1.0, settings=6)
    table[("metric", "exact_match")] = np.where(np.arange(len(table)) % 2, 0.995, 0.98)
    half = judge(table, TARGET, "random", signal="head")
    assert (len(half.population.table), half.population.unfit) == (60, 60)
    assert len(judge(table, TARGET, "random", fit_only=False).population.table) == 120


def test_missing_values_are_reported_and_a_run_without_an_outcome_is_left_out():
    table = planted(effect=2.0, settings=6)
    table.loc[table.index[:7], ("signal", "head")] = np.nan
    table.loc[table.index[10:13], ("outcome", "generalises")] = np.nan
    found = judge(table, TARGET, "random", signal="head")
    assert found.population.missing == {"head": 7}
    assert found.population.unseen == 3
    assert any("head 7" in line for line in lines(found))


def test_what_test_rows_hold_does_not_reach_the_fit():
    """Values are filled, scaled and tuned inside the training fold: other test rows change no forecast of a run."""
    from genlab.forecast.predictors import Predictor, fit, matrix
    from genlab.forecast.splits import twins_of

    table = planted(effect=1.0, settings=2)
    predictor = Predictor("x", (("signal", "head"), ("metric", "loss")), "linear")
    x, twins = matrix(table, predictor), twins_of(table)
    y = table["outcome"]["generalises"].to_numpy(copy=True)
    train, test = np.arange(30), np.arange(30, 40)
    before = fit(predictor, x, y, train, test, twins, True).mean[0]
    x[31:, :], y[30:] = 1e6, 1 - y[30:]
    assert fit(predictor, x, y, train, test, twins, True).mean[0] == before


def test_the_ceiling_is_the_target_measured_again():
    table = planted(effect=1.0, settings=6)
    name = "generalises"
    table[("second", name)] = table["outcome"][name]
    table[("earlier", name)] = 1 - table["outcome"][name]
    ceiling = judge(table, TARGET, "random").ceiling
    assert ceiling == {"second set": 1.0, "checkpoint before": 0.0}


def test_numbers_and_furthest_lengths_are_forecast_too():
    rng = np.random.default_rng(0)
    table = planted(effect=2.0, settings=2)
    lengths = {n: (table["signal"]["head"] + rng.normal(size=len(table)) > n / 20 - 2) for n in (10, 20, 30, 40)}
    right = np.cumprod(np.stack(list(lengths.values())), axis=0)
    for n, row in zip(lengths, right, strict=True):
        table[("outcome", f"exact_match@split=id,length={n}")] = row.astype(float)
    furthest = judge(table, parse_target("furthest@0.9"), "random", signal="head")
    assert furthest.population.values.censored.sum() == right[-1].sum()
    assert furthest.scores[-1].weighted.value > 0.7
    number = judge(table, parse_target("exact_match@split=id"), "random", signal="head")
    assert number.scores[-1].weighted.value > 0.4
    assert set(number.scores[0].means) == {"r2", "mae"}
    longer = judge(table, parse_target("exact_match@split=id>=0.5"), "length", signal="head", longest=20)
    assert {name.rpartition("length ")[2] for name in longer.predictions.settings} == {"30", "40"}


def test_every_predictor_is_fitted_and_a_seed_gives_the_same_again(monkeypatch: pytest.MonkeyPatch):
    import genlab.forecast.judge as judging

    monkeypatch.undo()
    folds = judging.random_runs
    monkeypatch.setattr(judging, "random_runs", lambda table, rng, _: folds(table, rng, 3))
    monkeypatch.setattr("genlab.forecast.predictors._INNER_FOLDS", 2)
    table = planted(effect=3.0, settings=1, runs=30)
    one, two = (judge(table, TARGET, "random", signal="head", seed=3) for _ in range(2))
    assert {s.name for s in one.scores} == {
        "hyper-parameters",
        "in-distribution metrics",
        "baselines",
        "head alone",
        "baselines + head",
        *("everything, " + model for model in ("linear", "forest", "boosting")),
    }
    assert as_json(one) == as_json(two)
    assert all(s.weighted.value > 0.7 for s in one.scores if s.name.startswith("everything"))


@pytest.mark.parametrize("by", ["random", "setting"])
def test_too_few_runs_are_not_forecast(by: By):
    columns = {"setting": pd.DataFrame({"depth": [1, 2]}), "signal": pd.DataFrame({"head": [0.1, 0.9]})}
    table = frame_of({**columns, "outcome": pd.DataFrame({"ood": [0.0, 1.0]})})
    with pytest.raises(UserError, match=r"2 runs with an outcome cannot be forecast: .* takes at least 4"):
        judge(table, parse_target("ood"), by=by)


def test_a_learning_curve_rises():
    curve = learning_curve(planted(effect=2.0, settings=6), TARGET, signal="head", sizes=(5, 50), draws=5)
    own = curve[curve["predictor"] == "baselines + head"].set_index("runs")["mean"]
    assert own[50] > own[5]


BAD = [
    ({}, "generalise>=0.5", {}, "no evaluation yet; did you mean generalises"),
    ({"settings": 1, "runs": 1}, None, {}, "nothing to forecast"),
    ({"settings": 1}, None, {"by": "setting"}, "there is only one setting"),
    ({}, None, {"signal": "heat"}, "did you mean 'head'?"),
    ({}, None, {"signal": "flat"}, "signal 'flat' is constant"),
    ({}, None, {"by": "sorting"}, "did you mean 'setting'?"),
    ({}, None, {"by": "length"}, "needs METRIC@split=S"),
    ({}, None, {"factors": ["aa"]}, "unknown setting 'aa'"),
    ({}, None, {"model": "trees"}, "unknown model 'trees'"),
]


@pytest.mark.parametrize(("what", "target", "options", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_input_is_one_line(what: dict, target: str | None, options: dict, said: str):
    table = planted(effect=1.0, **what)
    table[("signal", "flat")] = 1.0
    with pytest.raises(UserError) as told:
        judge(table, parse_target(target or TARGET.text), **{"by": "random", **options})
    assert said in str(told.value)
    assert "\n" not in str(told.value)
