"""Retrieval: the largest item, the value of a key, the number after a needle. By hand and by split."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.drawing import expected_mode


def pairs_of(words):
    return list(zip(words[::2], words[1::2], strict=True))


def prompts(task, split, lengths, seed=2):
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    return [task.read(examples, row) for row in range(len(examples))]


# -- max-retrieval -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "answer"), [("9 a >", "a"), ("9 a 10 b >", "b"), ("63 j 0 a 62 a >", "j")])
def test_max_retrieval_by_hand(prompt, answer):
    assert make("max-retrieval", 8).solve(prompt.split()) == (answer,)


def test_real_valued_items_are_a_priority_and_a_one_hot_class():
    task = make("max-retrieval", 9, "values")
    lengths = np.array([9, 1, 4] * 50)
    examples = task.sample(np.random.default_rng(0), "id", lengths)
    assert examples.values is not None
    assert examples.values.shape == (*examples.tokens.shape, 11)
    for row, length in enumerate(lengths):
        items, query, rest = np.split(examples.values[row], [length, length + 1])
        assert ((items[:, 0] >= 0) & (items[:, 0] < 1)).all()
        assert (np.sort(items[:, 1:], axis=1) == [0] * 9 + [1]).all()
        assert query[0, 0] > 0
        assert not query[0, 1:].any()
        assert not rest.any()
        answer = "abcdefghij"[items[items[:, 0].argmax(), 1:].argmax()]
        assert task.read(examples, row) == (("*",) * length + (">",), (answer,))
        assert task.solve_example(examples, row) == (answer,)


def test_priorities_and_classes_of_real_valued_items_are_uniform():
    values = make("max-retrieval", 3, "values").sample(np.random.default_rng(0), "id", [3] * 2000).values
    assert values is not None
    assert stats.kstest(values[:, :3, 0].ravel(), "uniform").pvalue > 1e-4
    assert stats.kstest(values[:, 3, 0], "uniform").pvalue > 1e-4
    assert stats.chisquare(values[:, :3, 1:].sum(axis=(0, 1))).pvalue > 1e-4


def test_the_text_solver_says_why_it_cannot_read_real_values():
    with pytest.raises(UserError, match="use solve_example"):
        make("max-retrieval", 4, "values").solve(["*", ">"])


@pytest.mark.parametrize("format", ["tokens", "values"])
@pytest.mark.parametrize("split", ["id", "low", "near-tie", "decoys"])
def test_splits_of_max_retrieval(format, split):
    task = make("max-retrieval", 12, format)
    examples = task.sample(np.random.default_rng(4), split, [12, 2, 7] * 60)
    for row in range(len(examples)):
        if examples.values is None:
            items = [(int(p), c) for p, c in pairs_of(task.read(examples, row)[0][:-1])]
        else:
            items = [(p, str(one_hot)) for p, *one_hot in examples.values[row, : examples.lengths[row]].tolist()]
        ranked = sorted(items, reverse=True)
        assert ranked[0][0] > ranked[1][0]  # one largest item
        top = 64 if format == "tokens" else 1
        if split == "low":
            assert ranked[0][0] < top / 2
        if split == "near-tie":
            assert ranked[1][0] >= (ranked[0][0] - 1 if format == "tokens" else ranked[0][0] * 0.9899)
        if split == "decoys":
            assert {c for _, c in ranked[1:]} != {ranked[0][1]}
            assert len({c for _, c in ranked[1:]}) == 1


def test_the_largest_priority_follows_the_law_of_uniform_items_without_ties():
    task = make("max-retrieval", 3, params={"priorities": 8})
    largest = [max(int(p) for p, _ in pairs_of(prompt[:-1])) for prompt, _ in prompts(task, "id", [3] * 4000)]
    counts = np.bincount(largest, minlength=8)
    ways = np.zeros(8)
    for items in product(range(8), repeat=3):
        ways[max(items)] += items.count(max(items)) == 1
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], 4000 * ways[1:] / ways.sum()).pvalue > 1e-4


def test_priorities_have_to_fit_the_items():
    assert make("max-retrieval", 100).params.priorities == 200
    with pytest.raises(UserError, match="priorities 50 is too small for the largest of 100 items"):
        make("max-retrieval", 100, params={"priorities": 50})
    with pytest.raises(UserError, match="an option of format 'tokens'"):
        make("max-retrieval", 100, "values", {"priorities": 500})


@pytest.mark.parametrize(("n", "values"), [(1, 3), (2, 2), (4, 3), (5, 2), (6, 1), (7, 4)])
def test_expected_mode_counts_all_draws(n, values):
    modes = [max(map(draw.count, draw)) for draw in product(range(values), repeat=n)]
    assert expected_mode(n, values) == pytest.approx(np.mean(modes))


def test_the_most_common_class_scores_its_baseline():
    task = make("max-retrieval", 16)
    drawn = prompts(task, "id", [16] * 4000)
    hits = 0
    for prompt, answer in drawn:
        classes = list(prompt[1:-1:2])
        hits += answer[0] == max(classes, key=classes.count)
    assert hits / len(drawn) == pytest.approx(task.baseline(16)["the most common class"], abs=0.03)
    assert task.baseline(16384)["the most common class"] == pytest.approx(
        0.1 + 1.54 * (0.09 / 16384) ** 0.5, abs=1e-3
    )


# -- associative recall ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "prompt", "answer"),
    [
        ("in-place", "a 1 b 2 c 3 ? b 2 b 2 a", "1"),
        ("in-place", "a 1 ? a", "1"),
        ("one-query", "a 1 b 2 c 1 ? b >", "2"),
        ("every-query", "a 1 b 2 c 3 ? b c a >", "2 3 1"),
    ],
)
def test_recall_by_hand(format, prompt, answer):
    assert make("associative-recall", 5, format).solve(prompt.split()) == tuple(answer.split())


@pytest.mark.parametrize("format", ["one-query", "every-query"])
@pytest.mark.parametrize("split", ["id", "in-order", "backwards", "skewed-keys", "few-values"])
def test_splits_of_recall(format, split):
    lengths = [9, 1, 4] * 40
    for (prompt, answer), length in zip(
        prompts(make("associative-recall", 9, format), split, lengths), lengths, strict=True
    ):
        keys, values = zip(*pairs_of(prompt[: 2 * length]), strict=True)
        asked = prompt[2 * length + 1 : -1]
        assert len(set(keys)) == length
        assert prompt[2 * length] == "?"
        assert answer == tuple(values[keys.index(key)] for key in asked)
        assert len(asked) == (length if format == "every-query" else 1)
        assert len(set(asked)) == len(asked)
        if split == "in-order":
            assert asked == keys[: len(asked)]
        if split == "backwards":
            assert asked == keys[::-1][: len(asked)]
        if split == "few-values":
            assert set(values) <= {"0", "1"}


def test_queries_keys_and_values_are_uniform():
    task = make("associative-recall", 4, "one-query")
    drawn = prompts(task, "id", [4] * 3000)
    place = np.bincount([prompt.index(prompt[-2]) // 2 for prompt, _ in drawn], minlength=4)
    key = np.unique([prompt[0] for prompt, _ in drawn], return_counts=True)[1]
    value = np.unique([prompt[1] for prompt, _ in drawn], return_counts=True)[1]
    assert len(key) == 26
    assert len(value) == 10
    for counts in (place, key, value):
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("split", ["id", "in-order", "backwards", "skewed-keys", "few-values"])
def test_recall_in_place_trains_at_every_value_and_scores_the_last(split):
    task, lengths = make("associative-recall", 9), np.array([9, 1, 4] * 40)
    examples = task.sample(np.random.default_rng(0), split, lengths)
    assert examples.trained is not None
    asked_at = np.zeros((9, 9))
    for row, length in enumerate(lengths.tolist()):
        prompt, answer = task.read(examples, row)
        keys, values = zip(*pairs_of(prompt[: 2 * length]), strict=True)
        asked = (*prompt[2 * length + 1 :: 2],)
        said = [values[keys.index(key)] for key in asked]
        assert prompt[2 * length] == "?"
        assert len(asked) == length
        assert (*prompt[2 * length + 2 :: 2], *answer) == tuple(said)
        trained = examples.targets[row][examples.trained[row]]
        assert [task.vocab.tokens[token] for token in trained] == said
        assert examples.scored[row].sum() == 1
        if split == "in-order":
            assert asked == keys
        if split == "backwards":
            assert asked == keys[::-1]
        if split == "id" and length == 9:
            asked_at[np.arange(9), [keys.index(key) for key in asked]] += 1
    if split == "id":  # each time any of the pairs, so that the last one does not follow from the others
        assert (asked_at > 0).sum() > 9 * 9 * 0.9
        assert stats.chisquare(asked_at.sum(0)).pvalue > 1e-4


def test_skewed_keys_are_drawn_by_weight():
    first = [
        prompt[0] for prompt, _ in prompts(make("associative-recall", 4, "one-query"), "skewed-keys", [4] * 4000)
    ]
    weights = 1 / (np.arange(1, 27) + 2.7)
    counts = [first.count(key) for key in "abcdefghijklmnopqrstuvwxyz"]
    assert stats.chisquare(counts, 4000 * weights / weights.sum()).pvalue > 1e-4


def test_orders_of_all_queries_are_equally_likely():
    drawn = prompts(make("associative-recall", 3, "every-query"), "id", [3] * 3000)
    orders = [tuple(prompt[:6:2].index(key) for key in prompt[7:-1]) for prompt, _ in drawn]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4


def test_too_few_keys_are_refused():
    with pytest.raises(UserError, match="needs at least 40 symbols"):
        make("associative-recall", 40, params={"keys": 30})
    assert make("associative-recall", 40).params.keys == 40


# -- needle ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "answer"), [("a 5 ? a >", "5"), ("5 b 7 a 0 ? b >", "7")])
def test_needle_by_hand(prompt, answer):
    assert make("needle", 5).solve(prompt.split()) == (answer,)


@pytest.mark.parametrize("split", ["id", "start", "middle", "end", "distractors", "few-numbers"])
def test_splits_of_the_needle(split):
    lengths = [8, 21, 12] * 40
    for (prompt, answer), length in zip(prompts(make("needle", 21), split, lengths), lengths, strict=True):
        text, asked = prompt[:length], prompt[-2]
        keys = [i for i, token in enumerate(text) if not token.isdigit()]
        assert prompt[length:] == ("?", asked, ">")
        assert len({text[i] for i in keys}) == len(keys) == (4 if split == "distractors" else 1)
        assert all(text[i + 1].isdigit() for i in keys)
        assert answer == (text[text.index(asked) + 1],)
        where = {"start": 0, "middle": (length - 2) // 2, "end": length - 2}
        if split in where:
            assert abs(keys[0] - where[split]) <= (split == "middle")
        if split == "few-numbers":
            assert set(text) - {asked} <= {"0", "1"}


def test_needles_are_anywhere_alike():
    drawn = prompts(make("needle", 6), "id", [6] * 3000)
    places = np.bincount([prompt.index(prompt[-2]) for prompt, _ in drawn], minlength=5)
    assert stats.chisquare(places).pvalue > 1e-4


def test_only_distractors_tell_the_rules_of_the_needle_apart():
    task = make("needle", 20)
    for split, told_apart in (("id", False), ("distractors", True)):
        answers = [task.rules(prompt) for prompt, _ in prompts(task, split, [20] * 100)]
        assert any(len(set(said.values())) > 1 for said in answers) == told_apart
    prompt = ["a", "1", "b", "2", "c", "3", "d", "4", "?", "b", ">"]
    assert task.rules(prompt)["after the last key"] == ("4",)
    assert task.rules(prompt)["after the asked key"] == ("2",)


# -- for all of them -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([("max-retrieval", "tokens"), ("associative-recall", "one-query"), ("needle", "text")]),
    st.integers(0, 2**32),
    st.lists(st.integers(2, 15), min_size=1, max_size=6),
)
def test_answers_do_not_depend_on_the_padding(task_and_format, seed, lengths):
    """A row's text is `prompt answer <end>` and pads, whatever else is in the batch, and it solves."""
    name, format = task_and_format
    task = make(name, 15, format)
    examples = task.sample(np.random.default_rng(seed), "id", lengths)
    for row, length in enumerate(lengths):
        prompt, answer = task.read(examples, row)
        assert len(prompt) + len(answer) + 1 == task.width(length)
        assert task.solve(prompt) == answer
        assert (examples.targets[row, task.width(length) - 1 :] == 0).all()
