"""Programs without arithmetic on several counts: recall, lookup tables, parity, copying, sorting and counting up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.rasp.lang import (
    elementwise,
    firsts,
    full,
    gt,
    index_select,
    indices,
    induct_kqv,
    kqv,
    maximum,
    sel_width,
    select,
    seq_map,
    shift_right,
)
from genlab.rasp.programs.parts import NONE, answer_once, end_for_sep, first_of, look_up, numbers, sep_index
from genlab.rasp.tokens import END, SEP, SPECIALS

TRUE, FALSE, EVEN, ODD = (SPECIALS[token] for token in ("True", "False", "even", "odd"))
NOWHERE = -1


def and_of_bits(x: Any) -> Any:
    """At `>`, which is below all bits, the smallest larger token: 0 if a zero occurs, else 1."""
    return answer_once(x, kqv(x, x, x, gt, reduction="min"))


def looked_up(x: Any, p: int = 97, op: str = "a+b", table: str = "") -> Any:
    """The result for the first and the last number, from a finite table."""
    first, last = index_select(x, full(x, 0)), shift_right(x, 1)
    return answer_once(x, seq_map(first, last, _operation(p, op, table)))


def even_pairs(x: Any) -> Any:
    """Adjacent letters differ an even number of times if and only if the first and last letters are equal."""
    first, last = index_select(x, full(x, 0)), shift_right(x, 1)
    return answer_once(x, seq_map(first, last, even_if_equal))


def value_of_key(x: Any) -> Any:
    """The token after the earlier occurrence of the last key (its last occurrence is followed by `>`, the lowest)."""
    before = shift_right(x, 1)
    return answer_once(x, look_up(before, before, x))


def value_of_this_key(x: Any) -> Any:
    """The token after the earlier occurrence of the current key."""
    place = indices(x)
    return look_up(kqv(place, place, x, _just_before), x, x)


@elementwise
def _just_before(key: Any, query: Any) -> Any:
    return np.equal(key + 1, query)


def next_of_context(x: Any, symbols: int = 64) -> Any:
    """The token that followed an earlier occurrence of the last tokens: of eight if there is one, else of fewer.

    The tokens of a context are packed into one number, with a separate digit for positions before the text. Two
    contexts that agree on eight tokens and differ before them would mislead it, which is as rare as eight equal
    tokens by chance.
    """
    context, answer = x, full(x, NONE)
    for back in range(1, 8):
        context = context * (symbols + 1) + shift_right(x, back, default=symbols)
        if back >= 3:
            answer = first_of(induct_kqv(context, context, x, offset=1, default=NONE), answer)
    return answer


def value_of_largest(x: Any) -> Any:
    """The class after the largest number."""
    largest = maximum(numbers(x))
    return answer_once(x, look_up(shift_right(x, 1), largest, x))


@elementwise
def even_if_equal(first: Any, last: Any) -> Any:
    return np.where(np.equal(first, last), EVEN, ODD)


def _operation(p: int, op: str, table: str) -> Callable[[int, int], int]:
    """A binary operation modulo p on Python integers; 0 if one of them is not a number below p."""
    operations: dict[str, Callable[[int, int], int]] = {
        "a+b": lambda a, b: a + b,
        "a-b": lambda a, b: a - b,
        "a*b": lambda a, b: a * b,
        "a/b": lambda a, b: a * pow(b, p - 2, p),
        "a^2+b^2": lambda a, b: a**2 + b**2,
        "a^3+ab": lambda a, b: a**3 + a * b,
        "table": lambda a, b: results[a][b],
    }
    results = [[int(entry) for entry in row.split()] for row in table.split(";")]
    operation = operations[op]
    return lambda a, b: operation(int(a), int(b)) % p if 0 <= a < p and 0 <= b < p else 0


# -- Parity in its three formats

EVEN_SO_FAR, ODD_SO_FAR = SPECIALS["+"], SPECIALS["-"]


def parity(x: Any) -> Any:
    """The number of ones modulo 2."""
    ones = sel_width(select(x, x, _key_is_one))
    return answer_once(x, ones % 2)


def parity_running(x: Any) -> Any:
    """At a hint its bit, flipped if the parity before it is odd; at a parity the next hint."""
    before = shift_right(x, 1, default=SEP)
    bit = look_up(before, x, x)  # at `>` this is the first hint
    next_hint = look_up(shift_right(x, 2), before, x)
    return first_of(seq_map(x, next_hint, hint_at_bit), seq_map(bit, before, flip_if_odd))


def parity_scratchpad(x: Any) -> Any:
    """At a sign the next hint of a one; at a hint the other sign."""
    before = shift_right(x, 1)
    hint_of_one = seq_map(x, before, _hint_if_one)
    next_hint = kqv(hint_of_one, before, hint_of_one, gt, default=END, reduction="min")
    return first_of(seq_map(x, before, _sign), next_hint)


@elementwise
def _key_is_one(key: Any, query: Any) -> Any:
    return np.equal(key, 1) & np.equal(query, query)


@elementwise
def flip_if_odd(bit: Any, before: Any) -> Any:
    flipped = np.where(np.equal(bit, 0), 1, np.where(np.equal(bit, 1), 0, bit))
    return np.where(np.equal(before, 1), flipped, bit)


@elementwise
def hint_at_bit(token: Any, hint: Any) -> Any:
    at_bit = np.equal(token, 0) | np.equal(token, 1)
    return np.where(at_bit, np.where(np.equal(hint, SEP), END, hint), NONE)


@elementwise
def _hint_if_one(bit: Any, hint: Any) -> Any:
    return np.where(np.equal(bit, 1), hint, SEP)


@elementwise
def _sign(token: Any, before: Any) -> Any:
    """The sign to write after `>` (even) or after a hint (the other one); none at a sign."""
    at_sign = np.equal(token, EVEN_SO_FAR) | np.equal(token, ODD_SO_FAR)
    flipped = np.where(np.equal(before, EVEN_SO_FAR), ODD_SO_FAR, EVEN_SO_FAR)
    return np.where(at_sign, NONE, flipped)


# -- Copy, reverse, sort and count


def copy_unique(x: Any) -> Any:
    """The token that followed this symbol in the prompt (induction), with `>` before the first symbol."""
    before = shift_right(x, 1, default=SEP)
    return end_for_sep(look_up(before, x, x))


def reverse_unique(x: Any) -> Any:
    """The token that preceded this symbol in the prompt, with the end token before the first symbol."""
    before = shift_right(x, 1, default=END)
    return index_select(before, firsts(x, x))


def copy_repeats(x: Any) -> Any:
    """The symbol one prompt length earlier."""
    back = indices(x) - sep_index(x)
    return end_for_sep(index_select(x, back))


def reverse_repeats(x: Any) -> Any:
    """The symbol one further before `>` than this position is after it."""
    sep = sep_index(x)
    mirrored = sep + sep - indices(x) - 1
    return index_select(x, mirrored, default=END)


def sort(x: Any) -> Any:
    """The smallest number that is larger than the one just written; `>` is below all numbers."""
    return kqv(x, x, x, gt, default=END, reduction="min")


def count(x: Any) -> Any:
    """One more than this number, but at most the smallest larger one: the last number, or the end token at the last.

    At `>`, which is below all numbers, the smallest larger one is the first number. Found by `lab rasp search`.
    """
    larger = kqv(x, x, x, gt, default=END, reduction="min")
    number = seq_map(x, larger, _second_at_sep)
    return seq_map(larger, number + 1, np.minimum)


@elementwise
def _second_at_sep(token: Any, other: Any) -> Any:
    return np.where(np.equal(token, SEP), other, token)
