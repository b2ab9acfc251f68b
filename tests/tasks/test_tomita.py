"""Tomita's languages: membership by their definitions, uniform prefixes, what may follow."""

import re
from collections import Counter
from itertools import groupby, product

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.tasks import check_task, make

LANGUAGES = range(1, 8)


def is_word(language, word):
    """Membership by each language's definition in words, without an automaton."""
    if language == 3:
        runs = [(symbol, len(list(run)) % 2) for symbol, run in groupby(word)]
        return not any(one == ("1", 1) and ("0", 1) in runs[place + 1 :] for place, one in enumerate(runs))
    zeros, ones = word.count("0"), word.count("1")
    return {
        1: zeros == 0,
        2: re.fullmatch("(10)*", word) is not None,
        4: "000" not in word,
        5: zeros % 2 == 0 and ones % 2 == 0,
        6: (zeros - ones) % 3 == 0,
        7: re.fullmatch("0*1*0*1*", word) is not None,
    }[language]


def words(length):
    return ["".join(letters) for letters in product("01", repeat=length)]


def is_prefix(language, prefix):
    """Every automaton here has at most six states: a word is within five symbols of each live prefix."""
    return any(is_word(language, prefix + rest) for length in range(6) for rest in words(length))


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_are_what_the_definition_says(language):
    task = make("tomita", 8, params={"language": language})
    for prefix in [word for length in range(1, 8) for word in words(length)]:
        if not is_prefix(language, prefix):
            with pytest.raises(UserError, match=f"no word of Tomita's language {language} .* begins with"):
                task.solve([*prefix, ">"])
            continue
        may_follow = [symbol for symbol in "01" if is_prefix(language, prefix + symbol)]
        ends = ["."] if is_word(language, prefix) else []
        assert task.solve([*prefix, ">"]) == ("|".join(may_follow + ends),), prefix


@pytest.mark.parametrize("language", LANGUAGES)
def test_prefixes_are_uniform_and_chance_is_theirs(language):
    task, length = make("tomita", 8, params={"language": language}), 6
    prefixes = [word for word in words(length) if is_prefix(language, word)]
    examples = task.sample(np.random.default_rng(0), "id", [length] * 20_000)
    drawn = Counter("".join(task.read(examples, row)[0][:-1]) for row in range(20_000))
    assert set(drawn) == set(prefixes)
    expected = 20_000 / len(prefixes)
    assert max(abs(count - expected) for count in drawn.values()) < 5 * expected**0.5
    answers = Counter(task.solve([*prefix, ">"]) for prefix in prefixes)
    assert task.chance(length) == pytest.approx(sum((count / len(prefixes)) ** 2 for count in answers.values()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_keeps_the_contract(language):
    check_task(make("tomita", 12, params={"language": language}))


def test_a_walk_takes_each_step_as_often():
    """In language 7 the first change comes early in a walk, and late among uniform prefixes."""
    task = make("tomita", 40, params={"language": 7})
    first = {}
    for split in ("walk", "id"):
        examples = task.sample(np.random.default_rng(1), split, [40] * 2000)
        first[split] = np.mean([task.read(examples, row)[0][:2] == ("0", "0") for row in range(2000)])
    assert first["walk"] == pytest.approx(0.25, abs=0.05)
    assert first["id"] > 0.8
