"""Programs for the compiler: those of the lab that it is held to, random ones, and those that it has to refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.rasp import aggr, equals, full, indices, sel_width, select, seq_map, shift_right, tok_map
from genlab.rasp.running import Program

EXACT = (
    ("and-fixed-bits", "plain", "and_of_bits"),
    ("addition", "reversed-hints", "reversed_hints"),
    ("addition", "reversed", "reversed_plain"),
    ("associative-recall", "one-query", "value_of_key"),
    ("brackets", "plain", "NESTED"),
    ("brackets", "plain", "EQUAL-COUNT"),
    ("brackets", "plain", "FIRST-SYMBOL"),
    ("bucket-sort", "plain", "bucket_sort"),
    ("compare-occurrence", "plain", "compare_occurrence"),
    ("copy", "unique", "copy_unique"),
    ("copy", "repeats", "copy_repeats"),
    ("copy", "reverse", "reverse_unique"),
    ("count", "plain", "count"),
    ("cycle-navigation", "plain", "cycle_navigation"),
    ("dyck-next", "next", "closing_next_bounded"),
    ("dyck-next", "rest", "closing_rest"),
    ("even-pairs", "plain", "even_pairs"),
    ("majority", "plain", "majority"),
    ("max-retrieval", "tokens", "value_of_largest"),
    ("mode", "plain", "mode"),
    ("parity", "plain", "parity"),
    ("parity", "running", "parity_running"),
    ("parity", "scratchpad", "parity_scratchpad"),
    ("sort", "plain", "sort"),
    ("dyck", "plain", "dyck"),
    ("associative-recall", "in-place", "value_of_this_key"),
    ("associative-recall", "every-query", "values_in_order"),
    ("brackets", "published", "nested"),
    ("brackets", "plain", "nested_by_lowest"),
    ("brackets", "plain", "nested_at_brackets"),
    ("brackets", "plain", "equal_counts_by_index"),
    ("brackets", "plain", "first_symbol_by_rank"),
    ("copy", "unique", "copy_by_recency"),
    ("copy", "unique", "copy_by_place"),
    ("copy", "unique", "copy_by_last_place"),
    ("copy", "unique", "copy_by_next_place"),
    ("copy", "unique", "copy_by_count"),
    ("copy", "unique", "copy_resting_on_self"),
    ("copy", "unique", "copy_resting_on_largest"),
    ("dyck-next", "next", "closing_next"),
    ("dyck-next", "next", "closing_next_counting"),
    ("dyck-next", "rest", "closing_rest_bounded"),
    ("dyck-next", "rest", "closing_rest_counting"),
    ("even-pairs", "plain", "even_pairs_by_changes"),
    ("even-pairs", "plain", "even_pairs_by_rises"),
    ("even-pairs", "plain", "even_pairs_by_rank"),
    ("interlocked-pairing", "plain", "interlocked_pairing"),
    ("missing-duplicate", "plain", "missing_duplicate"),
    ("mode", "plain", "mode_of_counts"),
    ("needle", "text", "value_of_key"),
    ("parity", "running", "parity_running_by_place"),
    ("parity", "running", "parity_running_by_last_place"),
    ("parity", "running", "parity_running_by_index"),
    ("reverse", "repeats", "reverse_repeats"),
    ("reverse", "unique", "reverse_unique"),
    ("reverse", "unique", "reverse_by_shifted_place"),
    ("reverse", "unique", "reverse_by_count"),
    ("duplicate-string", "plain", "duplicate_string"),
    ("odds-first", "plain", "odds_first"),
    ("odds-first", "published", "evens_first"),
    ("modular", "plain", "looked_up"),
    ("modular-chain", "running", "chain_running"),
)
"""(task, format, program or rule). A default run of the tests compiles every sixth of them, a slow one all."""

LARGE = (
    ("addition", "forward", "forward_plain", 4),
    ("addition", "forward-hints", "forward_hints", 4),
    ("mode", "by-symbol", "mode_by_symbol", 8),
    ("modular", "bare", "looked_up", 6),
    ("modular-chain", "sum", "chain_sum", 8),
    ("modular-chain", "left-to-right", "chain_left_to_right", 6),
    ("modular-chain", "precedence", "chain_precedence", 6),
    ("repeats", "text", "next_of_named_context", 11),
    ("question-formation", "plain", "main_auxiliary_moves", 7),
    ("question-formation", "plain", "first_auxiliary_moves", 7),
    ("question-formation", "plain", "main_auxiliary_moves_by_count", 7),
    ("solve-equation", "published", "solve_signed_equation", 6),
    ("stack-manipulation", "plain", "stack", 6),
    ("tense-reinflection", "plain", "verb_agrees_with_subject", 6),
)
"""(task, format, program, longest input) of models too large for the length of the others."""

SMALLER = {"repeats": {"symbols": 12, "n_tokens": 25}}
"""Parameters of tasks whose models would be large."""

REFUSED = (
    ("repeats", "text", "next_of_context", "takes [0-9,]+ values"),
    ("mode", "by-count", "mode_by_count", "would have [0-9,]+ weights"),
    ("solve-equation", "plain", "solve_equation", "would have [0-9,]+ weights"),
)
"""(task, format, program, why): a context of several symbols, and sums of many counts, have too many values."""

LETTERS = 5


def random_program(seed: int) -> Program:
    """A program of a few random core operations for task `mode`, whose output is a letter at every position."""

    def program(x: Any) -> Any:
        rng = np.random.default_rng(seed)
        pool = [tok_map(x, _mod(1, 0, 4)), tok_map(x, _mod(1, 1, 3)), indices(x)]
        for _ in range(int(rng.integers(2, 6))):
            pool.append(_operation(rng, [pool[i] for i in rng.integers(len(pool), size=3)]))
        return seq_map(pool[-1], pool[-2], lambda a, b: 1000 + (2 * a + b) % LETTERS)

    return program


def _operation(rng: np.random.Generator, chosen: list[Any]) -> Any:
    first, second, third = chosen
    a, b, c = (int(n) for n in rng.integers(-2, 4, size=3))
    kind = ("tok_map", "seq_map", "sel_width", "aggr", "aggr")[int(rng.integers(5))]
    if kind == "tok_map":
        return tok_map(first, _mod(a, b, int(rng.integers(2, 6))))
    if kind == "seq_map":
        maps = (lambda u, v: (a * u + b * v) % 4 - 1, max, lambda u, v: u > v, lambda u, v: u - v == c)
        return seq_map(first, second, maps[int(rng.integers(4))])
    predicates = (
        lambda k, q: k == q,
        lambda k, q: k < q,
        lambda k, q: k + a >= q,
        lambda k, q: (k + q) % 3 == 0,
        lambda k, q: True,
        lambda k, q: bool(k),
    )
    chooses = select(first, second, predicates[int(rng.integers(6))])
    if kind == "sel_width":
        return sel_width(chooses)
    return aggr(chooses, third, b, ("mean", "max", "min")[int(rng.integers(3))])


def _mod(a: int, b: int, m: int) -> Callable[[int], int]:
    return lambda v: (a * v + b) % m


def equal_pairs(x: Any) -> Any:
    """How often this token after the one before it has been there, with a head that compares both at once."""
    numbers = tok_map(x, lambda token: token - 1000 if token >= 1000 else LETTERS)
    pair = seq_map(numbers, shift_right(numbers, 1, default=-1), lambda now, before: 100 * now + before)
    return tok_map(sel_width(select(pair, pair, equals)), lambda n: 1000 + n % LETTERS)


def truncated_mean(x: Any) -> Any:
    """A mean of negative and positive numbers, truncated toward zero, with a default between them."""
    numbers = tok_map(x, lambda token: token - 1002 if token >= 1000 else 0)
    mean = aggr(select(numbers, numbers, lambda k, q: k <= q), numbers, 1, "mean")
    return tok_map(mean, lambda v: 1002 + v)


def mean_with_default(x: Any) -> Any:
    """A mean over the keys below the query; where there are none, a default that no mean gives."""
    numbers = tok_map(x, lambda token: token - 1002 if token >= 1000 else 0)
    mean = aggr(select(numbers, numbers, lambda k, q: k < q), numbers, 7, "mean")
    return tok_map(mean, lambda v: 1000 + (v + 2) % LETTERS)


def looks_ahead(x: Any) -> Any:
    """Two operations that a causal model cannot do, and one that has too many values."""
    later = sel_width(select(x, x, lambda k, q: k == q, causal=False))
    last = aggr(select(indices(x), indices(x), lambda k, q: k >= q, causal=False), x, 0, "max")
    large = seq_map(indices(x), x, lambda i, token: 10**6 * i + token)
    return seq_map(seq_map(later, last, max), seq_map(large, full(x, 0), max), max)
