"""The batches of a stack, step by step: made where they are needed, or ahead of time by processes of their own.

A batch is a pure function of (task, training configuration, step), so who makes it changes no bit of it. They are
made on the CPU, never on the device. On an accelerator a step takes less time than making the batches of hundreds of
runs, so other processes make them while the device works.
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
from genlab.training.batches import Arrays, Stream, arranged, packed, stack_examples, widest

_TIMED = 4
"""Batches that are made here, and timed, before others are asked to help."""
_DEPTH = 3
"""Batches that wait ready, for each process that makes them."""


def makers_needed(making: float, step: float, most: int) -> int:
    """Processes that keep a device busy: seconds to make a batch, against seconds that the device takes for it.

    >>> makers_needed(0.05, 0.01, most=15), makers_needed(0.05, 0.01, most=3), makers_needed(0.001, 0.01, most=15)
    (6, 3, 2)
    """
    return min(most, math.ceil(making / step) + 1)


class Batches:
    """Batches of the runs of a stack, in the order of the steps."""

    def __init__(self, task: Task, specs: Sequence[RunSpec], grain: int = 1, makers: int = 0):
        """
        Args:
            grain: widths and numbers of places are rounded up to multiples of it (see `arranged`).
            makers: processes that may make batches ahead, at most; 0: they are made here.
        """
        self._task, self._specs, self._grain, self._most = task, list(specs), grain, makers
        self._streams = [Stream(task, spec.train, spec.model) for spec in specs]
        self._rows = list(range(len(self._specs)))
        self._makers: ProcessPoolExecutor | None = None
        self._ready: deque[tuple[int, list[int], Future[Arrays]]] = deque()
        self._seconds: deque[float] = deque(maxlen=_TIMED)

    def take(self, step: int) -> Arrays:
        """The batch of a step, a row a run."""
        if self._makers is not None:
            try:
                return self._made_ahead(step)
            except BrokenProcessPool:  # out of memory, or killed: what they would have made is made here
                self.close()
        start = time.perf_counter()
        batch = _batch(self._task, [self._streams[row] for row in self._rows], step, self._grain)
        self._seconds.append(time.perf_counter() - start)
        return batch

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the present ones alone."""
        self._rows = [self._rows[row] for row in rows]

    @property
    def wants_makers(self) -> bool:
        """Whether others may help and none was asked yet."""
        return self._most > 0 and self._makers is None

    def hire(self, step_seconds: float) -> None:
        """Have batches made ahead by as many processes as such steps need, once it is known what a batch costs."""
        if len(self._seconds) < _TIMED:
            return
        count = makers_needed(sum(self._seconds) / _TIMED, step_seconds, self._most)
        setup = ([spec.model_dump_json() for spec in self._specs], self._grain, plugins())
        self._makers = ProcessPoolExecutor(count, get_context("spawn"), initializer=_set_up, initargs=setup)
        self._depth = _DEPTH * count

    def close(self) -> None:
        """Let the processes go; what is needed after that is made here."""
        if self._makers is not None:
            self._makers.shutdown(wait=False, cancel_futures=True)
        self._makers, self._most, self._ready = None, 0, deque()

    def _made_ahead(self, step: int) -> Arrays:
        assert self._makers is not None
        while self._ready and self._ready[0][0] != step:
            self._ready.popleft()
        following = self._ready[-1][0] + 1 if self._ready else step
        for later in range(following, step + self._depth + 1):
            self._ready.append((later, self._rows, self._makers.submit(_make, later, self._rows)))
        _, rows, batch = self._ready.popleft()
        arrays = batch.result()
        if rows == self._rows:
            return arrays
        kept = [rows.index(row) for row in self._rows]  # some left after this one was asked for
        return {name: array if array.ndim == 0 else array[kept] for name, array in arrays.items()}


def _batch(task: Task, streams: Sequence[Stream], step: int, grain: int) -> Arrays:
    batches = [stream.batch(step) for stream in streams]
    offsets = _stacked([s.offsets(step, b) for s, b in zip(streams, batches, strict=True)])
    room = max(widest(task, batch.lengths) for batch in batches)
    train = streams[0].train
    # Dropout masks have the shape of the batch, so that must not depend on what the other runs have drawn.
    width = room if train.dropout else 0
    if grain > 1:
        longest = max(batch.tokens.shape[1] for batch in batches)
        width = min(room, -(-longest // grain) * grain)
    stacked = stack_examples(batches, width)
    made = arranged(stacked, offsets, train.loss, grain)
    # Masks, and graphs that are recorded a shape, want the shape that all batches have.
    return made if train.dropout or grain > 1 else made | packed(stacked, streams[0].model)


def _stacked(offsets: list[np.ndarray]) -> np.ndarray:
    """One row a run. Positions of every token go on with the last one, where another run's inputs are wider."""
    widest = max(array.shape[-1] for array in offsets)
    return np.stack(
        [a if a.ndim == 1 else np.pad(a, ((0, 0), (0, widest - a.shape[1])), mode="edge") for a in offsets]
    )


# -- in the processes that make batches ---------------------------------------------------------------------------

_MADE_FROM: list[tuple[Task, list[Stream], int]] = []


def _set_up(specs: list[str], grain: int, plugin_files: list[str]) -> None:
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()
    for file in plugin_files:
        load_plugin(file)
    runs = [RunSpec.model_validate_json(spec) for spec in specs]
    task = make(runs[0].task)
    _MADE_FROM[:] = [(task, [Stream(task, run.train, run.model) for run in runs], grain)]


def _leave_with(sentinel: int) -> None:
    """End this process when the one that started it has ended, however that came."""
    connection.wait([sentinel])
    os._exit(0)


def _make(step: int, rows: Sequence[int]) -> Arrays:
    ((task, streams, grain),) = _MADE_FROM
    return _batch(task, [streams[row] for row in rows], step, grain)
