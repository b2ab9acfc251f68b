"""Failed attempts: strictly legal but wrong programs for tasks without a known legal one, with counterexamples."""

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
from genlab.rasp.programs.counts import A, mode_by_symbol
from genlab.rasp.programs.nesting import NOWHERE, bracket_types, count_brackets, excess, true_unless
from genlab.rasp.programs.parts import NONE, answer_once, at_sep, digits, end_for_sep, first_of, has_token, look_up
from genlab.rasp.running import Program
from genlab.rasp.tokens import END, LETTER, SEP, SPECIALS

ASK = SPECIALS["?"]
ORIGIN, TARGET, PATH = (SPECIALS[f"<{mark}_START>"] for mark in ("ORIGIN", "TARGET", "PATH"))


def first_and_last_bit(x: Any) -> Any:
    """Products: the product of the first and the last bit, as if each number had one bit."""
    return answer_once(x, seq_map(index_select(x, full(x, 0)), shift_right(x, 1), np.minimum))


def one_in_last_two_bits(x: Any) -> Any:
    """Square roots: whether one of the last two bits is 1."""
    return answer_once(x, seq_map(shift_right(x, 1), shift_right(x, 2), np.maximum))


def value_itself(x: Any) -> Any:
    """Equations: x is the value, as if the left side were x."""
    return answer_once(x, shift_right(x, 1))


def straight_to_target(x: Any) -> Any:
    """Mazes: the first and the last cell, as if they were adjacent."""
    origin, target = (index_select(x, firsts(x, full(x, mark)) + 1) for mark in (ORIGIN, TARGET))
    return where(x == PATH, origin, where(x == origin, target, full(x, END)))


def small_counts(x: Any) -> Any:
    """Parity from a table of counts below 8."""
    ones = num_prev(x, full(x, 1))
    return answer_once(x, tok_map(ones, _parity_below_8))


def last_three_bits(x: Any) -> Any:
    """Parity of the last three bits."""
    bits = digits(x)
    two = seq_map(shift_right(bits, 1), shift_right(bits, 2), np.bitwise_xor)
    return answer_once(x, seq_map(two, shift_right(bits, 3), np.bitwise_xor))


def after_two_tokens(x: Any) -> Any:
    """Copies: the token that followed the last two tokens in the prompt, with `>` before the first one."""
    small = tok_map(x, _code)
    context = small * 4 + shift_right(small, 1, default=2)
    following = end_for_sep(look_up(shift_right(context, 1), context, x))
    return first_of(at_sep(x, index_select(x, full(x, 0))), following)


def before_two_tokens(x: Any) -> Any:
    """Reverse: the token that preceded the last two tokens in the prompt, where they are in the opposite order."""
    small = tok_map(x, _code)
    before = shift_right(small, 1, default=2)
    preceding = look_up(before * 4 + small, small * 4 + before, shift_right(x, 2, default=END))
    return first_of(at_sep(x, shift_right(x, 1)), preceding)


def last_digits(x: Any) -> Any:
    """Addition: the sum of the last digits only, for operands of one digit (with the leading zero)."""
    value = digits(x)
    total = seq_map(shift_right(value, 1), shift_right(value, 4), np.add)
    return answer_once(x, total % 10)


def last_three_numbers(x: Any) -> Any:
    """Sums modulo 5: the sum of the last three numbers."""
    value = digits(x)
    total = seq_map(seq_map(shift_right(value, 1), shift_right(value, 3), np.add), shift_right(value, 5), np.add)
    return answer_once(x, total % 5)


def last_operation(x: Any) -> Any:
    """Chains modulo 5: the last two numbers with the operator between them."""
    value = digits(x)
    pair = shift_right(value, 3) * 5 + shift_right(value, 1)
    return answer_once(x, seq_map(shift_right(x, 2), pair, _operation))


def last_bracket(x: Any) -> Any:
    """Bracketed expressions modulo 5: the last two numbers with the operator between them, before a bracket."""
    value = digits(x)
    pair = shift_right(value, 4) * 5 + shift_right(value, 2)
    return answer_once(x, seq_map(shift_right(x, 3), pair, _operation))


def first_then_end(x: Any) -> Any:
    """Running results: the first number, then the end token."""
    return answer_once(x, index_select(x, full(x, 0)))


def last_three_steps(x: Any) -> Any:
    """Cycle navigation: the position after the last three steps only."""
    step = tok_map(x, _step)
    total = seq_map(seq_map(shift_right(step, 1), shift_right(step, 2), np.add), shift_right(step, 3), np.add)
    return answer_once(x, total % 5)


def value_after_value(x: Any) -> Any:
    """Recall in order: the value of the queried key that follows the key with this value."""
    after_ask = has_token(x, ASK)
    shown_key = where(after_ask, full(x, NONE), shift_right(x, 1))
    key_of_value = look_up(where(after_ask, full(x, NONE), x), x, shown_key)
    queried = where(after_ask, shift_right(x, 1), full(x, NONE))
    next_key = look_up(queried, where(x == SEP, full(x, ASK), key_of_value), x)
    return where(next_key == SEP, full(x, END), look_up(shown_key, next_key, x))


def by_symbol_below_8(x: Any) -> Any:
    """The scratchpad of mode, with counts capped at 7."""
    return mode_by_symbol(x, most=7)


def one_letter_below_8(x: Any) -> Any:
    """The pairs of count and letter, for a single letter that occurs at most 7 times."""
    letter = index_select(x, full(x, 0))
    count = tok_map(num_prev(x, letter), _below_8)
    return first_of(at_sep(x, count), where(shift_right(x, 1) == SEP, letter, full(x, END)))


def each_type_to_depth_3(x: Any) -> Any:
    """Dyck words, with brackets matched up to depth 3."""
    opens, closes = bracket_types(x)
    depth = seq_map(count_brackets(opens), count_brackets(closes), excess(4))
    level = where(opens, depth, full(x, NOWHERE))
    partner = index_select(opens, lasts(level, depth + 1, default=NOWHERE))
    wrong = has_seen((closes > 0) & (closes != partner) & (depth < 3), full(x, 1))
    ended = seq_map(count_brackets(opens), count_brackets(closes), np.equal)
    return answer_once(x, seq_map(ended, wrong, true_unless))


def after_one_token(x: Any) -> Any:
    """The token that followed an earlier occurrence of this token (the largest, if there are several)."""
    return look_up(shift_right(x, 1, default=SEP), x, x)


def more_frequent_letter(x: Any) -> Any:
    """Missing duplicate: the less frequent letter."""
    fewer = seq_map(num_prev(x, full(x, A)), num_prev(x, full(x, A + 1)), np.less)
    return answer_once(x, tok_map(fewer, _a_if_true))


def last_action(x: Any) -> Any:
    """Stack manipulation: the letter of the last action only."""
    return answer_once(x, tok_map(shift_right(x, 1), _letter_of_action))


def _parity_below_8(count: int) -> int:
    return count % 2 if count < 8 else 0


def _below_8(count: int) -> int:
    return count if count < 8 else 0


def _code(token: int) -> int:
    """The two symbols of a binary alphabet as 0 and 1, `>` as 2, everything else as 3."""
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


# -- The attempts, each with an input on which it is wrong
#
# This does not show that no legal program exists. More is known for parity and for copying with repeats: no program
# of the counting fragment computes them (Huang et al. 2024, arXiv 2410.02140).


@dataclass(frozen=True)
class Attempt:
    """A strictly legal program that is wrong.

    Attributes:
        task, format: the task and format that it was meant for.
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
    Attempt("addition", "forward", last_digits, "0 5 8 + 0 6 7 >"),
    Attempt("addition", "reversed", last_digits, "0 5 8 + 0 6 7 >"),
    Attempt("associative-recall", "every-query", value_after_value, "a 3 c 3 b 1 ? a b c >"),
    Attempt("binary-multiplication", "forward", first_and_last_bit, "1 1 * 1 1 >"),
    Attempt("binary-multiplication", "reversed", first_and_last_bit, "1 1 * 1 1 >"),
    Attempt("copy", "repeats", after_two_tokens, "0 0 0 1 >"),
    Attempt("cycle-navigation", "plain", last_three_steps, "+ + + + >"),
    Attempt("duplicate-string", "plain", after_two_tokens, "a b >"),
    Attempt("dyck", "plain", each_type_to_depth_3, "<start> ( ( ( ( [ ) ] ) ) ) >"),
    Attempt("maze", "cells", straight_to_target, _CELLS),
    Attempt("maze", "coordinates", after_one_token, _COORDINATES),
    Attempt("maze", "directions", after_one_token, _CELLS),
    Attempt("missing-duplicate", "plain", more_frequent_letter, "a a a b _ a a b >"),
    Attempt("mode", "by-symbol", by_symbol_below_8, "a a a a a a a a >"),
    Attempt("mode", "by-count", one_letter_below_8, "a b b >"),
    Attempt("modular-brackets", "plain", last_bracket, "( 1 + ( 2 + 3 ) ) >"),
    Attempt("modular-brackets", "published", last_bracket, "( 1 + ( 2 + 3 ) ) >"),
    Attempt("modular-chain", "sum", last_three_numbers, "1 + 0 + 0 + 0 >"),
    Attempt("modular-chain", "running", first_then_end, "3 + 4 * 2 >"),
    Attempt("modular-chain", "left-to-right", last_operation, "3 + 4 + 1 >"),
    Attempt("modular-chain", "precedence", last_operation, "3 + 4 + 1 >"),
    Attempt("modular-icl", "plain", after_one_token, "1 0 2 0 1 3 1 1"),
    Attempt("odds-first", "plain", after_two_tokens, "a b a >"),
    Attempt("odds-first", "published", after_two_tokens, "a b a >"),
    Attempt("parity", "plain", small_counts, "1 1 1 1 1 1 1 1 1 >"),
    Attempt("parity", "plain", last_three_bits, "1 0 0 0 >"),
    Attempt("question-formation", "plain", after_one_token, "the otter near the yak does sing . decl >"),
    Attempt("repeats", "text", after_one_token, "5 1 2 3 4 7 8 6 4 9 0 1 2 3 4"),
    Attempt("reverse", "repeats", before_two_tokens, "a a a b >"),
    Attempt("solve-equation", "plain", value_itself, "( x + 1 ) = 3 >"),
    Attempt("solve-equation", "published", value_itself, "( x + 1 ) = 3 >"),
    Attempt("square-root", "plain", one_in_last_two_bits, "0 0 0 0 1 1 1 0 >"),
    Attempt("stack-manipulation", "plain", last_action, "a b b +a +b pop pop >"),
    Attempt("tense-reinflection", "plain", after_one_token, "my otters near my yak sang . PAST >"),
)
