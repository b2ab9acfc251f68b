"""Small programs that must and that must not pass the rules, and how they are judged."""

from __future__ import annotations

import numpy as np

import genlab.rasp as rasp
from genlab.rasp import aggr, equals, full, geq, index_select, indices, kqv, leq, num_prev, select, seq_map, tok_map
from genlab.rasp.analysis import Scale, tokens, verdicts
from genlab.rasp.lang.domain import Domain
from genlab.rasp.running import trace
from genlab.rasp.tokens import END, SEP

BITS = tokens([SEP, END, 0, 1])
NUMBERS = Domain(frozenset([SEP, END]), frozenset([Scale("hint", 0)]))
HINTED = Domain(frozenset([SEP, END, 0, 1]), frozenset([Scale("hint", 1000)]))


def judged(program, given=BITS, rules="strict", lengths=(2, 5, 9)):
    graphs = [trace(program, np.zeros(length, int)) for length in lengths]
    return verdicts(graphs, given, given.tokens)[rules]


def ones(x):
    return num_prev(x, full(x, 1))


# -- programs that must not pass ---------------------------------------------------------------------------------


def parity_by_modulo(x):
    return tok_map(ones(x), lambda count: count % 2)


def parity_by_operator(x):
    return ones(x) % 2


def parity_by_a_long_table(x):
    return tok_map(ones(x), lambda count: [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1][min(count, 17)])


def parity_by_means_of_counts(x):
    """Half of a count is the mean of the counts so far; twice the half is the count if it is even."""
    half = kqv(x, full(x, 1), ones(x), equals)
    return half == ones(x)


def parity_by_comparing_at_two_places(x):
    """The place whose count is half of this one's."""
    return kqv(ones(x), ones(x), x, lambda k, q: 2 * k == q, reduction="max")


def repeated_copy_by_counts(x):
    """The symbol whose count of symbols before it is the count of symbols written."""
    later = rasp.has_seen(x, full(x, SEP))
    return kqv(rasp.cumsum(later == 0), rasp.cumsum(later), x, equals, reduction="min")


def repeated_copy_by_order_of_counts(x):
    """The same without equality: the last place whose count is not above this one's."""
    later = rasp.has_seen(x, full(x, SEP))
    place = kqv(rasp.cumsum(later == 0), rasp.cumsum(later), indices(x), leq, reduction="max")
    return index_select(x, place)


def repeated_copy_by_index_arithmetic(x):
    return index_select(x, indices(x) - rasp.lasts(x, full(x, SEP)))


def repeated_copy_by_a_count_among_indices(x):
    return kqv(indices(x), ones(x), x, leq, reduction="max")


def forward_addition_by_indices(x):
    return index_select(x, indices(x) - rasp.lasts(x, full(x, SEP)) + rasp.firsts(x, full(x, -4)) + 1)


def published_mode(x):
    return rasp.mode(x)


def half_way(x):
    return index_select(x, indices(x) // 2)


def far_back(x):
    return rasp.shift_right(x, 100)


def looks_ahead(x):
    return aggr(select(x, x, equals, causal=False), x)


def brings_an_array(x):
    return x + np.arange(x.shape[1])


def changes_with_length(x):
    return x + x.shape[1]


def writes_a_count(x):
    return ones(x)


def writes_an_index(x):
    return rasp.firsts(x, x)


def int16(x):
    wide = tok_map(x, lambda token: token * 100)
    return (wide * 3 + x) * 5 + rasp.shift_right(wide, 1)


def raises_on_sep(x):
    return tok_map(x, {0: 1, 1: 0, END: 0}.__getitem__)


def mean_of_indices(x):
    return index_select(x, kqv(x, x, indices(x), equals))


def mean_of_earlier_indices(x):
    """The keys differ, but not one of them alone is met."""
    return index_select(x, kqv(indices(x), indices(x), indices(x), leq))


def extreme_of_another_count(x):
    zeros = num_prev(x, full(x, 0))
    return aggr(select(ones(x), rasp.maximum(zeros), geq), x, reduction="max")


def hint_and_index(x):
    return seq_map(x, indices(x), equals)


def sum_of_hints(x):
    return rasp.where(seq_map(x, x, lambda a, b: a + b) > 2000, full(x, 1), full(x, 0))


# -- programs that must pass -------------------------------------------------------------------------------------


def small_table_of_counts(x):
    return tok_map(ones(x), lambda count: count % 2 if count < 8 else 0)


def saturating_count(x):
    return tok_map(ones(x), lambda count: min(count, 5))


def counts_at_one_place(x):
    return seq_map(ones(x), num_prev(x, full(x, 0)), lambda a, b: a > b + 1)


def index_of_successor(x):
    return index_select(x, rasp.firsts(x, x) + 1)


def count_of_indices(x):
    """An index is a count of positions: all symbols so far are ones."""
    return seq_map(indices(x) + 1, ones(x), equals)


def leader(x):
    votes = num_prev(x, x)
    return aggr(select(votes, rasp.maximum(votes), geq), x, reduction="max")


def next_hint(x):
    return x + 1


def hint_order(x):
    return kqv(x, x, x, lambda k, q: k > q, default=END, reduction="min")


def count_against_a_constant(x):
    return kqv(ones(x), full(x, 3), x, geq, reduction="min")


def unused_mean(x):
    _ = index_select(x, kqv(x, x, indices(x), equals))
    return x
