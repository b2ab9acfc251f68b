"""The battery's answers: their chance and baselines over all examples, and the laws that they keep."""

import math
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genlab.errors import UserError
from genlab.tasks import make

letters = st.lists(st.sampled_from("ab"), min_size=1, max_size=12)
numbers = st.integers(1, 2**40)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_chance_of_every_stack(length):
    task, shares = make("stack-manipulation", 8), Counter()
    for letters in range(1, max(length, 2)):
        actions = list(product(("+a", "+b", "pop"), repeat=length - letters))
        for stack in product("ab", repeat=letters):
            for rest in actions:
                shares[task.solve([*stack, *rest, ">"])] += 1 / 2**letters / len(actions) / max(length - 1, 1)
    assert math.isclose(sum(shares.values()), 1)
    assert math.isclose(task.chance(length), sum(p**2 for p in shares.values()))


@pytest.mark.parametrize("length", [2, 3, 6, 14])
def test_chance_of_every_product(length):
    values = Counter()
    for size in range(1, length):
        for a, b in product(range(2 ** (size - 1), 2**size), range(2 ** (length - size - 1), 2 ** (length - size))):
            values[a * b] += 1 / (length - 1) / 2 ** (length - 2)
    assert math.isclose(make("binary-multiplication", 20).chance(length), sum(p**2 for p in values.values()))


def test_chance_of_long_products_goes_on():
    task = make("binary-multiplication", 30)
    chances = [task.chance(length) for length in range(10, 31)]
    assert all(0.45 < after / before < 0.65 for before, after in pairwise(chances))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_baseline_of_the_missing_letter(length):
    right = total = 0.0
    for word in product((1, -1), repeat=length):
        for gap in range(length):
            shown = 2 * sum(word) - word[gap]
            right += (shown > 0) == (word[gap] > 0)
            total += 1
    assert math.isclose(make("missing-duplicate", 6).baseline(length).get("more frequent letter", 0.5), right / total)


@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_baseline_of_the_tie(length):
    words = list(product("ab", repeat=length))
    b_wins = sum(word.count("b") >= word.count("a") for word in words) / len(words)
    assert math.isclose(make("compare-occurrence", 6).baseline(length).get("always b", 0.5), b_wins)


@given(st.lists(st.sampled_from("01234"), min_size=1, max_size=15))
@settings(deadline=None, max_examples=40)
def test_sorting_a_sorted_word_changes_nothing(word):
    task = make("bucket-sort", 15)
    once = task.solve([*word, ">"])
    assert once == tuple(sorted(word)) == task.solve([*once, ">"])


@given(letters)
@settings(deadline=None, max_examples=40)
def test_odds_first_dealt_back(word):
    answer = make("odds-first", 12).solve([*word, ">"])
    odds, evens = answer[: (len(word) + 1) // 2], answer[(len(word) + 1) // 2 :]
    dealt = [pair[i] for pair in zip(odds, [*evens, None], strict=False) for i in (0, 1)]
    assert [letter for letter in dealt if letter] == word


@given(letters)
@settings(deadline=None, max_examples=40)
def test_what_is_pushed_is_popped(stack):
    task = make("stack-manipulation", 14)
    assert task.solve([*stack, "+a", "pop", ">"]) == task.solve([*stack, ">"]) == tuple(reversed(stack))
    assert task.solve([*stack, *["pop"] * (len(stack) + 1), "+b", ">"]) == ("b",)


@given(numbers, numbers)
@settings(deadline=None, max_examples=40)
def test_products_are_those_of_integers_either_way_round(a, b):
    forward, backward = make("binary-multiplication", 99, "forward"), make("binary-multiplication", 99)
    prompt = [*f"{a:b}", "*", *f"{b:b}"]
    answer = forward.solve([*prompt, ">"])
    assert int("".join(answer), 2) == a * b
    assert backward.solve([*prompt[::-1], ">"]) == answer[::-1]


@given(numbers)
@settings(deadline=None, max_examples=40)
def test_the_root_is_the_last_whose_square_is_not_above(number):
    root = int("".join(make("square-root", 41).solve([*f"{number:041b}", ">"])), 2)
    assert root**2 <= number < (root + 1) ** 2


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(0, 4))
@settings(deadline=None, max_examples=50)
def test_what_is_added_on_both_sides_changes_no_solution(seed, length, number):
    task = make("solve-equation", 9)
    prompt, answer = task.read(task.sample(np.random.default_rng(seed), "id", [length]), 0)
    *left, _, value, _ = prompt
    assert task.solve(["(", *left, "+", str(number), ")", "=", str((int(value) + number) % 5), ">"]) == answer


@pytest.mark.parametrize("name", ["binary-multiplication", "interlocked-pairing"])
def test_one_letter_or_bit_cannot_be_two_parts(name):
    with pytest.raises(UserError, match="allowed are 2 to 9"):
        make(name, 9).sample(np.random.default_rng(0), "id", [1])
