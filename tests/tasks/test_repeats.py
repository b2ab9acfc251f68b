"""Repeats: answers by hand, where copies stand, what the text is made of."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.drawing import Weighted, apart, distinct, zipf


def texts(task, split, lengths, seed=0):
    """Whole texts as numbers, and where the scored tokens stand in them."""
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    whole = np.concatenate([examples.tokens, examples.targets[:, -1:]], axis=1)
    return whole - 3, np.pad(examples.scored, ((0, 0), (1, 0)))


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("9 1 2 3 4 5 6 0 1 2 3 4", "5 6 0"),
        ("1 2 3 4 8 7 1 2 3 4 9 5 1 2 3 4", "9 5"),  # the latest of two
        ("1 2 3 4 5 1 2 3", ""),  # nothing has begun again
    ],
)
def test_solve_by_hand(prompt, answer):
    assert make("repeats", 19).solve(prompt.split()) == tuple(answer.split())


@pytest.mark.parametrize("split", ["id", "uniform", "flipped", "three-copies", "near", "far", "long-text"])
def test_the_scored_tokens_are_the_rest_of_a_copy(split):
    task = make("repeats", 25)
    copies = 3 if split == "three-copies" else 2
    lengths = np.random.default_rng(1).integers(5, task.longest(task.split(split)) + 1, size=200)
    for text, scored, length in zip(*texts(task, split, lengths), lengths, strict=True):
        places = np.flatnonzero(scored)
        assert places.tolist() == list(range(places[0], places[0] + length - 4))
        last = places[0] - 4
        windows = np.lib.stride_tricks.sliding_window_view(text, length)
        starts = np.flatnonzero((windows == text[last : last + length]).all(axis=1))
        starts = starts[starts <= last]
        assert len(starts) == copies
        assert (np.diff(starts) > length).all()  # at least one token apart
        assert len(text) == (128 if split == "long-text" else 64)
        if split == "near":
            assert np.diff(starts).tolist() == [length + 1]
        if split == "far":
            assert starts.tolist() == [0, 64 - length]


def test_every_arrangement_of_copies_is_equally_likely():
    # Two copies of 5 in 14 tokens: 3 tokens to spare beside the one between the copies, so 10 arrangements.
    _, scored = texts(make("repeats", 5, params={"n_tokens": 14, "symbols": 1000}), "id", [5] * 10_000)
    second = Counter((scored.argmax(axis=1) - 4).tolist())
    assert stats.chisquare([second[start] for start in (6, 7, 8, 9)], [1000, 2000, 3000, 4000]).pvalue > 1e-4


def test_three_copies_are_spread_evenly_too():
    starts = apart(np.random.default_rng(0), np.full(8000, 11), np.full(8000, 2), count=3, gap=1)
    drawn = Counter(map(tuple, starts.tolist()))
    assert len(drawn) == 20  # 3 to spare, into 4 places
    assert all(a + 3 <= b and b + 3 <= c <= 9 for a, b, c in drawn)
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-4


def test_distinct_sets_are_equally_likely():
    drawn = Counter(map(tuple, distinct(np.random.default_rng(0), np.full(6000, 4), 2).tolist()))
    assert sorted(drawn) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-4


@pytest.mark.parametrize(
    ("split", "law"), [("id", zipf(64)), ("flipped", zipf(64)[::-1]), ("uniform", np.full(64, 1 / 64))]
)
def test_the_text_follows_its_law(split, law):
    whole, _ = texts(make("repeats", 10), split, [10] * 4000)
    first = np.bincount(whole[:, 0], minlength=64)  # one token a text: independent of each other
    assert stats.chisquare(first, 4000 * law).pvalue > 1e-4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any), st.integers(0, 2**32))
def test_weighted_draws_follow_any_law(weights, seed):
    p = np.array(weights) / sum(weights)
    drawn = np.bincount(Weighted(p)(np.random.default_rng(seed), (3000,)), minlength=len(p))
    assert (drawn[p == 0] == 0).all()
    assert (np.abs(drawn - 3000 * p) <= 6 * np.sqrt(3000 * p * (1 - p)) + 1e-9).all()


def test_no_prompt_is_ambiguous_even_over_few_symbols():
    task = make("repeats", 12, params={"symbols": 8, "n_tokens": 80})
    examples = task.sample(np.random.default_rng(0), "id", [12, 5, 8] * 500)
    for row in range(len(examples)):
        prompt, answer = task.read(examples, row)
        fours = [prompt[i : i + 4] for i in range(len(prompt) - 3)]
        assert fours.count(prompt[-4:]) == 2
        assert task.solve_example(examples, row) == answer


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 31), st.sampled_from(["id", "uniform", "near", "far", "long-text"]))
def test_the_beginning_of_the_copy_is_accepted_and_nothing_else(seed, length, split):
    task = make("repeats", 31)
    examples = task.sample(np.random.default_rng(seed), split, [length])
    prompt, answer = task.read(examples, 0)
    assert task.accepts(prompt, answer)
    assert task.accepts(prompt, answer[:1])
    assert not task.accepts(prompt, (*answer[:-1], "x"))
    assert not task.accepts(prompt, ())


def test_chance_is_the_collision_probability():
    # At length 5 the answer is one token.
    task = make("repeats", 5)
    whole, scored = texts(task, "id", [5] * 20_000)
    answers = whole[scored].reshape(2, -1)
    assert np.mean(answers[0] == answers[1]) == pytest.approx(task.chance(5), abs=0.006)
    assert np.mean(whole[scored] == 0) == pytest.approx(
        task.baseline(5)["the most common token again and again"], abs=0.008
    )


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"two copies of 40 tokens.*max_len may be at most 31"):
        make("repeats", 40)
    with pytest.raises(UserError, match="cannot make length 21 on split 'three-copies': allowed are 5 to 20"):
        make("repeats", 25).sample(np.random.default_rng(0), "three-copies", [21])
    with pytest.raises(UserError, match="cannot make length 4"):
        make("repeats", 25).sample(np.random.default_rng(0), "id", [4])
