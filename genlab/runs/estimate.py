"""Estimate the cost of a grid from a few timed steps of each model shape."""

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
from genlab.runs.work import group_stackable
from genlab.spec import RunSpec
from genlab.tasks import make
from genlab.training import Stack, fresh
from genlab.training.batches import Places

# -- Size of a stack on an accelerator

_WARM, _TIMED = 2, 3
_PLACES = (0.5, 0.1, 0.9, 0.3, 0.7)
"""Points of a training at which steps are timed; any prefix of them is spread over it."""
_ENOUGH = 4.0
"""No further step is timed after this many seconds."""
_GAIN = 1.1
"""Minimum gain in throughput (runs per second) for which the size of a stack is doubled."""


def measured_size(specs: Sequence[RunSpec], device: torch.device) -> int:
    """Return the best number of runs per stack for runs of one shape on a device, at most all of them."""
    return best_size(len(specs), lambda size: seconds_a_step(specs[:size], device))


def best_size(most: int, seconds: Callable[[int], float]) -> int:
    """Return the size at which doubling no longer pays off or memory is exhausted, given the seconds per step.

    >>> best_size(100, lambda size: 1.0 if size <= 16 else size / 16)     # launches dominate up to 16 runs
    16
    >>> best_size(3, lambda size: 1.0)
    3
    """
    size = 1
    try:
        rate = 1 / seconds(1)
    except torch.OutOfMemoryError:  # the stack will fail with a clear message
        return size
    while size < most:
        larger = min(2 * size, most)
        try:
            new = larger / seconds(larger)
        except torch.OutOfMemoryError:
            break
        # A small step up, as from 16 to 17 runs, cannot gain more than its ratio.
        if new < rate * min(_GAIN, larger / size):
            break
        size, rate = larger, new
    return size


def seconds_a_step(specs: Sequence[RunSpec], device: torch.device) -> float:
    """Return the mean seconds per training step of a stack, over a whole training, on otherwise idle cores.

    Steps are spread over the training, because lengths vary and grow with a curriculum. Each is run before it is
    timed, so that one-time costs of a shape (a pool, compilation, a CUDA graph) do not count; the median of several
    timings is used. A single thread is timed by its processor time, so that other work on its core does not count. On
    an accelerator
    the time to make batches is excluded: they are made ahead.
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
    """Seconds of one step and, on a CPU, of making its batch."""

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
    """Processor time if one CPU thread does the work, else wall time: several threads busily wait for each other."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def estimate(
    wanted: Sequence[tuple[RunSpec, Evals]], store: Store, device_name: str, workers: int, stack: int
) -> dict[str, Any]:
    """Estimate runs, stacks, and for each shape parameters, memory, batch and hours; trains and writes nothing.

    `minutes` maps the id of each configuration to those of one run in its stack.

    Hours exclude runs that the store holds, assume otherwise idle cores, and exclude evaluation (a few percent).
    """
    device = pick_device(device_name)
    processes = 1 if device.type == "cuda" else workers or cores()
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // processes))
    try:
        shapes = [_shape(specs, store, device, stack) for specs, _ in group_stackable(wanted)]
    finally:
        torch.set_num_threads(threads)
    return {
        "runs": len(wanted),
        "done": sum(spec.run_id in store for spec, _ in wanted),
        "stacks": sum(shape["stacks"] for shape in shapes),
        "workers": processes,
        "device": str(device),
        "hours": sum(shape["hours"] for shape in shapes) / processes,
        "minutes": {key: value for shape in shapes for key, value in shape.pop("minutes").items()},
        "shapes": shapes,
    }


def _shape(specs: list[RunSpec], store: Store, device: torch.device, asked: int) -> dict[str, Any]:
    left = [spec for spec in specs if spec.run_id not in store]
    size = min(asked or (1 if device.type == "cpu" else measured_size(specs, device)), len(specs))
    seconds = seconds_a_step(specs[:size], device)
    widest = max(specs, key=lambda spec: spec.train.train_len)
    train = widest.train
    steps = sum(max(s.train.steps for s in left[i : i + size]) for i in range(0, len(left), size))
    width = make(specs[0].task).reach(train.train_len)
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
        "minutes": {spec.configuration.run_id: seconds * spec.train.steps / size / 60 for spec in specs},
    }


def _in_bfloat16(specs: list[RunSpec], device: torch.device) -> float | None:
    """Seconds per step with bfloat16 products, where that is the alternative: float32 on a CPU."""
    if device.type != "cpu" or specs[0].train.dtype != "float32":
        return None
    rounded = [s.model_copy(update={"train": s.train.model_copy(update={"dtype": "bfloat16"})}) for s in specs]
    return seconds_a_step(rounded, device)


def memory_bytes(spec: RunSpec, size: int) -> int:
    """Estimate the training memory of a stack: weights, gradients, two moments, and saved activations.

    Saved per token and block: the residual stream, the inputs and outputs of the sublayers (about 8 d_model + 2 d_mlp
    numbers) and the attention weights.
    """
    model, train = spec.model, spec.train
    width = make(spec.task).reach(train.train_len)
    a_token = 8 * model.d_model + 2 * model.d_mlp + model.n_heads * width
    kept = train.batch_size * width * (model.n_layers * a_token + model.d_vocab)
    number = 8 if train.dtype == "float64" else 4
    return size * number * (4 * count(model) + kept)
