"""What values a sequence can take, over all inputs of all lengths: the kinds of the language.

A sequence holds finitely many *tokens*, and maybe values of unbounded scales: *hints* (ordered symbols of the
input), *indices* and *counts*. The kind of a sequence is the widest of these. Kinds never stop a program from
running; they are what the checker speaks of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.functions import is_elementwise

STEP = 8
"""A map may take so many steps (successors or predecessors) at once; each counts as one operation."""
SMALL = 8
"""Constants below this may be compared with counts and indices: a table for them does not grow with length."""


class Scale(NamedTuple):
    """An unbounded scale of values: what it counts, and the value it starts from."""

    kind: str
    start: int = 0

    @property
    def far(self) -> NDArray[np.int64]:
        """Values that stand for all of the scale: a map must treat these alike."""
        return self.start + _FAR

    @property
    def near(self) -> NDArray[np.int64]:
        """The first values, and those that steps lead to before them."""
        return self.start + _NEAR

    def comparable(self, other: Scale) -> bool:
        """Whether the order of values of both scales means anything: an index is a count of positions."""
        return self == other or {self.kind, other.kind} <= {"index", "count"}


_NEAR = np.arange(-STEP, SMALL)
_FAR = np.concatenate([np.arange(SMALL, SMALL + 4 * STEP), [200, 201, 500, 501]])

INDEX, COUNT = Scale("index"), Scale("count")
_WIDTH = {"hint": 1, "index": 2, "count": 3}


@dataclass(frozen=True)
class Domain:
    """The values of a sequence.

    Attributes:
        tokens: the finitely many values that are not on a scale.
        scales: the scales that its other values are on.
        undefined: the means over several counts, indices or hints that it depends on, by their place in the run.
    """

    tokens: frozenset[int] = frozenset()
    scales: frozenset[Scale] = frozenset()
    undefined: frozenset[int] = frozenset()

    @property
    def kind(self) -> str:
        """count, index, hint, boolean or token; unknown where an illegal operation hides it.

        >>> tokens([0, 1]).kind, (tokens([7]) | Domain(scales=frozenset([INDEX]))).kind
        ('boolean', 'index')
        """
        if self.scales:
            return max((scale.kind for scale in self.scales), key=_WIDTH.__getitem__)
        if not self.tokens:
            return "unknown"
        return "boolean" if self.tokens <= {0, 1} else "token"

    def __or__(self, other: Domain) -> Domain:
        return Domain(self.tokens | other.tokens, self.scales | other.scales, self.undefined | other.undefined)

    def after(self, *inputs: Domain) -> Domain:
        """This domain, computed from those: what is undefined there is undefined here."""
        return replace(self, undefined=self.undefined.union(*(given.undefined for given in inputs)))


def tokens(values: Iterable[int]) -> Domain:
    """A domain of finitely many values."""
    return Domain(frozenset(int(value) for value in values))


NOTHING, BOOLEAN = Domain(), tokens([0, 1])


# -- Calling the functions of a program on columns of values, to see what they do

Ints = NDArray[np.int64]
Func = Callable[..., Any]


class Raised(Exception):
    """A function of a program raised."""


def scalar(func: Func, as_bool: list[bool]) -> Func:
    """The function on columns of values, called value by value unless it is elementwise; int64 out."""

    def call(*columns: Ints) -> Ints:
        typed = [column.astype(bool) if flag else column for column, flag in zip(columns, as_bool, strict=True)]
        try:
            with np.errstate(all="ignore"):
                if is_elementwise(func):
                    return np.broadcast_to(np.asarray(func(*typed)), typed[0].shape).astype(np.int64)
                return np.array([int(func(*values)) for values in zip(*typed, strict=True)], np.int64)
        except Exception as error:
            raise Raised(f"{type(error).__name__} ({error})") from None

    return call


def pairs(columns: Iterable[Ints]) -> Iterator[Ints]:
    """Columns in which every value of one meets every value of the others."""
    grids = np.meshgrid(*columns, indexing="ij")
    return iter([grid.reshape(-1) for grid in grids])
