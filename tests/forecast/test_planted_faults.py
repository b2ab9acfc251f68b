"""Faults that were planted and that no test noticed. Each is a number that is easily off by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from genlab.forecast.predictions import tail_rank
from genlab.forecast.predictors import _best_cut, _inner_folds, _threshold
from genlab.probes.probing import _null_rows
from genlab.runs.index import prefer


@pytest.mark.parametrize(("runs", "rank"), [(19, 1), (20, 1), (38, 1), (39, 2), (99, 5)])
def test_the_end_of_an_interval_counts_the_new_run_too(runs: int, rank: int):
    """Of n + 1 runs that could change places, a 20th is beyond each end: the rank is floor(0.05 (n + 1)), not n."""
    assert tail_rank(runs) == rank


def test_of_several_commits_the_earliest_counts_and_of_retrained_ones_the_latest():
    for order in ((0, 1), (1, 0)):
        commits = [("first", False, "2026-01-01"), ("second", False, "2026-01-02")]
        found: dict[str, str] = {}
        best: dict[str, tuple[bool, str]] = {}
        for what, again, at in [commits[i] for i in order]:
            prefer(found, best, "run", again, at, what)
        assert found == {"run": "first"}
        for what, again, at in [("again 1", True, "2026-01-03"), ("again 2", True, "2026-01-04")][
            :: 1 - 2 * order[0]
        ]:
            prefer(found, best, "run", again, at, what)
        prefer(found, best, "run", False, "2025-01-01", "earlier still")
        assert found == {"run": "again 2"}


def test_the_spread_of_a_null_is_that_of_a_sample():
    rows = {row.name: row.value for row in _null_rows("s", np.array([1.0, 3.0, np.nan]), 1)}
    assert rows == {"s.null": 2.0, "s.null_sd": pytest.approx(np.sqrt(2.0))}
    assert {row.name: row.value for row in _null_rows("s", np.array([1.0]), 1)}["s.null_sd"] == 0.0


def test_a_cut_has_the_least_squared_error_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.permutation(12).astype(float), rng.random(12)
        errors = {cut: sum(float(side.var() * len(side)) for side in (y[x < cut], y[x > cut])) for cut in HALVES}
        assert _best_cut(x, y) == min(errors, key=lambda cut: errors[cut])


def test_a_cut_never_divides_runs_of_equal_values():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 4, 12).astype(float), rng.random(12)
        cuts = [float(low + high) / 2 for low, high in pairwise(np.unique(x))]
        errors = {cut: sum(float(side.var() * len(side)) for side in (y[x < cut], y[x > cut])) for cut in cuts}
        assert _best_cut(x, y) == min(errors, key=lambda cut: errors[cut])
    assert _best_cut(np.ones(3), np.arange(3.0)) == 1.0


def test_a_value_at_the_cut_is_on_its_upper_side():
    x, y = np.array([0.0, 0.0, 2.0, 2.0]), np.array([0.0, 0.0, 1.0, 1.0])
    assert _threshold(x, y, np.array([0.9, 1.0, 1.1]), yes_no=False)[1].tolist() == [0.0, 1.0, 1.0]
    assert _threshold(x, y[::-1], np.array([0.9, 1.0, 1.1]), yes_no=False)[1].tolist() == [1.0, 1.0, 0.0]


def test_inner_folds_need_both_outcomes_three_times():
    def folds(zeros: int, ones: int, yes_no: bool = True) -> int:
        y = np.array([0.0] * zeros + [1.0] * ones)
        return len(_inner_folds(yes_no, y, np.arange(len(y))))

    assert folds(3, 9) == folds(9, 3) == folds(2, 10, yes_no=False) == 3
    assert folds(2, 10) == folds(10, 2) == folds(2, 3, yes_no=False) == 0
    assert _inner_folds(True, np.array([0.0, 1.0] * 6), np.zeros(12)) == []


HALVES = [i + 0.5 for i in range(11)]
