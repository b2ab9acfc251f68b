"""Parity in its three formats."""

from __future__ import annotations

from typing import Any

import numpy as np

from genlab.rasp.lang import elementwise, full, gt, kqv, num_prev, seq_map, shift_right
from genlab.rasp.programs.parts import END, NONE, SEP, first_of, look_up, said_once
from genlab.rasp.tokens import SPECIALS

__all__ = ["parity", "parity_running", "parity_scratchpad"]

EVEN_SO_FAR, ODD_SO_FAR = SPECIALS["+"], SPECIALS["-"]


def parity(x: Any) -> Any:
    """The number of ones modulo 2."""
    ones = num_prev(x, full(x, 1))
    return said_once(x, ones % 2)


def parity_running(x: Any) -> Any:
    """At a hint: its bit, flipped if the parity before it is odd. At a parity: the hint after the last one."""
    before = shift_right(x, 1, default=SEP)
    bit = look_up(before, x, x)  # at `>` this is the first hint
    next_hint = look_up(shift_right(x, 2), before, x)
    return first_of(seq_map(x, next_hint, _hint_at_bit), seq_map(bit, before, _flip_if_odd))


def parity_scratchpad(x: Any) -> Any:
    """At a sign: the next hint that stands before a one. At a hint: the other sign."""
    before = shift_right(x, 1)
    hint_of_one = seq_map(x, before, _hint_if_one)
    next_hint = kqv(hint_of_one, before, hint_of_one, gt, default=END, reduction="min")
    return first_of(seq_map(x, before, _sign), next_hint)


@elementwise
def _flip_if_odd(bit: Any, before: Any) -> Any:
    flipped = np.where(np.equal(bit, 0), 1, np.where(np.equal(bit, 1), 0, bit))
    return np.where(np.equal(before, 1), flipped, bit)


@elementwise
def _hint_at_bit(token: Any, hint: Any) -> Any:
    at_bit = np.equal(token, 0) | np.equal(token, 1)
    return np.where(at_bit, np.where(np.equal(hint, SEP), END, hint), NONE)


@elementwise
def _hint_if_one(bit: Any, hint: Any) -> Any:
    return np.where(np.equal(bit, 1), hint, SEP)


@elementwise
def _sign(token: Any, before: Any) -> Any:
    """The sign to write after `>` (even) or after a hint (the other one); none where a sign stands."""
    at_sign = np.equal(token, EVEN_SO_FAR) | np.equal(token, ODD_SO_FAR)
    flipped = np.where(np.equal(before, EVEN_SO_FAR), ODD_SO_FAR, EVEN_SO_FAR)
    return np.where(at_sign, NONE, flipped)
