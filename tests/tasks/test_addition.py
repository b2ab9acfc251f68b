"""Addition: answers by hand, carry chains by their definition, splits by their distribution."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import Task, check_task, make

BY_HAND = [
    # format, params, prompt, answer
    ("forward", {}, "0 5 8 + 0 6 7 >", "1 2 5"),
    ("forward", {}, "0 9 + 0 1 2 3 >", "0 1 3 2"),
    ("forward", {"leading_zero": False}, "0 4 + 0 3 >", "0 7"),
    ("forward", {"leading_zero": False}, "9 9 9 + 1 >", "1 0 0 0"),
    ("forward", {"base": 2}, "0 1 1 + 0 0 1 >", "1 0 0"),
    ("reversed", {}, "0 1 2 3 + 0 9 9 9 >", "2 2 1 1"),
    ("reversed", {"base": 2, "leading_zero": False}, "1 0 1 + 1 1 >", "0 0 0 1"),
    ("forward-hints", {}, "c 0 d 5 + c 0 d 7 >", "c 1 d 2"),
    ("forward-hints", {"leading_zero": False}, "b 5 + b 7 >", "a 1 b 2"),
    ("reversed-hints", {}, "a 0 b 5 + a 0 b 7 >", "b 2 a 1"),
    ("reversed-hints", {}, "b 0 c 4 + a 0 b 2 c 8 >", "c 2 b 3 a 0"),
    ("reversed-hints", {"base": 2, "leading_zero": False}, "b 1 c 0 + c 1 >", "c 1 b 1"),
]


@pytest.mark.parametrize(("format", "params", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(format, params, prompt, answer):
    task = make("addition", 5, format, params)
    assert task.solve(prompt.split()) == tuple(answer.split())


@pytest.mark.parametrize("params", [{"base": 2}, {"leading_zero": False}, {"base": 2, "leading_zero": False}])
@pytest.mark.parametrize("format", ["forward", "reversed", "forward-hints", "reversed-hints"])
def test_every_base_and_zero_keeps_the_contract(format, params):
    check_task(make("addition", 7, format, params))


def slow_chain(left: str, right: str, base: int) -> int:
    """1 + the propagating places right after a generating one, the longest such, place by place."""
    width = max(len(left), len(right))
    sums = [int(a) + int(b) for a, b in zip(left.zfill(width)[::-1], right.zfill(width)[::-1], strict=True)]
    longest = chain = 0
    for digit_sum in sums:
        if digit_sum >= base:
            chain = 1
        elif digit_sum == base - 1 and chain:
            chain += 1
        else:
            chain = 0
        longest = max(longest, chain)
    return longest


@pytest.mark.parametrize("base", [2, 10])
@pytest.mark.parametrize("format", ["forward", "reversed-hints"])
def test_carry_chain_is_the_longest_by_definition(format, base):
    task = make("addition", 9, format, {"base": base})
    for split in task.splits:
        examples = draw(task, split, [2, 9, 5, 7] * 25)
        found = task.factors(examples)["carry_chain"]
        for row in range(len(examples)):
            prompt, _ = task.read(examples, row)
            digits = "".join(token for token in prompt if token.isdigit() or token == "+")
            assert found[row] == slow_chain(*digits.split("+"), base)


@pytest.mark.parametrize("base", [2, 10])
def test_balanced_chains_have_uniform_length_and_place(base):
    task = make("addition", 6, params={"base": base})
    examples = draw(task, "balanced", [6] * 7000)
    chains = task.factors(examples)["carry_chain"]
    assert stats.chisquare(np.bincount(chains, minlength=7)).pvalue > 1e-4
    starts = [first_generating(task, examples, row, base) for row in np.flatnonzero(chains == 3)]
    assert stats.chisquare(np.bincount(starts, minlength=4)).pvalue > 1e-4


def first_generating(task, examples, row, base):
    prompt, _ = task.read(examples, row)
    left, right = ("".join(prompt[:-1])).split("+")
    sums = [int(a) + int(b) for a, b in zip(left[::-1], right[::-1], strict=True)]
    return next(place for place, digit_sum in enumerate(sums) if digit_sum >= base)


def test_carry_splits_carry_as_they_say():
    task = make("addition", 12)
    lengths = np.array([3, 12, 7] * 100)
    assert (task.factors(draw(task, "long-carry", lengths))["carry_chain"] == lengths).all()
    assert not task.factors(draw(task, "no-carry", lengths))["carry_chain"].any()


def test_unequal_operands_differ_on_either_side_uniformly():
    task = make("addition", 5, params={"leading_zero": False})
    examples = draw(task, "unequal", [5] * 4000)
    counts = np.zeros((2, 6), int)
    for row in range(len(examples)):
        left, right = "".join(task.read(examples, row)[0][:-1]).split("+")
        assert max(len(left), len(right)) == 5
        counts[int(len(right) < 5), min(len(left), len(right))] += 1
    assert stats.chisquare(counts[:, 1:5].ravel()).pvalue > 1e-4


@pytest.mark.parametrize(("base", "length"), [(2, 1), (2, 4), (10, 2)])
def test_chance_is_that_two_sums_agree(base, length):
    numbers = range(base**length)
    sums = np.bincount([a + b for a, b in product(numbers, numbers)])
    task = make("addition", 4, params={"base": base})
    assert task.chance(length) == pytest.approx(float(np.sum((sums / sums.sum()) ** 2)))


@pytest.mark.parametrize(("base", "length"), [(2, 5), (10, 2)])
def test_baselines_are_how_often_the_shortcut_is_right(base, length):
    task = make("addition", 6, params={"base": base})
    digits = [np.base_repr(number, base).zfill(length) for number in range(base**length)]
    chains = np.array([slow_chain(a, b, base) for a, b in product(digits, digits)])
    expected = {"no carry": (chains == 0).mean(), "carry over one place": (chains <= 1).mean()}
    assert task.baseline(length) == pytest.approx(expected)


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(UserError, match="unknown base '3'"):
        make("addition", 5, params={"base": 3})
    with pytest.raises(UserError, match="cannot make length 1 on split 'unequal': allowed are 2 to 5 digits"):
        draw(make("addition", 5), "unequal", [3, 1])
    with pytest.raises(UserError, match="there is no hint before 'a'"):
        make("addition", 5, "forward-hints", {"leading_zero": False}).solve(["a", "5", "+", "a", "7", ">"])


def draw(task: Task, split, lengths):
    return task.sample(np.random.default_rng(5), split, lengths)
