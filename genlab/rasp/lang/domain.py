"""Domains and kinds: the values that a sequence can take over all inputs of all lengths.

A sequence takes finitely many *tokens*, and possibly values on unbounded scales: *hints* (ordered symbols of the
input), *indices* and *counts*. The kind of a sequence is the widest of these. Kinds never prevent a program from
running; the legality rules are stated in terms of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.functions import is_elementwise

STEP = 8
"""The most steps (successors or predecessors) that one map may take; each step counts as one operation."""
SMALL = 8
"""Counts and indices may be compared with constants below this bound: such a table does not grow with length."""


class Scale(NamedTuple):
    """An unbounded scale of values: its kind (hint, index or count) and its first value."""

    kind: str
    start: int = 0

    @property
    def far(self) -> NDArray[np.int64]:
        """Values that represent the whole scale: a legal map treats all of them the same way, int[value]."""
        return self.start + _FAR

    @property
    def near(self) -> NDArray[np.int64]:
        """The first values of the scale, and the values that steps reach below it, int[value]."""
        return self.start + _NEAR

    def comparable(self, other: Scale) -> bool:
        """Whether values of the two scales may be compared: an index is a count of positions."""
        return self == other or {self.kind, other.kind} <= {"index", "count"}


_NEAR = np.arange(-STEP, SMALL)
_FAR = np.concatenate([np.arange(SMALL, SMALL + 4 * STEP), [200, 201, 500, 501]])

INDEX, COUNT = Scale("index"), Scale("count")
_WIDTH = {"hint": 1, "index": 2, "count": 3}


@dataclass(frozen=True)
class Domain:
    """The values of a sequence.

    Attributes:
        tokens: the finitely many values that lie on no scale.
        scales: the scales of its other values.
        undefined: the means over several counts, indices or hints that it depends on, by node id.
    """

    tokens: frozenset[int] = frozenset()
    scales: frozenset[Scale] = frozenset()
    undefined: frozenset[int] = frozenset()

    @property
    def kind(self) -> str:
        """One of count, index, hint, boolean or token; unknown after an illegal operation.

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
        """This domain for a result computed from `inputs`: it depends on the undefined means of all of them."""
        return replace(self, undefined=self.undefined.union(*(given.undefined for given in inputs)))


def tokens(values: Iterable[int]) -> Domain:
    """The domain of finitely many values."""
    return Domain(frozenset(int(value) for value in values))


NOTHING, BOOLEAN = Domain(), tokens([0, 1])


# -- Calling a program's functions on columns of values

Ints = NDArray[np.int64]
Func = Callable[..., Any]


class Raised(Exception):
    """A function of a program raised."""


def scalar(func: Func, as_bool: list[bool]) -> Func:
    """Vectorize a function of values: int64[value] columns in and out.

    An elementwise function is called once, any other one once for each value.

    Args:
        func: a function of as many values as there are columns.
        as_bool: for each column, whether the function receives booleans.
    """

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
    """The Cartesian product of the columns, as one column for each."""
    grids = np.meshgrid(*columns, indexing="ij")
    return iter([grid.reshape(-1) for grid in grids])
