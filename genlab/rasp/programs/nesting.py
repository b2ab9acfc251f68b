"""Brackets: nested or not, with one type or several, and which bracket closes next."""

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
from genlab.rasp.programs.parts import NONE, first_of, said_once
from genlab.rasp.tokens import END, SEP, SPECIALS

TRUE, FALSE, NOTHING_OPEN = (SPECIALS[token] for token in ("True", "False", "none"))
OPENING = [SPECIALS[bracket] for bracket in "([{⟨«‹⟦⌈"]
CLOSING = [SPECIALS[bracket] for bracket in ")]}⟩»›⟧⌉"]
NOWHERE = -1


def nested(x: Any) -> Any:
    """Never more closed than opened, and as many in the end."""
    opened, closed = num_prev(x, full(x, OPENING[0])), num_prev(x, full(x, CLOSING[0]))
    ever_below = has_seen(seq_map(closed, opened, gt), full(x, 1))
    return said_once(x, seq_map(seq_map(opened, closed, equals), ever_below, true_unless))


def dyck(x: Any) -> Any:
    """Nested, and each closing bracket of the type of the last one opened at its depth."""
    opens, closes = sides(x)
    depth = counted(opens) - counted(closes)
    level = where(opens, depth, full(x, NOWHERE))
    partner = index_select(opens, lasts(level, depth + 1, default=NOWHERE))
    wrong = (closes > 0) & (closes != partner)
    return said_once(x, seq_map(depth == 0, has_seen(wrong, full(x, 1)), true_unless))


def closing_next(x: Any) -> Any:
    """The bracket that closes the last one opened at the depth that is open now."""
    return said_once(x, first_of(closing(x), full(x, NOTHING_OPEN)))


def closing_rest(x: Any) -> Any:
    """The same again after each bracket written, until nothing is open."""
    return first_of(closing(x), tok_map(x, _none_after_sep))


def closing_next_bounded(x: Any, depth: int = 3) -> Any:
    """`closing_next` where at most `depth` are open: the depth is then found by comparing two counts."""
    return said_once(x, first_of(closing_bounded(x, depth), full(x, NOTHING_OPEN)))


def closing_rest_bounded(x: Any, depth: int = 3) -> Any:
    """`closing_rest` where at most `depth` are open."""
    return first_of(closing_bounded(x, depth), tok_map(x, _none_after_sep))


def closing_next_counting(x: Any, depth: int = 3, types: int = 2) -> Any:
    """`closing_next_bounded` by counting alone."""
    return said_once(x, first_of(closing_counting(x, depth, types), full(x, NOTHING_OPEN)))


def closing_rest_counting(x: Any, depth: int = 3, types: int = 2) -> Any:
    """`closing_rest_bounded` by counting alone."""
    return first_of(closing_counting(x, depth, types), tok_map(x, _none_after_sep))


def closing(x: Any) -> Any:
    """What closes the last bracket opened at the depth that is open now; none where nothing is open."""
    opens, closes = sides(x)
    depth = counted(opens) - counted(closes)
    level = where(opens, depth, full(x, NOWHERE))
    return seq_map(index_select(opens, lasts(level, depth)), depth, _closing)


def closing_bounded(x: Any, depth: int) -> Any:
    """The same, with the depth as a token."""
    opens, closes = sides(x)
    here = seq_map(counted(opens), counted(closes), excess(depth))
    level = where(opens, here, full(x, NOWHERE))
    return seq_map(index_select(opens, lasts(level, here)), here, _closing)


def closing_counting(x: Any, depth: int, types: int) -> Any:
    """The same without a lookup: the type that was opened more often than closed at the depth that is open now."""
    opens, closes = sides(x)
    here = seq_map(counted(opens), counted(closes), excess(depth))
    opened, closed = seq_map(here, opens, _depth_and_type), seq_map(here + 1, closes, _depth_and_type)
    waiting = full(x, 0)
    for kind in range(1, types + 1):
        asked = seq_map(here, full(x, kind), _depth_and_type)
        waits = seq_map(num_prev(opened, asked), num_prev(closed, asked), gt)
        waiting = where(waits, full(x, kind), waiting)
    return seq_map(waiting, here, _closing)


def sides(x: Any) -> tuple[Any, Any]:
    """The type of each opening bracket, from 1, and of each closing one; 0 elsewhere."""
    return tok_map(x, _type_of(OPENING)), tok_map(x, _type_of(CLOSING))


def counted(brackets: Any) -> Any:
    """How many brackets so far."""
    return num_prev(brackets > 0, full(brackets, 1))


_ROOM = 16
"""Types within a number that holds a depth and a type."""


def _type_of(side: list[int]) -> Callable[[int], int]:
    return lambda token: side.index(token) + 1 if token in side else 0


def excess(most: int) -> Callable[[Any, Any], Any]:
    """How much larger the first count is, from 0 to `most`: so many comparisons."""

    @elementwise
    def excess(opened: Any, closed: Any) -> Any:
        return np.clip(np.subtract(opened, closed), 0, most)

    return excess


@elementwise
def _depth_and_type(depth: Any, kind: Any) -> Any:
    """Both as one number; `NOWHERE` for no bracket."""
    return np.where(np.equal(kind, 0), NOWHERE, np.asarray(depth) * _ROOM + kind)


def _closing(kind: int, depth: int) -> int:
    """The closing bracket of a type; none at depth 0."""
    return CLOSING[kind - 1] if depth > 0 and 1 <= kind <= len(CLOSING) else NONE


def _none_after_sep(token: int) -> int:
    return NOTHING_OPEN if token == SEP else END


@elementwise
def true_unless(good: Any, bad: Any) -> Any:
    """`True` where the first flag is set and the second is not, else `False`."""
    return np.where(np.not_equal(good, 0) & np.equal(bad, 0), TRUE, FALSE)
