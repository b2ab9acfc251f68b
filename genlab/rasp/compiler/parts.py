"""The parts of a compiled transformer: variables of the residual stream, attention heads, units of MLPs.

A variable is categorical (Lindner et al. 2023, Tracr, arXiv 2301.05062): one direction of the residual stream for
each of its values, 1 at the value that it has and 0 at all others. At the start token every variable is 0 in all
directions, so that no head selects it by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(eq=False)
class Variable:
    """Directions of the residual stream that hold one quantity.

    Attributes:
        name: what it holds.
        values: int[direction], the value that each direction stands for; one entry for a raw number.
        ready: when it can be read, in half layers: 0 after the embedding, 2 l + 1 after the attention of layer l,
            2 l + 2 after its MLP.
        distinct: whether no two positions have the same value.
        raw: whether it is a number as attention gives it, in one direction, which a staircase of units reads.
        at_start: float[direction], what the layers write into it at the start token, which the embedding cancels.
    """

    name: str
    values: Array
    ready: int
    distinct: bool = False
    raw: bool = False
    at_start: Floats = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.values)


ONE = Variable("one", np.array([1]), 0)
"""1 at every token but the start token."""
START = Variable("start", np.array([1]), 0)
"""1 at the start token."""


@dataclass
class Linear:
    """A linear map of variables, to as many outputs as its matrices have columns."""

    parts: list[tuple[Variable, Floats]]

    @property
    def width(self) -> int:
        """The number of outputs."""
        return self.parts[0][1].shape[1]

    @property
    def ready(self) -> int:
        """When all of its variables can be read."""
        return max(variable.ready for variable, _ in self.parts)

    def beside(self, other: Linear) -> Linear:
        """The outputs of this map followed by those of another one."""
        left = [(v, np.pad(m, ((0, 0), (0, other.width)))) for v, m in self.parts]
        return Linear(left + [(v, np.pad(m, ((0, 0), (self.width, 0)))) for v, m in other.parts])


@dataclass
class Head:
    """One attention head: its output is written into a variable of its own.

    Attributes:
        layer: its layer.
        q, k: queries and keys; the score is their product.
        v: what it reads at each key, one output for each direction of `out`.
        out: the variable.
        what: the operation that it computes.
    """

    layer: int
    q: Linear
    k: Linear
    v: Linear
    out: Variable
    what: str


@dataclass
class Unit:
    """A step: 0 up to a threshold of a linear form, 1 from a higher one on, linear between (two ReLU neurons).

    Attributes:
        layer: the layer of its MLP.
        reads: the linear form, with one output; it is 0 below and 1 above.
        bias: added to it.
        writes: (variable, float[direction]): what is added to a variable where the unit is 1.
    """

    layer: int
    reads: Linear
    bias: float
    writes: list[tuple[Variable, Floats]]


# -- Functions of variables, as tables

MOST_ENTRIES = 1 << 21
"""The most entries of a table."""


@dataclass
class Table:
    """A sequence as a function of at most two variables.

    Attributes:
        of: its variables.
        values: int or bool [value of the first variable, value of the second].
        valid: bool of the same shape; False where the program has no value, since it would raise.
    """

    of: tuple[Variable, ...]
    values: Array
    valid: Bools

    @property
    def ready(self) -> int:
        """When all of its variables can be read."""
        return max((variable.ready for variable in self.of), default=0)

    @property
    def domain(self) -> Array:
        """Its distinct values, sorted."""
        return np.unique(self.values[self.valid])

    def over(self, variables: Sequence[Variable]) -> tuple[Array, Bools]:
        """Values and validity as a function of more variables, in a shape that broadcasts."""
        if len(self.of) == 2 and tuple(variables) == self.of[::-1]:
            return self.values.T, self.valid.T
        shape = [len(v) if v in self.of else 1 for v in variables]
        return self.values.reshape(shape), self.valid.reshape(shape)

    def codes(self, domain: Array) -> Array:
        """The index of each value in a sorted array that contains all valid ones."""
        return np.minimum(np.searchsorted(domain, self.values), len(domain) - 1)

    def read(self, columns: Floats) -> Linear:
        """The rows of `columns`, float[value, output], as a linear map; for a table of one variable or none."""
        flat = np.where(self.valid.reshape(-1, 1), columns, 0.0)
        return Linear([(self.of[0] if self.of else ONE, flat)])


@dataclass(frozen=True)
class Step:
    """A unit of a table: where it is 1, and by how much it changes the code of the result.

    Attributes:
        reads: for each variable of the table, float[value], the coefficients of the linear form.
        bias: added to it.
        off, on: the codes before and after; the result is the base code plus the changes of all units that are on.
    """

    reads: tuple[Floats, ...]
    bias: float
    off: int
    on: int


def steps_of(codes: Array, valid: Bools, values: tuple[Array, ...]) -> tuple[int, list[Step]]:
    """Write a table of one or two variables as a sum of steps: the base code, and few units with small coefficients.

    Tried are rectangles (a set of values of one variable times a set of values of the other), and stairs: a function
    of a sum or difference changes its result only at some of its values. Of those that take at most twice the fewest
    units, it is the one with the smallest coefficients: noise on weights is relative to the largest of a matrix.

    Args:
        codes: int[value, value], the code of the result.
        valid: bool of the same shape; the result does not matter where it is False.
        values: the values of each variable.
    """
    found = [_rectangles(codes, valid), _mirrored(_rectangles(codes.T, valid.T))]
    found += [
        stairs for a, b in _SUMS if (stairs := _stairs(codes, valid, a * values[0][:, None] + b * values[1][None]))
    ]
    most = 2 * min(len(steps) for _, steps in found) + 4
    return min((option for option in found if len(option[1]) <= most), key=_largest)


def _largest(option: tuple[int, list[Step]]) -> float:
    """The largest coefficient of a sum of steps."""
    return max((float(np.abs(reads).max()) for step in option[1] for reads in step.reads), default=0.0)


_SUMS = ((1, 1), (1, -1), (2, 1), (2, -1), (1, 2), (1, -2))
"""Coefficients of the sums that are tried."""


def _rectangles(codes: Array, valid: Bools) -> tuple[int, list[Step]]:
    """Equal rows share their units, one for each result but the base."""
    codes = _filled(codes, valid)
    rows, groups = np.unique(codes, axis=0, return_inverse=True)
    parts = [(g, int(code)) for g, row in enumerate(rows) for code in np.unique(row)]
    base = int(np.bincount([code for _, code in parts]).argmax())
    steps: list[Step] = []
    for group, code in parts:
        if code != base:
            where = (groups.reshape(-1) == group, rows[group] == code)
            steps.append(Step(tuple(2.0 * side for side in where), -2.5, base, code))
    return base, steps


def _filled(codes: Array, valid: Bools) -> Array:
    """Codes with the most frequent one of the row where they do not matter."""
    if valid.all():
        return codes
    out = codes.copy()
    whole = int(np.bincount(codes[valid].reshape(-1)).argmax()) if valid.any() else 0
    for row, known in zip(out, valid, strict=True):
        row[~known] = int(np.bincount(row[known]).argmax()) if known.any() else whole
    return out


def _mirrored(option: tuple[int, list[Step]]) -> tuple[int, list[Step]]:
    base, steps = option
    return base, [Step(step.reads[::-1], step.bias, step.off, step.on) for step in steps]


def _stairs(codes: Array, valid: Bools, sums: Array) -> tuple[int, list[Step]] | None:
    """The table as a function of a sum of its variables, one unit for each change; None if it is no such function."""
    sums, codes = np.broadcast_to(sums, codes.shape), codes
    order = np.lexsort((codes[valid], sums[valid]))
    z, c = sums[valid][order], codes[valid][order]
    same = z[1:] == z[:-1]
    if (c[1:][same] != c[:-1][same]).any():
        return None
    first = np.flatnonzero(np.r_[True, ~same])
    z, c = z[first], c[first]
    changes = np.flatnonzero(c[1:] != c[:-1])
    steps: list[Step] = []
    rows, columns, middle_of_all = _coefficients(sums)
    for at in changes:
        gain = 2.0 / float(z[at + 1] - z[at])
        middle = (z[at] + z[at + 1]) / 2 - middle_of_all
        steps.append(Step((gain * rows, gain * columns), 0.5 - gain * middle, int(c[at]), int(c[at + 1])))
    return int(c[0]), steps


def _coefficients(sums: Array) -> tuple[Floats, Floats, float]:
    """The two terms of each sum, each around 0, and the constant that is left.

    Exactly one value of a variable is there at a time, so that a constant can move from its coefficients to the bias.
    """
    rows, columns = sums[:, 0].astype(float), (sums[0] - sums[0, 0]).astype(float)
    middles = [(float(term.min()) + float(term.max())) / 2 for term in (rows, columns)]
    return rows - middles[0], columns - middles[1], sum(middles)
