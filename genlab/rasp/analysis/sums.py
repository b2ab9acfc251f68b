"""Linear sums of counts, and what a Python function does to them: found by calling it, as for scales."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.analysis.calling import Raised, scalar
from genlab.rasp.lang.graph import Node

__all__ = ["FULL", "NEAR", "Illegal", "Term", "Values", "call", "is_periodic", "line_of", "two_terms"]

Ints = NDArray[np.int64]

NEAR = 16
"""Constants up to this size may be compared with."""
_FAR = np.concatenate([np.arange(NEAR + 1, NEAR + 34), [200, 201, 404, 811]])
_PERIOD = 8
"""The longest period of a periodic predicate."""


@dataclass(frozen=True)
class Term:
    """A linear sum of counts. `offset`: where it is the position itself plus a constant, that constant."""

    offset: int | None = None


@dataclass(frozen=True)
class Values:
    """What a sequence holds: finitely many values, and maybe a linear sum of counts."""

    finite: frozenset[int] = frozenset()
    term: Term | None = None

    def __or__(self, other: Values) -> Values:
        if self.term is None or other.term is None:
            return Values(self.finite | other.finite, self.term or other.term)
        return Values(self.finite | other.finite, self.term if self.term == other.term else Term())


class Illegal(Exception):
    """What an operation does that no formula does."""


FULL = np.concatenate([-_FAR[::-1], np.arange(-NEAR, NEAR + 1), _FAR])


def call(node: Node, columns: list[Ints]) -> Ints:
    """A function of a program on columns of values, in the type that it gets in a run."""
    assert node.func is not None
    try:
        return scalar(node.func, [parent.is_bool for parent in node.inputs])(*columns)
    except Raised as raised:
        raise Illegal(f"raises {raised}") from None


def line_of(x: Ints, given: Ints) -> tuple[int, int] | None:
    """Slope and intercept, where the values lie on one line with an integer slope. `x` has several values."""
    slope, rest = divmod(int(given[-1] - given[0]), int(x[-1] - x[0]))
    intercept = int(given[0]) - slope * int(x[0])
    return (slope, intercept) if rest == 0 and (given == slope * x + intercept).all() else None


def two_terms(x: Ints, y: Ints, given: Ints) -> Values:
    """Two counts: in each case that comparisons with constants and with each other tell apart, a linear sum."""
    far = (np.abs(x) > NEAR) & (np.abs(y) > NEAR)
    gap = np.clip(x - y, -NEAR - 1, NEAR + 1)
    linear = False
    for right, above, distance in product((False, True), (False, True), range(-NEAR - 1, NEAR + 2)):
        case = far & ((x > 0) == right) & ((y > 0) == above) & (gap == distance)
        if case.any():
            linear |= _is_linear(x[case], y[case], given[case])
    return Values(term=Term()) if linear else Values(frozenset(given.tolist()))


def _is_linear(x: Ints, y: Ints, given: Ints) -> bool:
    """Whether values are a linear sum that is no constant. Raises `Illegal` where they are no linear sum."""
    if (given == given[0]).all():
        return False
    if len(np.unique(x - y)) == 1:  # then y says nothing beside x
        legal = line_of(x, given) is not None
    else:
        columns = np.stack([x, y, np.ones_like(x)], axis=1)
        weights = np.rint(np.linalg.lstsq(columns.astype(float), given.astype(float), rcond=None)[0])
        legal = bool((columns @ weights == given).all())
    if not legal:
        raise Illegal("does more with two counts than add, subtract and compare")
    return True


def is_periodic(x: Ints, given: Ints) -> bool:
    """Whether values at consecutive non-negative places repeat with a small period."""
    run = given[(x >= 0) & (x <= NEAR + 33)]
    return any((run[period:] == run[:-period]).all() for period in range(1, _PERIOD + 1))
