"""The Chomsky-hierarchy battery as a whole: classes, answers by hand, and the faults that batteries have had."""

import math
from itertools import product

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.tasks import make, task_class

BATTERY = {
    "even-pairs": "regular",
    "cycle-navigation": "regular",
    "modular-chain": "regular",
    "stack-manipulation": "context-free",
    "solve-equation": "context-free",
    "compare-occurrence": "context-free",
    "modular-brackets": "context-free",
    "duplicate-string": "context-sensitive",
    "missing-duplicate": "context-sensitive",
    "interlocked-pairing": "context-sensitive",
    "odds-first": "context-sensitive",
    "bucket-sort": "context-sensitive",
    "binary-multiplication": "context-sensitive",
    "square-root": "context-sensitive",
}

BY_HAND = [
    # task, format, prompt, answer
    ("even-pairs", "plain", "b >", "even"),
    ("even-pairs", "plain", "b a >", "odd"),
    ("even-pairs", "plain", "a b b a a a >", "even"),
    ("cycle-navigation", "plain", "= >", "0"),
    ("cycle-navigation", "plain", "- - - - - - >", "4"),
    ("stack-manipulation", "plain", "a >", "a"),
    ("stack-manipulation", "plain", "a pop pop >", ""),
    ("stack-manipulation", "plain", "a b pop +b +a >", "a b a"),
    ("stack-manipulation", "plain", "a pop pop +b +a pop >", "b"),
    ("solve-equation", "plain", "( 3 - x ) = 4 >", "4"),
    ("solve-equation", "plain", "( 1 + ( 2 - ( x + 4 ) ) ) = 0 >", "4"),
    ("compare-occurrence", "plain", "a b >", "b"),
    ("compare-occurrence", "plain", "a a b a b >", "a"),
    ("duplicate-string", "plain", "b a >", "b a b a"),
    ("missing-duplicate", "plain", "_ b >", "b"),
    ("missing-duplicate", "plain", "b _ a b b a >", "b"),
    ("interlocked-pairing", "plain", "a b >", "a b b a"),
    ("interlocked-pairing", "plain", "b b b a >", "b b b a a a a b"),
    ("odds-first", "plain", "a >", "a"),
    ("odds-first", "plain", "a b a b b >", "a a b b b"),
    ("bucket-sort", "plain", "4 4 0 >", "0 4 4"),
    ("binary-multiplication", "reversed", "1 * 1 >", "1"),
    ("binary-multiplication", "reversed", "0 0 1 * 0 1 1 0 1 >", "0 0 0 1 1 0 1"),  # 4 * 22 = 88
    ("binary-multiplication", "forward", "1 1 * 1 1 >", "1 0 0 1"),
    ("square-root", "plain", "1 >", "1"),
    ("square-root", "plain", "0 0 0 >", "0 0"),
    ("square-root", "plain", "1 1 1 >", "1 0"),
    ("square-root", "plain", "0 0 1 1 0 0 0 1 >", "0 1 1 1"),  # 49: 7
]


def draw(task, split, lengths, seed=0):
    return task.sample(np.random.default_rng(seed), split, lengths)


def every_format():
    return [(name, format) for name in BATTERY for format in task_class(name).formats]


@pytest.mark.parametrize(("name", "format", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(name, format, prompt, answer):
    assert make(name, 9, format).solve(prompt.split()) == tuple(answer.split())


def test_each_task_names_its_class():
    assert {name: task_class(name).language_class for name in BATTERY} == BATTERY


@pytest.mark.parametrize(("name", "format"), every_format())
def test_answers_do_not_depend_on_padding(name, format):
    task = make(name, 9, format)
    for split in task.splits:
        low = task.min_len(task.split(split))
        examples = draw(task, split, [low, 9, low + 1, 6, 5] * 40)
        for row in range(len(examples)):
            prompt, answer = task.read(examples, row)
            assert task.solve(prompt) == answer


@pytest.mark.parametrize(("name", "format"), every_format())
def test_each_length_beyond_training_is_made_as_asked(name, format):
    """No length is skipped, padded to another, or filled with constants, be it the first one beyond training."""
    task = make(name, 12, format)
    low = task.min_len(task.split("id"))
    sizes = []
    for length in range(low, 13):
        examples = draw(task, "id", [length] * 30)
        prompts = {task.read(examples, row)[0] for row in range(30)}
        assert {len(prompt) for prompt in prompts} == {len(next(iter(prompts)))}
        assert len(prompts) > 1 or length == low
        assert (examples.lengths == length).all()
        sizes.append(len(next(iter(prompts))))
    assert np.unique(np.diff(sizes)).size == 1
    assert sizes[1] > sizes[0]
    with pytest.raises(UserError, match="cannot make length 13"):
        draw(task, "id", [13])


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("even-pairs", "ab"),
        ("cycle-navigation", "=+-"),
        ("compare-occurrence", "ab"),
        ("duplicate-string", "ab"),
        ("odds-first", "ab"),
        ("bucket-sort", "01234"),
        ("square-root", "01"),
    ],
)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_prompts_are_all_there_and_chance_is_over_them(name, tokens, length):
    """Where prompts are uniform, every one of them comes up, and `chance` is the collision of their answers."""
    task = make(name, 9)
    every = [(*word, ">") for word in product(tokens, repeat=length)]
    examples = draw(task, "id", [length] * 1500)
    assert {task.read(examples, row)[0] for row in range(1500)} == set(every)
    answers = [task.solve(prompt) for prompt in every]
    agree = sum(a == b for a in answers for b in answers) / len(answers) ** 2
    assert math.isclose(task.chance(length), agree)
