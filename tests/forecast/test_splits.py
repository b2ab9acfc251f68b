"""Splits hold out what they say, and no twin of a test run is trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from genlab.errors import UserError
from genlab.forecast.roles import frame_of
from genlab.forecast.splits import (
    Fold,
    few_runs,
    leave_one_out,
    random_runs,
    settings_of,
    small_to_large,
    twins_of,
)


def crossed(settings: int = 3, init: int = 6, data: int = 1) -> pd.DataFrame:
    """Every setting at every pair of seeds."""
    rows = [(s, i, d) for s in range(settings) for i in range(init) for d in range(data)]
    found = pd.DataFrame(rows, columns=["layers", "init_seed", "data_seed"])
    return frame_of({"setting": found[["layers"]], "seed": found[["init_seed", "data_seed"]]})


def check_whole(folds: list[Fold], table: pd.DataFrame) -> None:
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(len(table)))
    for fold in folds:
        assert len(fold.train)
        assert not set(fold.train.tolist()) & set(fold.test.tolist())


def no_shared_seed(fold: Fold, table: pd.DataFrame, seeds: list[str]) -> bool:
    pairs = [set(map(tuple, table["seed"][seeds].to_numpy()[rows].tolist())) for rows in (fold.train, fold.test)]
    return not pairs[0] & pairs[1]


def test_random_folds_keep_a_seed_of_all_settings_together():
    table = crossed()
    folds = random_runs(table, np.random.default_rng(0), 3)
    check_whole(folds, table)
    assert all(no_shared_seed(fold, table, ["init_seed"]) for fold in folds)


def test_crossed_seeds_are_kept_together_as_pairs_where_all_are_linked():
    table = crossed(init=5, data=3)
    assert len(np.unique(twins_of(table))) == 15
    folds = random_runs(table, np.random.default_rng(0))
    assert all(no_shared_seed(fold, table, ["init_seed", "data_seed"]) for fold in folds)


def test_runs_linked_by_either_seed_are_twins():
    seeds = pd.DataFrame({"init_seed": [0, 0, 1, 2, 3, 4], "data_seed": [0, 1, 1, 2, 3, 4]})
    table = frame_of({"setting": pd.DataFrame({"layers": range(6)}), "seed": seeds})
    assert len(np.unique(twins_of(table, 4)[:3])) == 1
    assert len(np.unique(twins_of(table, 4))) == 4


def test_a_setting_is_left_out_with_the_seeds_that_it_is_tested_at():
    table = crossed()
    setting = settings_of(table)
    folds = leave_one_out(table, setting, np.random.default_rng(0))
    check_whole(folds, table)
    for fold in folds:
        assert len(set(setting[fold.test])) == 1
        assert not set(setting[fold.test]) & set(setting[fold.train])
        assert no_shared_seed(fold, table, ["init_seed"])
    printed = leave_one_out(table, setting, np.random.default_rng(0), keep_twins=True)
    assert [len(fold.train) for fold in printed] == [12] * 3


def test_settings_with_seeds_of_their_own_are_tested_whole():
    table = crossed()
    table[("seed", "init_seed")] = np.arange(len(table))
    table[("seed", "data_seed")] = np.arange(len(table))
    assert len(leave_one_out(table, settings_of(table), np.random.default_rng(0))) == 3


def test_small_lengths_train_and_larger_ones_of_other_runs_test():
    table = crossed(settings=1, init=8)
    rows = pd.concat([table, table, table])
    lengths = np.repeat([10, 20, 30], 8)
    folds = small_to_large(rows, lengths, 20, np.random.default_rng(0))
    assert sorted(row for fold in folds for row in fold.test) == np.flatnonzero(lengths == 30).tolist()
    for fold in folds:
        assert lengths[fold.train].max() <= 20 < lengths[fold.test].min()
        assert no_shared_seed(fold, rows, ["init_seed"])


def test_two_runs_are_enough_to_train_on_the_small_lengths_of_one():
    table = crossed(settings=1, init=2)
    found = small_to_large(pd.concat([table] * 3), np.repeat([10, 20, 30], 2), 20, np.random.default_rng(0))
    assert sorted((fold.train.tolist(), fold.test.tolist()) for fold in found) == [([0, 2], [5]), ([1, 3], [4])]


def test_few_runs_train_on_as_many_as_said():
    table = crossed(settings=2, init=30)
    found = few_runs(table, np.random.default_rng(0), (5, 10, 100), draws=3)
    assert list(found) == [5, 10]
    for size, folds in found.items():
        assert [len(fold.train) for fold in folds] == [size] * 3
        assert all(no_shared_seed(fold, table, ["init_seed"]) for fold in folds)


def test_folds_follow_the_generator_alone():
    table = crossed()
    one, two = (random_runs(table, np.random.default_rng(4)) for _ in range(2))
    assert all((a.test == b.test).all() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (lambda t, r: random_runs(crossed(1, 1), r), "nothing to train on"),
        (lambda t, r: leave_one_out(t, np.array(["a"] * 18), r), "there is only one setting"),
        (lambda t, r: leave_one_out(crossed(3, 1), settings_of(crossed(3, 1)), r), "all runs share seeds"),
        (lambda t, r: small_to_large(t, np.arange(18), 18, r), "no lengths on both sides of 18"),
        (lambda t, r: few_runs(t, r, (100,)), "too few for a learning curve"),
        (lambda t, r: settings_of(t, ["layer"]), "did you mean 'layers'?"),
    ],
)
def test_a_split_that_leaves_nothing_is_told(split, said: str):
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        split(crossed(), np.random.default_rng(0))
