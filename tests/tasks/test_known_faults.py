"""Faults that other generators of such tasks are known for, as cases that ours must pass.

Seen elsewhere: a length that is asked for is rounded to one that suits the generator; the evaluation begins one
length too late, so that the first one beyond training is never scored; operators are drawn from a list that is used
up after the first; a label is computed over the padded row.
"""

from __future__ import annotations

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.runs.plan import Evals, eval_splits, plan
from genlab.tasks import make, names, task_class

LENGTHS = {"modular": 1, "repeats": 20, "and-fixed-bits": 12}
TRAIN = {"question-formation": 12, "tense-reinflection": 9}
"""The longest length to train on, where 20 is more than `id` has."""
EVERY = [(name, format) for name in names() if name != "maze" for format in task_class(name).formats]
"""Mazes have their own test of each (`test_mazes.py`): their examples take seconds to make."""


@pytest.mark.parametrize(("name", "format"), EVERY)
def test_a_length_is_made_as_asked_or_refused(name: str, format: str):
    task = make(name, LENGTHS.get(name, 9), format)
    rng = np.random.default_rng(0)
    for split in task.splits:
        made = set(task.lengths_between(split, 0, task.max_len).tolist())
        for length in range(task.max_len + 2):
            if length in made:
                assert task.sample(rng, split, [length, length]).lengths.tolist() == [length, length]
            else:
                with pytest.raises(UserError):
                    task.sample(rng, split, [length])


@pytest.mark.parametrize(("name", "format"), [case for case in EVERY if case[0] != "modular"])
def test_the_first_length_beyond_training_is_scored(name: str, format: str):
    made = plan(name, TRAIN.get(name, 20), 30, format=format)
    train = made.specs[0].train
    for split in made.task.splits:
        if not len(made.task.lengths_between(split, train.min_len, 30)):
            with pytest.raises(UserError, match="has no example of at most 30"):
                eval_splits(made.task, train, Evals(30, (split,)))
            continue
        scored = [n for found in eval_splits(made.task, train, Evals(30, (split,))) for n in found.lengths]
        beyond = made.task.lengths_between(split, train.train_len + 1, 30)
        assert not len(beyond) or int(beyond[0]) in scored, split


@pytest.mark.parametrize(("name", "format"), EVERY)
def test_answers_do_not_depend_on_padding(name: str, format: str):
    """The shortest examples beside the longest: each answer follows from its own prompt."""
    task = make(name, LENGTHS.get(name, 9), format)
    rng = np.random.default_rng(1)
    for split in task.splits:
        made = task.lengths_between(split, 0, task.max_len)
        if not len(made):
            continue
        examples = task.sample(rng, split, np.resize(made[[0, -1]], 12))
        for row in range(12):
            assert task.read(examples, row)[1] == task.solve_example(examples, row), (split, row)


@pytest.mark.parametrize(
    ("name", "format"),
    [*(("modular-chain", format) for format in task_class("modular-chain").formats), ("modular-brackets", "plain")],
)
def test_operators_do_not_run_out_at_the_second_length(name: str, format: str):
    task = make(name, 6, format)
    rng = np.random.default_rng(2)
    wanted = set("+" if format == "sum" else "+-*")
    for length in range(2, 7):
        examples = task.sample(rng, "id", [length] * 200)
        prompts = [task.read(examples, row)[0] for row in range(200)]
        counts = {sum(token in "+-*" for token in prompt) for prompt in prompts}
        assert counts == {length - 1}
        assert {token for prompt in prompts for token in prompt if token in "+-*"} == wanted
