"""Brackets: whether a string is nested, with one or several types, and which bracket closes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.rasp.lang import (
    elementwise,
    equals,
    full,
    gt,
    has_seen,
    index_select,
    lasts,
    num_prev,
    seq_map,
    tok_map,
    where,
)
from genlab.rasp.programs.parts import NONE, answer_once, first_of
from genlab.rasp.tokens import END, SEP, SPECIALS

TRUE, FALSE, NOTHING_OPEN = (SPECIALS[token] for token in ("True", "False", "none"))
OPENING = [SPECIALS[bracket] for bracket in "([{⟨«‹⟦⌈"]
CLOSING = [SPECIALS[bracket] for bracket in ")]}⟩»›⟧⌉"]
NOWHERE = -1
BELOW_ALL = -(10**6)
"""A level that no depth has, however many brackets close first."""


def nested(x: Any) -> Any:
    """Never more closing than opening brackets so far, and equally many at the end."""
    opened, closed = num_prev(x, full(x, OPENING[0])), num_prev(x, full(x, CLOSING[0]))
    ever_below = has_seen(seq_map(closed, opened, gt), full(x, 1))
    return answer_once(x, seq_map(seq_map(opened, closed, equals), ever_below, true_unless))


def dyck(x: Any) -> Any:
    """Nested, and each closing bracket has the type of the last bracket opened at its depth."""
    opens, closes = bracket_types(x)
    depth = count_brackets(opens) - count_brackets(closes)
    level = where(opens, depth, full(x, BELOW_ALL))
    partner = index_select(opens, lasts(level, depth + 1, default=NOWHERE))
    wrong = (closes > 0) & (closes != partner)
    return answer_once(x, seq_map(depth == 0, has_seen(wrong, full(x, 1)), true_unless))


def closing_next(x: Any) -> Any:
    """The bracket that closes the innermost open one."""
    return answer_once(x, first_of(closing(x), full(x, NOTHING_OPEN)))


def closing_rest(x: Any) -> Any:
    """All brackets that close the open ones, one after another."""
    return first_of(closing(x), tok_map(x, _none_after_sep))


def closing_next_bounded(x: Any, depth: int = 3) -> Any:
    """`closing_next` for at most `depth` open brackets, so that the depth can be found by comparing two counts."""
    return answer_once(x, first_of(closing_bounded(x, depth), full(x, NOTHING_OPEN)))


def closing_rest_bounded(x: Any, depth: int = 3) -> Any:
    """`closing_rest` for at most `depth` open brackets."""
    return first_of(closing_bounded(x, depth), tok_map(x, _none_after_sep))


def closing_next_counting(x: Any, depth: int = 3, types: int = 2) -> Any:
    """`closing_next_bounded` using only counts."""
    return answer_once(x, first_of(closing_counting(x, depth, types), full(x, NOTHING_OPEN)))


def closing_rest_counting(x: Any, depth: int = 3, types: int = 2) -> Any:
    """`closing_rest_bounded` using only counts."""
    return first_of(closing_counting(x, depth, types), tok_map(x, _none_after_sep))


def closing(x: Any) -> Any:
    """The bracket that closes the last one opened at the current depth; none if no bracket is open."""
    opens, closes = bracket_types(x)
    depth = count_brackets(opens) - count_brackets(closes)
    level = where(opens, depth, full(x, NOWHERE))
    return seq_map(index_select(opens, lasts(level, depth)), depth, _closing)


def closing_bounded(x: Any, depth: int) -> Any:
    """`closing` with the depth as a token."""
    opens, closes = bracket_types(x)
    here = seq_map(count_brackets(opens), count_brackets(closes), excess(depth))
    level = where(opens, here, full(x, NOWHERE))
    return seq_map(index_select(opens, lasts(level, here)), here, _closing)


def closing_counting(x: Any, depth: int, types: int) -> Any:
    """`closing` without a lookup: the type that was opened more often than closed at the current depth."""
    opens, closes = bracket_types(x)
    here = seq_map(count_brackets(opens), count_brackets(closes), excess(depth))
    opened, closed = seq_map(here, opens, _depth_and_type), seq_map(here + 1, closes, _depth_and_type)
    waiting = full(x, 0)
    for kind in range(1, types + 1):
        queried = seq_map(here, full(x, kind), _depth_and_type)
        waits = seq_map(num_prev(opened, queried), num_prev(closed, queried), gt)
        waiting = where(waits, full(x, kind), waiting)
    return seq_map(waiting, here, _closing)


def bracket_types(x: Any) -> tuple[Any, Any]:
    """The type (from 1) of each opening bracket, and of each closing bracket; 0 elsewhere."""
    return tok_map(x, _type_of(OPENING)), tok_map(x, _type_of(CLOSING))


def count_brackets(brackets: Any) -> Any:
    """The number of brackets so far."""
    return num_prev(brackets > 0, full(brackets, 1))


_ROOM = 16
"""The factor of the depth when a depth and a type are packed into one number."""


def _type_of(side: list[int]) -> Callable[[int], int]:
    return lambda token: side.index(token) + 1 if token in side else 0


def excess(most: int) -> Callable[[Any, Any], Any]:
    """A function that gives the difference of two counts, clipped to 0 to `most`."""

    @elementwise
    def excess(opened: Any, closed: Any) -> Any:
        return np.clip(np.subtract(opened, closed), 0, most)

    return excess


@elementwise
def _depth_and_type(depth: Any, kind: Any) -> Any:
    """A depth and a type packed into one number; `NOWHERE` if there is no bracket."""
    return np.where(np.equal(kind, 0), NOWHERE, np.asarray(depth) * _ROOM + kind)


def _closing(kind: int, depth: int) -> int:
    """The closing bracket of a type; `NONE` at depth 0."""
    return CLOSING[kind - 1] if depth > 0 and 1 <= kind <= len(CLOSING) else NONE


def _none_after_sep(token: int) -> int:
    return NOTHING_OPEN if token == SEP else END


@elementwise
def true_unless(good: Any, bad: Any) -> Any:
    """`True` where the first flag is set and the second is not, else `False`."""
    return np.where(np.not_equal(good, 0) & np.equal(bad, 0), TRUE, FALSE)
