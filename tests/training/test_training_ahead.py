"""Batches made ahead by other processes, and steps that are captured: the bits of those made here, one by one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import first, parity, run, runs

from genlab.training import Stack, Stream, fresh
from genlab.training.ahead import Batches
from genlab.training.batches import Arrays, Places, arrange, stack_examples, to_device
from genlab.training.capture import GRAIN, Captured
from genlab.training.loop import losses_and_gradients

CPU = torch.device("cpu")
TASK = parity("scratchpad")  # whose inputs of one length differ in width


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def made_ahead() -> Iterator[Batches]:
    batches = Batches(TASK, runs(TASK, range(3)), makers=1)
    yield batches
    batches.close()


def hire(batches: Batches, steps: int = 4) -> None:
    """As a stack does it: batches are made and timed here first."""
    for step in range(steps):
        batches.take(step)
        assert batches.wants_workers
        batches.start_workers(1e9 if step < steps - 1 else 1e-9)
    assert not batches.wants_workers


def here(rows: list[int], step: int) -> Arrays:
    return Batches(TASK, [runs(TASK, range(3))[row] for row in rows]).take(step)


def test_batches_prefetched_are_those_made_here(made_ahead: Batches):
    hire(made_ahead)
    for step in (4, 5, 6, 9, 10):  # a step may be left out
        assert same(made_ahead.take(step), here([0, 1, 2], step))
    assert not same(here([0, 1, 2], 4), here([0, 1, 2], 5))


def test_a_run_that_leaves_changes_nothing_for_the_others(made_ahead: Batches):
    hire(made_ahead)
    made_ahead.take(4)
    made_ahead.keep([0, 2])
    made_ahead.keep([1])
    for step in range(5, 40):  # the first ones were asked for while all three were there
        batch, alone = made_ahead.take(step), here([2], step)
        width = alone["inputs"].shape[2]
        assert np.array_equal(batch["inputs"][0, :, :width], alone["inputs"][0])
        assert np.array_equal(batch["offsets"], alone["offsets"])
    assert batch["inputs"].shape == alone["inputs"].shape


def test_makers_that_were_killed_are_done_without(made_ahead: Batches):
    hire(made_ahead)
    made_ahead.take(4)
    assert made_ahead._workers is not None
    for pid in made_ahead._workers._processes:
        os.kill(pid, signal.SIGKILL)
    for step in range(5, 20):
        assert same(made_ahead.take(step), here([0, 1, 2], step))
    assert made_ahead._workers is None
    assert not made_ahead.wants_workers


def test_a_stack_with_makers_comes_to_the_same():
    specs = runs(TASK, range(2), steps=12, eval_every=6)
    ended = []
    for makers in (0, 1):
        stack = Stack(TASK, fresh(specs), CPU, makers=makers)
        for _ in range(12):
            stack.take_step()
        assert (stack._batches._workers is not None) == bool(makers)
        stack.close()
        ended.append(stack.states())
    for one, other in zip(*ended, strict=True):
        assert torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("loss", ["scored", "all"])
def test_coarser_shapes_have_the_same_loss_and_gradients(loss: str):
    specs = runs(TASK, range(3), min_len=5, dtype="float64")
    stack = Stack(TASK, fresh(specs), CPU)
    batches = [Stream(TASK, spec.train).batch(0) for spec in specs]
    offsets = np.zeros((3, len(batches[0])), np.int64)
    found, shapes = [], []
    for grain in (1, 8):
        arrays = arrange(stack_examples(batches, 24 if grain > 1 else 0), offsets, loss, grain)
        shapes.append(arrays["at"].shape[1])
        assert arrays["at"].shape[1] % grain == 0 == arrays["since"] % grain
        found.append(losses_and_gradients(stack._model, to_device(arrays, stack._flat)))
    assert shapes[0] != shapes[1]
    for fine, coarse in zip(*found, strict=True):
        torch.testing.assert_close(fine, coarse, rtol=1e-9, atol=1e-12)


def test_coarser_shapes_stay_within_the_context():
    specs = runs(TASK, range(3))
    for step in range(10):
        batch = Batches(TASK, specs, grain=64).take(step)
        reach = batch["inputs"].shape[2] + batch["offsets"].max()
        assert reach <= specs[0].model.n_ctx


# -- capture, on a device that is not there -----------------------------------------------------------------------


class FakeGraph:
    """Takes down what is called while it records, and does it again when replayed."""

    recording: list[Any] | None = None

    def replay(self) -> None:
        for call in self.calls:
            call()

    def pool(self) -> tuple[int, int]:
        return (0, 0)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakeGraph]:
    """Graphs as they are made, by a stand-in for `torch.cuda` that runs on the CPU."""
    made: list[FakeGraph] = []

    @contextmanager
    def recording(graph: FakeGraph, pool: Any = None) -> Iterator[None]:
        made.append(graph)
        graph.calls = FakeGraph.recording = []
        yield
        FakeGraph.recording = None

    @contextmanager
    def on_stream(_stream: Any) -> Iterator[None]:
        yield

    class Stream:
        def __init__(self, _device: Any = None) -> None: ...

        def wait_stream(self, _other: Any) -> None: ...

    for name, value in {
        "CUDAGraph": FakeGraph,
        "graph": recording,
        "Stream": Stream,
        "stream": on_stream,
        "current_stream": Stream,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return made


def test_a_captured_step_is_the_step(graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch):
    specs = [*runs(TASK, range(2), steps=15, eval_every=5), run(TASK, 2, steps=15, eval_every=5, lr=1e30)]
    plain, captured = (Stack(TASK, fresh(specs), CPU) for _ in range(2))
    captured._batches._grain = plain._batches._grain = GRAIN
    advance = captured._eager_update

    def recordable(batch: Places, rates: torch.Tensor) -> None:
        if FakeGraph.recording is None:
            advance(batch, rates)
        else:  # a recording does nothing
            FakeGraph.recording.append(lambda: advance(batch, rates))

    changed = (captured._flat, captured._optimizer.exp_avg, captured._optimizer.exp_avg_sq)
    captured._update = Captured(recordable, (*changed, *captured._sums.tensors(), captured._alive))
    for _ in range(15):
        plain.take_step()
        captured.take_step()
    assert 1 < len(graphs) < 15  # shapes recur
    for one, other in zip(plain.states(), captured.states(), strict=True):
        assert torch.equal(one.weights, other.weights)
        assert torch.equal(one.exp_avg_sq, other.exp_avg_sq)
        assert one.loss_sum == other.loss_sum or np.isnan([one.loss_sum, other.loss_sum]).all()
    assert [np.isnan(state.loss_sum) for state in captured.states()] == [False, False, True]


def test_more_shapes_than_graphs_are_stepped_without(graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genlab.training.capture._MAX_GRAPHS", 1)
    steps: list[int] = []
    update = Captured(lambda batch, _rates: steps.append(batch.inputs.shape[2]), ())
    first = to_device(here([0], 0), torch.zeros(1))
    wider = replace(first, inputs=torch.zeros(1, 4, 50, dtype=torch.int64))
    update(first, torch.zeros(1, 3))
    update(wider, torch.zeros(1, 3))
    assert len(graphs) == 1
    assert steps[-1] == 50


def test_shapes_of_batches_recur_in_bfloat16() -> None:
    """A product of a new shape costs more there than the product itself; the places added have weight 0."""
    plain, rounded = (
        Stack(first(), fresh([run(first(), 0, dtype=dtype)]), CPU).batch() for dtype in ("float32", "bfloat16")
    )
    count = plain.at.shape[1]
    assert count % 8
    assert rounded.at.shape[1] == -(-count // 8) * 8
    assert rounded.weights.sum().item() == pytest.approx(1.0)


def test_batches_of_own_lengths_are_packed_where_shapes_may_vary() -> None:
    options: dict[str, Any] = {"batch_size": 32, "lengths_per_batch": 32, "train_len": 10}
    plain, rounded = (
        Stack(first(12), fresh([run(first(12), 0, dtype=dtype, **options)]), CPU).batch()
        for dtype in ("float32", "bfloat16")
    )
    assert plain.packing is not None
    assert rounded.packing is None
