"""Arithmetic modulo m: steps on a cycle, chains of operations, and equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.errors import UserError
from genlab.rasp.lang import (
    elementwise,
    firsts,
    full,
    index_select,
    indices,
    lasts,
    num_prev,
    seq_map,
    shift_right,
    tok_map,
    where,
)
from genlab.rasp.programs.parts import answer_once, sep_index
from genlab.rasp.tokens import END, LETTER, SEP, SPECIALS, letter_value

PLUS, MINUS, TIMES = (SPECIALS[sign] for sign in "+-*")
NOWHERE = -1


def cycle_navigation(x: Any, places: int = 5) -> Any:
    """The number of steps forward minus the number of steps back, modulo the size of the cycle."""
    return answer_once(x, (num_prev(x, full(x, PLUS)) - num_prev(x, full(x, MINUS))) % places)


def chain_sum(x: Any, modulus: int = 5) -> Any:
    """The sum of each number times its count."""
    return answer_once(x, weighted_count(x, x, modulus) % modulus)


def chain_running(x: Any, modulus: int = 5) -> Any:
    """Combine the last result with the next operator and number, found at twice the length of the answer so far."""
    sep = sep_index(x)
    place = 2 * (indices(x) - sep)
    sign, number = index_select(x, place - 1), index_select(x, place)
    result = where(x == SEP, number, seq_map(sign, seq_map(x, number, _pair), _apply(modulus)))
    return where(place > sep, full(x, END), result)


def chain_left_to_right(x: Any, modulus: int = 5) -> Any:
    """The sum of all summands, each times all later factors, for a prime modulus.

    Products are computed as sums of logarithms. Each summand is divided by the product of the factors before it, and
    the total is multiplied by the product of all factors. Everything before the last factor 0 is ignored.
    """
    before = shift_right(x, 1, default=PLUS)
    is_factor = (before == TIMES) & (x >= 0)
    factor, summand = where(is_factor, x, full(x, 1)), where(is_factor, full(x, 0), digits_signed(x, before, modulus))
    log = logarithm(factor, modulus)
    last_zero = lasts(is_factor & (x == 0), full(x, 1), default=NOWHERE)
    term = seq_map(summand, log, _times_power(modulus, -1))
    total = full(x, 0)
    for value in range(1, modulus):
        so_far = num_prev(term, full(x, value))
        total = total + value * (so_far - index_select(so_far, last_zero))
    return answer_once(x, seq_map(total % modulus, log, _times_power(modulus, 1)))


def chain_precedence(x: Any, modulus: int = 5) -> Any:
    """The sum of all products, each computed at the sign after it with logarithms, for a prime modulus."""
    ends = (x == PLUS) | (x == MINUS) | (x == SEP)
    log, zeros = logarithm(where(x >= 0, x, full(x, 1)), modulus), num_prev(x, full(x, 0))
    last_end = lasts(shift_right(ends, 1), full(x, 1), default=0) - 1
    sign = index_select(x, last_end, default=PLUS)
    log_since = (log - index_select(log, last_end)) % (modulus - 1)
    has_zero = zeros > index_select(zeros, last_end)
    product = seq_map(where(has_zero, full(x, 0), full(x, 1)), log_since, _times_power(modulus, 1))
    term = where(sign == MINUS, 0 - product, product) % modulus
    return answer_once(x, weighted_count(where(ends, term, full(x, 0)), x, modulus) % modulus)


def weighted_count(values: Any, x: Any, modulus: int) -> Any:
    """The sum of all values so far that lie between 1 and `modulus` - 1: each value times its count."""
    total = num_prev(values, full(x, 1))
    for value in range(2, modulus):
        total = total + value * num_prev(values, full(x, value))
    return total


def logarithm(factors: Any, modulus: int) -> Any:
    """The discrete logarithm of the product of all nonzero factors so far."""
    logs = tok_map(factors, _log(modulus))
    return weighted_count(logs, factors, modulus - 1) % (modulus - 1)


def digits_signed(x: Any, sign: Any, modulus: int) -> Any:
    """Each number with the sign before it, modulo m; 0 at all other tokens."""

    @elementwise
    def signed(number: Any, sign: Any) -> Any:
        value = np.where(np.equal(sign, MINUS), -np.asarray(number), number)
        return np.where(np.greater_equal(number, 0), value % modulus, 0)

    return seq_map(x, sign, signed)


_ROOM = 1000
"""The factor of the first number when two numbers are packed into one."""


@elementwise
def _pair(first: Any, second: Any) -> Any:
    return np.asarray(first) * _ROOM + second


def _apply(modulus: int) -> Callable[[int, int], int]:
    """A function that applies an operator to a packed pair of numbers."""

    def apply(sign: int, pair: int) -> int:
        first, second = divmod(int(pair), _ROOM)
        results = {PLUS: first + second, MINUS: first - second, TIMES: first * second}
        return results.get(int(sign), 0) % modulus

    return apply


def _generator(modulus: int) -> int:
    """A generator of the multiplicative group modulo a prime."""
    for candidate in range(1, modulus):
        if len({pow(candidate, i, modulus) for i in range(modulus - 1)}) == modulus - 1:
            return candidate
    raise UserError(f"modulus {modulus} is not prime: discrete logarithms need a prime modulus")


def _log(modulus: int) -> Callable[[int], int]:
    generator = _generator(modulus)
    logs = {pow(generator, i, modulus): i for i in range(modulus - 1)}
    return lambda number: logs.get(int(number), 0)


def _times_power(modulus: int, sign: int) -> Callable[[int, int], int]:
    """A function that multiplies a number by a power of the generator, given its exponent."""
    generator = _generator(modulus)
    return lambda number, log: int(number) * pow(generator, sign * int(log) % (modulus - 1), modulus) % modulus


# -- Solving equations with brackets, sums and differences

OPEN, CLOSE, EQUALS = (SPECIALS[token] for token in "()=")
UNKNOWN = letter_value("x")


def solve_equation(x: Any, modulus: int = 5) -> Any:
    """The right side minus all signed numbers of the left side, times the sign of x.

    A number is negative if it follows an odd number of minus signs: its own, and those before the enclosing brackets.
    Matching brackets are found by depth, a difference of counts.
    """
    before = shift_right(x, 1)
    return _solve(x, before, before == MINUS, modulus)


def solve_signed_equation(x: Any, modulus: int = 5) -> Any:
    """Like `solve_equation`, but a number may have its own minus sign after that of an operator: `3 - - 2`."""
    before = shift_right(x, 1)
    of_two = (before == MINUS) & (shift_right(x, 2) == MINUS)
    return _solve(x, before, (before == MINUS) & (of_two == 0), modulus)


def _solve(x: Any, before: Any, negative: Any, modulus: int) -> Any:
    """The answer, given which tokens have an odd number of minus signs directly before them."""
    opened, closed = x == OPEN, x == CLOSE
    depth = num_prev(opened, full(x, 1)) - num_prev(closed, full(x, 1))
    opened_behind_minus = opened & (before == MINUS)
    partner = lasts(where(opened, depth, full(x, NOWHERE)), depth + 1)
    closed_behind_minus = closed & index_select(opened_behind_minus, partner)
    around = num_prev(opened_behind_minus, full(x, 1)) - num_prev(closed_behind_minus, full(x, 1))
    odd = (around + negative) % 2
    in_sum = (x >= 0) & (x < LETTER) & (before != EQUALS)
    term = seq_map(where(in_sum, x, full(x, 0)), odd, _negative_if(modulus))
    left = before - weighted_count(term, x, modulus)
    return answer_once(x, seq_map(left, index_select(odd, firsts(x, full(x, UNKNOWN))), _negative_if(modulus)))


def _negative_if(modulus: int) -> Callable[[Any, Any], Any]:
    """A function that negates a number modulo m if the flag is set."""

    @elementwise
    def negative_if(number: Any, flag: Any) -> Any:
        return np.where(np.equal(flag, 0), number, np.negative(number)) % modulus

    return negative_if
