"""Scores against the textbook's definitions, written out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from genlab.forecast.compare import _units, overall, per_setting, try_all
from genlab.forecast.scores import (
    Interval,
    blocks_of,
    bootstrap_interval,
    influence,
    mean_scores,
    ranking,
    setting_interval,
    sign_flip,
    twin_variance,
)


def blocks(kind, value, censored=None, setting=None, fold=None):
    n = len(value)
    plain = np.zeros(n)
    return blocks_of(
        kind,
        np.asarray(value, float),
        np.zeros(n, bool) if censored is None else np.asarray(censored),
        np.asarray(["all"] * n if setting is None else setting, object),
        plain if fold is None else np.asarray(fold),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_auroc_and_spearman_are_those_of_the_libraries(rng: np.random.Generator):
    y, score = rng.integers(0, 2, 40), np.round(rng.normal(size=40), 1)
    assert ranking(blocks("yes/no", y)[0], score)[0][0] == pytest.approx(roc_auc_score(y, score))
    value = np.round(rng.normal(size=40), 1)
    assert ranking(blocks("number", value)[0], score)[0][0] == pytest.approx(spearmanr(score, value).statistic)


def test_a_bootstrap_of_yes_and_no_has_at_most_twice_as_many_units_as_the_rarer_outcome():
    def units(kind: str, value: list[float]) -> int:
        return _units(cast(Any, SimpleNamespace(twins=np.arange(10), kind=kind, value=np.asarray(value))))

    assert units("yes/no", [1.0] * 3 + [0.0] * 7) == units("yes/no", [0.0] * 3 + [1.0] * 7) == 6
    assert units("number", [1.0] * 3 + [0.0] * 7) == 10


def test_concordance_compares_pairs_of_known_order_alone():
    # Lengths 10, 20, and 30 or more: 30+ is above both, and nothing is known against another 30+.
    one = blocks("furthest", [10, 20, 30, 30], [False, False, True, True])[0]
    value, pairs = ranking(one, np.array([1.0, 3.0, 2.0, 4.0]))
    assert (float(value[0]), float(pairs[0])) == (pytest.approx(4 / 5), 5.0)


def test_runs_of_different_settings_or_folds_are_never_compared():
    value, score = [1, 0, 1, 0], np.array([0.9, 0.8, 0.2, 0.1])
    assert float(overall(blocks("yes/no", value), score)[0]) == 0.75
    apart = blocks("yes/no", value, setting=["a", "a", "b", "b"])
    assert float(overall(apart, score)[0]) == 1.0
    assert per_setting(apart, score) == {"a": (1.0, 1.0), "b": (1.0, 1.0)}
    assert not blocks("yes/no", value, fold=[0, 1, 2, 3])


def test_pooling_an_uninformative_forecast_scores_below_chance_and_this_does_not(rng: np.random.Generator):
    """The other folds' mean outcome says nothing of a run, yet pooled over folds it ranks runs backwards."""
    pooled, within = [], []
    for _ in range(20):
        fold = np.repeat(np.arange(9), 10)
        y = (rng.random(90) < np.repeat(rng.random(9), 10)).astype(float)
        said = np.array([y[fold != f].mean() for f in fold])
        pooled.append(roc_auc_score(y, said))
        within.append(float(overall(blocks("yes/no", y, fold=fold), said)[0]))
    assert np.mean(pooled) < 0.35
    assert within == [0.5] * 20


def test_weights_count_a_run_as_often_as_a_bootstrap_drew_it(rng: np.random.Generator):
    y, score = rng.integers(0, 2, 12), rng.normal(size=12)
    times = rng.integers(0, 3, 12)
    drawn = np.repeat(np.arange(12), times)
    weighted = ranking(blocks("yes/no", y)[0], score, times[None].astype(float))[0][0]
    assert weighted == pytest.approx(roc_auc_score(y[drawn], score[drawn]))


@pytest.mark.parametrize("kind", ["yes/no", "number"])
def test_influences_give_the_standard_error(rng: np.random.Generator, kind: str):
    told, scores = [], []
    for _ in range(400):
        x = rng.normal(size=60)
        value = x + rng.normal(size=60)
        value = (value > 0).astype(float) if kind == "yes/no" else value
        one = blocks(kind, value)[0]
        scores.append(float(ranking(one, x)[0][0]))
        told.append(np.sqrt(np.sum(influence(one, x) ** 2)))
    assert np.mean(told) == pytest.approx(np.std(scores), rel=0.12)


@pytest.mark.parametrize("kind", ["yes/no", "number"])
@pytest.mark.parametrize("runs", [3, 20])
def test_influences_are_derivatives_by_the_weight_of_a_run(rng: np.random.Generator, kind: str, runs: int):
    x = rng.permutation(runs).astype(float)
    one = blocks(kind, np.arange(runs) % 2 if kind == "yes/no" else rng.permutation(runs))[0]
    step = 1e-6
    up, down = np.zeros(runs), np.zeros(runs)
    for i in range(runs):
        weights = np.ones((2, runs))
        weights[:, i] += (step, -step)
        up[i], down[i] = ranking(one, x, weights)[0]
    assert influence(one, x) == pytest.approx((up - down) / (2 * step), abs=1e-7)


def test_means_are_those_of_the_definitions():
    said, y = np.array([0.8, 0.4]), np.array([1.0, 0.0])
    told = mean_scores("yes/no", said, y, np.zeros(2, bool))
    assert told == {"brier": pytest.approx(0.1), "log": pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)}
    # A forecast of 60 for a run that was right at the longest tested length, 50, is not wrong; one of 40 is.
    censored = mean_scores(
        "furthest", np.array([60.0, 40.0, 20.0]), np.array([50.0, 50.0, 20.0]), np.array([True, True, False])
    )
    assert censored["mae"] == pytest.approx(10 / 3)


# -- intervals -------------------------------------------------------------------------------------------------


def test_the_published_interval():
    """Six settings, mean .26 and standard deviation .27, as in arXiv 2507.06445: -.02 to .54."""
    values = 0.26 + 0.27 * np.array([1, -1, 1, -1, 1, -1]) / np.sqrt(1.2)
    found = setting_interval(values)
    assert found.low == pytest.approx(-0.023, abs=0.002)
    assert found.high == pytest.approx(0.543, abs=0.002)


def test_under_six_settings_there_is_no_interval():
    found = setting_interval(np.full(5, 0.3))
    assert (found.low, found.high, found.how) == (None, None, "no interval: 5 settings, 6 are needed")


def test_sign_flips_are_all_of_them(rng: np.random.Generator):
    assert sign_flip(np.arange(1.0, 8.0), rng) == 2 / 2**7
    assert sign_flip(np.array([3.0, -3.0, 1.0, -1.0, 2.0, -2.0]), rng) == 1.0
    assert sign_flip(rng.normal(size=40) + 3, rng) == pytest.approx(1 / 20_001)


def test_a_seed_shared_by_settings_adds_variance():
    assert twin_variance(np.array([0.1, 0.1, -0.1, -0.1]), np.array([0, 0, 1, 1])) == pytest.approx(0.04)
    assert twin_variance(np.array([0.1, -0.1]), np.array([0, 0])) == 0


def test_a_bootstrap_without_draws_gives_no_interval():
    assert bootstrap_interval(0.5, np.full(2000, np.nan), 10).low is None
    assert isinstance(bootstrap_interval(0.5, np.linspace(0, 1, 2000), 10), Interval)


# -- many signals ----------------------------------------------------------------------------------------------


def try_noise(rng: np.random.Generator, encode: float, count: int, runs: int = 60, effect: float = 0.0):
    setting = np.repeat(np.arange(6), runs // 6)
    y = (rng.random(runs) < np.repeat(rng.random(6), runs // 6)).astype(float)
    signals = rng.normal(size=(runs, count)) + encode * np.array([y[setting == k].mean() for k in setting])[:, None]
    signals[:, 0] += effect * y
    names = [f"s{i}" for i in range(count)]
    about = (y, np.zeros(runs, bool), setting.astype(str).astype(object), np.arange(runs))
    return try_all(names, signals, "yes/no", *about, rng, draws=300)


def test_a_signal_that_only_encodes_the_setting_is_not_called_good(rng: np.random.Generator):
    p = [try_noise(rng, encode=20.0, count=1)[0].p for _ in range(200)]
    assert np.mean(np.array(p) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_the_best_of_many_is_held_against_the_best_of_many(rng: np.random.Generator):
    found = [try_noise(rng, 0.0, 100) for _ in range(60)]
    alone = np.mean([min(t.p for t in tried) < 0.05 for tried in found])
    together = np.mean([min(t.p_all for t in tried) < 0.05 for tried in found])
    assert alone > 0.9
    assert together < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_a_signal_that_says_something_is_found_among_many(rng: np.random.Generator):
    found = try_noise(rng, 0.0, 50, runs=120, effect=2.0)
    assert found[0].p_all < 0.01
    assert found[0].z > 3


def test_constant_and_missing_values_of_signals(rng: np.random.Generator):
    y = np.array([0.0, 1.0] * 20)
    signals = np.stack([np.ones(40), np.where(np.arange(40) < 10, np.nan, y)], axis=1)
    about = (y, np.zeros(40, bool), np.array(["a"] * 40, object), np.arange(40))
    constant, some = try_all(["constant", "some"], signals, "yes/no", *about, rng, draws=200)
    assert (constant.z, constant.p_all) == (0.0, 1.0)
    assert some.p_all < 0.05
