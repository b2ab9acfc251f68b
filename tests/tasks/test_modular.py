"""One modular operation on pairs: answers by hand, the division of the pairs, even draws, and faults named."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.modular import equally_often, is_prime

S3 = "0 1 2 3 4 5;1 2 0 4 5 3;2 0 1 5 3 4;3 5 4 0 2 1;4 3 5 1 0 2;5 4 3 2 1 0"

BY_HAND = [
    # format, params, prompt, answer
    ("plain", {"p": 97, "op": "a+b"}, "90 + 10 >", "3"),
    ("plain", {"p": 7, "op": "a-b"}, "2 - 5 >", "4"),
    ("plain", {"p": 7, "op": "a*b"}, "4 * 5 >", "6"),
    ("plain", {"p": 7, "op": "a/b"}, "1 / 3 >", "5"),
    ("plain", {"p": 11, "op": "a^2+b^2"}, "5 o 6 >", "6"),
    ("plain", {"p": 11, "op": "a^3+ab"}, "3 o 4 >", "6"),
    ("bare", {"p": 113, "op": "a+b"}, "100 20 >", "7"),
    ("bare", {"op": "table", "table": S3}, "3 1 >", "5"),
]


def draw(task, split, n, seed=0):
    return task.sample(np.random.default_rng(seed), split, [1] * n)


def pairs_of(task, split):
    return set(zip(task.left[task.pairs(split)].tolist(), task.right[task.pairs(split)].tolist(), strict=True))


@pytest.mark.parametrize(("format", "params", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(format, params, prompt, answer):
    assert make("modular", 1, format, params).solve(prompt.split()) == (answer,)


@pytest.mark.parametrize("format", ["plain", "bare"])
@pytest.mark.parametrize("op", ["a+b", "a-b", "a*b", "a/b", "a^2+b^2", "a^3+ab", "table"])
def test_every_pair_is_solved(op, format):
    params = {"op": "table", "table": S3} if op == "table" else {"p": 7, "op": op}
    task = make("modular", 1, format, params)
    for split in ("train", "id"):
        examples = draw(task, split, len(task.pairs(split)))
        for row in range(len(examples)):
            prompt, answer = task.read(examples, row)
            assert task.solve(prompt) == answer
            assert len(prompt) + len(answer) + 1 == task.width(1)


@given(
    p=st.sampled_from([5, 7, 11]),
    fraction=st.floats(0.2, 0.8),
    seed=st.integers(0, 5),
    op=st.sampled_from(["a+b", "a/b"]),
)
@settings(max_examples=25, deadline=None)
def test_trained_and_held_out_pairs_divide_all(p, fraction, seed, op):
    task = make("modular", 1, params={"p": p, "op": op, "train_fraction": fraction, "division_seed": seed})
    train, held_out = pairs_of(task, "train"), pairs_of(task, "id")
    assert not train & held_out
    assert len(train | held_out) == (p * (p - 1) if op == "a/b" else p * p)
    assert len(train) == round(fraction * len(train | held_out))


def test_division_is_of_its_seed_alone():
    first, same, other = (make("modular", 1, params={"p": 11, "division_seed": s}) for s in (3, 3, 4))
    assert pairs_of(first, "train") == pairs_of(same, "train") != pairs_of(other, "train")


def test_mirror_splits_say_where_the_mirror_is():
    task = make("modular", 1, params={"p": 11})
    train = pairs_of(task, "train")
    mirrored, unmirrored = pairs_of(task, "mirror-trained"), pairs_of(task, "mirror-held-out")
    assert mirrored | unmirrored == pairs_of(task, "id")
    assert all((b, a) in train for a, b in mirrored)
    assert not any((b, a) in train for a, b in unmirrored)


def test_as_many_draws_as_pairs_are_every_pair_once():
    task = make("modular", 1, params={"p": 11})
    examples = draw(task, "train", 2 * len(task.pairs("train")))
    counts = np.unique(examples.tokens[:, [0, 2]], axis=0, return_counts=True)[1]
    assert len(counts) == len(task.pairs("train"))
    assert set(counts.tolist()) == {2}


@given(items=st.integers(1, 9), n=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_equally_often(items, n):
    counts = np.bincount(equally_often(np.random.default_rng(n), items, n), minlength=items)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1


def test_chance_is_the_collision_of_two_held_out_answers():
    task = make("modular", 1, params={"p": 7, "op": "a*b"})
    answers = [a * b % 7 for a, b in pairs_of(task, "id")]
    agree = np.mean([x == y for x in answers for y in answers])
    assert math.isclose(task.chance(1), agree)


def test_baselines_are_scores_of_their_rules():
    task = make("modular", 1, params={"p": 7, "op": "a*b"})
    train, held_out = pairs_of(task, "train"), pairs_of(task, "id")
    scores = task.baseline(1)
    assert math.isclose(scores["trained mirror pair"], np.mean([(b, a) in train for a, b in held_out]))
    _, most = Counter(a * b % 7 for a, b in held_out).most_common(1)[0]
    assert math.isclose(scores["most frequent answer"], most / len(held_out))
    # a - b is the negative of b - a: the mirror tells the answer only where both are 0, and such pairs have a = b.
    assert "trained mirror pair" not in make("modular", 1, params={"p": 7, "op": "a-b"}).baseline(1)


def test_token_shares_are_those_of_the_prompts():
    task = make("modular", 1, params={"p": 5})
    examples = draw(task, "id", len(task.pairs("id")))
    shares = np.bincount(examples.tokens[:, :4].ravel(), minlength=len(task.vocab)) / examples.tokens[:, :4].size
    stated = task.token_shares(task.split("id"), 1)
    assert {t: s for t, s in zip(task.vocab.tokens, shares, strict=True) if s} == pytest.approx(stated)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"p": 12, "op": "a/b"}, "needs a prime p, not 12; nearest prime: 11"),
        ({"op": "a**b"}, r"'a\*\*b'.*a\^3\+ab"),
        ({"op": "table"}, "was given no table"),
        ({"table": "0 1;1 0"}, "no other op takes one"),
        ({"op": "table", "table": "0 1;1"}, "rows of"),
        ({"op": "table", "table": "0 1;1 0;0 0", "p": 2}, "in 3 rows"),
        ({"op": "table", "table": "0 1;1 2"}, "not numbers from 0 to 1"),
        ({"p": 3, "train_fraction": 0.01}, "allowed are 1 to 8"),
        ({"modulus": 5}, "unknown option 'modulus'"),
    ],
)
def test_faults_are_named(params, says):
    with pytest.raises(UserError, match=says):
        make("modular", 1, params=params)


def test_lengths_beyond_one_are_refused_not_changed():
    with pytest.raises(UserError, match=r"cannot make length 2.*allowed are 1 to 1 pairs"):
        make("modular", 4).sample(np.random.default_rng(0), "id", [2])


def test_a_split_without_pairs_says_so():
    with pytest.raises(UserError, match="no pair is mirror-trained"):
        draw(make("modular", 1, params={"p": 2, "op": "a/b"}), "mirror-trained", 1)


def test_primes():
    assert [n for n in range(30) if is_prime(n)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
