"""In-context maps: answers by hand, what the four splits hold, every shot trained, solvers against simulation."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.modular_icl import (
    copying,
    looking_up,
    random_vectors,
    ratio_matching,
    rectangular_vectors,
    regression,
    simplest_solver,
)

SMALL = {"p": 5, "tasks": 8, "train_fraction": 0.5}

BY_HAND = [
    # p, prompt, answer; a and b are what the shots tell
    (7, "1 0 3  0 1 6  2 5", "1"),  # 3 * 2 + 6 * 5 = 36
    (7, "1 1 4  2 1 0  1 2", "5"),  # a = 3, b = 1
    (5, "2 3 1  4 1", "2"),  # twice the shot
    (5, "2 3 1  0 0", "0"),  # zero times any
    (5, "3 3 2  3 3", "2"),  # shown
    (5, "1 4 2  1 4 2  2 3", "4"),  # twice the shot, modulo 5
]


def draw(task, split, lengths, seed=0):
    return task.sample(np.random.default_rng(seed), split, lengths)


def triples(task, examples, row):
    """The pairs and the results of one example, its query among them."""
    prompt, answer = task.read(examples, row)
    numbers = [int(token) for token in (*prompt, *answer)]
    return [(tuple(numbers[i : i + 2]), numbers[i + 2]) for i in range(0, len(numbers), 3)]


def fitting(task, shots):
    """All task vectors that give these triples."""
    p = task.params.p
    return {(a, b) for a, b in product(range(p), repeat=2) if all((a * x + b * y) % p == z for (x, y), z in shots)}


def as_set(vectors):
    return {tuple(vector) for vector in vectors.tolist()}


@pytest.mark.parametrize(("p", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(p, prompt, answer):
    assert make("modular-icl", 9, params={"p": p, "tasks": 4}).solve(prompt.split()) == (answer,)


def test_what_the_shots_leave_open_is_answered_by_the_least_number_of_most_votes():
    task = make("modular-icl", 9, params=SMALL)
    assert task.solve(["1", "0"]) == ("0",)
    assert task.solve(["1", "0", "3", "0", "1"]) == ("0",)


@given(
    p=st.sampled_from([5, 7]),
    rule=st.sampled_from(["rectangular", "random"]),
    fraction=st.floats(0.2, 0.8),
    seed=st.integers(0, 3),
)
@settings(max_examples=20, deadline=None)
def test_the_four_splits_hold_what_they_say(p, rule, fraction, seed):
    params = {"p": p, "tasks": 8, "task_rule": rule, "train_fraction": fraction, "division_seed": seed}
    task = make("modular-icl", 12, params=params)
    assert not as_set(task.vectors["train"]) & as_set(task.vectors["unseen"])
    assert not as_set(task.pairs["train"]) & as_set(task.pairs["held-out"])
    assert len(task.vectors["train"]) == 8
    assert len(task.pairs["train"]) == round(fraction * p * p)
    assert len(task.vectors["unseen"]) + 8 == len(task.pairs["train"]) + len(task.pairs["held-out"]) == p * p
    seen = {}
    for name, split in task.splits.items():
        tasks, pairs = as_set(task.vectors[split.shift["tasks"]]), as_set(task.pairs[split.shift["pairs"]])
        examples = draw(task, name, [12] * 16, seed)
        found = [triples(task, examples, row) for row in range(16)]
        assert all(fitting(task, shots) & tasks for shots in found)
        assert all({pair for pair, _ in shots} <= pairs for shots in found)
        seen[name] = (split.shift["tasks"], split.shift["pairs"])
    assert set(seen.values()) == set(product(("train", "unseen"), ("train", "held-out")))
    assert seen["id"] == ("train", "held-out")


@pytest.mark.parametrize("split", ["id", "train", "new-tasks", "new-both"])
def test_answers_follow_from_the_shots_whatever_the_padding(split):
    task = make("modular-icl", 9, params=SMALL)
    examples = draw(task, split, [0, 9, 1, 4, 2] * 50)
    for row in range(len(examples)):
        shots = triples(task, examples, row)
        vectors = fitting(task, shots[:-1])
        (x, y), z = shots[-1]
        possible = {(a * x + b * y) % 5 for a, b in vectors}
        assert z in possible
        if len(possible) == 1:
            assert task.solve(task.read(examples, row)[0]) == (str(z),)
        assert len(shots) == examples.lengths[row] + 1


def test_every_z_is_trained_and_the_last_one_scored():
    task = make("modular-icl", 4, params=SMALL)
    examples = draw(task, "id", [1, 4])
    assert np.flatnonzero(examples.trained[0]).tolist() == [1, 4]
    assert np.flatnonzero(examples.trained[1]).tolist() == [1, 4, 7, 10, 13]
    assert np.flatnonzero(examples.scored[0]).tolist() == [4]
    assert np.flatnonzero(examples.scored[1]).tolist() == [13]
    assert (examples.targets[0, 5:] == task.vocab.pad).all()


def test_a_batch_holds_every_task_equally_often():
    task = make("modular-icl", 30, params=SMALL | {"tasks": 12})
    examples = draw(task, "train", [30] * 28)
    counts = Counter(frozenset(fitting(task, triples(task, examples, row))) for row in range(28))
    assert all(len(vectors) == 1 for vectors in counts)
    assert sorted(counts.values()) == [2] * 8 + [3] * 4


@pytest.mark.parametrize("p", [5, 7, 11])
def test_rectangles_close(p):
    chosen = rectangular_vectors(np.random.default_rng(p), p, 8)
    assert chosen.sum() == 8
    corners = {tuple(v) for v in np.argwhere(chosen).tolist()}
    in_a_rectangle = {
        v
        for (a, b), (x, y) in product(corners, repeat=2)
        if x not in (a, b) and y not in (a, b, x) and {(a, y), (x, b)} <= corners
        for v in ((a, b), (a, y), (x, b), (x, y))
    }
    assert in_a_rectangle == corners


def test_random_vectors_are_any():
    chosen = [random_vectors(np.random.default_rng(seed), 5, 7) for seed in range(400)]
    assert {int(c.sum()) for c in chosen} == {7}
    assert np.mean(chosen, axis=0) == pytest.approx(np.full((5, 5), 7 / 25), abs=0.1)


def solvers_by_definition(shots, query, p):
    """Whether copying, ratio matching, and regression know the answer, by trying every number and vector."""
    copied = query in shots
    matched = query == (0, 0) or any(query == (c * x % p, c * y % p) for c in range(p) for x, y in shots)
    null = [(a, b) for a, b in product(range(p), repeat=2) if all((a * x + b * y) % p == 0 for x, y in shots)]
    solved = all((a * query[0] + b * query[1]) % p == 0 for a, b in null)
    return copied, matched, solved


@pytest.mark.parametrize("shots", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "pairs", [[(1, 0), (2, 0), (0, 1)], [(0, 0), (1, 1), (2, 2), (1, 2)], [(1, 2), (2, 1), (0, 2)]]
)
def test_solvers_of_every_context(pairs, shots):
    p, known = 3, np.zeros(3)
    for *context, query in product(pairs, repeat=shots + 1):
        known += solvers_by_definition(context, query, p)
    known /= len(pairs) ** (shots + 1)
    table = np.array(pairs)
    found = [solver(table, p, shots) for solver in (copying, ratio_matching, regression)]
    assert found == pytest.approx(known + (1 - known) / p)


@pytest.mark.parametrize("split", ["id", "new-tasks"])
def test_factor_names_the_simplest_solver(split):
    task = make("modular-icl", 5, params=SMALL)
    examples = draw(task, split, [0, 5, 1, 2, 3] * 60)
    named = task.factors(examples)["solver"]
    for row in range(len(examples)):
        *shots, query = (pair for pair, _ in triples(task, examples, row))
        knows = solvers_by_definition(shots, query, 5)
        assert named[row] == next((i for i, known in enumerate(knows, start=1) if known), 0)
    assert set(named.tolist()) == {0, 1, 2, 3}


def test_baselines_agree_with_the_factor():
    task = make("modular-icl", 3, params=SMALL)
    for shots in range(4):
        named = task.factors(draw(task, "id", [shots] * 20_000))["solver"]
        shares = np.bincount(named, minlength=4) / 20_000
        scores = task.baseline(shots)
        for name, known in (("ratio matching", shares[1:3].sum()), ("full regression", shares[1:].sum())):
            assert scores[name] == pytest.approx(known + (1 - known) / 5, abs=0.02)


def test_lookup_of_the_tasks_by_definition():
    vectors, pairs, p = np.array([(1, 0), (0, 1), (1, 1), (2, 0)]), [(0, 1), (1, 1), (2, 0)], 3
    found = looking_up(vectors, np.array(pairs), p, 2)
    for shots in range(3):
        right = 0.0
        for (a, b), context in product(vectors.tolist(), product(pairs, repeat=shots + 1)):
            *shown, (x, y) = context
            fit = [
                (c, d) for c, d in vectors.tolist() if all((c * u + d * v - a * u - b * v) % p == 0 for u, v in shown)
            ]
            votes = Counter((c * x + d * y) % p for c, d in fit)
            best = max(votes.values())
            right += (votes[(a * x + b * y) % p] == best) / list(votes.values()).count(best)
        assert found[shots] == pytest.approx(right / 4 / 3 ** (shots + 1), abs=0.02)


def test_solvers_come_closer_with_every_shot_and_never_beyond_one():
    task = make("modular-icl", 12, params={"p": 7, "tasks": 16})
    scores = [task.baseline(shots) for shots in range(13)]
    for name in ("query already shown", "ratio matching", "full regression"):
        values = [s[name] for s in scores]
        assert values == sorted(values)
        assert values[-1] <= 1
    assert all(s["query already shown"] <= s["ratio matching"] <= s["full regression"] for s in scores)
    assert scores[12]["full regression"] > 0.99


def test_chance_is_the_collision_of_two_answers():
    task = make("modular-icl", 4, params=SMALL)
    answers = [
        (a * x + b * y) % 5 for a, b in task.vectors["train"].tolist() for x, y in task.pairs["held-out"].tolist()
    ]
    assert math.isclose(task.chance(2), sum((c / len(answers)) ** 2 for c in Counter(answers).values()))


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"p": 27}, "needs a prime p, not 27; nearest prime: 29"),
        ({"p": 5, "tasks": 6}, "a multiple of 4 tasks, not 6; nearest: 8"),
        ({"p": 5, "tasks": 24}, "could only fit .* not 24"),
        ({"p": 5, "tasks": 25, "task_rule": "random"}, "allowed are 1 to 24"),
        ({"p": 5, "tasks": 8, "train_fraction": 0.01}, "allowed are 1 to 24"),
    ],
)
def test_faults_are_named(params, says):
    with pytest.raises(UserError, match=says):
        make("modular-icl", 4, params=params)


def test_no_solver_where_all_is_zero():
    zero = np.zeros((1, 1, 2), np.int64)
    assert simplest_solver(zero, np.ones((1, 1), bool), np.array([[1, 2]]), 5).tolist() == [0]
