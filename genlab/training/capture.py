"""Training steps as CUDA graphs: hundreds of small kernel launches replayed as one.

A graph is recorded for each batch shape and reads its inputs from buffers of its own; a step copies its batch into
them and replays. Everything that a step changes (weights, moments, sums) is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from genlab.spec import RunSpec
from genlab.training.batches import Places

GRAIN = 8
"""Captured steps round widths and numbers of loss positions up to multiples of this, so that shapes recur."""
_WARMUP = 3
_WARM = 3
"""Eager steps before a recording, as PyTorch requires for library initialization."""
_MAX_GRAPHS = 256
"""Maximum number of stored graphs; further batch shapes run eagerly."""

Advance = Callable[[Places, Tensor], None]


@runtime_checkable
class Graph(Protocol):
    """The part of `torch.cuda.CUDAGraph` used here."""

    def replay(self) -> None: ...

    def pool(self) -> Any: ...


def can_capture(spec: RunSpec) -> bool:
    """Whether a run's step is the same sequence of operations each time, without synchronizing with the host.

    Dropout draws from its own generators, and the number of growing loops depends on the batch.
    """
    return not spec.train.dropout and not spec.model.loop_growth


class Captured:
    """`advance` on a CUDA device, recorded for the first batch of each shape and replayed afterwards."""

    def __init__(self, advance: Advance, changed: Sequence[Tensor]):
        """
        Args:
            advance: takes a step, given its batch and rates; it must change only `changed`, in place, and must not
                synchronize with the host.
            changed: every tensor that a step changes, to be restored after the warmup.
        """
        self._advance, self._changed = advance, list(changed)
        self._graphs: dict[tuple[object, ...], tuple[Graph, Places, Tensor]] = {}

    def __call__(self, batch: Places, rates: Tensor) -> None:
        """Take a step."""
        key = _shape(batch)
        if key not in self._graphs:
            if len(self._graphs) == _MAX_GRAPHS:
                self._advance(batch, rates)
                return
            self._graphs[key] = self._record(batch, rates)
        graph, buffers, rate_buffer = self._graphs[key]
        for name in _tensors(batch):
            getattr(buffers, name).copy_(getattr(batch, name), non_blocking=True)
        rate_buffer.copy_(rates, non_blocking=True)
        graph.replay()

    def _record(self, batch: Places, rates: Tensor) -> tuple[Graph, Places, Tensor]:
        buffers = Places(**{n: getattr(batch, n).clone() for n in _tensors(batch)}, since=batch.since)
        rate_buffer = rates.clone()
        before = [tensor.clone() for tensor in self._changed]
        stream = torch.cuda.Stream(rates.device)
        stream.wait_stream(torch.cuda.current_stream(rates.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARMUP):
                self._advance(buffers, rate_buffer)
        torch.cuda.current_stream(rates.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # All graphs of a stack share one memory pool: they never run at the same time.
        pool = next(iter(self._graphs.values()))[0].pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool):
            self._advance(buffers, rate_buffer)
        for tensor, value in zip(self._changed, before, strict=True):
            tensor.copy_(value)
        return graph, buffers, rate_buffer


def _tensors(batch: Places) -> list[str]:
    return [field.name for field in fields(batch) if field.name not in ("since", "packing")]


def _shape(batch: Places) -> tuple[object, ...]:
    return (batch.since, *(tuple(getattr(batch, name).shape) for name in _tensors(batch)))
