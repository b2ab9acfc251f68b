"""Pools of brackets without duplicates: drawn string by string, and as training draws them."""

import hashlib
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

import genlab
from genlab.errors import UserError
from genlab.spec import Split, TaskSpec
from genlab.tasks import make, words
from genlab.tasks.brackets import distinct_per_draw, nested_fraction, pool_counts

REDRAWS = ("same-length", "any-length")


def is_nested(string):
    while "()" in string:
        string = string.replace("()", "")
    return not string


def pool_by_hand(rng, pool, longest, redraw):
    """Half and half, duplicates removed, drawn one string at a time: {string}, {string}."""
    halves = (set(), set())
    for nested, strings in zip((True, False), halves, strict=True):
        while len(strings) < pool // 2:
            length = 2 + 2 * rng.binomial(longest // 2 - 1, 0.5)
            string = "()" if nested else bits(rng, length)
            while nested and (len(string) != length or not is_nested(string)):  # slow and obvious
                string = "".join(rng.permutation(list("()" * (length // 2))))
            while redraw == "same-length" and not nested and string.count("(") == length // 2:
                string = bits(rng, length)
            if nested or string.count("(") != length // 2:
                strings.add(string)
    return halves


def bits(rng, length):
    return "".join(rng.choice(list("()"), length))


@pytest.mark.parametrize("redraw", REDRAWS)
def test_labels_by_length_are_those_of_a_pool_without_duplicates(redraw):
    rng, pool, longest = np.random.default_rng(5), 400, 16
    counts = np.zeros((2, longest + 1))
    for _ in range(6):
        for row, strings in enumerate(pool_by_hand(rng, pool, longest, redraw)):
            counts[row] += np.bincount([len(s) for s in strings], minlength=longest + 1)
    task = make("brackets", longest, params={"redraw": redraw})
    split = Split(name="id", shift={"pool": pool, "longest": longest, "others": "unequal"})
    lengths, law = task.length_law(split, 2, longest)
    both = counts.sum(axis=0)[2::2]
    assert np.abs(both / both.sum() - law).max() < 0.02
    expected = np.array([nested_fraction(pool, longest, length, redraw) for length in lengths])
    found = counts[0, 2::2] / both
    many = both > 300
    assert many.sum() >= 4
    assert np.abs(found - expected)[many].max() < 0.05
    assert expected[2] < 0.3 < 0.55 < expected[-1]


@pytest.mark.parametrize("redraw", REDRAWS)
def test_a_pool_holds_each_string_once(redraw):
    binomial = stats.binom.pmf(np.arange(20), 19, 0.5)
    held = (
        np.array([distinct_per_draw(200_000, 40, length, redraw) for length in range(2, 41, 2)]) * binomial[:, None]
    )
    assert held.sum(axis=0) == pytest.approx([100_000, 100_000])
    assert held[3, 0] == pytest.approx(14, abs=0.01)  # all nested words of 8 brackets


@pytest.mark.parametrize(("half", "redraw"), [(0, "same-length"), (1, "same-length"), (1, "any-length")])
def test_strings_kept_are_those_of_an_enumeration(half, redraw):
    """Every string with its probability: it is in the pool unless none of the draws is it."""
    pool, longest = 30, 8
    binomial = dict(zip((2, 4, 6, 8), np.array([1, 3, 3, 1]) / 8, strict=True))
    allowed = (is_nested, lambda s: s.count("(") != s.count(")"))[half]
    lengths = np.array([n for n in binomial for w in product("()", repeat=n) if allowed("".join(w))])
    # A string has the length first drawn, unless a refused one takes its length along.
    anew = half and redraw == "any-length"
    of_length = np.array([2**length if anew else np.sum(lengths == length) for length in lengths])
    p = np.array([binomial[length] for length in lengths]) / of_length
    p /= p.sum()
    draws = brentq(lambda t: np.sum(-np.expm1(-t * p)) - pool / 2, 1, 1e6)
    for length in binomial:
        expected = np.sum(-np.expm1(-draws * p)[lengths == length]) / binomial[length]
        assert distinct_per_draw(pool, longest, length, redraw)[half] == pytest.approx(expected)


def test_with_duplicates_only_refusals_tell_the_length():
    binomial = stats.binom.pmf(np.arange(20), 19, 0.5)
    held = np.array([distinct_per_draw(0, 40, length, "any-length") for length in range(2, 41, 2)])
    assert binomial @ held == pytest.approx([1, 1])
    assert held[:, 0] == pytest.approx(1)
    assert held[0, 1] / held[1, 1] == pytest.approx((1 / 2) / (5 / 8))
    assert [distinct_per_draw(0, 40, length, "same-length") for length in (2, 20, 40)] == [(1, 1)] * 3


def test_length_alone_gives_the_label_of_the_published_fraction():
    """.637 in a released pool of 200,000; pools vary around what is expected by .001 (one standard deviation)."""

    def by_length_alone(task):
        lengths, law = task.length_law("id", 2, 40)
        return law @ [task.baseline(length)["length alone"] for length in lengths.tolist()]

    assert by_length_alone(make("brackets", 40)) == pytest.approx(0.637, abs=0.0015)
    assert by_length_alone(make("brackets", 40, params={"redraw": "any-length"})) < 0.634


def test_specs_from_before_there_was_a_choice_keep_their_pools_and_new_ones_take_the_published_law():
    old = TaskSpec(name="brackets", version=1, format="plain", max_len=40)
    assert make(old).params.redraw == "any-length"
    assert make("brackets", 40, params={"redraw": "any-length"}).spec == old
    assert make("brackets", 40).spec.params == {"redraw": "same-length"}
    assert genlab.plan("brackets", 40, params={"redraw": "any-length"}).specs[0].task == old
    assert genlab.plan("brackets", 40).specs[0].task.params == {"redraw": "same-length"}
    pools = [
        make(spec).sample_pool(*map(np.random.default_rng, (0, 0)), "id", 2, 40, 2000) for spec in (old, OLD_RULE)
    ]
    digests = [hashlib.sha256(pool.tokens.astype("<i8").tobytes()).hexdigest()[:12] for pool in pools]
    assert digests == [OLD_POOL, OLD_POOL]


OLD_RULE = TaskSpec(name="brackets", version=1, format="plain", max_len=40, params={"rule": "equal-count"})
OLD_POOL = "c1b2676d3810"
"""Of a pool that was drawn before there was a choice of `redraw`."""


# -- pools that training draws -------------------------------------------------------------------------------------


def pool_of(split, low, high, size, own=0, shared=0, redraw="same-length"):
    """Strings and labels of a pool."""
    task = make("brackets", max(high, 42), params={"redraw": redraw})
    rngs = np.random.default_rng(shared), np.random.default_rng(own)
    examples = task.sample_pool(*rngs, split, low, high, size)
    read = [task.read(examples, row) for row in range(size)]
    assert [len(prompt) - 2 for prompt, _ in read] == examples.lengths.tolist()
    return ["".join(prompt[1:-1]) for prompt, _ in read], [answer == ("True",) for _, answer in read]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(5, 7), st.integers(1, 60), st.integers(0, 2**32), st.sampled_from(REDRAWS))
def test_a_pool_holds_different_strings_half_of_them_nested(low, half, size, seed, redraw):
    strings, labels = pool_of("id", low, 2 * half, size, own=seed, redraw=redraw)
    assert len(set(strings)) == size
    assert sum(labels) == size // 2
    assert labels == [is_nested(s) for s in strings]
    assert all(nested or s.count("(") != s.count(")") for s, nested in zip(strings, labels, strict=True))
    lengths = [len(s) for s in strings]
    assert lengths == sorted(lengths)
    assert low <= lengths[0] <= lengths[-1] <= 2 * half


def test_pools_of_all_seeds_have_one_shape_and_strings_of_their_own():
    (one, labels), (same, _), (other, theirs) = (pool_of("id", 2, 16, 100, own=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert [(len(s), label) for s, label in zip(one, labels, strict=True)] == [
        (len(s), label) for s, label in zip(other, theirs, strict=True)
    ]


@pytest.mark.parametrize("redraw", REDRAWS)
def test_lengths_of_a_pool_are_those_that_drawing_one_by_one_leaves(redraw):
    rng, size, longest = np.random.default_rng(6), 100, 12
    drawn = [[Counter(map(len, half)) for half in pool_by_hand(rng, size, longest, redraw)] for _ in range(12)]
    for half in (0, 1):
        mean = [np.mean([pool[half][length] for pool in drawn]) for length in range(2, longest + 1, 2)]
        assert np.abs(pool_counts(size, longest, redraw)[half] - mean).max() < 3


@pytest.mark.parametrize(("size", "longest", "shortest"), [(200_000, 40, 2), (128, 10, 2), (7, 8, 4), (1, 6, 2)])
def test_no_length_gives_more_strings_than_there_are(size, longest, shortest):
    nested, others = pool_counts(size, longest, "same-length", shortest).tolist()
    assert (sum(nested), sum(others)) == (size // 2, size - size // 2)
    for length, *held in zip(range(shortest, longest + 1, 2), nested, others, strict=True):
        equal = stats.binom.pmf(length // 2, length, 0.5) * 2**length
        assert held[0] <= round(equal / (length // 2 + 1))
        assert held[1] <= round(2**length - equal)
    if size == 128:
        assert nested == [1, 2, 5, 14, 42]  # every nested word of up to 10 brackets


def test_each_string_is_as_likely_to_be_in_the_pool():
    found = Counter(s for seed in range(300) for s in pool_of("id", 6, 6, 6, own=seed)[0])
    nested = [s for s in found if is_nested(s)]
    assert (len(nested), len(found)) == (5, 5 + 64 - 20)
    # Drawn without repeats, so that counts vary less than those of independent draws: the test is a mild one.
    assert stats.chisquare([found[s] for s in nested]).pvalue > 1e-3
    assert stats.chisquare([found[s] for s in found if not is_nested(s)]).pvalue > 1e-3


def test_words_are_drawn_until_enough_are_different():
    rng = np.random.default_rng(0)
    all_words = words.different(lambda lengths: words.independent(rng, lengths), length=9, count=512)
    assert len({tuple(row) for row in all_words.tolist()}) == 512


def test_only_id_is_drawn_without_duplicates():
    for split in ("iid", "length-matched"):
        assert len(set(pool_of(split, 2, 8, 200)[0])) < 200


def test_a_pool_larger_than_all_strings_is_refused_before_training():
    message = (
        "a pool of 130 different strings of 2 to 10 brackets cannot be drawn: for its nested half there are only 64"
    )
    with pytest.raises(UserError, match=message):
        genlab.plan("brackets", 10, pool=130)
    with pytest.raises(UserError, match="only 64"):
        nested_fraction(1000, 10, 4, "same-length")
    assert genlab.plan("brackets", 10, pool=128).specs[0].train.pool == 128
    assert genlab.plan("brackets", 10, pool=130, train_split="iid").specs[0].train.pool == 130
