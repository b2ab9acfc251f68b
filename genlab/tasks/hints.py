"""Index hints: a letter before each symbol, the same letter for the same place in prompt and answer."""

from __future__ import annotations

import numpy as np

from genlab.tasks.base import Bools, Ints, Part

__all__ = ["hinted", "window_shares", "window_starts"]


def window_starts(rng: np.random.Generator, lengths: Ints, names: int) -> Ints:
    """First hint of each example, int[n]: a window of `lengths` hints anywhere among `names` of them.

    Windows rather than always the first hints, so that the hints of long examples are trained on short ones.
    """
    return rng.integers(0, names - lengths + 1)


def window_shares(length: int, names: int) -> list[float]:
    """The probability of each hint at a random place of such a window.

    >>> window_shares(2, names=3)
    [0.25, 0.5, 0.25]
    """
    windows = names - length + 1
    covering = [min(hint, windows - 1) - max(0, hint - length + 1) + 1 for hint in range(names)]
    return [count / (windows * length) for count in covering]


def hinted(hints: Ints, ids: Ints, scored: bool = False, keep: Bools | None = None) -> Part:
    """A part in which each token stands after its hint."""
    both = np.stack([hints, ids], axis=2).reshape(len(ids), -1)
    return Part(both, scored, None if keep is None else np.repeat(keep, 2, axis=1))
