"""Reverse: answers by hand, an involution, and the law of each split."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make


@pytest.mark.parametrize(("prompt", "answer"), [("a >", "a"), ("a b b >", "b b a"), ("b a a b a >", "a b a a b")])
def test_solve_by_hand(prompt, answer):
    for format in ("repeats", "unique"):
        assert make("reverse", 8, format).solve(prompt.split()) == tuple(answer.split())


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_reversing_twice_is_identity(string):
    task = make("reverse", 12)
    assert task.solve([*task.solve([*string, ">"]), ">"]) == tuple(string)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["repeats", "unique"]), st.sampled_from(["id", "zipf", "sorted"]),
       st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 2**32))  # fmt: skip
def test_samples_are_solved(format, split, lengths, seed):
    task = make("reverse", 9, format)
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    for row, length in enumerate(lengths):
        prompt, answer = task.read(examples, row)
        assert task.solve(prompt) == answer
        assert len(answer) == length
        assert len(prompt) + len(answer) + 1 == task.width(length)
        if format == "unique":
            assert len(set(answer)) == length
        if split == "sorted":
            assert list(prompt[:-1]) == sorted(prompt[:-1])


def test_orders_without_repeats_are_uniform():
    task = make("reverse", 4, "unique")
    examples = task.sample(np.random.default_rng(0), "id", [3] * 4800)
    drawn = Counter(task.read(examples, row)[1] for row in range(len(examples)))
    assert set(drawn) == set(permutations("abcd", 3))
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


@pytest.mark.parametrize("format", ["repeats", "unique"])
def test_zipf_weights_the_first_symbol_drawn(format):
    task = make("reverse", 4, format, {"symbols": 4})
    examples = task.sample(np.random.default_rng(0), "zipf", [2] * 5000)
    firsts = Counter(task.read(examples, row)[0][0] for row in range(len(examples)))
    weights = np.array([12, 6, 4, 3]) / 25
    assert stats.chisquare([firsts[s] for s in "abcd"], 5000 * weights).pvalue > 1e-3


def test_sorted_strings_of_mixed_lengths_use_every_symbol_alike():
    task = make("reverse", 8)
    examples = task.sample(np.random.default_rng(0), "sorted", [2, 8] * 1000)
    ones = sum(task.read(examples, row)[0].count("b") for row in range(0, 2000, 2))
    assert stats.binomtest(ones, 2000, 0.5).pvalue > 1e-3


def test_chance():
    assert make("reverse", 8).chance(3) == 1 / 8
    assert make("reverse", 4, "unique").chance(3) == 1 / 24


def test_too_small_an_alphabet_is_one_clear_line():
    with pytest.raises(UserError, match="cannot draw 8 distinct symbols from an alphabet of 5"):
        make("reverse", 8, "unique", {"symbols": 5})
