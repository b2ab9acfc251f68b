"""Programs that find places by arithmetic on indices: recall in order, halves and doubles of words, a stack."""

from __future__ import annotations

from typing import Any

from genlab.rasp.lang import (
    firsts,
    full,
    index_select,
    indices,
    lasts,
    minimum,
    num_prev,
    tok_map,
    where,
)
from genlab.rasp.programs.parts import END, LETTER, SEP, said_once, seen, sep_index
from genlab.rasp.tokens import SPECIALS

__all__ = ["duplicate_string", "evens_first", "missing_duplicate", "odds_first", "stack", "values_in_order"]

ASK, GAP, POP, PUSH_A, PUSH_B = (SPECIALS[token] for token in ("?", "_", "pop", "+a", "+b"))
NOWHERE = -1


def values_in_order(x: Any) -> Any:
    """The value of the key that stands as far behind `?` as the answer is long."""
    written = indices(x) - sep_index(x)
    key = index_select(x, lasts(x, full(x, ASK)) + 1 + written)
    value = index_select(x, firsts(x, key) + 1)
    return where(key == SEP, full(x, END), value)


def duplicate_string(x: Any) -> Any:
    """The word by place, and once more."""
    length = sep_index(x)
    written = indices(x) - length
    place = where(written < length, written, written - length)
    return where(written == length + length, full(x, END), index_select(x, place))


def odds_first(x: Any) -> Any:
    """Every second letter from the first on, then every second letter from the second on."""
    length = sep_index(x)
    first_round = 2 * (indices(x) - length)
    second_round = first_round - (length + length % 2) + 1
    place = where(first_round < length, first_round, second_round)
    return where(place < length, index_select(x, place), full(x, END))


def evens_first(x: Any) -> Any:
    """Every second letter from the second on, then every second letter from the first on."""
    length = sep_index(x)
    second_round = 2 * (indices(x) - length) - (length - length % 2)
    first_round = 2 * (indices(x) - length) + 1
    place = where(first_round < length, first_round, second_round)
    return where(place < length, index_select(x, place), full(x, END))


def missing_duplicate(x: Any) -> Any:
    """The letter half the word away from the gap."""
    half, gap = sep_index(x) // 2, lasts(x, full(x, GAP))
    return said_once(x, index_select(x, where(gap < half, gap + half, gap - half)))


def stack(x: Any) -> Any:
    """From the height of the stack downwards, the letter pushed last at each height."""
    pops, in_prompt = num_prev(x, full(x, POP)), seen(x, SEP) == 0
    is_push = in_prompt & (x != POP)
    walk = num_prev(is_push, full(x, 1)) - pops
    height = walk - minimum(where(walk < 0, walk, full(x, 0)))
    level = where(is_push, height, full(x, NOWHERE))
    wanted = height - (indices(x) - sep_index(x))
    letter = tok_map(index_select(x, lasts(level, wanted)), _letter)
    return where(wanted > 0, letter, full(x, END))


def _letter(token: int) -> int:
    return {PUSH_A: LETTER, PUSH_B: LETTER + 1}.get(int(token), int(token))
