"""Copy: answers by hand, splits by their distribution."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from genlab.errors import UserError
from genlab.spec import TaskSpec
from genlab.tasks import Task, check_task, make

FORMATS = ["unique", "repeats", "reverse"]


def prompts(task: Task, split, lengths) -> list[list[int]]:
    examples = task.sample(np.random.default_rng(3), split, lengths)
    return [[int(item) for item in task.read(examples, row)[0][:-1]] for row in range(len(examples))]


@pytest.mark.parametrize(
    ("format", "prompt", "answer"),
    [("unique", "3 11 0 >", "3 11 0"), ("repeats", "0 0 1 0 >", "0 0 1 0"), ("reverse", "3 11 0 >", "0 11 3")],
)
def test_solve_by_hand(format, prompt, answer):
    assert make("copy", 8, format).solve(prompt.split()) == tuple(answer.split())


def test_reversing_twice_is_copying():
    task = make("copy", 8, "reverse")
    for items in prompts(task, "id", [8, 1, 5] * 10):
        prompt = tuple(map(str, items))
        assert task.solve([*task.solve([*prompt, ">"]), ">"]) == prompt


@pytest.mark.parametrize(("format", "symbols", "strings"), [("unique", 4, 12), ("reverse", 4, 12), ("repeats", 3, 9)])
def test_every_string_is_equally_likely(format, symbols, strings):
    task = make("copy", 2, format, {"symbols": symbols})
    drawn = Counter(tuple(items) for items in prompts(task, "id", [2] * 6000))
    assert len(drawn) == strings
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-4
    assert task.chance(2) == pytest.approx(1 / strings)


def test_skewed_symbols_are_drawn_by_weight_among_those_left():
    weights = np.array([1, 1 / 4, 1 / 9])
    drawn = Counter(tuple(items) for items in prompts(make("copy", 2, params={"symbols": 3}), "skewed", [2] * 8000))
    expected = {
        (a, b): weights[a] / weights.sum() * weights[b] / (weights.sum() - weights[a])
        for a in range(3)
        for b in range(3)
        if a != b
    }
    assert stats.chisquare([drawn[pair] for pair in expected], [8000 * p for p in expected.values()]).pvalue > 1e-4


@pytest.mark.parametrize("format", FORMATS)
def test_order_splits_are_in_order(format):
    task, lengths = make("copy", 9, format), [9, 2, 5] * 30
    assert all(items == sorted(items) for items in prompts(task, "rising", lengths))
    assert all(items == sorted(items, reverse=True) for items in prompts(task, "falling", lengths))
    n = task.params.model_dump()["symbols"]
    cyclic = prompts(task, "cyclic", lengths)
    assert all((b - a) % n == 1 for items in cyclic for a, b in pairwise(items))
    assert {items[0] for items in cyclic} == set(range(n))


@pytest.mark.parametrize("format", FORMATS)
def test_every_split_has_the_length_asked_for(format):
    task = make("copy", 9, format)
    for split in task.splits:
        assert [len(items) for items in prompts(task, split, [9, 1, 5])] == [9, 1, 5]


def test_the_default_alphabet_fits_the_format():
    assert [make("copy", 9, format).spec.params["symbols"] for format in FORMATS] == [13, 2, 13]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("symbols", [7, 20])
def test_any_alphabet_keeps_the_contract(format, symbols):
    check_task(make("copy", 7, format, {"symbols": symbols}))


def test_too_small_an_alphabet_is_refused():
    with pytest.raises(UserError, match="max_len 9 needs at least 9 symbols for its distinct items, not 8"):
        make("copy", 9, "reverse", {"symbols": 8})
    with pytest.raises(UserError, match="at least 2 symbols, not 1"):
        make("copy", 9, "repeats", {"symbols": 1})
    with pytest.raises(UserError, match="not 3"):
        make(TaskSpec(name="copy", version=1, format="unique", max_len=4, params={"symbols": 3}))
