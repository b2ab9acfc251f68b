"""Recall and other tasks with one answer token, and the text that goes on as it did before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.rasp.lang import (
    elementwise,
    equals,
    full,
    index_select,
    induct_kqv,
    kqv,
    maximum,
    seq_map,
    shift_right,
)
from genlab.rasp.programs.parts import NONE, first_of, look_up, numbers, said_once
from genlab.rasp.tokens import SPECIALS

__all__ = [
    "and_of_bits",
    "even_pairs",
    "looked_up",
    "next_of_context",
    "value_of_key",
    "value_of_largest",
    "value_of_this_key",
]

TRUE, FALSE, EVEN, ODD = (SPECIALS[token] for token in ("True", "False", "even", "odd"))
NOWHERE = -1


def and_of_bits(x: Any) -> Any:
    """0 if a zero has been seen, else 1."""
    zero = full(x, 0)
    return said_once(x, kqv(x, zero, zero, equals, default=1))


def looked_up(x: Any, p: int = 97, op: str = "a+b", table: str = "") -> Any:
    """The result for the first and the last number, from one finite table."""
    first, last = index_select(x, full(x, 0)), shift_right(x, 1)
    return said_once(x, seq_map(first, last, _operation(p, op, table)))


def even_pairs(x: Any) -> Any:
    """Neighbours differ an even number of times exactly if the last letter is the first."""
    first, last = index_select(x, full(x, 0)), shift_right(x, 1)
    return said_once(x, seq_map(first, last, _even_if_equal))


def value_of_key(x: Any) -> Any:
    """What stood behind the earlier copy of the last key. (Behind the last one stands `>`, below all values.)"""
    before = shift_right(x, 1)
    return said_once(x, look_up(before, before, x))


def value_of_this_key(x: Any) -> Any:
    """What stood behind the earlier copy of the key that is read."""
    return look_up(shift_right(x, 1), x, x)


def next_of_context(x: Any, symbols: int = 64) -> Any:
    """What followed the last tokens when they stood there before: eight if they did, else fewer.

    All tokens of a context are written as one number, with a digit of its own for what is before the text. Two
    places with the same eight tokens and different ones before them would mislead it; they are as rare as eight
    tokens by chance.
    """
    context, answer = x, full(x, NONE)
    for back in range(1, 8):
        context = context * (symbols + 1) + shift_right(x, back, default=symbols)
        if back >= 3:
            answer = first_of(induct_kqv(context, context, x, offset=1, default=NONE), answer)
    return answer


def value_of_largest(x: Any) -> Any:
    """The class that stands behind the largest number."""
    largest = maximum(numbers(x))
    return said_once(x, look_up(shift_right(x, 1), largest, x))


@elementwise
def _even_if_equal(first: Any, last: Any) -> Any:
    return np.where(np.equal(first, last), EVEN, ODD)


def _operation(p: int, op: str, table: str) -> Callable[[int, int], int]:
    """A binary operation modulo p, of Python integers; 0 where one of them is no number."""
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
