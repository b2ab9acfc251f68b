"""What a grid will cost, from a few measured steps of each shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

import torch

from genlab.models.kinds import count
from genlab.runs.devices import cores, pick_device
from genlab.runs.plan import Evals
from genlab.runs.store import Store
from genlab.runs.work import alike
from genlab.spec import RunSpec
from genlab.tasks import make
from genlab.training import Stack, fresh
from genlab.training.batches import Places

# -- How many runs a stack should have on an accelerator: found by measuring

_WARM, _TIMED = 2, 3
_PLACES = (0.5, 0.1, 0.9, 0.3, 0.7)
"""Where in a training steps are timed; any first few of them are spread over it."""
_ENOUGH = 4.0
"""Seconds after which no further step is timed."""
_GAIN = 1.1
"""A stack twice as large is taken if it trains this many times as many runs a second, at least."""


def measured_size(specs: Sequence[RunSpec], device: torch.device) -> int:
    """Runs a stack for runs of one shape on a device, at most as many as there are."""
    return best_size(len(specs), lambda size: seconds_a_step(specs[:size], device))


def best_size(most: int, seconds: Callable[[int], float]) -> int:
    """The size from which doubling no longer pays: by seconds a step, or because the memory ends.

    >>> best_size(100, lambda size: 1.0 if size <= 16 else size / 16)     # launches dominate up to 16 runs
    16
    >>> best_size(3, lambda size: 1.0)
    3
    """
    size = 1
    try:
        rate = 1 / seconds(1)
    except torch.OutOfMemoryError:  # its stack will fail, and say so
        return size
    while size < most:
        larger = min(2 * size, most)
        try:
            new = larger / seconds(larger)
        except torch.OutOfMemoryError:
            break
        # From 16 to 17 runs there is little to win even where launches cost all: judged by what is possible.
        if new < rate * min(_GAIN, larger / size):
            break
        size, rate = larger, new
    return size


def seconds_a_step(specs: Sequence[RunSpec], device: torch.device) -> float:
    """Seconds that a training step of a stack takes, over a whole training, on cores of its own.

    Steps spread over the training are taken (lengths vary, and grow with a curriculum). Each is made and taken before
    it is timed: what a shape costs once (a pool, a library's program for it, a CUDA graph) is no part of a step. Of
    several timings of one step the median counts. One thread is timed by the processor time that it takes, so that
    other work on its core does not count. On an accelerator batches are left out: those are made ahead.
    """
    stack = Stack(make(specs[0].task), fresh(specs), device)
    clock, start = _clock(device), time.perf_counter()
    seconds: list[float] = []
    for place in _PLACES:
        step = int(place * stack.train.steps)
        seconds.append(_seconds_of(stack, step, device, clock))
        if time.perf_counter() - start > _ENOUGH and len(seconds) > 1:
            break
    stack.close()
    return mean(seconds)


def _seconds_of(stack: Stack, step: int, device: torch.device, clock: Callable[[], float]) -> float:
    """The seconds of one step and, on a CPU, of making its batch."""

    def batch() -> Places:
        stack.step = step
        return stack.batch()

    def take(batch: Places) -> None:
        stack.step = step
        stack.advance(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    made = batch()
    for _ in range(_WARM):
        take(made)
    making = 0.0 if device.type == "cuda" else median(_timed(batch, clock) for _ in range(_TIMED))
    return making + median(_timed(lambda: take(made), clock) for _ in range(_TIMED))


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def _clock(device: torch.device) -> Callable[[], float]:
    """Processor time where that is what a step takes: one thread of a CPU. Several wait for each other, busily."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def estimate(
    wanted: Sequence[tuple[RunSpec, Evals]], store: Store, device_name: str, workers: int, stack: int
) -> dict[str, Any]:
    """Runs, stacks, and for each shape its parameters, memory, batch and hours; nothing is trained or written.

    Runs that the store holds are not counted in the hours, which are those of cores that do nothing else. Evaluation
    comes on top: a few per cent.
    """
    device = pick_device(device_name)
    processes = 1 if device.type == "cuda" else workers or cores()
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // processes))
    try:
        shapes = [_shape(specs, store, device, stack) for specs, _ in alike(wanted)]
    finally:
        torch.set_num_threads(threads)
    return {
        "runs": len(wanted),
        "done": sum(spec.run_id in store for spec, _ in wanted),
        "stacks": sum(shape["stacks"] for shape in shapes),
        "workers": processes,
        "device": str(device),
        "hours": sum(shape["hours"] for shape in shapes) / processes,
        "shapes": shapes,
    }


def _shape(specs: list[RunSpec], store: Store, device: torch.device, asked: int) -> dict[str, Any]:
    left = [spec for spec in specs if spec.run_id not in store]
    size = min(asked or (1 if device.type == "cpu" else measured_size(specs, device)), len(specs))
    seconds = seconds_a_step(specs[:size], device)
    widest = max(specs, key=lambda spec: spec.train.train_len)
    train = widest.train
    steps = sum(max(s.train.steps for s in left[i : i + size]) for i in range(0, len(left), size))
    width = make(specs[0].task).width(train.train_len)
    return {
        "runs": len(specs),
        "stack": size,
        "stacks": -(-len(specs) // size),
        "parameters": count(specs[0].model),
        "memory_mb": memory_bytes(widest, size) / 2**20,
        "batch": f"{train.batch_size} x {width} tokens",
        "seconds_a_step": seconds,
        "seconds_a_step_in_bfloat16": _in_bfloat16(specs[:size], device),
        "hours": seconds * steps / 3600,
    }


def _in_bfloat16(specs: list[RunSpec], device: torch.device) -> float | None:
    """Seconds that a step would take with bfloat16 products, where those are the other choice: float32 on a CPU."""
    if device.type != "cpu" or specs[0].train.dtype != "float32":
        return None
    rounded = [s.model_copy(update={"train": s.train.model_copy(update={"dtype": "bfloat16"})}) for s in specs]
    return seconds_a_step(rounded, device)


def memory_bytes(spec: RunSpec, size: int) -> int:
    """Memory of a stack while it trains: weights, gradients and two moments, and what the backward pass keeps.

    Kept a token and block: the residual stream and what the sublayers read and write (about 8 d_model + 2 d_mlp
    numbers) and the attention weights.
    """
    model, train = spec.model, spec.train
    width = make(spec.task).width(train.train_len)
    a_token = 8 * model.d_model + 2 * model.d_mlp + model.n_heads * width
    kept = train.batch_size * width * (model.n_layers * a_token + model.d_vocab)
    number = 8 if train.dtype == "float64" else 4
    return size * number * (4 * count(model) + kept)
