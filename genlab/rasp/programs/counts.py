"""Programs based on counts (majority, mode, sorting by counting) and on arithmetic with indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from genlab.rasp.lang import (
    aggr,
    elementwise,
    firsts,
    full,
    geq,
    gt,
    index_select,
    indices,
    kqv,
    lasts,
    maximum,
    minimum,
    num_prev,
    select,
    seq_map,
    shift_right,
    tok_map,
    where,
)
from genlab.rasp.lang.functions import always
from genlab.rasp.programs.parts import NONE, answer_once, at_letter, first_of, has_token, sep_index
from genlab.rasp.tokens import END, LETTER, SEP, SPECIALS

A, B = LETTER, LETTER + 1


def majority(x: Any) -> Any:
    """One more than the mean of -2 at zeros and 0 elsewhere, truncated: -1 if at least half the tokens are zeros.

    Of n bits and `>`, that is if 2 * zeros >= n + 1; there are no ties. Found by `lab rasp search`.
    """
    zeros = tok_map(x, _minus_two_if_zero)
    return answer_once(x, kqv(x, x, zeros, always) + 1)


def compare_occurrence(x: Any) -> Any:
    """Whether there are more a than b."""
    return answer_once(x, seq_map(num_prev(x, full(x, A)), num_prev(x, full(x, B)), _a_if_more))


def mode(x: Any) -> Any:
    """The symbol at the position where the running count of its own kind is largest."""
    votes = num_prev(x, x)
    winner = select(votes, maximum(votes), geq)
    return answer_once(x, aggr(winner, x, reduction="max"))


def mode_of_counts(x: Any, symbols: int = 5) -> Any:
    """The mode by comparing the symbols one after another, using only counts at the same position."""
    best, leader = num_prev(x, full(x, A)), full(x, A)
    for symbol in range(A + 1, A + symbols):
        votes = num_prev(x, full(x, symbol))
        leads = votes > best
        leader, best = where(leads, full(x, symbol), leader), seq_map(votes, best, np.maximum)
    return answer_once(x, leader)


def mode_by_symbol(x: Any, most: int = 0) -> Any:
    """At a letter of the scratchpad its count; at a count the next letter of the alphabet, or the mode.

    `most` caps the counts that are written (0 for no cap).
    """
    prompt, before = where(has_token(x, SEP), full(x, NONE), x), shift_right(x, 1)
    votes = where(prompt == NONE, full(x, 0), num_prev(prompt, prompt))
    winner = aggr(select(votes, maximum(votes), geq), prompt, reduction="max")
    above = kqv(prompt, where(x == SEP, full(x, SEP), before), prompt, gt, default=NONE, reduction="min")
    repeated = (before != SEP) & (shift_right(x, 2) >= x)  # if so, this letter is the mode
    count = num_prev(prompt, x)
    if most:
        count = tok_map(count, lambda count: min(count, most))
    after_letter = where(repeated, full(x, END), count)
    return first_of(at_letter(x, after_letter), above, winner)


def mode_by_count(x: Any, symbols: int = 5) -> Any:
    """The next pair of count and letter by rank, where the rank is the number 100 * count + letter."""
    prompt = where(has_token(x, SEP), full(x, NONE), x)
    rank_here = where(x == SEP, full(x, _ROOM - 1), shift_right(x, 1) * _ROOM + x - A)
    at_count = (x >= 0) & (x < LETTER)
    last_rank = where(at_count, shift_right(rank_here, 1), rank_here)
    following = full(x, _NEVER)
    for letter in range(A, A + symbols):
        rank = num_prev(prompt, full(x, letter)) * _ROOM + (letter - A)
        following = seq_map(following, where(rank > last_rank, rank, full(x, _NEVER)), np.minimum)
    count = where(following == _NEVER, full(x, END), following // _ROOM)
    return where(at_count, following % _ROOM + A, count)


def bucket_sort(x: Any) -> Any:
    """Repeat a letter until it is written as often as it occurs in the prompt, then continue with the next larger."""
    written, given = has_token(x, SEP) & (x != SEP), has_token(x, SEP) == 0
    again = num_prev(where(written, x, full(x, NONE)), x) < num_prev(where(given, x, full(x, NONE)), x)
    above = kqv(x, x, x, gt, default=END, reduction="min")
    return where(again, x, above)


def interlocked_pairing(x: Any) -> Any:
    """The first letter k times, the other n times, the first n - k times, by comparing counts at the same position.

    The prompt has n letters, k of them equal to the first.
    """
    first, given = index_select(x, full(x, 0)), has_token(x, SEP) == 0
    is_first = seq_map(x, first, np.equal)
    written, other = (has_token(x, SEP) & (is_first == 1)), (has_token(x, SEP) & (x >= LETTER) & (is_first == 0))
    firsts_given, all_given = num_prev(given & (is_first == 1), full(x, 1)), num_prev(given, full(x, 1))
    firsts_written, others_written = num_prev(written, full(x, 1)), num_prev(other, full(x, 1))
    opening, middle = firsts_written < firsts_given, others_written < all_given
    other_letter = tok_map(first, _other_letter)
    closing = where(firsts_written < all_given, first, full(x, END))
    return where(opening, first, where(middle, other_letter, closing))


_ROOM, _NEVER = 100, 10**9
"""The factor of the count in a rank, and a rank above all others."""


@elementwise
def _minus_two_if_zero(token: Any) -> Any:
    return np.where(np.equal(token, 0), -2, 0)


@elementwise
def _a_if_more(first: Any, second: Any) -> Any:
    return np.where(np.greater(first, second), A, B)


def _other_letter(letter: int) -> int:
    return B if letter == A else A


# -- Programs that find positions by arithmetic on indices

ASK, GAP, POP, PUSH_A, PUSH_B = (SPECIALS[token] for token in ("?", "_", "pop", "+a", "+b"))
NOWHERE = -1


def values_in_order(x: Any) -> Any:
    """The value of the key that is as many positions after `?` as answer tokens have been written."""
    written = indices(x) - sep_index(x)
    key = index_select(x, lasts(x, full(x, ASK)) + 1 + written)
    value = index_select(x, firsts(x, key) + 1)
    return where(key == SEP, full(x, END), value)


def duplicate_string(x: Any) -> Any:
    """The word by index, then the word again."""
    length = sep_index(x)
    written = indices(x) - length
    place = where(written < length, written, written - length)
    return where(written == length + length, full(x, END), index_select(x, place))


def odds_first(x: Any) -> Any:
    """Every second letter starting with the first, then every second letter starting with the second."""
    length = sep_index(x)
    first_round = 2 * (indices(x) - length)
    second_round = first_round - (length + length % 2) + 1
    place = where(first_round < length, first_round, second_round)
    return where(place < length, index_select(x, place), full(x, END))


def evens_first(x: Any) -> Any:
    """Every second letter starting with the second, then every second letter starting with the first."""
    length = sep_index(x)
    second_round = 2 * (indices(x) - length) - (length - length % 2)
    first_round = 2 * (indices(x) - length) + 1
    place = where(first_round < length, first_round, second_round)
    return where(place < length, index_select(x, place), full(x, END))


def missing_duplicate(x: Any) -> Any:
    """The letter half a word away from the gap."""
    half, gap = sep_index(x) // 2, lasts(x, full(x, GAP))
    return answer_once(x, index_select(x, where(gap < half, gap + half, gap - half)))


def stack(x: Any) -> Any:
    """From the top of the stack downward, the letter pushed last at each height."""
    pops, in_prompt = num_prev(x, full(x, POP)), has_token(x, SEP) == 0
    is_push = in_prompt & (x != POP)
    walk = num_prev(is_push, full(x, 1)) - pops
    height = walk - minimum(where(walk < 0, walk, full(x, 0)))
    level = where(is_push, height, full(x, NOWHERE))
    wanted = height - (indices(x) - sep_index(x))
    letter = tok_map(index_select(x, lasts(level, wanted)), _letter)
    return where(wanted > 0, letter, full(x, END))


def _letter(token: int) -> int:
    return {PUSH_A: LETTER, PUSH_B: LETTER + 1}.get(int(token), int(token))
