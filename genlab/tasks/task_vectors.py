"""Which linear maps modulo p are for training: the task vectors (a, b) of in-context modular arithmetic."""

from __future__ import annotations

import numpy as np

from genlab.errors import UserError
from genlab.tasks.base import Bools

__all__ = ["random_vectors", "rectangular_vectors"]


def random_vectors(rng: np.random.Generator, p: int, count: int) -> Bools:
    """Any `count` of the p^2 vectors (a, b), bool[a, b]."""
    chosen = np.zeros(p * p, bool)
    chosen[rng.permutation(p * p)[:count]] = True
    return chosen.reshape(p, p)


def rectangular_vectors(rng: np.random.Generator, p: int, count: int) -> Bools:
    """The corners of rectangles in the plane of vectors, bool[a, b].

    A base vector (a, b) comes with (a, y), (x, b) and (x, y), where x is neither a nor b, y is neither of these nor
    x, and no corner is chosen yet. So each coordinate of a chosen vector is shared with another chosen one.

    >>> chosen = rectangular_vectors(np.random.default_rng(0), p=7, count=8)
    >>> int(chosen.sum()), 1 in chosen.sum(axis=0), 1 in chosen.sum(axis=1)
    (8, False, False)

    Raises:
        UserError: no more rectangles have their place, or the count is no multiple of 4.
    """
    if count % 4:
        near = max(4, round(count / 4) * 4)
        raise UserError(f"the rectangular rule chooses tasks by fours, not {count}; nearest: {near}")
    chosen = np.zeros((p, p), bool)
    x, y = np.indices((p, p))
    for a, b in np.stack(np.divmod(rng.permutation(p * p), p), axis=1):
        if chosen.sum() == count:
            return chosen
        taken = chosen[a, b] | chosen[a, y] | chosen[x, b] | chosen[x, y]
        opposite = np.argwhere(~taken & (x != a) & (x != b) & (y != a) & (y != b) & (y != x))
        if len(opposite):
            c, d = opposite[rng.integers(len(opposite))]
            chosen[[a, a, c, c], [b, d, b, d]] = True
    if chosen.sum() < count:
        raise UserError(
            f"the rectangular rule found place for {chosen.sum()} tasks modulo {p}, not for {count}; "
            "ask for fewer, or for task_rule 'random'"
        )
    return chosen
