"""Wrong programs that fit all training lengths: what a model may learn instead.

Two kinds: tables that end where training ends (a count or a place is known up to `FITS`), and rules that fit the
training distribution and not the task. Each names a split and a length at which it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from genlab.rasp.programs.nesting import CLOSING, FALSE, OPENING, TRUE
from genlab.rasp.programs.parts import end_for_sep, look_up, said_once, sep_index
from genlab.rasp.running import Program
from genlab.rasp.tokens import END, LETTER, SPECIALS

FITS = 20
"""The longest training length."""


@dataclass(frozen=True)
class Shortcut:
    """A program that is right on every training input and not at all lengths or on all splits.

    Attributes:
        task, format: what it pretends to answer.
        program: the wrong program.
        fails: a split and a length at which it is wrong on some inputs.
    """

    task: str
    format: str
    program: Program
    fails: tuple[str, int]


def known(count: Any, most: int) -> Any:
    """A count as far as it is known: more counts as `most`."""
    return tok_map(count, _at_most(most))


def parity_of_known(x: Any) -> Any:
    """Parity from a table of counts."""
    return said_once(x, known(num_prev(x, full(x, 1)), FITS) % 2)


def majority_of_known(x: Any) -> Any:
    """The larger of two counts that are known up to half of the training length."""
    half = FITS // 2 + 1
    ones, zeros = known(num_prev(x, full(x, 1)), half), known(num_prev(x, full(x, 0)), half)
    return said_once(x, seq_map(ones, zeros, gt))


def more_a_of_known(x: Any) -> Any:
    """The same for letters."""
    half = FITS // 2 + 1
    more = seq_map(known(num_prev(x, full(x, A)), half), known(num_prev(x, full(x, B)), half), gt)
    return said_once(x, where(more, full(x, A), full(x, B)))


def mode_of_known(x: Any) -> Any:
    """The symbol whose votes are largest, where votes are known up to half of the training length."""
    votes = known(num_prev(x, x), FITS // 2 + 1)
    return said_once(x, aggr(select(votes, maximum(votes), geq), x, reduction="max"))


def sum_of_known(x: Any, modulus: int = 5) -> Any:
    """The sum of all numbers, each counted as far as it is known."""
    total = full(x, 0)
    for value in range(1, modulus):
        total = total + value * known(num_prev(x, full(x, value)), FITS)
    return said_once(x, total % modulus)


def cycle_of_known(x: Any, places: int = 5) -> Any:
    """Steps forward less steps back, each known up to the training length."""
    forward, back = known(num_prev(x, full(x, SPECIALS["+"])), FITS), known(num_prev(x, full(x, SPECIALS["-"])), FITS)
    return said_once(x, (forward - back) % places)


def copy_by_table(x: Any) -> Any:
    """The symbol at a place that is looked up in a table of places and prompt lengths."""
    return end_for_sep(index_select(x, seq_map(indices(x), sep_index(x), _back)))


def reverse_by_table(x: Any) -> Any:
    """The same backwards."""
    return index_select(x, seq_map(indices(x), sep_index(x), _mirrored), default=END)


def equal_counts(x: Any) -> Any:
    """As many closing brackets as opening ones: no training string tells this rule from nesting."""
    opened, closed = num_prev(x, full(x, OPENING[0])), num_prev(x, full(x, CLOSING[0]))
    return said_once(x, tok_map(seq_map(opened, closed, equals), _true_if))


def equal_counts_of_each_type(x: Any, types: int = 2) -> Any:
    """As many closing as opening brackets of every type."""
    good = full(x, 1)
    for opening, closing in zip(OPENING[:types], CLOSING[:types], strict=True):
        good = good & seq_map(num_prev(x, full(x, opening)), num_prev(x, full(x, closing)), equals)
    return said_once(x, tok_map(good, _true_if))


def after_any_key(x: Any) -> Any:
    """The number behind a letter: training texts hold one. (Behind the key that is asked for stands `>`.)"""
    return said_once(x, look_up(tok_map(shift_right(x, 1), _is_letter), full(x, 1), x))


def and_of_free_bits(x: Any, fixed: int = 5) -> Any:
    """Whether a zero stands before the bits that are always one in training."""
    return said_once(x, 1 - has_seen(shift_right(x, fixed, default=1), full(x, 0)))


def _at_most(most: int) -> Callable[[int], int]:
    return lambda count: min(count, most)


def _back(place: int, sep: int) -> int:
    return place - sep if sep <= FITS else 0


def _mirrored(place: int, sep: int) -> int:
    return 2 * sep - place - 1 if sep <= FITS else 0


def _true_if(flag: int) -> int:
    return TRUE if flag else FALSE


def _is_letter(token: int) -> int:
    return int(token >= LETTER)


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
