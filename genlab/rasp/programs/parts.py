"""Building blocks shared by many programs. The functions with a leading underscore work on values and on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from genlab.rasp.lang import elementwise, equals, full, has_seen, kqv, lasts, seq_map, tok_map
from genlab.rasp.tokens import END, LETTER, SEP


def answer_once(x: Any, answer: Any) -> Any:
    """A one-token answer: the answer at `>`, and the end token after it."""
    return seq_map(x, answer, _answer_at_sep)


def first_of(option: Any, *others: Any) -> Any:
    """At each position the first option that is not none."""
    for other in others:
        option = seq_map(option, other, _second_if_none)
    return option


def at_sep(x: Any, value: Any) -> Any:
    """The value at `>`, none elsewhere."""
    return seq_map(x, value, _value_at_sep)


def at_letter(x: Any, value: Any) -> Any:
    """The value at letters, none elsewhere."""
    return seq_map(x, value, _value_at_letter)


def end_for_sep(x: Any) -> Any:
    """`<end>` where the next token would be `>`: the prompt is used up."""
    return tok_map(x, _end_for_sep)


def has_token(x: Any, token: int) -> Any:
    """1 where a token occurs at this or an earlier position, else 0."""
    return has_seen(x, full(x, token))


def sep_index(x: Any) -> Any:
    """The index of `>`."""
    return lasts(x, full(x, SEP))


def look_up(keys: Any, queries: Any, values: Any, default: int = 0) -> Any:
    """The value at the key that equals the query; the largest if there are several."""
    return kqv(keys, queries, values, equals, default=default, reduction="max")


def digits(x: Any) -> Any:
    """Digits unchanged, every other token as 0."""
    return tok_map(x, _digit_or_zero)


def numbers(x: Any) -> Any:
    """Numbers unchanged, every other token as `>`, which is below all numbers."""
    return tok_map(x, _number_or_sep)


NONE = -99
"""The value that means no token."""


@elementwise
def _answer_at_sep(token: Any, answer: Any) -> Any:
    return np.where(np.equal(token, SEP), answer, END)


@elementwise
def _value_at_sep(token: Any, value: Any) -> Any:
    return np.where(np.equal(token, SEP), value, NONE)


@elementwise
def _value_at_letter(token: Any, value: Any) -> Any:
    return np.where(np.greater_equal(token, LETTER), value, NONE)


@elementwise
def _second_if_none(first: Any, second: Any) -> Any:
    return np.where(np.equal(first, NONE), second, first)


@elementwise
def _end_for_sep(token: Any) -> Any:
    return np.where(np.equal(token, SEP), END, token)


@elementwise
def _digit_or_zero(token: Any) -> Any:
    return np.where((np.asarray(token) >= 0) & (np.asarray(token) < 10), token, 0)


@elementwise
def _number_or_sep(token: Any) -> Any:
    return np.where((np.asarray(token) >= 0) & (np.asarray(token) < LETTER), token, SEP)
