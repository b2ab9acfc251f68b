"""A weight as a configuration describes it: its shape, and the law that its initial numbers are drawn from."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Weight", "Weights"]


class Weight(NamedTuple):
    """One parameter of one run; its initial numbers are N(mean, std^2), or the mean where `std` is 0."""

    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0


Weights = dict[str, Weight]
"""Name -> weight, in the order of the flat tensor."""
