"""Legality: programs that must and must not pass, and what one illegal operation does to a legal program."""

from __future__ import annotations

import numpy as np
import pytest
from rule_cases import (
    BITS,
    HINTED,
    NUMBERS,
    brings_an_array,
    changes_with_length,
    count_against_a_constant,
    count_of_indices,
    counts_at_one_place,
    extreme_of_another_count,
    far_back,
    forward_addition_by_indices,
    half_way,
    hint_and_index,
    hint_order,
    index_of_successor,
    int16,
    judged,
    leader,
    looks_ahead,
    mean_of_earlier_indices,
    mean_of_indices,
    next_hint,
    ones,
    parity_by_a_long_table,
    parity_by_comparing_at_two_places,
    parity_by_means_of_counts,
    parity_by_modulo,
    parity_by_operator,
    published_mode,
    raises_on_sep,
    repeated_copy_by_a_count_among_indices,
    repeated_copy_by_counts,
    repeated_copy_by_index_arithmetic,
    repeated_copy_by_order_of_counts,
    saturating_count,
    small_table_of_counts,
    sum_of_hints,
    unused_mean,
    writes_a_count,
    writes_an_index,
)

import genlab.rasp as rasp
from genlab.rasp import equals, full, index_select, indices, kqv, leq, num_prev, seq_map, tok_map
from genlab.rasp.analysis import RULE_SETS, Reading, tokens
from genlab.rasp.checker import tokens_of
from genlab.rasp.programs.registry import PROGRAMS, bind
from genlab.rasp.running import trace
from genlab.rasp.tokens import END, SEP
from genlab.tasks import make

MUST_FAIL = {
    parity_by_modulo: (BITS, ["scales"]),
    parity_by_operator: (BITS, ["scales"]),
    parity_by_a_long_table: (BITS, ["scales"]),
    parity_by_means_of_counts: (BITS, ["mean"]),
    parity_by_comparing_at_two_places: (BITS, ["scales"]),
    repeated_copy_by_counts: (BITS, ["count-select"]),
    repeated_copy_by_order_of_counts: (BITS, ["count-order"]),
    repeated_copy_by_index_arithmetic: (BITS, ["scales"]),
    repeated_copy_by_a_count_among_indices: (BITS, ["count-order"]),
    forward_addition_by_indices: (BITS, ["scales"]),
    published_mode: (BITS, ["count-select"]),
    half_way: (BITS, ["scales"]),
    far_back: (BITS, ["scales"]),
    looks_ahead: (BITS, ["causal"]),
    brings_an_array: (BITS, ["closed"]),
    changes_with_length: (BITS, ["same-graph"]),
    writes_a_count: (BITS, ["output"]),
    writes_an_index: (BITS, ["output"]),
    int16: (tokens(range(20)), ["int8"]),
    raises_on_sep: (BITS, ["table"]),
    mean_of_indices: (BITS, ["mean"]),
    mean_of_earlier_indices: (BITS, ["mean"]),
    extreme_of_another_count: (BITS, ["count-order"]),
    hint_and_index: (NUMBERS, ["scales"]),
    sum_of_hints: (HINTED, ["scales"]),
}


@pytest.mark.parametrize("program", MUST_FAIL, ids=lambda program: program.__name__)
def test_must_not_pass(program):
    given, broken = MUST_FAIL[program]
    verdict = judged(program, given)
    assert list(verdict.broken) == broken
    assert not verdict.legal
    assert all(str(fault).startswith(f"{broken[0]}: rule_cases.py:") for fault in verdict.faults)


def test_all_reasons_are_given():
    def twice_wrong(x):
        parity = ones(x) % 2
        return index_select(parity, indices(x) // 2)

    assert [fault.node.label for fault in judged(twice_wrong).faults] == ["tok_map % 2", "tok_map // 2"]
    assert judged(twice_wrong).broken == ("scales",)


MUST_PASS = {
    small_table_of_counts: BITS,
    saturating_count: BITS,
    counts_at_one_place: BITS,
    index_of_successor: BITS,
    count_of_indices: BITS,
    leader: BITS,
    next_hint: NUMBERS,
    hint_order: HINTED,
    count_against_a_constant: BITS,
    unused_mean: BITS,
}


@pytest.mark.parametrize("program", MUST_PASS, ids=lambda program: program.__name__)
def test_must_pass(program):
    assert judged(program, MUST_PASS[program]).faults == ()


# -- C-RASP ------------------------------------------------------------------------------------------------------

C_RASP = {
    "majority": (lambda x: 2 * ones(x) > indices(x) + 1, [], set()),
    "a linear sum": (lambda x: 3 * ones(x) - 2 * num_prev(x, full(x, 0)) + 5 > 0, [], set()),
    "a conditional sum": (lambda x: rasp.where(x == 1, ones(x), 0 - ones(x)) > 3, [], set()),
    "a symbol of the alphabet": (lambda x: kqv(x, x, x, lambda k, q: k > q, reduction="min"), [], set()),
    "the symbol before": (lambda x: rasp.shift_right(x, 1), [], {"local"}),
    "all that is not near": (lambda x: kqv(indices(x), indices(x) - 2, x, leq, reduction="max"), [], {"local"}),
    "every third place": (lambda x: indices(x) % 3, [], {"periodic"}),
    "a period that is long": (lambda x: indices(x) % 19, ["linear"], set()),
    "parity": (parity_by_modulo, ["linear"], set()),
    "a product of counts": (lambda x: seq_map(ones(x), ones(x), lambda a, b: a * b) > 4, ["linear"], set()),
    "the place of a count": (repeated_copy_by_counts, ["count-select"], set()),
    "equal distances modulo 2": (
        lambda x: kqv(indices(x), indices(x), x, lambda k, q: (q - k) % 2 == 0),
        ["local"],
        set(),
    ),
    "a maximum of counts": (lambda x: rasp.maximum(ones(x)) > 3, ["counted-value"], set()),
    "a table without what lies between": (
        lambda x: tok_map(kqv(x, x, x, leq), {SEP: 0, END: 0, 0: 1, 1: 1}.__getitem__),
        ["linear"],
        set(),
    ),
    "a count as answer": (writes_a_count, ["finite-output"], set()),
    "what comes later": (looks_ahead, ["causal"], set()),
}


@pytest.mark.parametrize("name", C_RASP)
def test_c_rasp(name):
    program, broken, uses = C_RASP[name]
    verdict = judged(program, rules="c-rasp")
    assert (list(verdict.broken), set(verdict.uses)) == (broken, uses)


# -- one illegal operation ---------------------------------------------------------------------------------------

ILLEGAL = {
    "scales": lambda x: tok_map(ones(x), lambda count: count % 3),
    "count-select": lambda x: kqv(ones(x), ones(x), x, equals),
    "count-order": lambda x: kqv(ones(x), ones(x), x, leq),
    "mean": lambda x: index_select(x, kqv(x, x, indices(x), equals)),
    "causal": looks_ahead,
    "closed": brings_an_array,
    "int8": lambda x: sum((rasp.shift_right(x == SEP, i) * 2**i for i in range(1, 10)), start=full(x, 0)),
    "same-graph": changes_with_length,
    "output": ones,
}


STRICT = [entry for entry in PROGRAMS if entry.rules == "strict"]


@pytest.mark.parametrize("entry", PROGRAMS, ids=lambda e: f"{e.task}-{e.format}-{e.name}")
def test_every_program_is_the_same_at_all_lengths(entry):
    task = make(entry.task, 12, entry.format)
    verdict = judged(bind(entry.program, task.params.model_dump()), tokens_of(task).domain)
    assert "same-graph" not in verdict.broken


@pytest.mark.parametrize("rule", ILLEGAL)
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(e, id=f"{e.task}-{e.format}", marks=[] if i % 4 == 0 else pytest.mark.slow)
        for i, e in enumerate(STRICT)
    ],
)
def test_one_illegal_operation_flips_the_verdict(entry, rule):
    task = make(entry.task, 12, entry.format)
    given, program = tokens_of(task).domain, bind(entry.program, task.params.model_dump())

    def spoiled(x):
        return seq_map(program(x), ILLEGAL[rule](x), lambda right, wrong: right if wrong != 1 else wrong)

    if rule == "output":
        spoiled = lambda x: rasp.where(x == SEP, ones(x), program(x))  # noqa: E731

    assert judged(program, given).faults == ()
    assert rule in judged(spoiled, given).broken


@pytest.mark.parametrize("entry", PROGRAMS[:8], ids=lambda e: f"{e.task}-{e.format}")
def test_a_verdict_does_not_depend_on_the_values_of_the_run(entry):
    program = bind(entry.program, {})
    given = HINTED
    graphs = [trace(program, np.full(6, value)) for value in (0, 7, 1003, SEP)]
    said = [[str(fault) for fault in Reading(graph, given).faults] for graph in graphs]
    assert said[0] == said[1] == said[2] == said[3]


def test_every_rule_is_named_with_its_source():
    for rules in RULE_SETS.values():
        assert len({rule.name for rule in rules}) == len(rules)
        assert all(rule.source for rule in rules)
    broken = {name for _, names in MUST_FAIL.values() for name in names}
    assert broken == {rule.name for rule in RULE_SETS["strict"]}
    crasp = {name for _, names, _ in C_RASP.values() for name in names}
    assert crasp | {"closed", "same-graph", "finite"} == {rule.name for rule in RULE_SETS["c-rasp"]}
