"""Sort: answers by hand, splits by their distribution, the counting shortcut by enumeration."""

from collections import Counter
from itertools import combinations
from math import ceil

import numpy as np
import pytest
from scipy import stats

from genlab.errors import UserError
from genlab.spec import TaskSpec
from genlab.tasks import Task, check_task, make


def prompts(task: Task, split, lengths) -> list[list[int]]:
    examples = task.sample(np.random.default_rng(3), split, lengths)
    return [[int(item) for item in task.read(examples, row)[0][:-1]] for row in range(len(examples))]


@pytest.mark.parametrize(("prompt", "answer"), [("11 2 >", "2 11"), ("0 >", "0"), ("5 4 3 9 >", "3 4 5 9")])
def test_solve_by_hand(prompt, answer):
    assert make("sort", 6).solve(prompt.split()) == tuple(answer.split())


def test_sorting_twice_is_sorting_once():
    task = make("sort", 9)
    for items in prompts(task, "id", [1, 9, 4] * 20):
        once = task.solve([*map(str, items), ">"])
        assert task.solve([*once, ">"]) == once


def test_every_ordered_choice_is_equally_likely():
    drawn = Counter(tuple(items) for items in prompts(make("sort", 2), "id", [2] * 6000))
    assert len(drawn) == 4 * 3
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-4


def test_values_come_from_the_half_or_the_window_that_the_split_names():
    task, lengths = make("sort", 10), [10, 3, 6] * 100
    assert max(max(items) for items in prompts(task, "low", lengths)) == 9
    assert min(min(items) for items in prompts(task, "high", lengths)) == 10
    spans = [(len(items), max(items) - min(items) + 1) for items in prompts(task, "window", lengths)]
    assert all(span <= ceil(1.5 * length) for length, span in spans)
    assert {span for length, span in spans if length == 6} == {6, 7, 8, 9}
    starts = Counter(min(items) for items in prompts(make("sort", 5), "window", [1] * 5000))
    expected = np.array([1, *[2] * 8, 1]) / 18  # one of two neighbouring values, nine such windows
    assert stats.chisquare([starts[value] for value in range(10)], 5000 * expected).pvalue > 1e-4


def test_nearly_sorted_moves_items_by_two_places_at_most():
    moved = []
    for items in prompts(make("sort", 12), "nearly-sorted", [12, 2, 7] * 100):
        moved += [abs(place - items.index(item)) for place, item in enumerate(sorted(items))]
    assert set(moved) == {0, 1, 2}


def test_reversed_falls():
    for items in prompts(make("sort", 12), "reversed", [12, 2, 7] * 20):
        assert items == sorted(items, reverse=True)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_counting_is_right_on_consecutive_items(length):
    task = make("sort", 4, params={"symbols": 6})
    sets = list(combinations(range(6), length))
    consecutive = [items for items in sets if list(items) == list(range(items[0], items[0] + length))]
    assert task.baseline(length)["counting"] == pytest.approx(len(consecutive) / len(sets))
    assert task.chance(length) == pytest.approx(1 / len(sets))


def test_symbols_are_twice_the_longest_length_unless_given():
    assert make("sort", 7).spec.params == {"symbols": 14}
    assert make("sort", 7, params={"symbols": 9}).spec.params == {"symbols": 9}


@pytest.mark.parametrize("symbols", [6, 7, 30])
def test_any_number_of_symbols_keeps_the_contract(symbols):
    check_task(make("sort", 6, params={"symbols": symbols}))


def test_too_few_symbols_are_refused():
    with pytest.raises(UserError, match="max_len 7 needs at least 7 symbols for its distinct items, not 6"):
        make("sort", 7, params={"symbols": 6})
    with pytest.raises(UserError, match="not 0"):
        make(TaskSpec(name="sort", version=1, format="plain", max_len=7, params={"symbols": 0}))


@pytest.mark.parametrize(("split", "longest"), [("low", 4), ("high", 4), ("window", 6), ("nearly-sorted", 8)])
def test_with_few_symbols_a_split_says_how_long_it_can_be(split, longest):
    task = make("sort", 8, params={"symbols": 9})
    assert len(prompts(task, split, [longest])[0]) == longest
    with pytest.raises(UserError, match=f"allowed are 1 to {longest} items"):
        prompts(task, split, [longest + 1])
