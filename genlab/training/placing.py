"""Where examples stand: the positions that a model is given with its tokens, in training and in evaluation.

Most models are told the position of an example's first token (an offset, for learned positions). Where positions are
the task's own ids, or random ones, they are told that of every token. They depend on the task, the lengths of a batch
and a seed: never on the answer, nor on what a batch is padded to.
"""

from __future__ import annotations

import numpy as np

from genlab.spec import ModelConfig
from genlab.tasks import Examples, Task
from genlab.tasks.base import Ints

__all__ = ["positions_of", "widest"]


def widest(task: Task, lengths: Ints) -> int:
    """Positions that inputs of these lengths may take, whatever is drawn: alike for all runs of a stack."""
    return max(task.width(int(length)) for length in np.unique(lengths)) - 1


def positions_of(task: Task, batch: Examples, seed: list[int], cfg: ModelConfig | None = None) -> Ints:
    """Position of each example's first token, int[batch], or of all tokens that there may be, int[batch, pos].

    Offsets are uniform over what the context leaves room for. The task's ids are moved alike, as far as those of its
    longest examples go; an id of 0 stays. Random positions (Ruoss et al. 2023, arXiv 2305.16843) are that many of
    `random_positions` ones, drawn without replacement for each example, in order.

    Args:
        cfg: the model's configuration; None is one that needs offsets at most.
    """
    rng, width = np.random.default_rng(seed), widest(task, batch.lengths)
    if cfg is None or not cfg.needs_ids:
        # The room is that of the widest input, not of this batch: in a stack it may be padded to another run's width.
        return rng.integers(0, task.n_ctx - width + 1, size=len(batch))
    kind = cfg.given_positions
    ids = _own(task, batch, kind, width) if kind else np.broadcast_to(np.arange(width), (len(batch), width))
    reach = max(task.id_reach(kind, int(n)) for n in np.unique(batch.lengths)) if kind else width - 1
    if cfg.random_positions:
        return _spread(rng, ids, reach, cfg.random_positions, fixed=bool(kind))
    room = task.id_reach(kind, task.max_len) - reach
    return ids + (ids > 0) * rng.integers(0, room + 1, size=(len(batch), 1))


def _own(task: Task, batch: Examples, kind: str, width: int) -> Ints:
    given = task.placed(batch, kind, width).position_ids
    assert given is not None
    return given


def _spread(rng: np.random.Generator, ids: Ints, reach: int, places: int, fixed: bool) -> Ints:
    """Ids 0 to `reach` as that many random places, in order; with `fixed`, an id of 0 stays at 0."""
    drawn = np.argsort(rng.random((len(ids), places - fixed)), axis=1)[:, : reach + 1 - fixed]
    drawn = np.sort(drawn, axis=1) + fixed
    if fixed:
        drawn = np.pad(drawn, ((0, 0), (1, 0)))
    return np.take_along_axis(drawn, ids, axis=1)
