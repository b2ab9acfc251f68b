"""Where examples stand: the positions that a model is given with its tokens, in training and in evaluation.

Most models are told the position of an example's first token (an offset, for learned positions). Where positions are
the task's own ids, or random ones, they are told that of every token. An example's placement follows from its own
length, its row, a seed and the configuration: never from the answer, from the other examples of the batch, or from
what the batch is padded to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genlab.spec import ModelConfig
from genlab.tasks import Examples, Task
from genlab.tasks.base import Ints

__all__ = ["positions_of", "widest", "widths"]


def widths(task: Task, lengths: Ints) -> Ints:
    """Positions that an input of each of these lengths may take, whatever is drawn: int[n]."""
    return _by_length(lengths, lambda length: task.width(length) - 1)


def widest(task: Task, lengths: Ints) -> int:
    """Positions that inputs of these lengths may take, whatever is drawn: alike for all runs of a stack."""
    return int(widths(task, lengths).max())


def positions_of(task: Task, batch: Examples, seed: list[int], cfg: ModelConfig) -> Ints:
    """Position of each example's first token, int[batch], or of all tokens that there may be, int[batch, pos].

    With `cfg.offsets` at `random` an offset is uniform over what the context leaves beside the widest example of the
    same length; the task's ids are moved alike, as far as those of its longest examples go (an id of 0 stays). At
    `zero` nothing is moved. Random positions (Ruoss et al. 2023, arXiv 2305.16843) are as many of `random_positions`
    ones as the example has, drawn without replacement for each example, in order.

    Args:
        seed: row i of any batch with this seed stands at the same place, given its length.
        cfg: the model's configuration.
    """
    rng, own = np.random.default_rng(seed), widths(task, batch.lengths)
    law = cfg.offsets
    if law == "batch":  # every row gets the room of the widest one
        own = np.full(len(batch), own.max())
    if not cfg.needs_ids:
        return np.zeros(len(batch), np.int64) if law == "zero" else _shifts(rng, task.n_ctx - own, law)
    kind, width = cfg.given_positions, int(own.max())
    ids = _own(task, batch, kind, width) if kind else np.broadcast_to(np.arange(width), (len(batch), width))
    reach = _by_length(batch.lengths, lambda length: task.id_reach(kind, length)) if kind else own - 1
    if law == "batch":
        reach = np.full(len(batch), reach.max())
    ids = np.minimum(ids, reach[:, None])  # what lies beyond an example's own tokens is padding
    if cfg.random_positions:
        return _spread(rng, ids, reach, cfg.random_positions, fixed=bool(kind))
    if law == "zero":
        return ids
    return ids + (ids > 0) * _shifts(rng, task.id_reach(kind, task.max_len) - reach, law)[:, None]


def _by_length(lengths: Ints, of: Callable[[int], int]) -> Ints:
    """A function of an example's length, for each of `lengths`, called once a distinct one."""
    distinct, place = np.unique(lengths, return_inverse=True)
    return np.array([of(int(length)) for length in distinct], dtype=np.int64)[place]


def _shifts(rng: np.random.Generator, room: Ints, law: str) -> Ints:
    """A shift from 0 to `room`, both included, for each row: int[n]. One number of `rng` serves each row."""
    if law == "batch":  # bit for bit what runs of this law were given
        return rng.integers(0, int(room[0]) + 1, size=len(room))
    return np.floor(rng.random(len(room)) * (room + 1)).astype(np.int64)


def _own(task: Task, batch: Examples, kind: str, width: int) -> Ints:
    given = task.placed(batch, kind, width).position_ids
    assert given is not None
    return given


def _spread(rng: np.random.Generator, ids: Ints, reach: Ints, places: int, fixed: bool) -> Ints:
    """Each row's ids 0 to its reach as that many random places, in order; with `fixed`, an id of 0 stays at 0."""
    order = np.argsort(rng.random((len(ids), places - fixed)), axis=1)
    rank = np.argsort(order, axis=1)
    taken = rank < (reach + 1 - fixed)[:, None]
    drawn = np.argsort(~taken, axis=1, kind="stable") + fixed  # the places that a row takes first, rising
    if fixed:
        drawn = np.pad(drawn, ((0, 0), (1, 0)))
    return np.take_along_axis(drawn, ids, axis=1)
