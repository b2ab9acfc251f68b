"""Parity: answers by hand, splits by their distribution, chance by enumeration."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make

BY_HAND = [
    ("plain", "0 1 1 0 1 >", "1"),
    ("plain", "0 0 >", "0"),
    ("running", "c 1 d 0 e 1 >", "c 1 d 1 e 0"),
    ("scratchpad", "a 0 b 0 c 1 d 1 e 0 >", "+ c - d +"),
    ("scratchpad", "b 0 c 0 >", "+"),
]


@pytest.mark.parametrize(("format", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(format, prompt, answer):
    assert make("parity", 6, format).solve(prompt.split()) == tuple(answer.split())


def ones(split: str, length: int, n: int) -> np.ndarray:
    task = make("parity", length)
    examples = task.sample(np.random.default_rng(2), split, [length] * n)
    return np.array([task.read(examples, row)[0].count("1") for row in range(n)])


@pytest.mark.parametrize(("split", "p_one"), [("id", 0.5), ("sparse", 0.1), ("dense", 0.9)])
def test_the_number_of_ones_is_binomial(split, p_one):
    expected = 4000 * stats.binom.pmf(range(7), 6, p_one)
    seen = np.bincount(ones(split, 6, 4000), minlength=7)
    common = expected > 5
    assert (
        stats.chisquare([*seen[common], seen[~common].sum() + 1], [*expected[common], expected[~common].sum() + 1])[1]
        > 1e-4
    )


def test_the_number_of_ones_is_uniform_where_the_split_says_so():
    assert stats.chisquare(np.bincount(ones("uniform-count", 6, 4000), minlength=7)).pvalue > 1e-4


@pytest.mark.parametrize("format", ["running", "scratchpad"])
def test_hint_windows_start_anywhere_alike(format):
    task = make("parity", 6, format)
    examples = task.sample(np.random.default_rng(2), "id", [3] * 4000)
    windows = Counter(task.read(examples, row)[0][0:6:2] for row in range(4000))
    assert set(windows) == {tuple("abc"), tuple("bcd"), tuple("cde"), tuple("def")}
    assert stats.chisquare(list(windows.values())).pvalue > 1e-4


@pytest.mark.parametrize("format", ["plain", "running", "scratchpad"])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_chance_is_that_two_answers_agree(format, length):
    task = make("parity", 4, format)
    answers = Counter()
    for start, bits in product(range(4 - length + 1), product("01", repeat=length)):
        hinted = [token for hint, bit in zip("abcd"[start:], bits, strict=False) for token in (hint, bit)]
        answers[task.solve([*(bits if format == "plain" else hinted), ">"])] += 1
    shares = np.array(list(answers.values())) / answers.total()
    assert task.chance(length) == pytest.approx(float(np.sum(shares**2)))


def test_the_final_answer_is_judged_apart_from_the_scratchpad():
    task = make("parity", 6, "scratchpad")
    prompt = ["a", "1", "b", "0", "c", "1", ">"]
    assert task.judge(prompt, ["+", "a", "+", "c", "+"]) == {"final_answer": True}
    assert task.judge(prompt, ["+", "a", "-", "c"]) == {"final_answer": False}
    assert task.judge(prompt, ()) == {"final_answer": False}
    assert not make("parity", 6).judges


def test_lengths_beyond_the_hints_are_refused():
    with pytest.raises(
        UserError, match=r"cannot make length 7 on split 'id': allowed are 1 to 6 bits \(--max-len sets"
    ):
        make("parity", 6, "running").sample(np.random.default_rng(0), "id", [3, 7])
