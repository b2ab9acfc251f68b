"""Distinct items in a random order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError
from genlab.tasks.base import Ints

__all__ = ["arrangements", "check_enough"]


def arrangements(
    rng: np.random.Generator, below: Ints, count: int, weights: NDArray[np.float64] | None = None
) -> Ints:
    """`count` distinct items of 0 to `below - 1` for each row, in random order: int[n, count].

    Every ordered choice is equally likely; with `weights` (of all items) each next item is drawn in proportion to
    the weights of those that are left (Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir).
    In a row with `below` less than `count`, other items fill the rest.

    >>> arrangements(np.random.default_rng(0), below=np.array([3, 3]), count=3)
    array([[2, 1, 0],
           [0, 1, 2]])
    """
    items = np.arange(int(below.max()))
    shape = (len(below), len(items))
    keys = rng.random(shape) if weights is None else rng.standard_exponential(shape) / weights
    keys[items >= below[:, None]] = np.inf
    return np.argsort(keys, axis=1)[:, :count]


def check_enough(task: str, symbols: int, max_len: int) -> None:
    """Raise `UserError` where there are fewer symbols than the longest example has distinct items."""
    if symbols < max_len:
        raise UserError(
            f"task {task!r} with max_len {max_len} needs at least {max_len} symbols for its distinct items, "
            f"not {symbols}"
        )
