"""Count, mode, majority: answers by hand, conditions on the draw, chance by enumeration."""

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
    ("count", "plain", "3 7 >", "3 4 5 6 7"),
    ("count", "plain", "9 10 >", "9 10"),
    ("count", "plain", "0 0 >", "0"),
    ("mode", "plain", "a b b c >", "b"),
    ("mode", "plain", "e >", "e"),
    ("mode", "by-symbol", "e a e >", "a 1 e 2 e"),
    ("mode", "by-symbol", "d d >", "d 2 d"),
    ("mode", "by-count", "b c a c b c >", "1 a 2 b 3 c"),
    ("mode", "by-count", "d b a d >", "1 a 1 b 2 d"),
    ("majority", "plain", "0 1 1 >", "1"),
    ("majority", "plain", "0 0 0 1 1 >", "0"),
]


def prompts(task, split, lengths, seed=0):
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    return [task.read(examples, row)[0][:-1] for row in range(len(examples))]


@pytest.mark.parametrize(("name", "format", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(name, format, prompt, answer):
    assert make(name, 8, format).solve(prompt.split()) == tuple(answer.split())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([("count", "plain"), ("mode", "plain"), ("mode", "by-symbol"), ("mode", "by-count"),
                        ("majority", "plain")]),
       st.integers(0, 2), st.lists(st.integers(3, 9), min_size=1, max_size=8), st.integers(0, 2**32))  # fmt: skip
def test_samples_are_solved(task, split, lengths, seed):
    task = make(task[0], 9, task[1])
    chosen = list(task.splits)[split]
    examples = task.sample(np.random.default_rng(seed), chosen, lengths)
    for row in range(len(examples)):
        prompt, answer = task.read(examples, row)
        assert task.solve(prompt) == answer
        assert len(prompt) + len(answer) + 1 <= task.width(lengths[row])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(1, 10))
def test_counting_on_continues_a_count(first, steps):
    task = make("count", 20)
    shorter = task.solve([str(first), str(first + steps - 1), ">"])
    assert task.solve([str(first), str(first + steps), ">"]) == (*shorter, str(first + steps))


@settings(max_examples=40, deadline=None)
@given(st.text("abcde", min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_symbols_does_not_change_the_mode(text, random):
    top = Counter(text).most_common(2)
    if len(top) == 2 and top[0][1] == top[1][1]:
        return
    shuffled = random.sample(list(text), len(text))
    for format in ("plain", "by-symbol", "by-count"):
        task = make("mode", 12, format)
        assert task.solve([*text, ">"]) == task.solve([*shuffled, ">"])


def test_the_first_number_is_uniform_among_those_with_room():
    task = make("count", 8)
    firsts = [int(p[0]) for p in prompts(task, "id", [5] * 4000)]
    assert (min(firsts), max(firsts)) == (0, 11)
    assert stats.chisquare(np.bincount(firsts, minlength=12)).pvalue > 1e-3


def test_halves_of_the_numbers_do_not_meet():
    task = make("count", 8)
    low = {int(x) for p in prompts(task, "low", [4] * 300) for x in p}
    high = {int(x) for p in prompts(task, "high", [4] * 300) for x in p}
    assert (min(low), max(low), min(high), max(high)) == (0, 7, 8, 15)


@pytest.mark.parametrize(("name", "symbols", "k"), [("mode", "abcde", 5), ("majority", "01", 2)])
def test_strings_with_a_mode_are_uniform(name, symbols, k):
    task = make(name, 8)
    length = 3
    allowed = [s for s in product(symbols, repeat=length) if _lead(s) > 0]
    drawn = Counter(prompts(task, "id", [length] * 40 * len(allowed)))
    assert set(drawn) == set(allowed)
    assert stats.chisquare([drawn[s] for s in allowed]).pvalue > 1e-3


def _lead(string):
    counts = [c for _, c in Counter(string).most_common(2)]
    return counts[0] - (counts[1] if len(counts) > 1 else 0)


@pytest.mark.parametrize("name", ["mode", "majority"])
@pytest.mark.parametrize("split", ["id", "skewed", "close"])
def test_leads_are_as_the_split_says(name, split):
    task = make(name, 12)
    examples = task.sample(np.random.default_rng(1), split, np.arange(1, 13).repeat(20))
    leads = np.array([_lead(task.read(examples, row)[0][:-1]) for row in range(len(examples))])
    assert leads.min() >= 1
    assert (leads.max() <= 2) == (split == "close")
    assert (task.factors(examples)["lead"] == np.minimum(leads, 5)).all()


def test_a_favoured_symbol_takes_its_share():
    mode = [Counter(p).most_common(1)[0][1] for p in prompts(make("mode", 200), "skewed", [200] * 50)]
    assert abs(np.mean(mode) / 200 - (0.5 + 0.5 / 5)) < 0.02


@pytest.mark.parametrize(("format", "length", "k"), [("by-symbol", 4, 3), ("by-count", 5, 2), ("by-count", 3, 4)])
def test_chance_by_enumeration(format, length, k):
    task = make("mode", 8, format, {"symbols": k})
    letters = "abcd"[:k]
    answers = Counter(task.solve([*s, ">"]) for s in product(letters, repeat=length) if _lead(s) > 0)
    total = sum(answers.values())
    assert task.chance(length) == pytest.approx(sum((n / total) ** 2 for n in answers.values()))


def test_the_final_answer_is_judged_alone():
    task = make("mode", 8, "by-count")
    prompt = list("abbc>")
    assert task.judge(prompt, list("9c2b")) == {"final_answer": True}
    assert task.judge(prompt, list("1a2b1c")) == {"final_answer": False}
    assert task.judge(prompt, ()) == {"final_answer": False}


def test_too_few_numbers_is_one_clear_line():
    with pytest.raises(
        UserError, match="cannot count 8 numbers out of 5: the parameter numbers must be at least max_len, 8"
    ):
        make("count", 8, params={"numbers": 5})
    with pytest.raises(UserError, match="allowed are 1 to 4 numbers counted"):
        make("count", 8, params={"numbers": 8}).sample(np.random.default_rng(0), "low", [5])
