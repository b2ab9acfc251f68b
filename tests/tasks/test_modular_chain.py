"""Chains modulo m: values by hand, scores against every chain there is, operators at every length, padding."""

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
from genlab.tasks.modular_chain import result_table

FORMATS = ("sum", "left-to-right", "running", "precedence")

BY_HAND = [
    # format, params, prompt, answer
    ("sum", {}, "4 >", "4"),
    ("sum", {"modulus": 10}, "9 + 9 + 4 >", "2"),
    ("left-to-right", {}, "1 - 3 * 4 >", "2"),  # (1 - 3) * 4 = -8
    ("left-to-right", {"modulus": 7}, "2 * 3 - 6 * 5 >", "0"),
    ("running", {}, "1 - 3 * 4 >", "1 3 2"),
    ("precedence", {}, "1 - 3 * 4 >", "4"),  # 1 - 12 = -11
    ("precedence", {}, "2 * 3 * 4 + 1 - 2 * 2 >", "1"),  # 24 + 1 - 4 = 21
    ("precedence", {"modulus": 7, "operators": "*"}, "2 * 3 * 5 >", "2"),
]


def draw(task, split, lengths, seed=0):
    return task.sample(np.random.default_rng(seed), split, lengths)


def every_chain(task, length):
    """All prompts of a length, each as likely as any other on `id`."""
    numbers = product(map(str, range(task.params.modulus)), repeat=length)
    signs = list(product(task.params.operators, repeat=length - 1))
    for chain in numbers:
        for between in signs:
            rest = [token for pair in zip(between, chain[1:], strict=True) for token in pair]
            yield [chain[0], *rest, ">"]


@pytest.mark.parametrize(("format", "params", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(format, params, prompt, answer):
    assert make("modular-chain", 9, format, params).solve(prompt.split()) == tuple(answer.split())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("modulus", [2, 5, 9])
def test_samples_are_solved_whatever_the_padding(format, modulus):
    task = make("modular-chain", 9, format, {"modulus": modulus})
    for split in task.splits:
        examples = draw(task, split, [1, 9, 2, 5, 3] * 60)
        for row in range(len(examples)):
            prompt, answer = task.read(examples, row)
            assert task.solve(prompt) == answer
            assert len(prompt) == 2 * examples.lengths[row]
            assert len(prompt) + len(answer) + 1 == task.width(int(examples.lengths[row]))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_chance_and_baseline_of_every_chain(format, length):
    task = make("modular-chain", 9, format, {"modulus": 3})
    answers = Counter(task.solve(prompt) for prompt in every_chain(task, length))
    total = answers.total()
    assert math.isclose(task.chance(length), sum((c / total) ** 2 for c in answers.values()))
    most = task.baseline(length).get("most frequent answer")
    assert most is None or math.isclose(most, max(answers.values()) / total)


@pytest.mark.parametrize("format", ["left-to-right", "precedence"])
def test_no_operator_runs_out(format):
    task = make("modular-chain", 40, format)
    for length in (2, 3, 21, 40):
        prompts = draw(task, "id", [length] * 600).tokens[:, 1 : 2 * length - 1 : 2]
        counts = np.stack([(prompts == task.vocab.id(sign)).sum(axis=0) for sign in "+-*"])
        assert counts.shape[1] == length - 1
        assert stats.chisquare(counts, axis=0).pvalue.min() > 1e-5


@pytest.mark.parametrize("split", ["id", "nonzero", "zeros"])
def test_tokens_are_drawn_as_the_split_says(split):
    task = make("modular-chain", 12, "left-to-right")
    examples = draw(task, split, [12] * 2000)
    found = np.bincount(examples.tokens[:, :24].ravel(), minlength=len(task.vocab))
    stated = task.token_shares(task.split(split), 12)
    assert math.isclose(sum(stated.values()), 1)
    expected = np.array([stated.get(token, 0.0) for token in task.vocab.tokens]) * found.sum()
    drawn = expected > 0
    assert not found[~drawn].any()
    assert stats.chisquare(found[drawn], expected[drawn]).pvalue > 1e-4


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_sum_forgets_the_order_of_its_numbers(numbers, random):
    task = make("modular-chain", 8)
    shuffled = random.sample(numbers, len(numbers))
    first, second = (task.solve([*" + ".join(map(str, n)).split(), ">"]) for n in (numbers, shuffled))
    assert first == second == (str(sum(numbers) % 5),)


@given(st.integers(0, 2**32), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_running_ends_where_left_to_right_does(seed, length):
    running, plain = (make("modular-chain", 12, format) for format in ("running", "left-to-right"))
    prompt, answer = running.read(draw(running, "id", [length], seed), 0)
    assert plain.solve(prompt) == answer[-1:]
    assert running.judge(prompt, answer) == {"final_answer": True}
    assert running.judge(prompt, [*answer, "0", "1"])["final_answer"] == (answer[-1] == "1")
    assert plain.judge(prompt, answer) == {}


def test_result_table_by_hand():
    assert result_table(5, "-")[0, 1].tolist() == [1, 0, 4, 3, 2]


@pytest.mark.parametrize(
    ("format", "params", "says"),
    [
        ("sum", {"operators": "+*"}, "format 'sum' uses a selection of '\\+'"),
        (
            "precedence",
            {"operators": "+/"},
            r"operators '\+/' is not allowed: format 'precedence' uses a selection of",
        ),
        ("precedence", {"operators": "++"}, "each once"),
        ("precedence", {"operators": ""}, "each once"),
        ("sum", {"modulus": 1}, "modulus: 1 is not allowed"),
        ("tree", {}, "unknown format of task 'modular-chain':? 'tree'"),
    ],
)
def test_faults_are_named(format, params, says):
    with pytest.raises(UserError, match=says):
        make("modular-chain", 9, format, params)


def test_a_length_out_of_reach_is_refused():
    with pytest.raises(UserError, match="cannot make length 10"):
        draw(make("modular-chain", 9), "id", [9, 10])
