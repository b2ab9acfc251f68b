"""Shortcuts: wrong programs that are right at all training lengths, which a model may learn instead.

There are two kinds: tables that end at the training length (counts or positions up to `FITS`), and rules that hold
for the training distribution but not for the task. Each comes with a split and a length at which it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from genlab.rasp.lang import (
    aggr,
    equals,
    full,
    geq,
    gt,
    has_seen,
    index_select,
    indices,
    kqv,
    maximum,
    num_prev,
    select,
    seq_map,
    shift_right,
    tok_map,
    where,
)
from genlab.rasp.programs import english
from genlab.rasp.programs.counts import A, B
from genlab.rasp.programs.nesting import CLOSING, FALSE, OPENING, TRUE, nested, true_unless
from genlab.rasp.programs.parts import answer_once, end_for_sep, look_up, sep_index
from genlab.rasp.running import Program
from genlab.rasp.tokens import END, LETTER, SPECIALS

FITS = 20
"""The longest training length."""


@dataclass(frozen=True)
class Shortcut:
    """A program that is right on every training input, but not at all lengths or on all splits.

    Attributes:
        task, format: the task and format that it appears to solve.
        program: the wrong program.
        fails: a split and a length at which it is wrong on some inputs.
    """

    task: str
    format: str
    program: Program
    fails: tuple[str, int]


def cap_count(count: Any, most: int) -> Any:
    """A count capped at `most`."""
    return tok_map(count, _at_most(most))


def parity_of_known(x: Any) -> Any:
    """Parity from a finite table of counts."""
    return answer_once(x, cap_count(num_prev(x, full(x, 1)), FITS) % 2)


def majority_of_known(x: Any) -> Any:
    """The larger of two counts, each capped at half the training length."""
    half = FITS // 2 + 1
    ones, zeros = cap_count(num_prev(x, full(x, 1)), half), cap_count(num_prev(x, full(x, 0)), half)
    return answer_once(x, seq_map(ones, zeros, gt))


def more_a_of_known(x: Any) -> Any:
    """Whether there are more a than b, with counts capped at half the training length."""
    half = FITS // 2 + 1
    more = seq_map(cap_count(num_prev(x, full(x, A)), half), cap_count(num_prev(x, full(x, B)), half), gt)
    return answer_once(x, where(more, full(x, A), full(x, B)))


def mode_of_known(x: Any) -> Any:
    """The symbol with the largest count, with counts capped at half the training length."""
    votes = cap_count(num_prev(x, x), FITS // 2 + 1)
    return answer_once(x, aggr(select(votes, maximum(votes), geq), x, reduction="max"))


def sum_of_known(x: Any, modulus: int = 5) -> Any:
    """The sum of all numbers, with the count of each capped at the training length."""
    total = full(x, 0)
    for value in range(1, modulus):
        total = total + value * cap_count(num_prev(x, full(x, value)), FITS)
    return answer_once(x, total % modulus)


def cycle_of_known(x: Any, places: int = 5) -> Any:
    """Steps forward minus steps back, each count capped at the training length."""
    forward = cap_count(num_prev(x, full(x, SPECIALS["+"])), FITS)
    back = cap_count(num_prev(x, full(x, SPECIALS["-"])), FITS)
    return answer_once(x, (forward - back) % places)


def copy_by_table(x: Any) -> Any:
    """The symbol at an index from a finite table of indices and prompt lengths."""
    return end_for_sep(index_select(x, seq_map(indices(x), sep_index(x), _back)))


def reverse_by_table(x: Any) -> Any:
    """Like `copy_by_table`, in reverse order."""
    return index_select(x, seq_map(indices(x), sep_index(x), _mirrored), default=END)


def equal_counts(x: Any) -> Any:
    """Equally many closing and opening brackets, which no training string distinguishes from nesting."""
    opened, closed = num_prev(x, full(x, OPENING[0])), num_prev(x, full(x, CLOSING[0]))
    return answer_once(x, tok_map(seq_map(opened, closed, equals), _true_if))


def nested_by_lowest(x: Any) -> Any:
    """Nested, if the lowest depth at any bracket is not below 0 and the last one is 0."""
    depth = num_prev(x, full(x, OPENING[0])) - num_prev(x, full(x, CLOSING[0]))
    lowest = kqv(tok_map(x, _is_bracket), full(x, 1), depth, equals, default=0, reduction="min")
    return answer_once(x, seq_map(depth == 0, lowest < 0, true_unless))


def nested_at_brackets(x: Any) -> Any:
    """Nested, as each bracket knows of the string up to it; `>` only copies what the last bracket knows."""
    opened, closed = num_prev(x, full(x, OPENING[0])), num_prev(x, full(x, CLOSING[0]))
    ever_below = kqv(seq_map(closed, opened, gt), tok_map(x, _is_bracket), full(x, 1), _both, default=0)
    good = seq_map(seq_map(opened, closed, equals), ever_below, true_unless)
    return answer_once(x, shift_right(good, 1, default=TRUE))


def equal_counts_by_index(x: Any) -> Any:
    """Equal counts from the opening brackets alone: twice as many as there are positions before `>`."""
    opened = num_prev(x, full(x, OPENING[0]))
    return answer_once(x, tok_map(seq_map(opened + opened, indices(x) - 1, equals), _true_if))


def first_symbol(x: Any) -> Any:
    """Whether the first bracket opens, where the start token is part of the input."""
    first = index_select(x, full(x, 1))
    return answer_once(x, where(first == OPENING[0], full(x, TRUE), full(x, FALSE)))


def equal_counts_of_each_type(x: Any, types: int = 2) -> Any:
    """Equally many closing and opening brackets of every type."""
    good = full(x, 1)
    for opening, closing in zip(OPENING[:types], CLOSING[:types], strict=True):
        good = good & seq_map(num_prev(x, full(x, opening)), num_prev(x, full(x, closing)), equals)
    return answer_once(x, tok_map(good, _true_if))


def after_any_key(x: Any) -> Any:
    """The number after any letter: training texts have only one (the queried key is followed by `>`)."""
    return answer_once(x, look_up(tok_map(shift_right(x, 1), _is_letter), full(x, 1), x))


def and_of_free_bits(x: Any, fixed: int = 5) -> Any:
    """Whether a zero occurs before the bits that are always one in training."""
    return answer_once(x, 1 - has_seen(shift_right(x, fixed, default=1), full(x, 0)))


def _at_most(most: int) -> Callable[[int], int]:
    return lambda count: min(count, most)


def _back(place: int, sep: int) -> int:
    return place - sep if sep <= FITS else 0


def _mirrored(place: int, sep: int) -> int:
    return 2 * sep - place - 1 if sep <= FITS else 0


def _true_if(flag: int) -> int:
    return TRUE if flag else FALSE


def _both(key: int, query: int) -> bool:
    return bool(key) and bool(query)


def _is_bracket(token: int) -> int:
    return int(token in (OPENING[0], CLOSING[0]))


def _is_letter(token: int) -> int:
    return int(token >= LETTER)


RULES: Mapping[tuple[str, str], tuple[Program, ...]] = MappingProxyType(
    {
        ("brackets", "NESTED"): (nested, nested_by_lowest, nested_at_brackets),
        ("brackets", "EQUAL-COUNT"): (equal_counts, equal_counts_by_index),
        ("brackets", "FIRST-SYMBOL"): (first_symbol,),
    }
)
"""(task, rule of `Task.rules`) -> programs that answer by this rule, each in another way."""


SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("and-fixed-bits", "plain", and_of_free_bits, ("fixed-zero", 20)),
    Shortcut("brackets", "plain", equal_counts, ("matched-unnested", 20)),
    Shortcut("compare-occurrence", "plain", more_a_of_known, ("id", 60)),
    Shortcut("copy", "repeats", copy_by_table, ("id", 21)),
    Shortcut("cycle-navigation", "plain", cycle_of_known, ("forward", 40)),
    Shortcut("dyck", "plain", equal_counts_of_each_type, ("matched-unnested", 20)),
    Shortcut("majority", "plain", majority_of_known, ("id", 60)),
    Shortcut("mode", "plain", mode_of_known, ("id", 90)),
    Shortcut("modular-chain", "sum", sum_of_known, ("id", 150)),
    Shortcut("needle", "text", after_any_key, ("distractors", 20)),
    Shortcut("parity", "plain", parity_of_known, ("id", 60)),
    Shortcut("question-formation", "plain", english.first_auxiliary_moves, ("relative-subject", 11)),
    Shortcut("reverse", "repeats", reverse_by_table, ("id", 21)),
    Shortcut("tense-reinflection", "plain", english.verb_agrees_with_nearest, ("attractor", 8)),
)
