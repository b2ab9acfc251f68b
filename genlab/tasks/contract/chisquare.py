"""Chi-square tests, as the number of standard deviations by which counts are further off than chance gives."""

from __future__ import annotations

import numpy as np

from genlab.tasks.base import Bools, Floats, Ints

__all__ = ["fit_z", "homogeneity_z"]

_FEWEST = 5.0
"""Cells with fewer expected counts are pooled."""


def fit_z(counts: Ints, shares: Floats) -> float:
    """How badly counts fit the shares that they should have; infinite where an impossible thing was counted.

    >>> round(fit_z(np.array([60, 40]), np.array([0.5, 0.5])), 1)        # p = 0.046, one-sided 1.7
    1.7
    """
    expected = counts.sum() * shares
    if (counts[expected == 0] > 0).any():
        return float("inf")
    seen, due = _pooled(np.stack([counts.astype(float), expected]), rare=expected < _FEWEST)
    return _z(float(np.sum((seen - due) ** 2 / due)), len(due) - 1)


def homogeneity_z(first: Ints, second: Ints) -> float:
    """How badly two rows of counts fit one law.

    >>> homogeneity_z(np.array([50, 50]), np.array([100, 101])) < 0
    True
    >>> homogeneity_z(np.array([50, 50]), np.array([150, 50])) > 3
    True
    """
    table = np.stack([first, second]).astype(float)
    sizes = table.sum(axis=1, keepdims=True)
    share = min(first.sum(), second.sum()) / table.sum()
    table = _pooled(table, rare=table.sum(axis=0) * share < _FEWEST)
    due = sizes * table.sum(axis=0) / table.sum()
    return _z(float(np.sum((table - due) ** 2 / due)), table.shape[1] - 1)


def _pooled(table: Floats, rare: Bools) -> Floats:
    """The columns of a table, the rare ones added up to one (left out if it is empty)."""
    rest = table[:, rare].sum(axis=1, keepdims=True)
    return np.hstack([table[:, ~rare], rest]) if rest.any() else table[:, ~rare]


def _z(statistic: float, freedom: int) -> float:
    """The normal deviate of a chi-square statistic (its cube root is close to normal: Wilson and Hilferty 1931)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5
