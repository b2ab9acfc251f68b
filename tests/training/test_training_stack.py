"""A run alone and the same run inside a stack; what a stack keeps when it is stopped, and what leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import first, parity, run, runs
from torch import Tensor

from genlab.models import Transformer, initial
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, in_distribution
from genlab.training import RunState, Stack, evaluate, fresh, stack_key, train_stack
from genlab.training import loop as loop_module
from genlab.training.optimizer import learning_rate

CPU = torch.device("cpu")
MOMENTS = ("weights", "exp_avg", "exp_avg_sq")


def train(task: Task, specs: Sequence[RunSpec]) -> list[RunState]:
    return train_stack(task, fresh(specs), CPU)


def rows(state: RunState) -> list[dict[str, int | float]]:
    """The history without the seconds."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in state.history]


def assert_same_bits(found: Sequence[RunState], wanted: Sequence[RunState]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.spec, ours.step, ours.status) == (theirs.spec, theirs.step, theirs.status)
        assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in MOMENTS)
        np.testing.assert_equal(rows(ours), rows(theirs))  # where NaN equals NaN


def assert_close(found: RunState, wanted: RunState, tolerance: float) -> None:
    assert torch.allclose(found.weights, wanted.weights, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(rows(found), rows(wanted), strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """What every step was given: weights before it, tokens, targets, offsets; `[run, ...]` each."""
    record: list[dict[str, Tensor]] = []
    plain = loop_module.losses_and_gradients

    def recording(model: Transformer, batch: Any, *options: Any) -> Any:
        losses, gradients = plain(model, batch, *options)
        parts = {"inputs": batch.inputs, "offsets": batch.offsets, "targets": batch.targets}
        parts |= {"losses": losses, "gradients": gradients.clone(), "keep": batch.weights > 0}
        record.append({"weights": model.flat.clone(), **parts})
        return losses, gradients

    monkeypatch.setattr(loop_module, "losses_and_gradients", recording)
    return record


OPTIONS: list[dict[str, Any]] = [
    {},
    {"dropout": 0.2, "min_len": 4},
    {"pool": 10},
    {"loss": "all", "optimizer": "adam", "model": {"positions": "rotary", "normalization_type": "RMS"}},
    {"curriculum": 0.8, "lengths_per_batch": 2, "model": {"positions": "alibi"}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("task", [first(), parity("scratchpad")], ids=lambda task: task.name)
def test_a_stack_trains_each_run_as_it_trains_alone(task: Task, options: dict[str, Any]) -> None:
    """Each with its own learning rate, weight decay, schedule and clip too. In float64, to see past rounding."""
    own = [
        {"lr": 0.01, "weight_decay": 1.0},
        {"lr": 0.001, "warmup": 2},
        {"lr": 0.02, "grad_clip": 0.1, "final_lr": 0.5},
        {"lr": 0.005, "schedule": "constant", "grad_clip": 0.0},
    ]
    specs = [run(task, seed, dtype="float64", **{**options, **mine}) for seed, mine in enumerate(own)]
    together = train(task, specs)
    for i, spec in enumerate(specs):
        alone = train(task, [spec])[0]
        assert_close(together[i], alone, 1e-9)
        assert alone.step == 6
        assert not torch.allclose(alone.weights, fresh([spec])[0].weights, atol=1e-4)


def test_runs_of_other_training_lengths_share_a_stack() -> None:
    """Each with its own check and its own watched splits, as alone."""
    task = parity("scratchpad")
    lengths = [(1, 5), (2, 3), (4, 6)]
    specs = [
        run(task, seed, dtype="float64", min_len=shortest, train_len=longest, curriculum=0.5)
        for seed, (shortest, longest) in enumerate(lengths)
    ]

    def watched(spec: RunSpec) -> list[Split]:
        return [task.split("id").at(tuple(range(spec.train.train_len, 7)), 16)]

    together = train_stack(task, fresh(specs), CPU, watched=watched)
    for ours, spec in zip(together, specs, strict=True):
        (alone,) = train_stack(task, fresh([spec]), CPU, watched=watched)
        assert_close(ours, alone, 1e-9)
        places = [[(row["split"], row["length"], row["n"], row["metric"]) for row in s.trace] for s in (ours, alone)]
        assert places[0] == places[1]
        assert [row["value"] for row in ours.trace] == pytest.approx([row["value"] for row in alone.trace])
        checked = {row["length"] for row in ours.trace if row["n"] == 64}
        assert checked == set(range(spec.train.min_len, spec.train.train_len + 1))
    dropping = [run(task, 0, dropout=0.1, train_len=longest) for longest in (4, 5)]
    with pytest.raises(ValueError, match="runs of a stack must share"):
        Stack(task, fresh(dropping), CPU)


def test_losses_agree_in_float32() -> None:
    specs = runs(first(), range(4))
    for ours, spec in zip(train(first(), specs), specs, strict=True):
        alone = train(first(), [spec])[0]
        assert [r["loss"] for r in ours.history] == pytest.approx([r["loss"] for r in alone.history], rel=1e-4)


@pytest.mark.parametrize("pool", [0, 10])
def test_data_and_initial_weights_are_the_same_bits_alone_and_in_a_stack(seen: list[Any], pool: int) -> None:
    task = parity("scratchpad")  # whose inputs of one length differ in width, so that the stack pads
    specs = runs(task, range(8), pool=pool)
    train(task, specs)
    stacked = seen.copy()
    seen.clear()
    train(task, [specs[3]])
    padded = 0
    for step, (ours, alone) in enumerate(zip(stacked, seen, strict=True)):
        width = alone["inputs"].shape[-1]
        padded += ours["inputs"].shape[-1] > width
        assert torch.equal(ours["inputs"][3, :, :width], alone["inputs"][0])
        assert not ours["inputs"][3, :, width:].any()
        assert torch.equal(ours["offsets"][3], alone["offsets"][0])
        assert torch.equal(ours["targets"][3][ours["keep"][3]], alone["targets"][0][alone["keep"][0]])
        if step == 0:
            assert torch.equal(ours["weights"][3], alone["weights"][0])
            assert torch.equal(ours["weights"][3], initial(specs[3].model, [3])[0])
    assert padded


def test_the_order_of_a_stack_changes_nothing() -> None:
    specs = runs(parity("scratchpad"), range(4), dropout=0.1)
    one, other = train(parity("scratchpad"), specs), train(parity("scratchpad"), specs[::-1])
    assert [state.spec for state in other] == specs[::-1]
    assert_same_bits(other[::-1], one)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize("options", OPTIONS[:3], ids=lambda o: "-".join(o) or "plain")
def test_going_on_from_any_step_equals_never_having_stopped(seeds: tuple[int, ...], options: dict[str, Any]) -> None:
    specs = runs(first(), seeds, steps=7, eval_every=3, **options)
    undisturbed = train(first(), specs)
    for stop in (2, 3, 5):  # before, at and after a measurement
        kept = train_stack(first(), fresh(specs), CPU, lambda stack, at=stop: stack.step < at)
        assert {(state.step, state.status) for state in kept} == {(stop, "training")}
        assert_same_bits(train_stack(first(), kept, CPU), undisturbed)


def test_a_state_that_was_taken_does_not_change_as_the_stack_goes_on() -> None:
    taken: list[RunState] = []

    def after_step(stack: Stack) -> bool:
        if stack.step == 2:
            taken.extend(stack.states())
        return True

    specs = runs(first(), [0, 1], eval_every=1)
    train_stack(first(), fresh(specs), CPU, after_step)
    assert_same_bits(taken, train_stack(first(), fresh(specs), CPU, lambda stack: stack.step < 2))


# -- runs that end early -----------------------------------------------------------------------------------------


def with_a_diverging_one(lr: float, **options: Any) -> list[RunSpec]:
    return [run(first(), seed, lr=lr if seed == 1 else 0.01, **options) for seed in range(3)]


def test_a_diverging_run_is_frozen_and_marked_and_the_others_keep_their_bits(seen: list[Any]) -> None:
    options = {"steps": 8, "eval_every": 8, "grad_clip": 0.0}
    tame = train(first(), with_a_diverging_one(0.01, **options))
    seen.clear()
    wild = train(first(), with_a_diverging_one(1e10, **options))
    assert [state.status for state in wild] == ["finished", "diverged", "finished"]
    assert_same_bits([wild[0], wild[2]], [tame[0], tame[2]])

    died = [bool(step["gradients"][1].isfinite().all()) for step in seen].index(False)
    assert 0 < died < 7
    assert torch.equal(wild[1].weights, seen[died]["weights"][1])  # as they stood when it happened
    assert np.isnan(wild[1].history[-1]["loss"])


def test_a_run_that_diverged_leaves_and_the_others_go_on() -> None:
    options = {"steps": 9, "eval_every": 3, "dtype": "float64"}
    wild = train(first(), [run(first(), seed, lr=1e200 if seed == 1 else 0.01, **options) for seed in range(3)])
    assert [(state.status, state.step) for state in wild] == [("finished", 9), ("diverged", 3), ("finished", 9)]
    assert_close(wild[2], train(first(), [wild[2].spec])[0], 1e-9)


def test_a_run_that_diverged_before_a_stop_stays_so_after_it() -> None:
    specs = with_a_diverging_one(1e10, steps=8, eval_every=8)
    undisturbed = train(first(), specs)
    for stop in (1, 3, 7):
        kept = train_stack(first(), fresh(specs), CPU, lambda stack, at=stop: stack.step < at)
        assert_same_bits(train_stack(first(), kept, CPU), undisturbed)


def test_a_gradient_that_is_not_finite_counts_as_diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = loop_module.losses_and_gradients

    def spoilt(model: Transformer, batch: Any, *options: Any) -> Any:
        losses, gradients = plain(model, batch, *options)
        gradients[0, 5] = float("inf")
        return losses, gradients

    monkeypatch.setattr(loop_module, "losses_and_gradients", spoilt)
    states = train(first(), runs(first(), [0, 1], eval_every=6))
    assert [state.status for state in states] == ["diverged", "finished"]
    assert torch.equal(states[0].weights, fresh([states[0].spec])[0].weights)


def test_a_run_that_was_frozen_does_not_come_back_where_a_later_batch_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, calls = loop_module.losses_and_gradients, [0]

    def spoilt_once(model: Transformer, batch: Any, *options: Any) -> Any:
        losses, gradients = plain(model, batch, *options)
        calls[0] += 1
        if calls[0] == 2:
            gradients[0] = float("nan")
        return losses, gradients

    monkeypatch.setattr(loop_module, "losses_and_gradients", spoilt_once)
    specs = runs(first(), [0, 1], eval_every=6)
    undisturbed = train(first(), specs)
    assert [state.status for state in undisturbed] == ["diverged", "finished"]
    calls[0] = 0
    kept = train_stack(first(), fresh(specs), CPU, lambda stack: stack.step < 3)
    assert_same_bits(train_stack(first(), kept, CPU), undisturbed)
    assert np.isnan(undisturbed[0].history[-1]["loss"])


def test_until_stops_a_run_once_it_stays_right_and_no_other() -> None:
    options = {"steps": 120, "eval_every": 10, "batch_size": 32, "train_len": 2, "lr": 0.02}
    specs = [run(first(), 0, until=1.0, **options), run(first(), 1, until=1.0, **{**options, "lr": 1e-6})]
    reached, slow = train(first(), [*specs])
    assert (reached.status, slow.status, slow.step) == ("reached", "finished", 120)
    assert reached.step < 120
    scores = [row["exact_match"] for row in reached.history]
    assert scores[-2:] == [1.0, 1.0]
    assert all(scores[i : i + 2] != [1.0, 1.0] for i in range(len(scores) - 2))
    assert reached.history[-1]["step"] == reached.step


# -- measurements, and what a stack asks of its runs -----------------------------------------------------------------


def test_history_holds_what_was_measured(seen: list[Any]) -> None:
    specs = runs(first(), [0, 1], steps=7, eval_every=3)
    states = train(first(), specs)
    for i, (spec, state) in enumerate(zip(specs, states, strict=True)):
        assert [row["step"] for row in state.history] == [3, 6, 7]
        losses = [float(step["losses"][i]) for step in seen]
        means = [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]]
        assert [row["loss"] for row in state.history] == pytest.approx(means, rel=1e-5)
        assert [row["lr"] for row in state.history] == [learning_rate(spec.train, step) for step in (2, 5, 6)]
        seconds = [row["seconds"] for row in state.history]
        assert seconds == sorted(seconds)
    final = Transformer(specs[0].model, torch.stack([state.weights for state in states]))
    check = in_distribution(first(), specs[0].train).at((1, 2, 3, 4, 5), 64)
    results = evaluate(final, first(), check, judge=False)
    wanted = np.mean([result.metrics["exact_match"][0] for result in results], axis=0)
    assert [state.history[-1]["exact_match"] for state in states] == pytest.approx(wanted.tolist())


def test_a_run_of_no_steps_is_measured_as_it_is() -> None:
    spec = run(first(), steps=0)
    state = train(first(), [spec])[0]
    assert (state.status, state.step, len(state.history)) == ("finished", 0, 1)
    assert torch.equal(state.weights, initial(spec.model, [0])[0])
    assert np.isnan(state.history[0]["loss"])  # no step, no loss


def test_the_stack_can_be_read_after_its_last_run_has_left() -> None:
    read: list[tuple[int, int]] = []

    def after_step(stack: Stack) -> bool:
        read.append((stack.step, stack.train.steps - len(stack.ended) - len(stack.states())))
        return True

    train_stack(first(), fresh(runs(first(), [0, 1])), CPU, after_step)
    assert read == [(step, 4) for step in range(1, 7)]


def test_runs_that_cannot_share_a_stack_are_refused() -> None:
    base = run(first(), 0)
    others = [
        run(first(), 1, **{name: value})
        for name, value in {
            "steps": 9, "betas": (0.5, 0.5), "eps": 1e-3, "optimizer": "adam", "decay": "all", "dropout": 0.1,
            "loss": "all", "dtype": "float64", "eval_every": 2, "batch_size": 3, "pool": 9,
        }.items()
    ]  # fmt: skip
    others += [run(first(), 1, model={"act_fn": "relu"}), run(first(max_len=9), 1)]
    for other in others:
        with pytest.raises(ValueError, match="runs of a stack must share"):
            Stack(first(), [fresh([base])[0], fresh([other])[0]], CPU)
        assert stack_key(other) != stack_key(base)
    with pytest.raises(ValueError, match="runs of a stack must share"):
        Stack(first(), [fresh([base])[0], replace(fresh([run(first(), 1)])[0], step=3)], CPU)


def test_initial_weights_are_each_run_s_own() -> None:
    specs = [run(first(), 0), run(first(), 0, model={"init_std": 0.5}), run(first(), 0, model={"init_std": 0.02})]
    assert all(stack_key(spec) == stack_key(specs[0]) for spec in specs)
    states = fresh(specs)
    for spec, state in zip(specs, states, strict=True):
        assert torch.equal(state.weights, initial(spec.model, [0])[0])
    assert not torch.equal(states[0].weights, states[1].weights)
