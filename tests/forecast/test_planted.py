"""Planted truth: how often a claim is false, how often an interval holds the truth, how often an effect is found.

`python tests/forecast/test_planted.py 1000` prints the table of docs/forecast.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from planted import Planted, draw

from genlab.forecast.compare import Difference, difference, try_all
from genlab.forecast.predictions import Predictions, predict
from genlab.forecast.predictors import Predictor
from genlab.forecast.scores import blocks_of
from genlab.forecast.splits import leave_one_out, settings_of, twins_of
from genlab.forecast.targets import Values

CASES = {
    "12 settings, none": Planted(),
    "12 settings, effect": Planted(effect=1.0),
    "12 settings, shared seeds, none": Planted(shared=True, seed_sd=0.7),
    "12 settings, shared seeds, effect": Planted(effect=1.0, shared=True, seed_sd=0.7),
    "7 settings of 12 runs, none": Planted(settings=7, runs=12),
    "7 settings of 12 runs, effect": Planted(effect=1.0, settings=7, runs=12),
    "one setting of 75 runs, none": Planted(settings=1, runs=75),
    "one setting of 75 runs, effect": Planted(effect=1.0, settings=1, runs=75),
}
"""A signal against a metric that says nothing; the truth is known in closed form."""


@dataclass
class Told:
    """Of so many tables: those with an interval, in which it held the truth, and which claimed a gain or a loss."""

    tables: int = 0
    with_interval: int = 0
    held: int = 0
    gains: int = 0
    losses: int = 0

    def add(self, found: Difference, truth: float) -> None:
        self.tables += 1
        low, high = found.interval.low, found.interval.high
        if low is None or high is None:
            return
        self.with_interval += 1
        self.held += low <= truth <= high
        self.gains += low > 0
        self.losses += high < 0

    @property
    def shares(self) -> tuple[float, float, float]:
        """Coverage, claims of a gain, claims of a loss, of the tables with an interval."""
        return tuple(n / self.with_interval for n in (self.held, self.gains, self.losses))  # pyright: ignore


def as_they_are(table: pd.DataFrame) -> Predictions:
    """The signal and the metric as forecasts, without any fit."""
    y, setting = table["outcome"]["generalises"].to_numpy(), settings_of(table)
    none, fold = np.zeros(len(y), bool), np.zeros(len(y))
    rank = {"head": table["signal"]["head"].to_numpy(), "loss": table["metric"]["loss"].to_numpy()}
    about = (np.arange(len(y)), fold, setting, y, none, twins_of(table), rank, {})
    return Predictions("yes/no", *about, blocks_of("yes/no", y, none, setting, fold))


def fitted(table: pd.DataFrame, rng: np.random.Generator) -> Predictions:
    """Baselines with and without the signal, fitted on other settings and other seeds, tuned inside."""
    setting, twins = settings_of(table), twins_of(table)
    base = (("setting", "a"), ("setting", "b"), ("metric", "loss"))
    predictors = [Predictor("loss", base, "linear"), Predictor("head", (*base, ("signal", "head")), "linear")]
    y = table["outcome"]["generalises"].to_numpy()
    values = Values(y, np.zeros(len(y), bool))
    return predict(table, "yes/no", values, predictors, leave_one_out(table, setting, rng), setting, twins)


def many(
    what: Planted, tables: int, seed: int, make: Callable[[pd.DataFrame, np.random.Generator], Predictions]
) -> tuple[Told, list[float]]:
    """Many tables of a process: what was told of them, and the differences."""
    rng, told, values = np.random.default_rng(seed), Told(), list[float]()
    for _ in range(tables):
        found = make(draw(what, rng), rng)
        gap = difference(found, "head", "loss", what.settings > 1, rng)
        told.add(gap, what.gain)
        values.append(gap.interval.value)
    return told, values


def near(share: float, nominal: float, count: int) -> bool:
    """Within three standard errors of a binomial share."""
    return abs(share - nominal) <= 3 * np.sqrt(nominal * (1 - nominal) / count)


def check(what: Planted, told: Told) -> None:
    held, gains, losses = told.shares
    assert near(held, 0.95, told.with_interval)
    assert near(losses, 0.0, told.with_interval) if what.gain else near(losses, 0.025, told.with_interval)
    if not what.gain:
        assert near(gains, 0.025, told.with_interval)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("12")])
def test_intervals_hold_the_truth_and_claims_are_seldom_false(name: str):
    told, _ = many(CASES[name], 100, 1, lambda table, _rng: as_they_are(table))
    check(CASES[name], told)


def test_without_the_variance_of_shared_seeds_intervals_would_be_too_short(monkeypatch: pytest.MonkeyPatch):
    import genlab.forecast.compare as comparing

    monkeypatch.setattr(comparing, "twin_variance", lambda *_: 0.0)
    told, _ = many(Planted(shared=True, seed_sd=1.5), 120, 1, lambda table, _rng: as_they_are(table))
    assert told.shares[0] < 0.9


def tried(what: Planted, tables: int, seed: int, draws: int = 300) -> tuple[float, float]:
    """Shares of tables in which the best of all signals is called good: by its own p, and by that of all tried."""
    rng, alone, together = np.random.default_rng(seed), 0, 0
    for _ in range(tables):
        table = draw(what, rng)
        y, read = table["outcome"]["generalises"].to_numpy(), table["signal"].to_numpy()
        about = (y, np.zeros(len(y), bool), settings_of(table), twins_of(table))
        found = try_all(list(table["signal"]), read, "yes/no", *about, rng, draws=draws)
        alone += min(one.p for one in found) <= 0.05
        together += min(one.p_all for one in found) <= 0.05
    return alone / tables, together / tables


@pytest.mark.parametrize("shared", [False, True])
def test_the_best_of_many_signals_is_called_good_as_seldom_as_said(shared: bool):
    what = Planted(settings=6, runs=12, noise=39, shared=shared, seed_sd=0.7 * shared, setting_sd=1.5)
    alone, together = tried(what, 100, 2)
    assert alone > 0.6
    assert near(together, 0.05, 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_thousand_tables(name: str):
    check(CASES[name], many(CASES[name], 1000, 7, lambda table, _rng: as_they_are(table))[0])


FITTED = {
    "fitted, 10 settings of 15, none": Planted(settings=10, runs=15),
    "fitted, 10 settings of 15, effect": Planted(effect=1.0, settings=10, runs=15),
    "fitted, shared seeds, none": Planted(settings=10, runs=16, shared=True, seed_sd=0.7),
    "fitted, shared seeds, effect": Planted(effect=1.0, settings=10, runs=16, shared=True, seed_sd=0.7),
}
"""The whole way: baselines with and without the signal, fitted on other settings."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTED)
def test_a_thousand_tables_with_fits(name: str):
    """What is fitted costs a little of the true gain: coverage is of the mean over all tables."""
    what = FITTED[name]
    told, values = many(what, 1000, 7, fitted)
    assert told.shares[1] <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / told.with_interval) or what.gain
    assert np.nanmean(values) <= what.gain + 0.03


def main(tables: int, fits: int) -> None:
    """Print the rates of every case."""
    print("case | truth | mean | coverage | claims of a gain | of a loss | tables with an interval")
    for cases, make, count in ((CASES, lambda table, _rng: as_they_are(table), tables), (FITTED, fitted, fits)):
        for name, what in cases.items():
            told, values = many(what, count, 7, make)
            held, gains, losses = told.shares
            mean = np.nanmean(values)
            shown = f"{what.gain:+.3f} | {mean:+.3f} | {held:.3f} | {gains:.3f} | {losses:.3f}"
            print(f"{name} | {shown} | {told.with_interval} of {told.tables}", flush=True)
    for shared in (False, True):
        what = Planted(settings=6, runs=12, noise=199, shared=shared, seed_sd=0.7 * shared, setting_sd=1.5)
        alone, together = tried(what, tables, 7)
        print(
            f"best of 200 signals, shared seeds {shared} | p alone {alone:.3f} | of all tried {together:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(sys.argv[1]))
