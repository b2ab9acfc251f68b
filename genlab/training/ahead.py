"""The batches of a stack by step, made in this process or prefetched by worker processes.

A batch is a pure function of (task, training configuration, step), so it is the same whichever process makes it.
Batches are made on the CPU, never on the device. On an accelerator a step takes less time than making the batches of
hundreds of runs, so worker processes make them while the device computes.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process

import numpy as np

from genlab.spec import RunSpec
from genlab.tasks import Task, load_plugin, make, plugins
from genlab.training.batches import Arrays, Stream, arrange, pack_tokens, shortest_first, stack_examples, widest

_TIMED = 4
"""Batches made and timed in this process before workers are started."""
_DEPTH = 3
"""Batches to prefetch per worker."""


def workers_needed(making: float, step: float, most: int) -> int:
    """Number of workers that keep a device busy, from the seconds to make a batch and the seconds per step.

    >>> workers_needed(0.05, 0.01, most=15), workers_needed(0.05, 0.01, most=3), workers_needed(0.001, 0.01, most=15)
    (6, 3, 2)
    """
    return min(most, math.ceil(making / step) + 1)


class Batches:
    """The batches of the runs of a stack, in the order of the steps."""

    def __init__(self, task: Task, specs: Sequence[RunSpec], grain: int = 1, makers: int = 0):
        """
        Args:
            task: the task of all runs.
            specs: the runs.
            grain: widths and numbers of loss positions are rounded up to multiples of it (see `arrange`).
            makers: maximum number of worker processes; 0 makes all batches in this process.
        """
        self._task, self._specs, self._grain, self._max_workers = task, list(specs), grain, makers
        self._streams = [Stream(task, spec.train, spec.model) for spec in specs]
        self._rows = list(range(len(self._specs)))
        self._workers: ProcessPoolExecutor | None = None
        self._ready: deque[tuple[int, list[int], Future[Arrays]]] = deque()
        self._seconds: deque[float] = deque(maxlen=_TIMED)

    def take(self, step: int) -> Arrays:
        """The batch of a step, one row per run."""
        if self._workers is not None:
            try:
                return self._prefetched(step)
            except BrokenProcessPool:  # a worker was killed or ran out of memory: continue in this process
                self.close()
        start = time.perf_counter()
        batch = _batch(self._task, [self._streams[row] for row in self._rows], step, self._grain)
        self._seconds.append(time.perf_counter() - start)
        return batch

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows of the current ones only."""
        self._rows = [self._rows[row] for row in rows]

    @property
    def wants_workers(self) -> bool:
        """Whether workers are allowed but not yet started."""
        return self._max_workers > 0 and self._workers is None

    def start_workers(self, step_seconds: float) -> None:
        """Start as many workers as steps of this duration need, once the cost of a batch is known."""
        if len(self._seconds) < _TIMED:
            return
        count = workers_needed(sum(self._seconds) / _TIMED, step_seconds, self._max_workers)
        setup = ([spec.model_dump_json() for spec in self._specs], self._grain, plugins())
        self._workers = ProcessPoolExecutor(count, get_context("spawn"), initializer=_set_up, initargs=setup)
        self._depth = _DEPTH * count

    def close(self) -> None:
        """Shut down the workers; later batches are made in this process."""
        if self._workers is not None:
            self._workers.shutdown(wait=False, cancel_futures=True)
        self._workers, self._max_workers, self._ready = None, 0, deque()

    def _prefetched(self, step: int) -> Arrays:
        assert self._workers is not None
        while self._ready and self._ready[0][0] != step:
            self._ready.popleft()
        following = self._ready[-1][0] + 1 if self._ready else step
        for later in range(following, step + self._depth + 1):
            self._ready.append((later, self._rows, self._workers.submit(_make, later, self._rows)))
        _, rows, batch = self._ready.popleft()
        arrays = batch.result()
        if rows == self._rows:
            return arrays
        remaining = [rows.index(row) for row in self._rows]  # some runs have left the stack since it was requested
        return {name: array if array.ndim == 0 else array[remaining] for name, array in arrays.items()}


def _batch(task: Task, streams: Sequence[Stream], step: int, grain: int) -> Arrays:
    train = streams[0].train
    pairs = [(batch, stream.offsets(step, batch)) for stream in streams for batch in [stream.batch(step)]]
    may_pack = not train.dropout and grain == 1  # dropout masks and captured graphs need the unpacked shape
    if may_pack:
        pairs = [shortest_first(*pair) for pair in pairs]
    batches, offsets = [batch for batch, _ in pairs], _stacked([own for _, own in pairs])
    room = max(widest(task, batch.lengths) for batch in batches)
    # Dropout masks have the shape of the batch, which must therefore not depend on the other runs' examples.
    width = room if train.dropout else 0
    if grain > 1:
        longest = max(batch.tokens.shape[1] for batch in batches)
        width = min(room, -(-longest // grain) * grain)
    stacked = stack_examples(batches, width)
    arrays = arrange(stacked, offsets, train.loss, grain)
    return arrays | pack_tokens(stacked, streams[0].model) if may_pack else arrays


def _stacked(offsets: list[np.ndarray]) -> np.ndarray:
    """One row per run; position ids of every token are extended to the widest run by repeating the last one."""
    widest = max(array.shape[-1] for array in offsets)
    return np.stack(
        [a if a.ndim == 1 else np.pad(a, ((0, 0), (0, widest - a.shape[1])), mode="edge") for a in offsets]
    )


# -- In the worker processes

_WORKER: list[tuple[Task, list[Stream], int]] = []


def _set_up(specs: list[str], grain: int, plugin_files: list[str]) -> None:
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()
    for file in plugin_files:
        load_plugin(file, check=False)  # the driver did
    runs = [RunSpec.model_validate_json(spec) for spec in specs]
    task = make(runs[0].task)
    _WORKER[:] = [(task, [Stream(task, run.train, run.model) for run in runs], grain)]


def _exit_with_parent(sentinel: int) -> None:
    """End this process when its parent has ended, for whatever reason."""
    connection.wait([sentinel])
    os._exit(0)


def _make(step: int, rows: Sequence[int]) -> Arrays:
    ((task, streams, grain),) = _WORKER
    return _batch(task, [streams[row] for row in rows], step, grain)
