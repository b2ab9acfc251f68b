"""Bracketed expressions: values by hand, shapes by their definition, scores against every expression there is."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make

BY_HAND = [
    ({}, "3 >", "3"),
    ({}, "( 1 - 4 ) >", "2"),
    ({}, "( 2 * ( 3 + 4 ) ) >", "4"),
    ({}, "( ( 2 * 3 ) + 4 ) >", "0"),
    ({"modulus": 7}, "( ( 1 - 2 ) * ( 3 - ( 6 + 6 ) ) ) >", "2"),  # -1 * -9
]


def draw(task, split, lengths, seed=0):
    return task.sample(np.random.default_rng(seed), split, lengths)


def every_shape(count):
    """All orders of applying `count - 1` operators, as expressions over `n` with `.` for the operators."""
    if count == 1:
        yield "n", 1.0
    for left in range(1, count):
        for (a, p), (b, q) in product(list(every_shape(left)), list(every_shape(count - left))):
            yield f"( {a} . {b} )", p * q / (count - 1)


def depth(tokens):
    return max((tokens[: i + 1].count("(") - tokens[: i + 1].count(")") for i in range(len(tokens))), default=0)


@pytest.mark.parametrize(("params", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(params, prompt, answer):
    assert make("modular-brackets", 9, params=params).solve(prompt.split()) == (answer,)


@pytest.mark.parametrize("params", [{}, {"modulus": 2}, {"modulus": 11, "operators": "-*"}, {"operators": "+"}])
def test_samples_are_solved_whatever_the_padding(params):
    task = make("modular-brackets", 9, params=params)
    for split in task.splits:
        examples = draw(task, split, [1, 9, 2, 5, 3] * 60)
        depths = task.factors(examples)["depth"]
        for row in range(len(examples)):
            prompt, answer = task.read(examples, row)
            assert task.solve(prompt) == answer
            assert sum(token.isdigit() for token in prompt) == examples.lengths[row]
            assert len(prompt) + len(answer) + 1 == task.width(int(examples.lengths[row]))
            assert depths[row] == depth(list(prompt))


@pytest.mark.parametrize(
    ("split", "shape"),
    [
        ("left", "( ( ( ( n . n ) . n ) . n ) . n )"),
        ("right", "( n . ( n . ( n . ( n . n ) ) ) )"),
        ("shallow", "( ( ( n . n ) . ( n . n ) ) . n )"),
    ],
)
def test_shape_of_each_split(split, shape):
    task = make("modular-brackets", 5)
    examples = draw(task, split, [5] * 20 + [3] * 20)
    for row in range(20):
        prompt, _ = task.read(examples, row)
        assert [{"(": "(", ")": ")"}.get(t, "n" if t.isdigit() else ".") for t in prompt[:-1]] == shape.split()


def test_every_shape_is_drawn_as_often_as_the_outermost_operator_says():
    task = make("modular-brackets", 4, params={"modulus": 2, "operators": "+"})
    examples = draw(task, "id", [4] * 6000)
    names = str.maketrans({"0": "n", "1": "n", "+": "."})
    found = Counter(" ".join(task.read(examples, row)[0][:-1]).translate(names) for row in range(6000))
    shapes = dict(every_shape(4))
    assert set(found) == set(shapes)
    assert stats.chisquare([found[s] for s in shapes], [6000 * p for p in shapes.values()]).pvalue > 1e-4


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_chance_and_baseline_of_every_expression(length):
    task = make("modular-brackets", 6, params={"modulus": 3})
    shares: Counter[tuple[str, ...]] = Counter()
    for shape, p in every_shape(length):
        for numbers in product("012", repeat=length):
            for signs in product("+-*", repeat=length - 1):
                n, s = iter(numbers), iter(signs)
                prompt = [next(n) if t == "n" else next(s) if t == "." else t for t in shape.split()]
                shares[task.solve([*prompt, ">"])] += p / 3**length / 3 ** (length - 1)
    assert math.isclose(task.chance(length), sum(p**2 for p in shares.values()))
    assert math.isclose(task.baseline(length).get("most frequent answer", 1 / 3), max(shares.values()))


def test_no_operator_runs_out():
    task = make("modular-brackets", 30)
    for length in (2, 3, 16, 30):
        tokens = draw(task, "id", [length] * 500).tokens
        counts = [int((tokens == task.vocab.id(sign)).sum()) for sign in "+-*"]
        assert sum(counts) == 500 * (length - 1)
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("split", ["id", "left", "nonzero"])
def test_tokens_are_drawn_as_the_split_says(split):
    task = make("modular-brackets", 10)
    examples = draw(task, split, [10] * 1500)
    stated = task.token_shares(task.split(split), 10)
    found = np.bincount(examples.tokens[:, :38].ravel(), minlength=len(task.vocab)) / (1500 * 38)
    assert math.isclose(sum(stated.values()), 1)
    for token, share in zip(task.vocab.tokens, found, strict=True):
        assert share == pytest.approx(stated.get(token, 0.0), abs=0.005)


@given(st.integers(0, 2**32), st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_brackets_around_and_zero_added_change_nothing(seed, length):
    task = make("modular-brackets", 12)
    prompt, answer = task.read(draw(task, "id", [length], seed), 0)
    assert task.solve(["(", *prompt[:-1], "+", "0", ")", ">"]) == answer
    assert task.solve(["(", "0", "+", *prompt[:-1], ")", ">"]) == answer


@pytest.mark.parametrize("operators", ["", "+/", "**"])
def test_operators_are_checked(operators):
    with pytest.raises(UserError, match="use a selection of"):
        make("modular-brackets", 9, params={"operators": operators})
