"""Kinds, domains of maps, complexity and growth."""

from __future__ import annotations

import numpy as np
import pytest

import genlab.rasp as rasp
from genlab.rasp import equals, full, indices, kqv, num_prev, select, seq_map, sequence, tok_map
from genlab.rasp.analysis import Domain, Reading, Scale, complexity, tokens
from genlab.rasp.analysis.complexity import function_key, largest, shared
from genlab.rasp.lang.domain import COUNT, INDEX
from genlab.rasp.lang.graph import Graph
from genlab.rasp.lang.shapes import map_shape, relation
from genlab.rasp.running import trace

HINT = Scale("hint", 1000)
ON_COUNT, ON_INDEX, ON_HINT = (Domain(scales=frozenset([scale])) for scale in (COUNT, INDEX, HINT))


def shape(func, *domains):
    found = map_shape(func, list(domains), [False] * len(domains))
    return sorted(found.tokens), {scale.kind for scale in found.scales}, bool(found.faults)


class TestMaps:
    @pytest.mark.parametrize(
        ("func", "domains", "gives"),
        [
            (lambda v: v % 3, [tokens(range(9))], ([0, 1, 2], set(), False)),
            (lambda v: v + 1, [ON_COUNT], ([], {"count"}, False)),
            (lambda v: v - 8, [ON_INDEX], ([], {"index"}, False)),
            (lambda v: v + 9, [ON_INDEX], ([], set(), True)),
            (lambda v: v > 0, [ON_COUNT], ([0, 1], set(), False)),
            (lambda v: min(v, 2), [ON_COUNT], ([*range(-8, 3)], set(), False)),
            (lambda v: v if v > 3 else -99, [ON_COUNT], ([-99], {"count"}, False)),
            (lambda v: 2 * v, [ON_COUNT], ([], set(), True)),
            (lambda v: v // 2, [ON_COUNT], ([], set(), True)),
            (lambda v: v - 1000, [ON_HINT], ([], set(), True)),
            (lambda v: v >= 1000, [tokens([0, 7]) | ON_HINT], ([0, 1], set(), False)),
            (lambda a, b: a < b, [ON_COUNT, ON_INDEX], ([0, 1], set(), False)),
            (lambda a, b: a == b + 2, [ON_COUNT, ON_COUNT], ([0, 1], set(), False)),
            (lambda a, b: a - b, [ON_COUNT, ON_COUNT], ([], set(), True)),
            (lambda a, b: np.clip(a - b, 0, 3), [ON_COUNT, ON_COUNT], ([0, 1, 2, 3], set(), False)),
            (lambda a, b: max(a, b), [ON_COUNT, ON_COUNT], ([], {"count"}, False)),
            (lambda a, b: a + b, [ON_INDEX, tokens([0, 1])], ([], {"index"}, False)),
            (lambda a, b: a + b, [ON_INDEX, tokens([0, 50])], ([], {"index"}, True)),
            (lambda a, b: a < b, [ON_HINT, ON_INDEX], ([], set(), True)),
            (lambda a, b: a, [ON_HINT, ON_INDEX], ([], {"hint"}, False)),
            (lambda a, b: 5, [ON_HINT, ON_INDEX], ([5], set(), False)),
            (lambda a, b: [3, 4][b], [tokens([0]), tokens([0, 2])], ([], set(), True)),
        ],
    )
    def test_shapes(self, func, domains, gives):
        assert shape(func, *domains) == gives

    def test_steps_are_counted_as_the_shortest_move(self):
        assert map_shape(lambda v: v - 3, [ON_INDEX], [False]).steps == 3
        assert map_shape(np.minimum, [ON_COUNT, ON_COUNT], [False, False]).steps == 0


class TestRelations:
    @pytest.mark.parametrize(
        ("pred", "key", "query", "constant", "ordered", "single", "fault"),
        [
            (lambda k, q: k == q, COUNT, COUNT, None, False, True, False),
            (lambda k, q: k == q + 3, INDEX, INDEX, None, False, True, False),
            (lambda k, q: k != q, COUNT, COUNT, None, False, False, False),
            (lambda k, q: k <= q, COUNT, INDEX, None, True, False, False),
            (lambda k, q: True, COUNT, COUNT, True, False, False, False),
            (lambda k, q: k == q, COUNT, 3, None, False, True, False),
            (lambda k, q: k >= q, COUNT, 3, None, True, False, False),
            (lambda k, q: k >= q, COUNT, 100, None, False, False, True),
            (lambda k, q: k == q, INDEX, -999, False, False, False, False),
            (lambda k, q: (k - q) % 2 == 0, INDEX, INDEX, None, False, False, True),
            (lambda k, q: k < q, HINT, COUNT, None, False, False, True),
            (lambda k, q: k < q, HINT, HINT, None, True, False, False),
        ],
    )
    def test_what_a_predicate_asks(self, pred, key, query, constant, ordered, single, fault):
        found = relation(pred, key, query, [False, False])
        assert (found.constant, found.ordered, found.single, bool(found.fault)) == (constant, ordered, single, fault)


class TestKinds:
    @pytest.mark.parametrize(
        ("program", "kind"),
        [
            (lambda x: x, "hint"),
            (lambda x: tok_map(x, lambda v: v if v < 1000 else 0), "token"),
            (lambda x: x == 1, "boolean"),
            (indices, "index"),
            (lambda x: num_prev(x, x), "count"),
            (lambda x: rasp.firsts(x, x), "index"),
            (lambda x: rasp.where(x == 1, num_prev(x, x), indices(x)), "count"),
            (lambda x: num_prev(x, x) > 3, "boolean"),
            (lambda x: num_prev(x, x) % 3, "unknown"),
            (lambda x: full(x, 7), "token"),
        ],
    )
    def test_kind_of_the_output(self, program, kind):
        graph = trace(program, [0, 1, 1000])
        reading = Reading(graph, tokens([-3, 0, 1, 5]) | ON_HINT)
        assert graph.output is not None
        assert reading.of(graph.output).kind == kind

    def test_sequences_carry_their_kind(self):
        x = sequence([0, 1, 1000], hints_from=1000)
        made = [x, x == 1, indices(x), num_prev(x, x), rasp.where(x == 1, x, full(x, 0))]
        assert [one.kind for one in made] == ["hint", "boolean", "index", "count", "hint"]
        assert (made[3] * 2).values.tolist() == [[2, 2, 2]]  # a kind stops nothing from running


class TestComplexity:
    def test_equal_operations_are_shared(self):
        def program(x):
            doubled = seq_map(tok_map(x, lambda v: v + 1), tok_map(x, lambda v: v + 1), max)
            return doubled + indices(x) + indices(x)

        sizes = complexity(trace(program, [1, 2, 3]))
        assert sum(sizes.operations.values()) == 7
        assert (sizes.length, sizes.short) == (5, 2)

    def test_depth_and_width(self):
        def program(x):
            one, two = num_prev(x, x), num_prev(x, full(x, 1))
            three = kqv(one, two, x, equals)
            return kqv(three, x, two, equals)

        sizes = complexity(trace(program, [1, 2, 3]))
        assert (sizes.depth, sizes.width) == (3, 2)
        assert sizes.operations == {"full": 1, "select": 4, "sel_width": 2, "aggr": 2}

    def test_one_select_serves_several_aggregates(self):
        def program(x):
            same = select(x, x, equals)
            return rasp.aggr(same, x) + rasp.aggr(same, indices(x), reduction="max")

        assert complexity(trace(program, [1, 2, 3])).operations["select"] == 1

    def test_several_steps_count_as_so_many(self):
        graph = trace(lambda x: rasp.shift_right(x, 3), [1, 2, 3])
        reading = Reading(graph, tokens([1, 2, 3]))
        assert complexity(graph, reading.steps).length == complexity(graph).length + 2

    def test_unused_operations_are_not_counted(self):
        def program(x):
            num_prev(x, x)
            return x + 1

        assert complexity(trace(program, [1, 2, 3])).length == 1

    def test_functions_of_equal_text_and_values_are_equal(self):
        def adding(n):
            return lambda v: v + n

        assert function_key(adding(1)) == function_key(adding(1))
        assert function_key(adding(1)) != function_key(adding(2))
        assert function_key(lambda v: v + 1) != function_key(lambda v: v + 2)
        assert function_key(max) != function_key(min)

    def test_functions_that_capture_functions(self):
        def choosing(sign, step):
            signs = {"+": lambda v: v + step, "-": [lambda v: v - step]}
            return lambda v: signs[sign](v)

        def counting_down(step):
            def down(v):
                return 0 if v < step else down(v - step)

            return down

        assert function_key(choosing("+", 1)) == function_key(choosing("+", 1))
        assert function_key(choosing("+", 1)) != function_key(choosing("+", 2))
        assert function_key(counting_down(1)) == function_key(counting_down(1))
        assert function_key(counting_down(1)) != function_key(counting_down(2))

    def test_shared_numbers(self):
        graph = Graph()
        x = sequence([1, 2, 3], graph)
        first, second, third = x + 1, x + 1, x + 2
        numbers = shared(graph)
        assert numbers[first.node] == numbers[second.node] != numbers[third.node]

    def test_largest_value_by_kind_and_length(self):
        def program(x):
            return tok_map(num_prev(x, x), lambda n: 1 if n > 2 else 0)

        found = []
        for length in (5, 10):
            graph = trace(program, np.ones(length, int), keep=True)
            kinds = {node.id: Reading(graph, tokens([1])).of(node).kind for node in graph.nodes}
            found.append(largest(graph, kinds))
        assert found == [{"count": 5, "boolean": 1}, {"count": 10, "boolean": 1}]
