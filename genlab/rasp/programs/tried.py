"""What was tried where no strictly legal program is known: each is legal, and wrong on an input that is named.

None of this shows that there is no legal program. For parity and for copies with repeats more is known: no program
of the counting fragment computes them (Huang et al. 2024, arXiv 2410.02140).
"""

from __future__ import annotations

from dataclasses import dataclass

from genlab.rasp.programs import attempts
from genlab.rasp.running import Program

__all__ = ["TRIED", "Attempt"]


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
