"""Addition without hints: places are found by arithmetic on indices, so no program here is strictly legal."""

from __future__ import annotations

from typing import Any

from genlab.rasp.lang import full, gt, index_select, indices, kqv, lasts, seq_map, shift_right, where
from genlab.rasp.programs.addition_hints import add_carry, carry_from
from genlab.rasp.programs.parts import END, digits, seen, sep_index
from genlab.rasp.tokens import SPECIALS

__all__ = ["forward_plain", "reversed_plain"]

PLUS = SPECIALS["+"]
NOWHERE = -1


def reversed_plain(x: Any, base: int = 10, leading_zero: bool = True) -> Any:
    """Ones first: place k is k + 1 tokens before the plus, and as many before `>`."""
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
    """Most significant digit first, for operands of equal length: the partner of a digit is one operand back."""
    plus, sep, here = lasts(x, full(x, PLUS)), sep_index(x), indices(x)
    in_second = seen(x, PLUS) & (x != PLUS)
    sums = where(in_second, digits(x) + index_select(digits(x), here - plus - 1), full(x, 0))
    stops = where(in_second & (sums != base - 1), here, full(x, NOWHERE))

    def carry_into(place: Any) -> Any:
        """Whether the nearest later place whose digits do not sum to 9 gives a carry."""
        return index_select(sums, kqv(stops, place, stops, gt, default=NOWHERE, reduction="min")) > base - 1

    place = plus + 1 + here - sep
    if not leading_zero:
        place = place - carry_into(plus)
    digit = seq_map(index_select(sums, place), carry_into(place), add_carry(base))
    return where(place >= sep, full(x, END), digit)
