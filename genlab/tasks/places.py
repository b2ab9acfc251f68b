"""Random places in a sequence: where a pattern is pasted, where a needle is hidden."""

from __future__ import annotations

import numpy as np

from genlab.tasks.base import Ints

__all__ = ["apart", "distinct"]


def distinct(rng: np.random.Generator, below: Ints, count: int) -> Ints:
    """`count` different integers from 0 to `below - 1` for each row, rising: int[n, count].

    Every set of that size is equally likely. `below` is int[n], at least `count`.

    >>> distinct(np.random.default_rng(0), np.array([3, 3]), 3)
    array([[0, 1, 2],
           [0, 1, 2]])
    """
    chosen = np.empty((len(below), count), np.int64)
    for i in range(count):
        drawn = rng.integers(0, below - i)
        # The drawn number counts the integers not taken yet: step over each taken one, lowest first.
        for j in range(i):
            drawn += drawn >= chosen[:, j]
        chosen[:, i] = drawn
        chosen[:, : i + 1].sort(axis=1)
    return chosen


def apart(rng: np.random.Generator, room: Ints, size: Ints, count: int, gap: int = 0) -> Ints:
    """Starts of `count` blocks of `size` in rows of `room` cells, at least `gap` cells apart: int[n, count].

    Every arrangement is equally likely.

    >>> apart(np.random.default_rng(0), np.array([7]), np.array([3]), count=2, gap=1)
    array([[0, 4]])
    """
    slots = room - count * size - (count - 1) * gap + count
    return distinct(rng, slots, count) + np.arange(count) * (size + gap - 1)[:, None]
