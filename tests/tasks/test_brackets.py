"""Brackets: rules by hand, and the exact law of every kind of word."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import Vocab, make, words
from genlab.tasks.brackets import nested_fraction

BY_HAND = [
    # string, NESTED, EQUAL-COUNT, FIRST-SYMBOL
    ("()", True, True, True),
    ("(()())", True, True, True),
    (")(", False, True, False),
    ("())(", False, True, True),
    ("((", False, False, True),
    ("))))", False, False, False),
]


def prompt(string):
    return ["<start>", *string, ">"]


@pytest.mark.parametrize(("string", "nested", "equal", "first"), BY_HAND)
def test_rules_by_hand(string, nested, equal, first):
    task = make("brackets", 8)
    assert task.solve(prompt(string)) == (str(nested),)
    said = {"NESTED": (str(nested),), "EQUAL-COUNT": (str(equal),), "FIRST-SYMBOL": (str(first),)}
    assert task.rules(prompt(string)) == said


@pytest.mark.parametrize(("string", "nested", "equal", "first"), BY_HAND)
def test_labels_by_counts(string, nested, equal, first):
    task = make("brackets", 8, params={"rule": "equal-count"})
    assert task.solve(prompt(string)) == (str(equal),)
    assert task.rules(prompt(string))["NESTED"] == (str(nested),)


def test_the_two_rules_have_the_same_examples_where_they_agree():
    by_depth, by_counts = (make("brackets", 40, params={"rule": rule}) for rule in ("nested", "equal-count"))
    for split, same in (("id", True), ("deeper", True), ("matched-unnested", False)):
        one, other = (t.sample(np.random.default_rng(0), split, [20] * 50) for t in (by_depth, by_counts))
        assert (one.tokens == other.tokens)[:, :-1].all()
        assert (one.targets == other.targets).all() == same
        for task, drawn in ((by_depth, one), (by_counts, other)):
            assert [task.read(drawn, i)[1] for i in range(50)] == [task.solve_example(drawn, i) for i in range(50)]
            nested = [is_nested("".join(task.read(drawn, i)[0][1:-1])) for i in range(50)]
            assert task.factors(drawn)["nested"].tolist() == nested


def test_runs_from_before_there_was_a_rule_keep_their_spec():
    old = {"redraw": "any-length"}
    assert make("brackets", 40, params={"rule": "nested", **old}).spec.params == {}
    assert make("brackets", 40, params={"rule": "equal-count", **old}).spec.params == {"rule": "equal-count"}


def test_the_published_format_ends_at_the_label_and_is_else_the_same():
    """The label stands where it is read at the published models' `<end>`, of 42 positions for 40 brackets."""
    plain, published = (make("brackets", 40, format) for format in ("plain", "published"))
    one, other = (task.sample(np.random.default_rng(0), "id", [20, 40] * 50) for task in (plain, published))
    assert published.n_ctx == 42
    assert [published.read(other, i) for i in range(100)] == [plain.read(one, i) for i in range(100)]
    assert (other.scored.sum(axis=1) == 1).all()
    assert (other.targets[other.scored] == one.targets[one.scored].reshape(-1, 2)[:, 0]).all()
    assert not (other.targets == Vocab.end).any()


def test_what_each_rule_answers():
    task = make("brackets", 8)
    no, yes = ("False",), ("True",)
    assert task.rules(prompt(")(")) == {"NESTED": no, "EQUAL-COUNT": yes, "FIRST-SYMBOL": no}
    assert set(task.rules(prompt("()")).values()) == {yes}


def drawn(split, lengths, seed=0, max_len=60):
    """Strings and labels."""
    task = make("brackets", max_len)
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    read = [task.read(examples, row) for row in range(len(examples))]
    return ["".join(prompt[1:-1]) for prompt, _ in read], [answer == ("True",) for _, answer in read]


def is_nested(string):
    while "()" in string:
        string = string.replace("()", "")
    return not string


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(make("brackets", 60).splits)), st.lists(st.integers(21, 30), min_size=1, max_size=6),
       st.integers(0, 2**32))  # fmt: skip
def test_labels_are_true_at_mixed_lengths(split, halves, seed):
    lengths = [2 * half for half in halves]
    strings, labels = drawn(split, lengths, seed)
    assert [len(s) for s in strings] == lengths
    assert [is_nested(s) for s in strings] == labels


@pytest.mark.parametrize("length", [4, 8, 20])
def test_what_the_first_symbol_is_worth_without_nesting(length):
    """Half of all equal counts open first, and of those only that are nested are left out: one in length / 2 + 1."""
    strings, _ = drawn("matched-unnested", [length] * 3000)
    closing = sum(s[0] == ")" for s in strings)
    assert stats.binomtest(closing, 3000, (length / 2 + 1) / length).pvalue > 1e-3


def test_what_each_split_holds():
    for split, equal, first in [("matched-unnested", True, "()"), ("first-symbol", True, "("), ("id", False, "()")]:
        strings, labels = drawn(split, [4, 6, 12] * 60)
        others = [s for s, nested in zip(strings, labels, strict=True) if not nested]
        assert {s.count("(") == s.count(")") for s in others} == {equal}
        assert {s[0] for s in others} == set(first)
        assert (len(others) == len(strings)) == (split != "id")
    strings, labels = drawn("deeper", [18, 24] * 60)
    whole = [s for s, nested in zip(strings, labels, strict=True) if nested]
    assert all(s.startswith("(" * 8) and s.endswith(")" * 8) for s in whole)
    assert {abs(s.count("(") - s.count(")")) for s, nested in zip(strings, labels, strict=True) if not nested} == {2}
    assert {s.startswith("(" * 8) for s, nested in zip(strings, labels, strict=True) if not nested} == {True, False}


@pytest.mark.parametrize(
    ("split", "nested", "allowed"),
    [
        ("length-matched", True, lambda s: is_nested(s)),
        ("length-matched", False, lambda s: s.count("(") != 4),
        ("matched-unnested", False, lambda s: s.count("(") == 4 and not is_nested(s)),
        ("first-symbol", False, lambda s: s.count("(") == 4 and not is_nested(s) and s[0] == "("),
    ],
)
def test_strings_of_a_label_are_uniform(split, nested, allowed):
    """Among mixed lengths, so that the lengths do not disturb each other."""
    words = ["".join(w) for w in product("()", repeat=8) if allowed("".join(w))]
    strings, labels = drawn(split, [8, 12] * 40 * len(words), seed=3)
    found = Counter(s for s, label in zip(strings[::2], labels[::2], strict=True) if label == nested)
    assert set(found) <= set(words)
    assert stats.chisquare([found[w] for w in words]).pvalue > 1e-3


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_a_nested_word_stays_nested_when_wrapped(pairs, seed):
    rng = np.random.default_rng(seed)
    lengths = np.array([2 * pairs, 2])
    inner = words.nested(rng, lengths)
    for row, length in zip(inner, lengths, strict=True):
        string = "".join("(" if opens else ")" for opens in row[:length])
        assert make("brackets", 30).solve(prompt(string)) == ("True",)
        assert make("brackets", 30).solve(prompt(f"({string})")) == ("True",)
    wrapped = words.wrapped(rng, lengths + 6, 3)
    assert words.is_nested(wrapped, lengths + 6).all()
    assert (words.heights(wrapped[:1])[0, 2 : 2 * pairs + 3] >= 3).all()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_partners_are_the_brackets_of_a_pair(pairs, seed):
    lengths = np.array([2 * pairs, 6])
    opens = words.nested(np.random.default_rng(seed), lengths)
    for row, length, places in zip(opens, lengths, words.partners(opens, lengths), strict=True):
        waiting, expected = [], set()
        for place in range(length):
            if row[place]:
                waiting.append(place)
            else:
                expected.add((waiting.pop(), place))
        assert set(zip(places[:length:2].tolist(), places[1:length:2].tolist(), strict=True)) == expected


def test_lengths_follow_the_binomial_law():
    task = make("brackets", 40)
    lengths, law = task.length_law("length-matched", 1, 40)
    assert lengths.tolist() == list(range(2, 41, 2))
    assert law == pytest.approx(stats.binom.pmf(np.arange(20), 19, 0.5))


def test_id_draws_labels_by_length():
    _, labels = drawn("id", [8, 30] * 2000)
    for start, length in enumerate((8, 30)):
        share = nested_fraction(200_000, 40, length, "same-length")
        assert stats.binomtest(sum(labels[start::2]), 2000, share).pvalue > 1e-3


def test_baselines_are_what_the_rules_score():
    task = make("brackets", 12)
    strings, labels = drawn("id", [12] * 4000)
    firsts = np.mean([(s[0] == "(") == label for s, label in zip(strings, labels, strict=True)])
    scores = task.baseline(12)
    assert abs(firsts - scores["FIRST-SYMBOL"]) < 0.03
    assert scores["EQUAL-COUNT"] == 1
    assert scores["length alone"] == pytest.approx(1 - nested_fraction(200_000, 40, 12, "same-length"))
    assert task.chance(12) == pytest.approx(scores["length alone"] ** 2 + (1 - scores["length alone"]) ** 2)


def test_odd_lengths_and_short_ones_are_refused_in_one_line():
    task, rng = make("brackets", 40), np.random.default_rng(0)
    with pytest.raises(UserError, match="no example of 7 brackets on split 'id'; nearest available: 6, 8"):
        task.sample(rng, "id", [8, 7])
    with pytest.raises(UserError, match="its shortest has 42, its longest 40"):
        task.sample(rng, "longer", [40])
    with pytest.raises(UserError, match="allowed are 18 to 40"):
        task.sample(rng, "deeper", [16])
    with pytest.raises(UserError, match="no example of 5 to 5 brackets"):
        task.length_law("id", 5, 5)
