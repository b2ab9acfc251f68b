"""An equation with brackets, sums and differences modulo m: which x solves it?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.rasp.lang import elementwise, firsts, full, index_select, lasts, num_prev, seq_map, shift_right, where
from genlab.rasp.programs.modular import MINUS, weighted_count
from genlab.rasp.programs.parts import LETTER, said_once
from genlab.rasp.tokens import SPECIALS, letter_value

__all__ = ["solve_equation", "solve_signed_equation"]

OPEN, CLOSE, EQUALS = (SPECIALS[token] for token in "()=")
UNKNOWN = letter_value("x")
NOWHERE = -1


def solve_equation(x: Any, modulus: int = 5) -> Any:
    """The value less all numbers, each with its sign, and the sign of x.

    A number is taken away if it stands behind an odd number of minus signs: its own, and those before the brackets
    that are open there. Which bracket closes which is found by depth, a difference of counts.
    """
    before = shift_right(x, 1)
    return _solved(x, before, before == MINUS, modulus)


def solve_signed_equation(x: Any, modulus: int = 5) -> Any:
    """The same where a number may have a minus of its own beside that of an operator: `3 - - 2`."""
    before = shift_right(x, 1)
    of_two = (before == MINUS) & (shift_right(x, 2) == MINUS)
    return _solved(x, before, (before == MINUS) & (of_two == 0), modulus)


def _solved(x: Any, before: Any, negative: Any, modulus: int) -> Any:
    """The answer, where it is known which numbers have an odd number of minuses directly before them."""
    opened, closed = x == OPEN, x == CLOSE
    depth = num_prev(opened, full(x, 1)) - num_prev(closed, full(x, 1))
    opened_behind_minus = opened & (before == MINUS)
    partner = lasts(where(opened, depth, full(x, NOWHERE)), depth + 1)
    closed_behind_minus = closed & index_select(opened_behind_minus, partner)
    around = num_prev(opened_behind_minus, full(x, 1)) - num_prev(closed_behind_minus, full(x, 1))
    odd = (around + negative) % 2
    in_sum = (x >= 0) & (x < LETTER) & (before != EQUALS)
    share = seq_map(where(in_sum, x, full(x, 0)), odd, _negative_if(modulus))
    left = before - weighted_count(share, x, modulus)
    return said_once(x, seq_map(left, index_select(odd, firsts(x, full(x, UNKNOWN))), _negative_if(modulus)))


def _negative_if(modulus: int) -> Callable[[Any, Any], Any]:
    """A number modulo m, or less it where the flag is set."""

    @elementwise
    def negative_if(number: Any, flag: Any) -> Any:
        return np.where(np.equal(flag, 0), number, np.negative(number)) % modulus

    return negative_if
