"""Fully bracketed expressions modulo m, whose operators are applied in an order that is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from genlab.spec import Split
from genlab.tasks.base import Bools, Floats, Ints, Part, Vocab
from genlab.tasks.modular_chain import result_table

__all__ = ["BRACKET_SPLITS", "Bracketing", "draw_bracketing", "reduce_brackets"]

BRACKET_SPLITS = (
    Split(name="id", about="operators are applied in random order", shift={"order": "random", "p_zero": "uniform"}),
    Split(name="left", about="nested to the left, as deep as can be", shift={"order": "left", "p_zero": "uniform"}),
    Split(
        name="right", about="nested to the right, as deep as can be", shift={"order": "right", "p_zero": "uniform"}
    ),
    Split(name="shallow", about="neighbours first, as flat as can be", shift={"order": "pairs", "p_zero": "uniform"}),
    Split(name="nonzero", about="no number is 0", shift={"order": "random", "p_zero": 0.0}),
)


@dataclass(frozen=True, slots=True, eq=False)
class Bracketing:
    """A batch of bracketed expressions, of `lengths` numbers each.

    Attributes:
        lengths: int[n].
        signs: the operator after each number, int[n, number], an index into the operators.
        opens: how many brackets open before each number, int[n, number].
        closes: how many close after it, int[n, number].
        values: the value of each expression, int[n].
    """

    lengths: Ints
    signs: Ints
    opens: Ints
    closes: Ints
    values: Ints

    def part(self, numbers: Ints, first: int) -> Part:
        """The expressions around the ids of their numbers; `(`, `)` and the operators have ids from `first` on."""
        place = np.arange(numbers.shape[1])
        counts = [self.opens, place < self.lengths[:, None], self.closes, place + 1 < self.lengths[:, None]]
        units = np.broadcast_arrays(first, numbers, first + 1, first + 2 + self.signs)
        written = np.repeat(np.stack(units, axis=2).ravel(), np.stack(counts, axis=2).ravel())
        widths = 4 * self.lengths - 3
        if (widths == widths[0]).all():
            return Part(written.reshape(len(widths), -1))
        keep = np.arange(widths.max()) < widths[:, None]
        ids = np.full(keep.shape, Vocab.pad, np.int64)
        ids[keep] = written
        return Part(ids, keep=keep)


def draw_bracketing(
    rng: np.random.Generator, split: Split, numbers: Ints, lengths: Ints, modulus: int, operators: str
) -> Bracketing:
    """Draw operators and the order in which they are applied, and apply them.

    Each operator in turn takes the values that stand to its left and right and puts one in their place.
    """
    n, longest = numbers.shape
    signs = rng.integers(0, len(operators), (n, longest))
    if longest == 1:
        return Bracketing(lengths, signs, signs * 0, signs * 0, numbers[:, 0])
    real = np.arange(1, longest) < lengths[:, None]
    order = np.argsort(np.where(real, _priority(rng, str(split.shift["order"]), real), np.inf), axis=1)
    applied = np.where(real, signs[:, :-1], len(operators))
    first, last, values = _apply(order, applied, numbers, _table(modulus, operators))
    written = np.take_along_axis(real, order, axis=1).T
    opens, closes = (np.bincount(ends[written], minlength=n * longest).reshape(n, longest) for ends in (first, last))
    return Bracketing(lengths, signs, opens, closes, values)


@cache
def _table(modulus: int, operators: str) -> Ints:
    """The value of `a operator b`, int[operator, a, b]; after the operators comes the end, where a stays."""
    return np.concatenate([result_table(modulus, operators), [np.indices((modulus, modulus))[0]]])


def _priority(rng: np.random.Generator, order: str, gaps: Bools) -> Floats:
    """A number for each gap between two numbers, bool[n, gap]; the operator of the least one is applied first."""
    if order == "random":
        return rng.random(gaps.shape)
    place = np.arange(1, gaps.shape[1] + 1)
    # Pairs, then pairs of pairs, and so on: by the largest power of 2 that divides the place of the gap.
    by_order = {"left": place, "right": -place, "pairs": place & -place}
    return np.broadcast_to(by_order[order].astype(np.float64), gaps.shape)


def _apply(order: Ints, applied: Ints, numbers: Ints, table: Ints) -> tuple[Ints, Ints, Ints]:
    """Apply the operators of each row in `order`, int[n, gap].

    Returns:
        The first and the last number under each operator, as indices into `numbers.ravel()`, int[gap, n], and the
        value of each row, int[n].
    """
    n, longest = numbers.shape
    modulus, flat = table.shape[1], table.ravel()
    value, cell = numbers.ravel().copy(), np.arange(numbers.size)
    start, end = cell.copy(), cell.copy()  # of the block that a number ends, and of the block that it starts
    rows = np.arange(n) * longest
    gaps = (order + rows[:, None]).T.copy()
    signs = (np.take_along_axis(applied, order, axis=1) * modulus).T.copy()
    first, last = np.empty_like(gaps), np.empty_like(gaps)
    for step, (gap, after, sign) in enumerate(zip(gaps, gaps + 1, signs, strict=True)):
        left, right = start.take(gap, out=first[step], mode="clip"), end.take(after, out=last[step], mode="clip")
        value[left] = flat[(sign + value[left]) * modulus + value[after]]
        start[right], end[left] = left, right
    return first, last, value[rows]


def reduce_brackets(tokens: Sequence[str]) -> int:
    """The value of a bracketed expression, innermost brackets first, without a modulus.

    >>> reduce_brackets("( 3 - ( 2 * 4 ) )".split())
    -5
    """
    rest = list(tokens)
    while ")" in rest:
        close = rest.index(")")
        _, left, sign, right, _ = rest[close - 4 : close + 1]
        a, b = int(left), int(right)
        rest[close - 4 : close + 1] = [str({"+": a + b, "-": a - b, "*": a * b}[sign])]
    return int(rest[0])
