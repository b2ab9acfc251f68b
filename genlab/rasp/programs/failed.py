"""Legal programs that are not right, tried where no right one is known; `tried.py` says on what each fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from genlab.rasp.lang import (
    firsts,
    full,
    has_seen,
    index_select,
    lasts,
    num_prev,
    seq_map,
    shift_right,
    tok_map,
    where,
)
from genlab.rasp.programs import failed as attempts
from genlab.rasp.programs.counts import A, mode_by_symbol
from genlab.rasp.programs.nesting import NOWHERE, counted, excess, sides, true_unless
from genlab.rasp.programs.parts import NONE, at_sep, digits, end_for_sep, first_of, look_up, said_once, seen
from genlab.rasp.running import Program
from genlab.rasp.tokens import END, LETTER, SEP, SPECIALS

ASK = SPECIALS["?"]
ORIGIN, TARGET, PATH = (SPECIALS[f"<{mark}_START>"] for mark in ("ORIGIN", "TARGET", "PATH"))


def first_and_last_bit(x: Any) -> Any:
    """Products: of the first bit and the last, as if each number were one bit."""
    return said_once(x, seq_map(index_select(x, full(x, 0)), shift_right(x, 1), np.minimum))


def one_in_last_two_bits(x: Any) -> Any:
    """Square roots: of the last two bits."""
    return said_once(x, seq_map(shift_right(x, 1), shift_right(x, 2), np.maximum))


def value_itself(x: Any) -> Any:
    """Equations: x is the value, as if x stood alone."""
    return said_once(x, shift_right(x, 1))


def straight_to_target(x: Any) -> Any:
    """Mazes: the first cell and the last, as if they were neighbours."""
    origin, target = (index_select(x, firsts(x, full(x, mark)) + 1) for mark in (ORIGIN, TARGET))
    return where(x == PATH, origin, where(x == origin, target, full(x, END)))


def small_counts(x: Any) -> Any:
    """Parity from a table of the first counts."""
    ones = num_prev(x, full(x, 1))
    return said_once(x, tok_map(ones, _parity_below_8))


def last_three_bits(x: Any) -> Any:
    """Parity of the last three bits."""
    bits = digits(x)
    two = seq_map(shift_right(bits, 1), shift_right(bits, 2), np.bitwise_xor)
    return said_once(x, seq_map(two, shift_right(bits, 3), np.bitwise_xor))


def after_two_tokens(x: Any) -> Any:
    """Copies: what followed the last two tokens, both together, in the prompt; `>` stands before the first."""
    small = tok_map(x, _code)
    context = small * 4 + shift_right(small, 1, default=2)
    found = end_for_sep(look_up(shift_right(context, 1), context, x))
    return first_of(at_sep(x, index_select(x, full(x, 0))), found)


def before_two_tokens(x: Any) -> Any:
    """Reverse: what stood before the last two tokens in the prompt, where they stand the other way round."""
    small = tok_map(x, _code)
    before = shift_right(small, 1, default=2)
    found = look_up(before * 4 + small, small * 4 + before, shift_right(x, 2, default=END))
    return first_of(at_sep(x, shift_right(x, 1)), found)


def last_digits(x: Any) -> Any:
    """Addition: the sum of the last digits alone, where each operand has one (and its zero before it)."""
    value = digits(x)
    total = seq_map(shift_right(value, 1), shift_right(value, 4), np.add)
    return said_once(x, total % 10)


def last_three_numbers(x: Any) -> Any:
    """Sums modulo 5: those of the last three numbers."""
    value = digits(x)
    total = seq_map(seq_map(shift_right(value, 1), shift_right(value, 3), np.add), shift_right(value, 5), np.add)
    return said_once(x, total % 5)


def last_operation(x: Any) -> Any:
    """Chains modulo 5: the last two numbers with the operator between them."""
    value = digits(x)
    pair = shift_right(value, 3) * 5 + shift_right(value, 1)
    return said_once(x, seq_map(shift_right(x, 2), pair, _operation))


def last_bracket(x: Any) -> Any:
    """Bracketed expressions modulo 5: the last two numbers with the operator between them, and a bracket behind."""
    value = digits(x)
    pair = shift_right(value, 4) * 5 + shift_right(value, 2)
    return said_once(x, seq_map(shift_right(x, 3), pair, _operation))


def first_then_end(x: Any) -> Any:
    """Running results: the first number, and the end."""
    return said_once(x, index_select(x, full(x, 0)))


def last_three_steps(x: Any) -> Any:
    """The cycle: where the last three steps lead."""
    step = tok_map(x, _step)
    total = seq_map(seq_map(shift_right(step, 1), shift_right(step, 2), np.add), shift_right(step, 3), np.add)
    return said_once(x, total % 5)


def value_after_value(x: Any) -> Any:
    """Recall in order: the value of the key that was asked after the key with this value."""
    after_ask = seen(x, ASK)
    shown_key = where(after_ask, full(x, NONE), shift_right(x, 1))
    key_of_value = look_up(where(after_ask, full(x, NONE), x), x, shown_key)
    asked = where(after_ask, shift_right(x, 1), full(x, NONE))
    next_key = look_up(asked, where(x == SEP, full(x, ASK), key_of_value), x)
    return where(next_key == SEP, full(x, END), look_up(shown_key, next_key, x))


def by_symbol_below_8(x: Any) -> Any:
    """The scratchpad of mode, with counts written up to 7."""
    return mode_by_symbol(x, most=7)


def one_letter_below_8(x: Any) -> Any:
    """The pairs of count and letter, where there is one letter, up to 7 times."""
    letter = index_select(x, full(x, 0))
    count = tok_map(num_prev(x, letter), _below_8)
    return first_of(at_sep(x, count), where(shift_right(x, 1) == SEP, letter, full(x, END)))


def each_type_to_depth_3(x: Any) -> Any:
    """Dyck words, with partners looked up to depth 3."""
    opens, closes = sides(x)
    depth = seq_map(counted(opens), counted(closes), excess(4))
    level = where(opens, depth, full(x, NOWHERE))
    partner = index_select(opens, lasts(level, depth + 1, default=NOWHERE))
    wrong = has_seen((closes > 0) & (closes != partner) & (depth < 3), full(x, 1))
    ended = seq_map(counted(opens), counted(closes), np.equal)
    return said_once(x, seq_map(ended, wrong, true_unless))


def after_one_token(x: Any) -> Any:
    """What followed this token last time (the largest of what ever followed)."""
    return look_up(shift_right(x, 1, default=SEP), x, x)


def more_frequent_letter(x: Any) -> Any:
    """The missing letter: the one that is shown less often."""
    fewer = seq_map(num_prev(x, full(x, A)), num_prev(x, full(x, A + 1)), np.less)
    return said_once(x, tok_map(fewer, _a_if_true))


def last_action(x: Any) -> Any:
    """The stack: the letter of the last action, and nothing below it."""
    return said_once(x, tok_map(shift_right(x, 1), _letter_of_action))


def _parity_below_8(count: int) -> int:
    return count % 2 if count < 8 else 0


def _below_8(count: int) -> int:
    return count if count < 8 else 0


def _code(token: int) -> int:
    """Both symbols of an alphabet of two as 0 and 1, `>` as 2, all else as 3."""
    if token in (0, 1, A, A + 1):
        return token % LETTER
    return 2 if token == SEP else 3


def _operation(sign: int, pair: int) -> int:
    first, second = divmod(int(pair), 5)
    results = {SPECIALS["+"]: first + second, SPECIALS["-"]: first - second, SPECIALS["*"]: first * second}
    return results.get(int(sign), second) % 5


def _step(token: int) -> int:
    return {SPECIALS["+"]: 1, SPECIALS["-"]: 4}.get(int(token), 0)


def _a_if_true(flag: int) -> int:
    return A if flag else A + 1


def _letter_of_action(token: int) -> int:
    return {SPECIALS["+a"]: A, SPECIALS["+b"]: A + 1}.get(int(token), int(token))


# -- What was tried where no strictly legal program is known: each is legal, and wrong on an input that is nam
#
# None of this shows that there is no legal program. For parity and for copies with repeats more is known: no program
# of the counting fragment computes them (Huang et al. 2024, arXiv 2410.02140).


@dataclass(frozen=True)
class Attempt:
    """A strictly legal program that is not right.

    Attributes:
        task, format: what it was tried for.
        program: the attempt.
        fails_on: a prompt on which its answer is wrong.
    """

    task: str
    format: str
    program: Program
    fails_on: str


_CELLS = (
    "<ADJLIST_START> (0,0) <--> (0,1) ; (1,1) <--> (0,1) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> "
    "<TARGET_START> (1,1) <TARGET_END> <PATH_START>"
)
_COORDINATES = (
    "<ADJLIST_START> ( 0 , 0 ) <--> ( 0 , 1 ) ; ( 1 , 1 ) <--> ( 0 , 1 ) ; <ADJLIST_END> <ORIGIN_START> ( 0 , 0 ) "
    "<ORIGIN_END> <TARGET_START> ( 1 , 1 ) <TARGET_END> <PATH_START>"
)

TRIED: tuple[Attempt, ...] = (
    Attempt("addition", "forward", attempts.last_digits, "0 5 8 + 0 6 7 >"),
    Attempt("addition", "reversed", attempts.last_digits, "0 5 8 + 0 6 7 >"),
    Attempt("associative-recall", "every-query", attempts.value_after_value, "a 3 c 3 b 1 ? a b c >"),
    Attempt("binary-multiplication", "forward", attempts.first_and_last_bit, "1 1 * 1 1 >"),
    Attempt("binary-multiplication", "reversed", attempts.first_and_last_bit, "1 1 * 1 1 >"),
    Attempt("copy", "repeats", attempts.after_two_tokens, "0 0 0 1 >"),
    Attempt("cycle-navigation", "plain", attempts.last_three_steps, "+ + + + >"),
    Attempt("duplicate-string", "plain", attempts.after_two_tokens, "a b >"),
    Attempt("dyck", "plain", attempts.each_type_to_depth_3, "<start> ( ( ( ( [ ) ] ) ) ) >"),
    Attempt("maze", "cells", attempts.straight_to_target, _CELLS),
    Attempt("maze", "coordinates", attempts.after_one_token, _COORDINATES),
    Attempt("maze", "directions", attempts.after_one_token, _CELLS),
    Attempt("missing-duplicate", "plain", attempts.more_frequent_letter, "a a a b _ a a b >"),
    Attempt("mode", "by-symbol", attempts.by_symbol_below_8, "a a a a a a a a >"),
    Attempt("mode", "by-count", attempts.one_letter_below_8, "a b b >"),
    Attempt("modular-brackets", "plain", attempts.last_bracket, "( 1 + ( 2 + 3 ) ) >"),
    Attempt("modular-brackets", "published", attempts.last_bracket, "( 1 + ( 2 + 3 ) ) >"),
    Attempt("modular-chain", "sum", attempts.last_three_numbers, "1 + 0 + 0 + 0 >"),
    Attempt("modular-chain", "running", attempts.first_then_end, "3 + 4 * 2 >"),
    Attempt("modular-chain", "left-to-right", attempts.last_operation, "3 + 4 + 1 >"),
    Attempt("modular-chain", "precedence", attempts.last_operation, "3 + 4 + 1 >"),
    Attempt("modular-icl", "plain", attempts.after_one_token, "1 0 2 0 1 3 1 1"),
    Attempt("odds-first", "plain", attempts.after_two_tokens, "a b a >"),
    Attempt("odds-first", "published", attempts.after_two_tokens, "a b a >"),
    Attempt("parity", "plain", attempts.small_counts, "1 1 1 1 1 1 1 1 1 >"),
    Attempt("parity", "plain", attempts.last_three_bits, "1 0 0 0 >"),
    Attempt("question-formation", "plain", attempts.after_one_token, "the otter near the yak does sing . decl >"),
    Attempt("repeats", "text", attempts.after_one_token, "5 1 2 3 4 7 8 6 4 9 0 1 2 3 4"),
    Attempt("reverse", "repeats", attempts.before_two_tokens, "a a a b >"),
    Attempt("solve-equation", "plain", attempts.value_itself, "( x + 1 ) = 3 >"),
    Attempt("solve-equation", "published", attempts.value_itself, "( x + 1 ) = 3 >"),
    Attempt("square-root", "plain", attempts.one_in_last_two_bits, "0 0 0 0 1 1 1 0 >"),
    Attempt("stack-manipulation", "plain", attempts.last_action, "a b b +a +b pop pop >"),
    Attempt("tense-reinflection", "plain", attempts.after_one_token, "my otters near my yak sang . PAST >"),
)
