"""The published grammar of bracketed expressions: drawn against a slow twin, read against Python's own arithmetic."""

import math
import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make, task_class
from genlab.tasks.expressions import bracket_value


def twin(rng, length, modulus, signs):
    """An expression of so many tokens, by recursion: d, -d, (d), (-d), or (left operator right)."""
    if length < 5:
        digit = str(rng.integers(modulus))
        return [[digit], ["-", digit], ["(", digit, ")"], ["(", "-", digit, ")"]][length - 1]
    left = int(rng.integers(1, length - 3))
    sides = twin(rng, left, modulus, signs), twin(rng, length - 3 - left, modulus, signs)
    return ["(", *sides[0], signs[rng.integers(len(signs))], *sides[1], ")"]


def every(length, modulus, signs):
    """Every expression of so many tokens, with its probability."""
    if length < 5:
        for digit in map(str, range(modulus)):
            yield [[digit], ["-", digit], ["(", digit, ")"], ["(", "-", digit, ")"]][length - 1], 1 / modulus
        return
    for left in range(1, length - 3):
        sides = list(every(left, modulus, signs)), list(every(length - 3 - left, modulus, signs))
        for (a, p), (b, q), sign in product(*sides, signs):
            yield ["(", *a, sign, *b, ")"], p * q / len(signs) / (length - 4)


def draw(task, split, lengths, seed=0):
    return task.sample(np.random.default_rng(seed), split, lengths)


def prompts(task, split, lengths, seed=0):
    examples = draw(task, split, lengths, seed)
    return [task.read(examples, row) for row in range(len(examples))]


READ = [
    ("3", 3),
    ("- 3", -3),
    ("( 3 )", 3),
    ("( - 3 )", -3),
    ("( - 3 - - 2 )", -1),
    ("( ( 4 ) * ( - 2 ) )", -8),
    ("( - 1 * ( 2 - - 4 ) )", -6),
]


@pytest.mark.parametrize(("text", "value"), READ)
def test_what_the_grammar_has_is_read(text, value):
    assert bracket_value(text.split()) == value == eval(text.replace(" ", ""))
    for format in ("plain", "published"):
        assert make("modular-brackets", 9, format).solve([*text.split(), ">"]) == (str(value % 5),)
    equation = [*text.replace("2", "x").replace("3", "x", not text.count("2")).split(), "=", str(value % 5), ">"]
    if equation.count("x") == 1 and "*" not in equation:
        assert make("solve-equation", 9).solve(equation) == ("2" if "2" in text else "3",)


@given(st.integers(0, 2**32), st.integers(1, 60))
@settings(max_examples=80, deadline=None)
def test_any_expression_of_the_twin_is_read_as_python_reads_it(seed, length):
    tokens = twin(np.random.default_rng(seed), length, 10, "+-*")
    assert len(tokens) == length
    assert bracket_value(tokens) == eval("".join(tokens))


@pytest.mark.parametrize(
    "text", ["", "( 3", "3 )", "3 + 4", "( 3 + )", "( )", "( 1 + 2 + 3 )", "- ( 3 )", "( 3 / 4 )", "x", "- - 3"]
)
def test_what_the_grammar_has_not_is_refused_in_one_line(text):
    with pytest.raises(UserError, match="is not a bracketed expression") as error:
        make("modular-brackets", 9, "published").solve([*text.split(), ">"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["0 0 >", "3 = 3 >", "x = >", "( x + x ) = 2 >", "x = 3", "( x * 0 ) = 2 >", "="])
def test_equations_that_are_none_are_refused_in_one_line(text):
    with pytest.raises(UserError) as error:
        make("solve-equation", 9).solve(text.split())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("operators", ["+-*", "+*"])
@pytest.mark.parametrize("length", [3, 4, 5, 6, 8])
def test_expressions_are_drawn_as_the_twin_draws_them(length, operators):
    task = make("modular-brackets", 9, "published", {"modulus": 2, "operators": operators})
    law = {" ".join(tokens): p for tokens, p in every(length, 2, operators)}
    found = Counter(" ".join(prompt[:-1]) for prompt, _ in prompts(task, "id", [length, 9] * 6000)[::2])
    assert set(found) <= set(law)
    common = sorted(law, key=law.__getitem__)[-60:]
    counts, expected = [found[text] for text in common], [6000 * law[text] for text in common]
    rest = (6000 - sum(counts), 6000 - sum(expected))
    if rest[1] > 1:
        counts, expected = [*counts, rest[0]], [*expected, rest[1]]
    assert stats.chisquare(counts, expected, sum_check=False).pvalue > 1e-4
    values: Counter[int] = Counter()
    for tokens, p in every(length, 2, operators):
        values[bracket_value(tokens) % 2] += p  # pyright: ignore[reportArgumentType]
    assert math.isclose(task.chance(length), sum(p**2 for p in values.values()))
    assert math.isclose(task.baseline(length).get("most frequent answer", 0.5), max(values.values()))


@pytest.mark.parametrize("name", ["modular-brackets", "solve-equation"])
def test_samples_are_solved_whatever_the_padding(name):
    task = make(name, 40, "published")
    for split in task.splits:
        lengths = [3, 40, 4, 17, 9, 6, 5, 31] * 25
        for (prompt, answer), length in zip(prompts(task, split, lengths), lengths, strict=True):
            assert len(prompt) == length + 1
            assert task.solve(prompt) == answer


@pytest.mark.parametrize(
    ("split", "shape"),
    [
        ("left", "( ( ( n . n ) . n ) . n )"),
        ("right", "( n . ( n . ( n . n ) ) )"),
        ("shallow", "( ( n . n ) . ( n . n ) )"),
    ],
)
def test_shape_of_each_split(split, shape):
    tokens = shape.split()
    for prompt, _ in prompts(make("modular-brackets", 13, "published"), split, [len(tokens)] * 20 + [4] * 5)[:20]:
        assert [t if t in "()" else "n" if t.isdigit() else "." for t in prompt[:-1]] == tokens


def test_x_takes_the_place_of_the_first_number_from_a_random_token_on():
    """Of `( - d + ( d ) )` the first number is hit from `)`, `(`, `-` and itself: 5 of 8 with the last bracket."""
    task = make("solve-equation", 10, "published", {"modulus": 2})
    first = total = 0
    for prompt, _ in prompts(task, "id", [10] * 9000):
        shape = ["n" if t in "01x" else "." if t in "+-" else t for t in prompt[:8]]
        if "".join(shape) == "(.n.(n))":
            first += prompt[2] == "x"
            total += 1
    assert stats.binomtest(first, total, 5 / 8).pvalue > 1e-4


def test_every_number_solves_as_often():
    task = make("solve-equation", 12, "published")
    answers = Counter(answer for _, answer in prompts(task, "id", [7, 12] * 2000))
    assert stats.chisquare([answers[(str(i),)] for i in range(5)]).pvalue > 1e-4


# -- prompts as the published programs write them --------------------------------------------------------------------


def published_prompt(name, rng, length):
    """A prompt as the authors' program of a task writes it, of so many of its tokens, in this lab's tokens."""
    word = lambda letters, n=length: list(rng.choice(list(letters), n))  # noqa: E731
    if name == "missing-duplicate":
        half = word("ab", length // 2)
        both = half * 2 if half else ["b"]
        both[rng.integers(len(both))] = "_" if half else "b"
        return both + ["b"] * (length % 2 and length > 1)  # this lab has no token that pads an odd length
    if name in ("addition", "binary-multiplication"):
        if length < 3:
            return word("01")
        left = int(rng.integers(1, length - 1))
        return [*word("01", left), "+" if name == "addition" else "*", *word("01", length - 1 - left)]
    if name == "stack-manipulation":
        stack = int(rng.integers(1, max(length, 2)))
        return word("ab", stack) + word(["pop", "+a", "+b"], length - stack)
    if name == "modular-chain":
        return [str(rng.choice(list("+-*" if i % 2 else "01234"))) for i in range(length - (length % 2 == 0))]
    if name == "solve-equation" and length >= 3:
        expression = twin(rng, length - 2, 5, "+-")
        value = bracket_value(expression) % 5
        place = next(i for i, token in enumerate(expression) if token.isdigit())
        return [*expression[:place], "x", *expression[place + 1 :], "=", str(value)]
    letters = {
        "modular-brackets": twin(rng, length, 5, "+-*"),
        "solve-equation": ["0"] * length,
        "interlocked-pairing": sorted(word("ab")),
        "cycle-navigation": word("=+-"),
        "bucket-sort": word("01234"),
        "square-root": word("01"),
        "parity": word("01"),
    }
    return letters.get(name) or word("ab")


PUBLISHED = [
    ("even-pairs", "plain", {}),
    ("parity", "plain", {}),
    ("cycle-navigation", "plain", {}),
    ("modular-chain", "precedence", {}),
    ("reverse", "repeats", {}),
    ("stack-manipulation", "plain", {}),
    ("modular-brackets", "published", {}),
    ("modular-brackets", "plain", {}),
    ("solve-equation", "published", {}),
    ("solve-equation", "plain", {}),
    ("compare-occurrence", "plain", {}),
    ("duplicate-string", "plain", {}),
    ("missing-duplicate", "plain", {}),
    ("interlocked-pairing", "plain", {}),
    ("odds-first", "published", {}),
    ("addition", "reversed", {"base": 2}),
    ("binary-multiplication", "reversed", {}),
    ("square-root", "plain", {}),
    ("bucket-sort", "plain", {}),
]
"""The battery: task, the format nearest to the published one, parameters."""


@pytest.mark.parametrize(("name", "format", "params"), PUBLISHED)
def test_a_published_prompt_is_answered_or_refused_in_one_line(name, format, params):
    """Never with Python's own error: at every length, the degenerate ones of their programs too."""
    task, rng = make(name, 20, format, params), np.random.default_rng(0)
    answered = 0
    for length in list(range(1, 13)) * 20:
        prompt = [*published_prompt(name, rng, length), ">"]
        try:
            answer, fault = task.solve(prompt), ""
        except UserError as error:
            answer, fault = (), str(error)
        assert "\n" not in fault
        assert set(answer) <= set(task.vocab.tokens), prompt
        answered += not fault
    assert answered > 100


def test_the_published_odds_come_last():
    """The examples of the authors' docstring come out the other way round in their program."""
    task = make("odds-first", 9, "published")
    assert task.solve([*"aabbabab", ">"]) == tuple("abbbabaa")
    assert task.solve([*"bba", ">"]) == tuple("bba")
    plain = make("odds-first", 9)
    for (prompt, answer), (same, other) in zip(
        prompts(task, "id", [5, 8, 1] * 20), prompts(plain, "id", [5, 8, 1] * 20), strict=True
    ):
        evens = len(prompt[:-1]) // 2
        assert prompt == same
        assert answer == (*other[-evens:], *other[:-evens]) if evens else other


def test_the_default_format_stays_the_first():
    for name in ("modular-brackets", "solve-equation", "odds-first", "brackets"):
        assert next(iter(task_class(name).formats)) == "plain"


def test_the_page_names_every_task_of_the_battery_in_its_format():
    page = (Path(__file__).parents[2] / "docs" / "chomsky.md").read_text()
    cells = [line.split(" | ")[1] for line in page.splitlines() if line.startswith("| ") and "`" in line]
    named = {
        (words[0], words[1] if len(words) > 1 else "plain") for words in (re.findall(r"[\w-]+", c) for c in cells)
    }
    assert named == {(name, format) for name, format, _ in PUBLISHED} | {("odds-first", "plain")}
