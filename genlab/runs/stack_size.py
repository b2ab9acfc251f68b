"""How many runs a stack should have on an accelerator: found by measuring."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import mean, median

import torch

from genlab.spec import RunSpec
from genlab.tasks import make
from genlab.training import Stack, fresh
from genlab.training.places import Places

__all__ = ["best_size", "measured_size", "seconds_a_step"]

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
