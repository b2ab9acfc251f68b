"""Is a signal known well enough to be asked about? Reliability against a truth that was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted import Planted, draw

from genlab.forecast import parse_target
from genlab.forecast.judge import judge
from genlab.forecast.reliability import NOISE, Reliability, reliability_of, reliability_words, split_half
from genlab.forecast.show import as_json, claim, lines


def halves(rng: np.random.Generator, runs: int, sd: float, settings: int = 1) -> tuple[np.ndarray, ...]:
    """Values of variance 1 within a setting, settings far apart, each half with noise of this standard deviation."""
    setting = np.arange(runs) % settings
    value = 5.0 * setting + rng.normal(size=runs)
    return value + sd * rng.normal(size=runs), value + sd * rng.normal(size=runs), setting


@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0])
def test_it_is_the_fraction_of_variance_that_is_not_noise(sd: float):
    """The mean of two halves has error variance sd^2 / 2."""
    first, second, _ = halves(np.random.default_rng(0), 20_000, sd)
    truth = np.random.default_rng(0).normal(size=20_000)  # the same draw without the errors
    found = split_half(first, second)
    assert found.value == pytest.approx(1 / (1 + sd**2 / 2), abs=0.02)
    assert found.noise == pytest.approx(sd / 2**0.5, rel=0.03)
    assert found.value == pytest.approx(np.corrcoef((first + second) / 2, truth)[0, 1] ** 2, abs=0.03)


def test_words_name_the_interval_where_there_is_one():
    for kind in (0.9, 0.1):
        both, neither = (Reliability("halves", kind, *ends, 0.02, 6) for ends in ((0.25, 0.75), (None, None)))
        assert f"reliability {kind:.2f} (0.25 to 0.75) over 6 runs" in reliability_words(both, "head")
        assert f"reliability {kind:.2f} over 6 runs" in reliability_words(neither, "head")


def test_its_interval_holds_the_truth():
    rng, truth, held = np.random.default_rng(1), 1 / (1 + 1 / 2), 0
    for _ in range(1000):
        found = split_half(*halves(rng, 30, 1.0, settings=3))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 1000 <= 0.97


def test_differences_between_settings_are_not_reliability():
    first, second, setting = halves(np.random.default_rng(2), 300, 3.0, settings=3)
    assert split_half(first, second).value > 0.7
    assert split_half(first, second, setting).value == pytest.approx(1 / (1 + 9 / 2), abs=0.15)


def test_what_cannot_be_said_is_not_said():
    nan = np.full(5, np.nan)
    assert split_half(nan, nan).kind == "unknown"
    one = split_half(np.ones(6), np.ones(6))
    assert (one.kind, one.noise, one.is_noise) == ("unknown", 0.0, False)
    assert split_half(np.array([0.0, 1.0]), np.array([0.0, 1.0])).kind == "unknown"
    three = split_half(np.array([0.0, 1.0, 2.0]), np.array([0.1, 1.0, 2.2]))
    assert three.kind == "halves"
    assert three.low is None
    opposite = split_half(np.arange(9.0), -np.arange(9.0))
    assert opposite.value == 0.0


def with_halves(sd: float) -> pd.DataFrame:
    table = draw(Planted(settings=6, runs=20, effect=1.5, noise=1), np.random.default_rng(0))
    rng, head = np.random.default_rng(1), table["signal"]["head"].to_numpy()
    errors = sd * rng.normal(size=(2, len(table)))
    table[("signal", "head")] = head + errors.mean(0)
    table[("half1", "head")], table[("half2", "head")] = head + errors[0], head + errors[1]
    table[("exact", "noise 0")] = 1.0
    return table


@pytest.fixture(autouse=True)
def _no_trees(monkeypatch: pytest.MonkeyPatch):
    import genlab.forecast.judge as judging

    made = judging.make_predictors
    quick = lambda *a: [p for p in made(*a) if p.model in ("linear", "threshold")]  # noqa: E731
    monkeypatch.setattr(judging, "make_predictors", quick)


@pytest.fixture
def few_predictors(monkeypatch: pytest.MonkeyPatch):
    """What a claim is about."""
    import genlab.forecast.judge as judging

    made, wanted = judging.make_predictors, ("baselines", "head alone", "baselines + head")
    monkeypatch.setattr(judging, "make_predictors", lambda *a: [p for p in made(*a) if p.name in wanted])


@pytest.mark.usefixtures("few_predictors")
def test_a_forecast_says_when_its_signal_is_noise():
    target = parse_target("generalises>=0.5")
    good, bad = (judge(with_halves(sd), target, "random", signal="head") for sd in (0.5, 8.0))
    assert good.reliability["head"].value > 0.8
    assert any(line.startswith("head is measured with reliability 0.") for line in lines(good))
    assert bad.reliability["head"].value < NOISE
    assert any(line.startswith("head is mostly noise: reliability 0.") for line in lines(bad))
    assert "mostly reading noise" in claim(bad, bad.claims[0])
    assert "noise" not in claim(good, good.claims[0])
    document = as_json(bad)
    assert document["reliability"]["is_noise"] is True
    assert {one["name"]: one["reliability"]["kind"] for one in document["signals"]} == {
        "head": "halves",
        "noise 0": "exact",
    }


def test_halves_are_no_input_of_a_forecast():
    from genlab.forecast.roles import KNOWN_BEFORE

    table = with_halves(1.0)
    assert not {"half1", "half2", "exact"} & set(KNOWN_BEFORE)
    plain = table.drop(columns=["half1", "half2", "exact"], level=0)
    target = parse_target("generalises>=0.5")
    with_them, without = (judge(t, target, "random", signal="head") for t in (table, plain))
    assert [s.weighted.value for s in with_them.scores] == [s.weighted.value for s in without.scores]
    assert reliability_of(plain, "head").kind == "unknown"
    assert any(line.startswith("the reliability of head is unknown") for line in lines(without))
    assert "no reading noise" in reliability_words(with_them.reliability["noise 0"], "noise 0")


@pytest.mark.usefixtures("few_predictors")
def test_small_to_large_counts_each_run_once():
    table = with_halves(1.0)
    for n in (10, 20, 30):
        table[("outcome", f"exact_match@split=id,length={n}")] = (table["signal"]["head"] > n / 20 - 1).astype(float)
    found = judge(table, parse_target("exact_match@split=id>=0.5"), "length", signal="head", longest=10)
    assert found.reliability["head"].runs == len(table)
