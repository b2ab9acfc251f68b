"""Second constructions: programs that answer a task by another mechanism than the registered one, or in another way.

They serve calibration (`genlab.probes.mechanisms`): a signal that claims to detect a mechanism should find it in
every construction that has it, and in none that lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from genlab.rasp.lang import (
    elementwise,
    equals,
    firsts,
    full,
    index_select,
    indices,
    kqv,
    lt,
    maximum,
    num_prev,
    seq_map,
    shift_right,
    tok_map,
    where,
)
from genlab.rasp.programs import english
from genlab.rasp.programs.nesting import CLOSING, FALSE, OPENING, TRUE
from genlab.rasp.programs.one_pass import (
    EVEN,
    ODD,
    copy_repeats,
    even_if_equal,
    flip_if_odd,
    hint_at_bit,
    reverse_repeats,
)
from genlab.rasp.programs.parts import NONE, answer_once, end_for_sep, first_of, has_token, look_up, sep_index
from genlab.rasp.running import Program
from genlab.rasp.tokens import END, LETTER, SEP

A, B = LETTER, LETTER + 1

# -- Copying distinct symbols: by matching the symbol just written, or by counting positions


def copy_by_recency(x: Any) -> Any:
    """Like `copy_unique`, where the previous token is the latest of all earlier ones instead of the one at i - 1."""
    place = indices(x)
    before = index_select(x, kqv(place, place, place, lt, default=-1, reduction="max"), default=SEP)
    return end_for_sep(look_up(before, x, x))


def copy_by_place(x: Any) -> Any:
    """The token after this symbol's place in the prompt, which is found first, by a match with the prompt."""
    prompt = where(has_token(x, SEP), full(x, NONE), x)
    return end_for_sep(index_select(x, firsts(prompt, x) + 1))


def copy_by_last_place(x: Any) -> Any:
    """Like `copy_by_place`, where all tokens are matched and those of the answer have the lowest place, -1."""
    place = where(has_token(x, SEP), full(x, -1), indices(x))
    return end_for_sep(index_select(x, kqv(x, x, place, equals, reduction="max") + 1))


def copy_by_next_place(x: Any) -> Any:
    """Like `copy_by_place`, where the first symbol is read apart, so that the output passes through an MLP."""
    following = index_select(x, firsts(x, x) + 1)
    return end_for_sep(where(x == SEP, index_select(x, full(x, 0)), following))


def copy_by_count(x: Any) -> Any:
    """The symbol at the place that the number of tokens written so far gives."""
    return end_for_sep(index_select(x, num_prev(has_token(x, SEP), full(x, 1)) - 1))


def copy_resting_on_self(x: Any) -> Any:
    """Like `copy_repeats`, with heads that attend to something at every query: in the prompt, to the query itself."""
    return end_for_sep(index_select(x, seq_map(indices(x), _last_sep(x), _back_or_here)))


def copy_resting_on_largest(x: Any) -> Any:
    """Like `copy_repeats`, with heads that attend to the largest symbol where there is nothing to copy yet."""
    back = seq_map(indices(x), _last_sep(x), _back_or_nowhere)
    return end_for_sep(kqv(indices(x), back, x, _at_or_anywhere, reduction="max"))


def _last_sep(x: Any) -> Any:
    """The index of `>`, -1 before it, by a head that selects every key."""
    return maximum(where(x == SEP, indices(x), full(x, -1)))


@elementwise
def _back_or_here(place: Any, sep: Any) -> Any:
    return np.where(np.less(sep, 0), place, np.subtract(place, sep))


@elementwise
def _back_or_nowhere(place: Any, sep: Any) -> Any:
    return np.where(np.less(sep, 0), -1, np.subtract(place, sep))


@elementwise
def _at_or_anywhere(key: Any, query: Any) -> Any:
    return np.equal(key, query) | np.less(query, 0)


# -- Reversing: with or without a value that another head has moved


def reverse_by_shifted_place(x: Any) -> Any:
    """The mirrored symbol, read from what the position after it knows of the one before."""
    sep = sep_index(x)
    return index_select(shift_right(x, 1, default=END), seq_map(sep + sep, indices(x), np.subtract))


def reverse_by_count(x: Any) -> Any:
    """The symbol that is as far before `>` as tokens have been written."""
    written = num_prev(has_token(x, SEP), full(x, 1))
    return index_select(x, seq_map(sep_index(x), written, np.subtract), default=END)


# -- Even pairs: by counting changes, or from the first and the last letter


def even_pairs_by_changes(x: Any) -> Any:
    """Adjacent letters differ an even number of times: the number of changes modulo 2."""
    changes = num_prev(seq_map(x, shift_right(x, 1), _changes), full(x, 1))
    return answer_once(x, tok_map(changes % 2, _even_if_zero))


def even_pairs_by_rises(x: Any) -> Any:
    """As many changes from a to b as from b to a."""
    before = shift_right(x, 1)
    rises, falls = (num_prev(seq_map(x, before, change), full(x, 1)) for change in (_rises, _falls))
    return answer_once(x, seq_map(rises, falls, even_if_equal))


def even_pairs_by_rank(x: Any) -> Any:
    """The first and the last letter, where the first is the one with the lowest index of all."""
    ranked = seq_map(indices(x), x, _place_and_letter)
    first = kqv(full(x, 1), full(x, 1), ranked, equals, reduction="min") % 2
    return answer_once(x, seq_map(first + A, shift_right(x, 1), even_if_equal))


@elementwise
def _changes(token: Any, before: Any) -> Any:
    return _rises(token, before) | _falls(token, before)


@elementwise
def _rises(token: Any, before: Any) -> Any:
    return np.equal(token, B) & np.equal(before, A)


@elementwise
def _falls(token: Any, before: Any) -> Any:
    return np.equal(token, A) & np.equal(before, B)


@elementwise
def _place_and_letter(place: Any, token: Any) -> Any:
    return 2 * np.asarray(place) + np.equal(token, B)


@elementwise
def _even_if_zero(number: Any) -> Any:
    return np.where(np.equal(number, 0), EVEN, ODD)


# -- Running parity: by the place of the same hint, or by index


def parity_running_by_place(x: Any) -> Any:
    """The bit after the first place of the same hint."""
    before = shift_right(x, 1, default=SEP)
    bit = index_select(x, seq_map(x, firsts(x, x), _first_or_next))
    return _flipped(x, before, bit, index_select(x, firsts(x, before) + 2))


def parity_running_by_last_place(x: Any) -> Any:
    """Like `parity_running_by_place`, where all hints are matched and those of the answer have the lowest place."""
    before = shift_right(x, 1, default=SEP)
    place = where(has_token(x, SEP), full(x, -1), indices(x))
    bit = index_select(x, kqv(x, x, place, equals, reduction="max") + 1)
    return _flipped(x, before, bit, index_select(x, kqv(x, before, place, equals, reduction="max") + 2))


def parity_running_by_index(x: Any) -> Any:
    """The token as far after the start as this one is after `>`: a bit at hints, the next hint at parities."""
    there = index_select(x, indices(x) - sep_index(x))
    return _flipped(x, shift_right(x, 1, default=SEP), there, there)


def _flipped(x: Any, before: Any, bit: Any, next_hint: Any) -> Any:
    return first_of(seq_map(x, next_hint, hint_at_bit), seq_map(bit, before, flip_if_odd))


@elementwise
def _first_or_next(token: Any, place: Any) -> Any:
    return np.where(np.equal(token, SEP), 0, np.add(place, 1))


# -- Brackets: the first symbol, without an index


def first_symbol_by_rank(x: Any) -> Any:
    """Whether the first bracket opens, where it is the one with the lowest index of all brackets."""
    ranked = seq_map(indices(x), x, _place_and_side)
    first = kqv(tok_map(x, _is_bracket), full(x, 1), ranked, equals, reduction="min")
    return answer_once(x, tok_map(first, _true_if_open))


@elementwise
def _place_and_side(place: Any, token: Any) -> Any:
    """Twice the index, plus 1 for an opening bracket."""
    return 2 * np.asarray(place) + np.equal(token, OPENING[0])


@elementwise
def _is_bracket(token: Any) -> Any:
    return np.equal(token, OPENING[0]) | np.equal(token, CLOSING[0])


@elementwise
def _true_if_open(ranked: Any) -> Any:
    return np.where(np.equal(np.asarray(ranked) % 2, 1), TRUE, FALSE)


# -- Continuing a repeated pattern: by contexts that are named after the position where they occur first

_ROOM = 1 << 20
"""More than all tokens and positions."""


def next_of_named_context(x: Any) -> Any:
    """The token that followed an earlier occurrence of the last eight tokens; if there is none, of the last four.

    `next_of_context` compares contexts as one large number. Here a context is named after the position where it
    occurs first, and one of twice the length by the names of its halves (Karp, Miller and Rosenberg 1972, Rapid
    identification of repeated patterns in strings, trees and arrays). A name is where to read on.
    """
    place = indices(x)
    two = _named(shift_right(x, 1, default=NONE), x)
    four = _named(shift_right(two, 2, default=NONE), two)
    eight = _named(shift_right(four, 4, default=NONE), four)
    earlier = first_of(seq_map(eight, place, _unless_here), seq_map(four, place, _unless_here))
    return index_select(x, earlier + 1, default=NONE)


def _named(before: Any, now: Any) -> Any:
    pair = seq_map(before, now, _pair)
    return firsts(pair, pair)


@elementwise
def _pair(before: Any, now: Any) -> Any:
    return np.asarray(before) * _ROOM + now


@elementwise
def _unless_here(first: Any, place: Any) -> Any:
    return np.where(np.equal(first, place), NONE, first)


CONSTRUCTIONS: Mapping[tuple[str, str], tuple[Program, ...]] = MappingProxyType(
    {
        ("brackets", "plain"): (first_symbol_by_rank,),
        ("copy", "unique"): (
            copy_repeats,
            copy_by_recency,
            copy_by_place,
            copy_by_last_place,
            copy_by_next_place,
            copy_by_count,
            copy_resting_on_self,
            copy_resting_on_largest,
        ),
        ("even-pairs", "plain"): (even_pairs_by_changes, even_pairs_by_rises, even_pairs_by_rank),
        ("parity", "running"): (
            parity_running_by_place,
            parity_running_by_last_place,
            parity_running_by_index,
        ),
        ("question-formation", "plain"): (
            english.main_auxiliary_moves_by_count,
            english.first_auxiliary_moves_by_count,
        ),
        ("repeats", "text"): (next_of_named_context,),
        ("reverse", "unique"): (reverse_repeats, reverse_by_shifted_place, reverse_by_count),
    }
)
"""(task, format) -> programs that answer it, beside the registered ones."""
