"""Prefixes of bounded depth: answers by hand, the reflected walk, depth as a split."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make

BY_HAND = [
    ("(", ")", ")"),
    ("()", "none", "none"),
    ("([", "]", "])"),
    ("([]{(", ")", ")})"),
    ("([](){", "}", "})"),
    ("[()]({}", ")", ")"),
]


@pytest.mark.parametrize(("prefix", "next_", "rest"), BY_HAND)
def test_solve_by_hand(prefix, next_, rest):
    for format, answer in (("next", next_), ("rest", rest)):
        task = make("dyck-next", 8, format, {"types": 3})
        assert task.solve([*prefix, ">"]) == (("none",) if answer == "none" else tuple(answer))


def drawn(split, lengths, seed=0, format="next", **params):
    task = make("dyck-next", 40, format, params)
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    return task, examples, [task.read(examples, row) for row in range(len(examples))]


def depths(prompt):
    return np.cumsum([1 if token in "([{⟨«‹⟦⌈" else -1 for token in prompt[:-1]])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["id", "deeper", "far", "one-type"]), st.sampled_from(["next", "rest"]), st.integers(1, 8),
       st.integers(2, 4), st.lists(st.integers(3, 10), min_size=1, max_size=6), st.integers(0, 2**32))  # fmt: skip
def test_samples_are_solved_and_complete_the_prefix(split, format, types, depth, halves, seed):
    lengths = [2 * half + 1 for half in halves]
    task, examples, read = drawn(split, lengths, seed, format, types=types, depth=depth)
    for row, (prompt, answer) in enumerate(read):
        assert len(prompt) == lengths[row] + 1
        assert task.solve(prompt) == answer
        assert depths(prompt).min() >= 0
        assert len(prompt) + len(answer) + 1 <= task.width(lengths[row])
        assert task.factors(examples)["open"][row] == depths(prompt)[-1]
        if format == "rest" and answer != ("none",):
            dyck = make("dyck", 40, params={"types": 8})
            assert dyck.solve(["<start>", *prompt[:-1], *answer, ">"]) == ("True",)


def test_depth_is_the_split():
    for depth in (2, 3):
        _, _, read = drawn("id", [20, 9] * 200, depth=depth)
        assert max(depths(prompt).max() for prompt, _ in read) == depth
        _, _, read = drawn("deeper", [20, 9] * 200, depth=depth)
        ends = [depths(prompt)[-1] for prompt, _ in read]
        assert (min(ends), max(ends)) == (depth + 1, 2 * depth)
        assert max(depths(prompt).max() for prompt, _ in read) == 2 * depth


def test_what_far_and_one_type_hold():
    _, _, read = drawn("far", [3, 11, 15] * 60)
    for prompt, answer in read:
        assert depths(prompt)[-1] == 1
        assert depths(prompt).min() == 1
        assert depths(prompt).max() <= 3
        assert prompt[0] + answer[0] in ("()", "[]")
    _, _, read = drawn("one-type", [8] * 60)
    assert {token for prompt, _ in read for token in prompt[:-1]} == {"(", ")"}


def test_a_bracket_opens_with_probability_one_half_where_it_can():
    _, _, read = drawn("id", [30] * 300, depth=3)
    opened = Counter()
    total = Counter()
    for prompt, _ in read:
        for before, after in pairwise([0, *depths(prompt)]):
            total[before] += 1
            opened[before] += after > before
    assert opened[0] == total[0] > 0
    assert opened[3] == 0 < total[3]
    for depth in (1, 2):
        assert stats.binomtest(opened[depth], total[depth], 0.5).pvalue > 1e-3


@pytest.mark.parametrize("split", ["id", "far"])
def test_the_type_asked_for_is_uniform(split):
    _, _, read = drawn(split, [9] * 3000, types=3)
    answers = Counter(answer[0] for _, answer in read)
    assert set(answers) == {")", "]", "}"}
    assert stats.chisquare(list(answers.values())).pvalue > 1e-3


@pytest.mark.parametrize("format", ["next", "rest"])
@pytest.mark.parametrize("length", [1, 6, 9])
def test_chance_is_how_often_two_answers_agree(format, length):
    task, _, read = drawn("id", [length] * 8000, format=format)
    answers = [answer for _, answer in read]
    agree = sum(a == b for a, b in zip(answers[::2], answers[1::2], strict=True))
    assert stats.binomtest(agree, 4000, task.chance(length)).pvalue > 1e-3


def test_lengths_that_cannot_be_are_refused():
    task, rng = make("dyck-next", 12), np.random.default_rng(0)
    with pytest.raises(UserError, match="no example of 6 brackets on split 'far'; nearest available: 5, 7"):
        task.sample(rng, "far", [6])
    with pytest.raises(UserError, match="allowed are 4 to 12"):
        task.sample(rng, "deeper", [3])
    with pytest.raises(UserError, match="depth: 1 is not allowed"):
        make("dyck-next", 12, params={"depth": 1})
