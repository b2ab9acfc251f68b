"""Dyck words of several types: rules by hand, what each split holds, exact laws of its strings."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.dyck import PAIRS

BY_HAND = [
    # string, NESTED, EQUAL-COUNT, EACH-TYPE, TYPES-IGNORED
    ("()", True, True, True, True),
    ("([]{})", True, True, True, True),
    ("([)]", False, True, True, True),
    ("][", False, True, False, False),
    ("(]", False, False, False, True),
    ("([)](]", False, False, False, True),
    ("(][)", False, True, False, True),
    ("[[", False, False, False, False),
]


def prompt(string):
    return ["<start>", *string, ">"]


@pytest.mark.parametrize(("string", "nested", "equal", "each", "ignored"), BY_HAND)
def test_rules_by_hand(string, nested, equal, each, ignored):
    task = make("dyck", 8, params={"types": 3})
    names = ("NESTED", "EQUAL-COUNT", "EACH-TYPE", "TYPES-IGNORED")
    assert task.solve(prompt(string)) == (str(nested),)
    assert task.rules(prompt(string)) == dict(
        zip(names, [(str(said),) for said in (nested, equal, each, ignored)], strict=True)
    )


def drawn(split, lengths, seed=0, types=2, max_len=40):
    task = make("dyck", max_len, params={"types": types})
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    read = [task.read(examples, row) for row in range(len(examples))]
    return task, ["".join(p[1:-1]) for p, _ in read], [answer == ("True",) for _, answer in read]


def by_rewriting(string):
    while len(shorter := string.replace("()", "").replace("[]", "").replace("{}", "")) < len(string):
        string = shorter
    return not string


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(make("dyck", 8).splits)), st.lists(st.integers(10, 20), min_size=1, max_size=6),
       st.integers(2, 3), st.integers(0, 2**32))  # fmt: skip
def test_labels_are_true_at_mixed_lengths(split, halves, types, seed):
    lengths = [2 * half for half in halves]
    _, strings, labels = drawn(split, lengths, seed, types)
    assert [len(s) for s in strings] == lengths
    assert [by_rewriting(s) for s in strings] == labels


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10), st.sampled_from(PAIRS), st.integers(0, 2**32))
def test_a_nested_word_stays_nested_when_wrapped(pairs, pair, seed):
    task, strings, labels = drawn("id", [2 * pairs] * 4, seed)
    for string, nested in zip(strings, labels, strict=True):
        assert task.solve(prompt(pair[0] + string + pair[1])) == (str(nested),)


@pytest.mark.parametrize(
    ("split", "fooled"),
    [
        ("id", {"NESTED", "EQUAL-COUNT", "EACH-TYPE"}),
        ("matched-unnested", {"NESTED"}),
        ("crossed", {"NESTED"}),
        ("wrong-type", {"NESTED", "EQUAL-COUNT", "EACH-TYPE"}),
    ],
)
def test_which_rules_are_right_on_a_split(split, fooled):
    task, strings, labels = drawn(split, [4, 6, 10] * 60)
    right = Counter(
        name
        for string, label in zip(strings, labels, strict=True)
        for name, said in task.rules(prompt(string)).items()
        if said == (str(label),)
    )
    assert {name for name, count in right.items() if count == len(strings)} == fooled
    never = {"matched-unnested": {"EQUAL-COUNT"}, "wrong-type": {"TYPES-IGNORED"}}
    never["crossed"] = {"EQUAL-COUNT", "EACH-TYPE", "TYPES-IGNORED"}
    assert set(task.rules(prompt("()"))) - set(right) == never.get(split, set())


def crossings(word):
    """What an exchange of neighbouring closing brackets of different types makes of a word."""
    places = [i for i in range(len(word) - 1) if word[i : i + 2] in (")]", "])")]
    return [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in places]


WORDS = ["".join(w) for n in (4, 6) for w in product("()[]", repeat=n)]
KINDS = {
    "nested": lambda s: by_rewriting(s),
    "unequal": lambda s: s.count("(") != s.count(")") or s.count("[") != s.count("]"),
    "wrong-type": lambda s: by_rewriting(s.replace("[", "(").replace("]", ")")) and s.count("(") != s.count(")"),
}


@pytest.mark.parametrize(
    ("split", "label", "length", "kind"),
    [("id", True, 6, "nested"), ("id", False, 4, "unequal"), ("wrong-type", False, 4, "wrong-type")],
)
def test_strings_of_a_kind_are_uniform(split, label, length, kind):
    allowed = [w for w in WORDS if len(w) == length and KINDS[kind](w)]
    _, strings, labels = drawn(split, [length, 8] * 40 * len(allowed), seed=2)
    found = Counter(s for s, nested in zip(strings[::2], labels[::2], strict=True) if nested == label)
    if kind == "wrong-type":  # two types: another type somewhere in a nested word of one shape
        allowed = [w for w in allowed if w in found]
        assert all(abs(w.count("(") - w.count(")")) == 1 for w in allowed)
    assert set(found) <= set(allowed)
    assert stats.chisquare([found[w] for w in allowed]).pvalue > 1e-3


def test_a_shuffled_word_has_the_brackets_of_a_uniform_nested_word():
    letters = Counter("".join(sorted(w)) for w in WORDS if len(w) == 6 and by_rewriting(w))
    orders = Counter("".join(sorted(w)) for w in WORDS)
    kept = [w for w in WORDS if len(w) == 6 and "".join(sorted(w)) in letters and not by_rewriting(w)]
    weights = {w: letters["".join(sorted(w))] / orders["".join(sorted(w))] for w in kept}
    assert_follows(drawn("matched-unnested", [6, 4] * 6000, seed=4)[1][::2], weights)


def test_any_exchange_of_any_nested_word_is_as_likely():
    weights = Counter()
    for word in WORDS:
        if len(word) == 6 and by_rewriting(word):
            for crossed in crossings(word):
                weights[crossed] += 1 / len(crossings(word))
    assert_follows(drawn("crossed", [6, 4] * 6000, seed=4)[1][::2], weights)


def assert_follows(strings, weights):
    found = Counter(strings)
    expected = np.array(list(weights.values()))
    observed = np.array([found[w] for w in weights])
    assert set(found) <= set(weights)
    assert stats.chisquare(observed, observed.sum() * expected / expected.sum()).pvalue > 1e-3


def test_what_stands_beyond_a_short_string_does_not_count():
    for split in ("matched-unnested", "crossed", "wrong-type"):
        _, strings, _ = drawn(split, [4, 40] * 300)
        assert not any(by_rewriting(s) for s in strings)


def test_what_deeper_holds():
    _, strings, labels = drawn("deeper", [18, 26] * 60)
    opening = [all(c in "([" for c in s[:8]) and all(c in ")]" for c in s[-8:]) for s in strings]
    assert all(opening)
    assert 30 < sum(labels) < 90


def test_the_first_bracket_is_worth_its_baseline():
    task, strings, labels = drawn("id", [12] * 3000)
    right = sum((s[0] in "([") == label for s, label in zip(strings, labels, strict=True))
    assert stats.binomtest(right, 3000, task.baseline(12)["first bracket"]).pvalue > 1e-3


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="types: 9 is not allowed"):
        make("dyck", 8, params={"types": 9})
    with pytest.raises(UserError, match="nearest available: 4, 6"):
        make("dyck", 8).sample(np.random.default_rng(0), "id", [5])
    with pytest.raises(UserError, match="allowed are 4 to 8"):
        make("dyck", 8).sample(np.random.default_rng(0), "crossed", [2])
