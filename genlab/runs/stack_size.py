"""How many runs a stack should have on an accelerator: found by measuring."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from genlab.spec import RunSpec
from genlab.tasks import make
from genlab.training import Stack, fresh

__all__ = ["best_size", "measured_size", "seconds_a_step"]

_WARM, _TIMED = 2, 5
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


def seconds_a_step(specs: Sequence[RunSpec], device: torch.device, steps: int = _TIMED) -> float:
    """Seconds that a step of a fresh stack takes. On an accelerator without its batch: those are made ahead."""
    stack = Stack(make(specs[0].task), fresh(specs), device)
    batch = stack.batch() if device.type == "cuda" else None
    for _ in range(_WARM):
        stack.advance(batch or stack.batch())
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        stack.advance(batch or stack.batch())
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
