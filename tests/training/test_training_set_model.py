"""Runs on real-valued items: like any others, alone and stacked; what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import runs

from genlab.errors import UserError
from genlab.models import model_of
from genlab.runs.plan import plan
from genlab.spec import ModelConfig
from genlab.tasks import Task, make
from genlab.training import evaluate, fresh, train_stack

CPU = torch.device("cpu")


def items() -> Task:
    return make("max-retrieval", 12, "values", {"classes": 3})


def specs_of(task: Task, seeds: list[int], **train: object):
    sizes = {"d_values": task.d_values, "d_mlp": 16, "init_std": 0.3}
    return runs(task, seeds, model=sizes, **train)


@pytest.mark.parametrize("extra", [{}, {"pool": 24}, {"dropout": 0.2}, {"label_noise": 0.5}])
def test_a_run_alone_and_in_a_stack_are_one(extra: dict[str, object]):
    task = items()
    specs = specs_of(task, [0, 1, 2], dtype="float64", **extra)
    together = train_stack(task, fresh(specs), CPU)
    for spec, state in zip(specs, together, strict=True):
        (alone,) = train_stack(task, fresh([spec]), CPU)
        torch.testing.assert_close(alone.weights, state.weights)
        assert [row["loss"] for row in alone.history] == pytest.approx([row["loss"] for row in state.history])


@pytest.mark.slow
def test_it_learns_and_is_scored_at_sizes_it_has_not_seen():
    task = items()
    (spec,) = specs_of(task, [0], steps=300, batch_size=64, train_len=4)
    (state,) = train_stack(task, fresh([spec]), CPU)
    results = evaluate(model_of(spec.model, state.weights[None]), task, task.split("id").at((4, 12), 200))
    scores = {result.length: float(result.metrics["exact_match"][0][0]) for result in results}
    assert min(scores.values()) > 0.9  # chance is a third
    assert results[0].metrics["exact_match_no_end"][0] == results[0].metrics["exact_match"][0]  # there is no end
    assert np.array_equal(results[0].correct.mean(axis=1), results[0].metrics["exact_match"][0])


def test_plans_know_the_model_from_the_task():
    made = plan("max-retrieval", 16, 64, format="values")
    model, train = made.specs[0].model, made.specs[0].train
    assert (model.d_values, model.n_layers, model.n_heads, model.d_model, train.min_len) == (11, 1, 1, 128, 5)
    assert plan("max-retrieval", 16, 64).specs[0].model.d_values == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_layers": 3}, "which has n_layers 1.*conflicts: n_layers"),
        ({"positions": "rotary"}, "conflicts: positions"),
        ({"loss": "all"}, "loss 'all' is not allowed: a set model gives one answer"),
        ({"d_values": 4}, "unknown option 'd_values'"),
    ],
)
def test_what_a_set_model_cannot_be_is_refused(options: dict[str, object], says: str):
    with pytest.raises(UserError, match=says) as fault:
        plan("max-retrieval", 16, 64, format="values", **options)
    assert "\n" not in str(fault.value)


def test_specs_keep_what_reads_real_values():
    spec = specs_of(items(), [0])[0]
    assert ModelConfig.model_validate(spec.model.model_dump()) == spec.model
