"""Addition, with and without index hints.

An index hint is the letter before a digit that names its place, the same in both operands and in the answer. The
first letter of the alphabet names the most significant place. The programs with hints also handle operands of unequal
length: a missing digit counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.rasp.lang import elementwise, full, gt, index_select, indices, kqv, lasts, seq_map, shift_right, where
from genlab.rasp.programs.parts import at_letter, at_sep, digits, first_of, has_token, look_up, sep_index
from genlab.rasp.tokens import END, LETTER, SEP, SPECIALS

PLUS = SPECIALS["+"]


def reversed_hints(x: Any, base: int = 10, leading_zero: bool = True) -> Any:
    """Least significant digit first: the sum of the digits at each hint, plus the carry of the digit just written."""
    before = shift_right(x, 1)
    first, second = places_of_operands(x, before)
    sums = look_up(first, x, digits(x)) + look_up(second, x, digits(x))
    carry_out = seq_map(shift_right(sums, 1), x, carry_from(base))
    digit = seq_map(sums, shift_right(carry_out, 1), add_carry(base))
    next_place = before - 1
    next_hint = look_up(x, next_place, x, default=END)
    if not leading_zero:
        next_hint = where(carry_out, next_place, next_hint)
    return by_token(x, first_hint=shift_right(x, 2), digit=digit, next_hint=next_hint)


def forward_hints(x: Any, base: int = 10, leading_zero: bool = True) -> Any:
    """Most significant digit first: the carry comes from the nearest lower place whose digits do not sum to 9."""
    before = shift_right(x, 1)
    first, second = places_of_operands(x, before)
    top_of_second = look_up(before, full(x, PLUS), x)
    top = seq_map(index_select(x, full(x, 0)), top_of_second, _smaller)
    place = x if leading_zero else where(x == SEP, top - 1, x)
    sums = digits(x) + look_up(first, before, digits(x))  # at the digits of the second operand
    stops = seq_map(second, sums, _if_not(base - 1))
    stop = nearest_after(place, stops)
    gives = look_up(stops, stop, sums) > base - 1
    # Above the top place of the second operand there is only one digit per place: a digit below 9 absorbs the carry.
    alone = nearest_after(place, seq_map(first, x, _if_not(base - 1)))
    carry = gives & ~seq_map(alone, top_of_second, _stands_above)
    digit = seq_map(look_up(first, x, digits(x)) + look_up(second, x, digits(x)), carry, add_carry(base))
    first_hint = top if leading_zero else where(carry, top - 1, top)
    return by_token(x, first_hint, digit, next_hint=look_up(x, before + 1, x, default=END))


def places_of_operands(x: Any, before: Any) -> tuple[Any, Any]:
    """The hint of each digit of the first operand, and of each digit of the second; `>` elsewhere."""
    later = has_token(x, PLUS)
    return seq_map(before, later, _unless), seq_map(before, later, _if)


def nearest_after(place: Any, candidates: Any) -> Any:
    """The nearest candidate place of lower significance; the end token if there is none."""
    return kqv(candidates, place, candidates, gt, default=END, reduction="min")


def by_token(x: Any, first_hint: Any, digit: Any, next_hint: Any) -> Any:
    """The first hint after `>`, a digit after each hint, and a hint after each digit."""
    return first_of(at_sep(x, first_hint), at_letter(x, digit), next_hint)


def carry_from(base: int) -> Callable[[Any, Any], Any]:
    """Whether a place produces a carry, given the sum of its digits and the digit written for it."""

    @elementwise
    def carry(total: Any, written: Any) -> Any:
        return np.greater(total, base - 1) | (np.equal(total, base - 1) & np.equal(written, 0))

    return carry


def add_carry(base: int) -> Callable[[Any, Any], Any]:
    """The answer digit of a place, given the sum of its digits and the incoming carry."""

    @elementwise
    def add(total: Any, carry: Any) -> Any:
        return (np.asarray(total) + np.not_equal(carry, 0)) % base

    return add


def _if_not(nine: int) -> Callable[[Any, Any], Any]:
    @elementwise
    def place_unless(place: Any, total: Any) -> Any:
        return np.where(np.equal(total, nine), SEP, place)

    return place_unless


@elementwise
def _if(place: Any, flag: Any) -> Any:
    return np.where(np.equal(flag, 0), SEP, place)


@elementwise
def _unless(place: Any, flag: Any) -> Any:
    return np.where(np.equal(flag, 0), place, SEP)


@elementwise
def _smaller(first: Any, second: Any) -> Any:
    return np.minimum(first, second)


@elementwise
def _stands_above(place: Any, top: Any) -> Any:
    return np.greater_equal(place, LETTER) & np.less(place, top)


# -- Addition without hints
#
# Places are found by arithmetic on indices, so that neither program is strictly legal.

NOWHERE = -1


def reversed_plain(x: Any, base: int = 10, leading_zero: bool = True) -> Any:
    """Least significant digit first: place k is k + 1 tokens before the plus, and k + 1 tokens before `>`."""
    plus, sep, here = lasts(x, full(x, PLUS)), sep_index(x), indices(x)
    written, value = here - sep, digits(x)
    in_second = where(sep - written - 1 > plus, sep - written - 1, full(x, NOWHERE))
    sums = index_select(value, plus - written - 1) + index_select(value, in_second)
    carry = seq_map(shift_right(sums, 1), x, carry_from(base))
    done = (written >= plus) & (written >= sep - plus - 1)
    if not leading_zero:
        done = done & (carry == 0)
    return where(done, full(x, END), seq_map(sums, carry, add_carry(base)))


def forward_plain(x: Any, base: int = 10, leading_zero: bool = True) -> Any:
    """Most significant digit first, for operands of equal length: each digit's partner is one operand earlier."""
    plus, sep, here = lasts(x, full(x, PLUS)), sep_index(x), indices(x)
    in_second = has_token(x, PLUS) & (x != PLUS)
    sums = where(in_second, digits(x) + index_select(digits(x), here - plus - 1), full(x, 0))
    stops = where(in_second & (sums != base - 1), here, full(x, NOWHERE))

    def carry_into(place: Any) -> Any:
        """Whether the nearest lower place whose digits do not sum to 9 produces a carry."""
        return index_select(sums, kqv(stops, place, stops, gt, default=NOWHERE, reduction="min")) > base - 1

    place = plus + 1 + here - sep
    if not leading_zero:
        place = place - carry_into(plus)
    digit = seq_map(index_select(sums, place), carry_into(place), add_carry(base))
    return where(place >= sep, full(x, END), digit)
