"""A training step as CUDA graphs: the launches of hundreds of small operations replayed as one.

A graph holds one shape of batch and reads its inputs from tensors of its own, so that each new shape is recorded once
and a step copies its batch in and replays. What a step changes (weights, moments, sums) it changes in place.
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
"""Widths and numbers of places are rounded up to multiples of this where steps are captured: shapes recur."""
_WARM = 3
"""Steps before a recording, as torch asks for (they let its libraries set themselves up)."""
_MOST = 256
"""Graphs that are kept. Batches of more shapes than that are stepped without one."""

Advance = Callable[[Places, Tensor], None]


@runtime_checkable
class Graph(Protocol):
    """What is used of `torch.cuda.CUDAGraph`."""

    def replay(self) -> None: ...

    def pool(self) -> Any: ...


def can_capture(spec: RunSpec) -> bool:
    """Whether a run's step is the same operations each time, with no look at a result on the way.

    Dropout draws from generators of its own, and loops that grow with the length are as many as a batch needs.
    """
    return not spec.train.dropout and not spec.model.loop_growth


class Captured:
    """`advance` on a CUDA device, recorded at the first batch of each shape and replayed from then on."""

    def __init__(self, advance: Advance, changed: Sequence[Tensor]):
        """
        Args:
            advance: takes a step, given its batch and its rates; changes nothing but `changed`, in place, and waits
                for no result.
            changed: all that a step changes, to be put back after the warm-up.
        """
        self._advance, self._changed = advance, list(changed)
        self._graphs: dict[tuple[object, ...], tuple[Graph, Places, Tensor]] = {}

    def __call__(self, batch: Places, rates: Tensor) -> None:
        """Take a step."""
        key = _shape(batch)
        if key not in self._graphs:
            if len(self._graphs) == _MOST:
                self._advance(batch, rates)
                return
            self._graphs[key] = self._recorded(batch, rates)
        graph, own, own_rates = self._graphs[key]
        for name in _tensors(batch):
            getattr(own, name).copy_(getattr(batch, name), non_blocking=True)
        own_rates.copy_(rates, non_blocking=True)
        graph.replay()

    def _recorded(self, batch: Places, rates: Tensor) -> tuple[Graph, Places, Tensor]:
        own = Places(**{n: getattr(batch, n).clone() for n in _tensors(batch)}, since=batch.since)
        own_rates = rates.clone()
        before = [tensor.clone() for tensor in self._changed]
        stream = torch.cuda.Stream(rates.device)
        stream.wait_stream(torch.cuda.current_stream(rates.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM):
                self._advance(own, own_rates)
        torch.cuda.current_stream(rates.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # One pool of memory for all graphs of a stack: they never run at the same time.
        pool = next(iter(self._graphs.values()))[0].pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool):
            self._advance(own, own_rates)
        for tensor, value in zip(self._changed, before, strict=True):
            tensor.copy_(value)
        return graph, own, own_rates


def _tensors(batch: Places) -> list[str]:
    return [field.name for field in fields(batch) if field.name not in ("since", "packing")]


def _shape(batch: Places) -> tuple[object, ...]:
    return (batch.since, *(tuple(getattr(batch, name).shape) for name in _tensors(batch)))
