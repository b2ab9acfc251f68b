"""What a task says of written answers: hand-made ones, and those of models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import run

from genlab.models import Transformer
from genlab.tasks import make
from genlab.training import eval_examples, evaluate, fresh
from genlab.training.batches import eval_offsets, widths
from genlab.training.evaluate import greedy_answers, is_read, judged, rules_followed

BRACKETS = [f"<start> {string} >".split() for string in ("( ( ) )", "( ) ) (", ") ) ( (", "( ( ) )")]


def test_shares_of_rules_by_hand():
    nested, equal_counts = ["True", "False", "False", "True"], ["True"] * 4
    neither = ["(", "True", "<pad>", "False"]
    answers = [[(word,) for word in run] for run in (nested, equal_counts, neither)]
    found = {
        name: values.tolist() for name, (values, _) in rules_followed(make("brackets", 8), BRACKETS, answers).items()
    }
    assert found == {
        "rule|NESTED": [1.0, 0.5, 0.0],
        "rule|EQUAL-COUNT": [0.5, 1.0, 0.25],
        "rule|FIRST-SYMBOL": [0.75, 0.75, 0.25],
        "rule|none": [0.0, 0.0, 0.75],
    }


def test_rules_of_single_prompts_count_against_all_examples():
    task = make("question-formation", 16)
    asked = ("my otter does sing . quest >", "my otter that does sing doesn't wait . quest >")
    answered = ("does my otter sing ?", "does my otter that sing doesn't wait ?")
    prompts, moved = [text.split() for text in asked], [[text.split() for text in answered]]
    found = {name: float(values[0]) for name, (values, _) in rules_followed(task, prompts, moved).items()}
    assert (found["rule|MOVE-MAIN"], found["rule|MOVE-FIRST"], found["rule|none"]) == (0.5, 1.0, 0.0)
    assert judged(task, prompts, moved)["main_auxiliary"][0].tolist() == [0.5]


def test_tasks_without_rules_say_nothing():
    task = make("sort", 6)
    examples = task.sample(np.random.default_rng(0), "id", [4])
    assert not is_read(task, examples)
    assert rules_followed(task, [task.read(examples, 0)[0]], [[("1",)]]) == {}


@pytest.mark.parametrize(
    ("name", "split", "length"), [("brackets", "matched-unnested", 6), ("needle", "distractors", 9)]
)
def test_an_evaluation_tells_the_rules_that_models_follow(name: str, split: str, length: int):
    task = make(name, 10)
    specs = [run(task, seed, model={"init_std": 0.8}) for seed in range(2)]
    model = Transformer(specs[0].model, torch.stack([state.weights for state in fresh(specs)]))
    at = task.split(split).at((length,), 40)
    (result,) = evaluate(model, task, at)
    examples = eval_examples(task, at, length)
    offsets = eval_offsets(task, examples, 0, model.cfg)
    written = greedy_answers(model, examples, offsets, widths(task, examples.lengths))
    for i, of_run in enumerate(written):
        followed = [
            [
                name
                for name, given in task.rules(task.read(examples, row)[0]).items()
                if given == task.vocab.decode(ids)
            ]
            for row, ids in enumerate(of_run)
        ]
        for metric, (values, n) in result.metrics.items():
            if metric.startswith("rule|"):
                rule = metric.removeprefix("rule|")
                assert (values[i], n) == (np.mean([rule in (names or ["none"]) for names in followed]), 40)
    assert sum(metric.startswith("rule|") for metric in result.metrics) == 4
    assert not any(metric.startswith("rule|") for metric in evaluate(model, task, at, judge=False)[0].metrics)
