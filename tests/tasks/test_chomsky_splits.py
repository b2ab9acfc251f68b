"""The battery's splits, each by the distribution that it says."""

import math
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats

from genlab.tasks import make
from genlab.tasks.drawing import WORD_SPLITS, draw_words

WORDS = {split.name: split for split in WORD_SPLITS}


def prompts(task, split, lengths):
    examples = task.sample(np.random.default_rng(0), split, lengths)
    return [task.read(examples, row)[0][:-1] for row in range(len(examples))]


def fits(counts, shares):
    """Whether counts are of these shares, by a chi-square test where there are several."""
    counts = np.asarray(counts)
    return len(counts) == 1 or stats.chisquare(counts, counts.sum() * np.asarray(shares)).pvalue > 1e-4


def test_letters_of_words():
    rng, lengths = np.random.default_rng(0), np.full(2000, 12)
    uniform, skewed, runs = (draw_words(rng, WORDS[name], lengths, letters=3) for name in ("id", "skewed", "runs"))
    assert fits(np.bincount(uniform.ravel()), [1 / 3] * 3)
    assert fits(np.bincount(skewed.ravel()), [0.9, 0.05, 0.05])
    assert fits(np.bincount(runs[:, -1]), [1 / 3] * 3)
    changes = (runs[:, 1:] - runs[:, :-1]) % 3
    assert fits(np.bincount(changes.ravel()), [0.9, 0.05, 0.05])
    same = uniform[:, 1:] == uniform[:, :-1]
    assert fits([same.sum(), (~same).sum()], [1 / 3, 2 / 3])


@pytest.mark.parametrize(("split", "p_pop"), [("id", 1 / 3), ("emptying", 0.6), ("growing", 0.1)])
def test_stacks_begin_anywhere_and_pop_as_asked(split, p_pop):
    task = make("stack-manipulation", 8)
    words = prompts(task, split, [8] * 2000)
    given_letters = [sum(token in "ab" for token in word) for word in words]
    assert fits(np.bincount(given_letters, minlength=8)[1:], [1 / 7] * 7)
    actions = Counter(token for word in words for token in word if token not in "ab")
    assert fits([actions[a] for a in ("+a", "+b", "pop")], [(1 - p_pop) / 2, (1 - p_pop) / 2, p_pop])
    assert all(word == tuple(sorted(word, key=lambda t: t not in ("a", "b"))) for word in words)


def test_the_unknown_is_any_of_the_numbers():
    task = make("solve-equation", 5)
    words = prompts(task, "id", [5] * 2000)
    place = [[token for token in word if token.isdigit() or token == "x"].index("x") for word in words]
    assert fits(np.bincount(place), [1 / 5] * 5)


@pytest.mark.parametrize(("length", "counts"), [(6, {2, 3}), (7, {3, 4}), (1, {0, 1})])
def test_near_ties_have_either_winner_as_often(length, counts):
    task = make("compare-occurrence", 8)
    words = prompts(task, "near-tie", [length, 8] * 1000)[::2]
    found = Counter(word.count("b") for word in words)
    assert set(found) == counts
    assert fits(list(found.values()), [0.5, 0.5])
    starts = sum(word[0] == "b" for word in words)
    b = sum(k * c for k, c in found.items()) / length
    assert abs(starts - b) < 5 * math.sqrt(1000)


@pytest.mark.parametrize(
    ("split", "places"), [("id", range(8)), ("gap-first", range(4)), ("gap-second", range(4, 8))]
)
def test_the_gap_is_where_the_split_says(split, places):
    words = prompts(make("missing-duplicate", 6), split, [4, 6] * 1000)[::2]
    found = np.bincount([word.index("_") for word in words], minlength=8)
    assert fits(found[list(places)], [1 / len(places)] * len(places))
    assert found.sum() == found[list(places)].sum()
    assert all(a == b or "_" in (a, b) for word in words for a, b in zip(word[:4], word[4:], strict=True))


@pytest.mark.parametrize(("split", "ns"), [("id", range(1, 7)), ("halves", (3, 4)), ("lopsided", (1, 6))])
def test_first_letters_of_interlocked_pairs(split, ns):
    words = prompts(make("interlocked-pairing", 9), split, [7, 9] * 1000)[::2]
    found = Counter((word[0], word.count(word[0])) for word in words)
    assert set(found) == set(product("ab", ns))
    assert fits(list(found.values()), [1 / len(found)] * len(found))
    assert all(sum(x != y for x, y in pairwise(word)) == 1 for word in words)


@pytest.mark.parametrize(
    ("split", "sizes", "p_one"), [("id", range(1, 8), 0.5), ("halves", (4,), 0.5), ("dense", range(1, 8), 0.9)]
)
def test_factors_of_products(split, sizes, p_one):
    words = ["".join(word).split("*") for word in prompts(make("binary-multiplication", 8), split, [8] * 2000)]
    assert all(first[-1] == second[-1] == "1" for first, second in words)
    assert {len(first) + len(second) for first, second in words} == {8}
    found = Counter(len(first) for first, _ in words)
    assert set(found) == set(sizes)
    assert fits(list(found.values()), [1 / len(sizes)] * len(sizes))
    inner = "".join(first[:-1] + second[:-1] for first, second in words)
    assert fits([inner.count("0"), inner.count("1")], [1 - p_one, p_one])


def test_numbers_under_the_root():
    task = make("square-root", 8)
    near = {int("".join(word), 2) for word in prompts(task, "squares", [8] * 1000)}
    assert near == {r * r - less for r in range(16) for less in (0, 1) if r or not less}
    assert {int("".join(word), 2) for word in prompts(task, "squares", [1] * 100)} == {0, 1}
    assert {int("".join(word), 2) for word in prompts(task, "small", [7] * 1000)} == set(range(16))
