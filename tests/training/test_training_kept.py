"""What a run keeps on the way: weights of the steps that were asked for, norms of its gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import first, run, runs

from genlab.runs.weights import load_checkpoints, load_tensors, save_checkpoint, save_tensors
from genlab.spec import RunSpec
from genlab.training import RunState, Stack, fresh, train_stack
from genlab.training import loop as loop_module

CPU = torch.device("cpu")
KEEP = (0, 2, 3, 5, 7)  # the last is that of the end
OPTIONS: list[dict[str, Any]] = [{}, {"dropout": 0.2}, {"average_steps": 3}]


def train(specs: list[RunSpec], keep: tuple[int, ...] = KEEP) -> list[RunState]:
    return train_stack(first(), fresh(specs), CPU, keep=keep)


def by_step(specs: list[RunSpec]) -> list[torch.Tensor]:
    """float[run, params] before training and after each step."""
    stack = Stack(first(), fresh(specs), CPU)
    seen = [torch.stack([state.weights for state in stack.states()])]
    for _ in range(specs[0].train.steps):
        stack.take_step()
        seen.append(torch.stack([state.weights for state in stack.states()]))
    return seen


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_kept_are_the_weights_after_the_step_and_the_end_is_as_without(options: dict[str, Any]) -> None:
    specs = runs(first(), [0, 1, 2], steps=7, eval_every=3, **options)
    wanted, found, without = by_step(specs), train(specs), train(specs, ())
    for i, state in enumerate(found):
        assert sorted(state.kept) == [2, 3, 5]
        assert all(torch.equal(state.kept[step], wanted[step][i]) for step in state.kept)
        assert torch.equal(state.weights, without[i].weights)
        assert not without[i].kept


def test_a_run_keeps_the_same_in_a_stack_and_alone() -> None:
    specs = runs(first(), [0, 1, 2], steps=7, dtype="float64")
    for state in train(specs):
        (alone,) = train([state.spec])
        for step in (2, 3, 5):
            assert torch.allclose(state.kept[step], alone.kept[step], atol=1e-9)
        norms = [[row[name] for row in s.history for name in ("grad_norm", "grad_norm_max")] for s in (state, alone)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-9)


@pytest.mark.parametrize("stop", [1, 2, 4, 6])
def test_a_checkpoint_carries_what_was_kept_so_far(tmp_path: Path, stop: int) -> None:
    specs = [*runs(first(), [0, 1], steps=7, eval_every=3), run(first(), 2, steps=7, eval_every=3, lr=1e30)]
    whole = train(specs)
    half = train_stack(first(), fresh(specs), CPU, lambda stack: stack.step < stop, keep=KEEP)
    save_checkpoint(tmp_path / "half.safetensors", half)
    read = load_checkpoints([tmp_path / "half.safetensors"], specs)
    ended = [state for state in read.values() if state.status != "training"]
    ended += train_stack(first(), [s for s in read.values() if s.status == "training"], CPU, keep=KEEP)
    for state, wanted in zip(sorted(ended, key=lambda s: s.spec.train.init_seed), whole, strict=True):
        assert sorted(state.kept) == sorted(wanted.kept)
        assert all(torch.equal(state.kept[step], wanted.kept[step]) for step in wanted.kept)
        for row, other in zip(state.history, wanted.history, strict=True):
            np.testing.assert_equal({**row, "seconds": 0}, {**other, "seconds": 0})


def test_a_run_that_ends_early_keeps_what_it_reached() -> None:
    options = {"steps": 120, "eval_every": 10, "batch_size": 32, "train_len": 2, "lr": 0.02}
    early = [
        run(first(), 0, until=1.0, **options),
        run(first(), 1, lr=1e30, **{k: options[k] for k in options if k != "lr"}),
    ]
    reached, diverged = train(early, tuple(range(0, 120, 5)))
    assert (reached.status, diverged.status) == ("reached", "diverged")
    assert reached.step < 120
    assert sorted(reached.kept) == list(range(5, reached.step + 1, 5))
    assert torch.equal(reached.kept[reached.step], reached.weights)
    assert not diverged.kept  # its loss was not finite before step 5


# -- norms of the gradient -------------------------------------------------------------------------------------------


def test_norms_are_those_of_the_gradient_before_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = loop_module.losses_and_gradients, list[torch.Tensor]()

    def recording(*given: Any) -> Any:
        losses, gradients = plain(*given)
        seen.append(gradients.clone())
        return losses, gradients

    monkeypatch.setattr(loop_module, "losses_and_gradients", recording)
    states = train(runs(first(), [0, 1], steps=7, eval_every=3, grad_clip=1e-3))
    for i, state in enumerate(states):
        norms = [float(gradients[i].norm()) for gradients in seen]
        parts = (norms[:3], norms[3:6], norms[6:])
        assert min(norms) > 1e-3
        assert [row["grad_norm"] for row in state.history] == pytest.approx([np.mean(p) for p in parts], rel=1e-5)
        assert [row["grad_norm_max"] for row in state.history] == pytest.approx([max(p) for p in parts], rel=1e-6)


def test_there_are_none_of_no_steps_and_of_a_run_that_diverged() -> None:
    states = [*train([run(first(), steps=0)]), *train([run(first(), lr=1e30)])]
    assert [state.status for state in states] == ["finished", "diverged"]
    for state in states:
        assert np.isnan([state.history[-1]["grad_norm"], state.history[-1]["grad_norm_max"]]).all()


def test_a_checkpoint_of_before_goes_on_with_norms_that_are_not_known(tmp_path: Path) -> None:
    specs = runs(first(), [0], steps=7, eval_every=3)
    (half,) = train_stack(first(), fresh(specs), CPU, lambda stack: stack.step < 2)
    save_checkpoint(tmp_path / "new.safetensors", [half])
    tensors, meta = load_tensors(tmp_path / "new.safetensors")
    (about,) = json.loads(meta["runs"])
    old = {name: value for name, value in about.items() if name not in ("kept", "norm_sum", "norm_max")}
    save_tensors(tmp_path / "old.safetensors", tensors, {"runs": json.dumps([old])})
    (state,) = load_checkpoints([tmp_path / "old.safetensors"], specs).values()
    (ended,) = train_stack(first(), [state], CPU)
    assert torch.equal(ended.weights, train(specs)[0].weights)
    known = [[np.isfinite(row[name]) for row in ended.history] for name in ("loss", "grad_norm", "grad_norm_max")]
    assert known == [[True, True, True], [False, True, True], [False, True, True]]
