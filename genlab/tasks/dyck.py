"""Dyck words with several bracket types: is each bracket closed by one of the same type, in the right order?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble
from genlab.tasks.words import is_nested, partners, redrawn, wrapped

PAIRS = ("()", "[]", "{}", "⟨⟩", "«»", "‹›", "⟦⟧", "⌈⌉")
"""The opening and closing bracket of each type."""


class Dyck(Task):
    """Decide whether a string of brackets of k types is nested: each closing bracket matches the last open one.

    Several rules fit `id`: half of its strings are uniform nested words with a random type for each pair, the others
    are independent brackets with unequal counts for some type. The other splits tell the rules apart. In
    `matched-unnested`, counts are equal for every type; in `crossed`, each type is nested by itself; in `wrong-type`,
    the brackets are nested if their types are ignored.

    >>> from genlab.tasks import make
    >>> task = make("dyck", max_len=8)
    >>> " ".join(task.solve("<start> ( [ ] ) [ ] >".split()))
    'True'
    >>> " ".join(task.solve("<start> ( [ ) ] >".split()))
    'False'
    >>> [name for name, answer in task.rules("<start> ( [ ) ] >".split()).items() if answer == ("True",)]
    ['EQUAL-COUNT', 'EACH-TYPE', 'TYPES-IGNORED']
    """

    name = "dyck"
    family = "hierarchy"
    asks = "are the brackets of several types nested?"
    source = "Chomsky and Schützenberger 1963; contrasts after Li et al. 2025, arXiv 2507.06445"
    length_unit = "brackets"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "<start> brackets > True if nested, else False"}
    )
    splits = split_map(
        Split(name="id", about="half nested, half with unequal counts", shift={"nested": 0.5, "others": "unequal"}),
        Split(
            name="matched-unnested",
            about="the brackets of a nested word, shuffled: all False",
            shift={"nested": 0.0, "others": "shuffled"},
        ),
        Split(
            name="crossed",
            about="a nested word with two adjacent closing brackets swapped: all False",
            shift={"nested": 0.0, "others": "crossed"},
        ),
        Split(
            name="wrong-type",
            about="a nested word with one closing bracket of the wrong type: all False",
            shift={"nested": 0.0, "others": "wrong-type"},
        ),
        Split(
            name="deeper",
            about="nested words inside 8 more pairs; the other half has one closing bracket of the wrong type",
            shift={"nested": 0.5, "others": "wrong-type", "wrap": 8},
        ),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 20,
                "min_len": 2,
                "n_layers": 2,
                "positions": "none",
                "steps": 4000,
            }
        }
    )

    class Params(Task.Params):
        types: int = Field(2, ge=2, le=len(PAIRS), description="bracket types")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        pairs = PAIRS[: self.params.types]
        return ("<start>", "True", "False", *(pair[0] for pair in pairs), *(pair[1] for pair in pairs))

    def width(self, length: int) -> int:
        return length + 4

    def min_len(self, split: Split) -> int:
        shortest = 4 if split.shift["others"] == "crossed" else 2
        return shortest + 2 * int(split.shift.get("wrap", 0))

    def makes(self, split: Split, length: int) -> bool:
        del split
        return length % 2 == 0

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        k = self.params.types
        label = rng.random(len(lengths)) < float(split.shift["nested"])
        brackets = np.zeros((len(lengths), int(lengths.max())), np.int64)
        for rows, draw in ((label, _nested), (~label, _OTHERS[str(split.shift["others"])])):
            if rows.any():
                drawn = draw(rng, lengths[rows], k, int(split.shift.get("wrap", 0)))
                brackets[rows, : drawn.shape[1]] = drawn
        start, true, first = Vocab.first, Vocab.first + 1, Vocab.first + 3
        inside = np.arange(brackets.shape[1]) < lengths[:, None]
        string = Part(first + brackets, keep=None if inside.all() else inside)
        answer = Part(np.where(label, true, true + 1)[:, None], scored=True)
        return assemble([Part(start), string, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return (str(_closes(prompt, PAIRS)),)

    def rules(self, prompt: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        text = list(prompt)
        one_type = [PAIRS[0][side] for token in text for pair in PAIRS for side in (0, 1) if token == pair[side]]
        return {
            "NESTED": self.solve(prompt),
            "EQUAL-COUNT": (str(all(text.count(opening) == text.count(closing) for opening, closing in PAIRS)),),
            "EACH-TYPE": (str(all(_closes(text, [pair]) for pair in PAIRS)),),
            "TYPES-IGNORED": (str(_closes(one_type, PAIRS)),),
        }

    def chance(self, length: int) -> float:
        del length
        return 0.5

    def baseline(self, length: int) -> Mapping[str, float]:
        del length
        return {"EQUAL-COUNT": 1.0, "EACH-TYPE": 1.0, "first bracket": 0.75}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        del split  # in every split, half of the brackets are opening ones and all types are equally likely
        brackets = dict.fromkeys(self.symbols()[3:], length / (2 * self.params.types) / (length + 2))
        return {"<start>": 1 / (length + 2), ">": 1 / (length + 2), **brackets}

    def factors(self, examples: Examples) -> dict[str, Ints]:
        return {"nested": (examples.targets == Vocab.first + 1).any(axis=1).astype(np.int64)}


def _closes(tokens: Sequence[str], pairs: Sequence[str]) -> bool:
    """Whether the brackets of these pairs are nested; other tokens are ignored."""
    waiting: list[str] = []
    for token in tokens:
        for opening, closing in pairs:
            if token == opening:
                waiting.append(closing)
            elif token == closing and (not waiting or waiting.pop() != closing):
                return False
    return not waiting


# Strings are int[n, max(lengths)]: t opens a bracket of type t, and k + t closes one.


def _nested(rng: np.random.Generator, lengths: Ints, k: int, wrap: int = 0) -> Ints:
    """Draw a uniform nested word inside `wrap` more pairs, with a random type for each pair."""
    opens = wrapped(rng, lengths, wrap)
    types = np.empty(opens.shape, np.int64)
    pair_types = rng.integers(0, k, (len(lengths), opens.shape[1] // 2))
    np.put_along_axis(types, partners(opens, lengths), np.repeat(pair_types, 2, axis=1), axis=1)
    return np.where(opens, types, k + types)


def _unequal(rng: np.random.Generator, lengths: Ints, k: int, wrap: int = 0) -> Ints:
    """Draw independent brackets, conditioned on unequal counts for some type."""
    del wrap

    def equal(strings: Ints, lengths: Ints) -> Bools:
        inside = np.arange(strings.shape[1]) < lengths[:, None]
        differ = np.zeros(len(strings), bool)
        for t in range(k):
            differ |= ((strings == t) & inside).sum(axis=1) != ((strings == k + t) & inside).sum(axis=1)
        return ~differ

    return redrawn(lambda lengths: rng.integers(0, 2 * k, (len(lengths), int(lengths.max()))), equal, lengths)


def _shuffled(rng: np.random.Generator, lengths: Ints, k: int, wrap: int = 0) -> Ints:
    """Shuffle the brackets of a nested word such that they are no longer nested."""
    del wrap

    def shuffle(lengths: Ints) -> Ints:
        strings = _nested(rng, lengths, k)
        keys = rng.random(strings.shape)
        keys[np.arange(strings.shape[1]) >= lengths[:, None]] = 1
        return np.take_along_axis(strings, np.argsort(keys, axis=1), axis=1)

    def still_nested(strings: Ints, lengths: Ints) -> Bools:
        opens = strings < k
        types = np.take_along_axis(strings % k, partners(opens, lengths), axis=1)
        types[np.arange(strings.shape[1]) >= lengths[:, None]] = 0
        return is_nested(opens, lengths) & np.all(types[:, ::2] == types[:, 1::2], axis=1)

    return redrawn(shuffle, still_nested, lengths)


def _crossed(rng: np.random.Generator, lengths: Ints, k: int, wrap: int = 0) -> Ints:
    """Draw a nested word and swap two adjacent closing brackets of different types."""
    del wrap

    def exchangeable(strings: Ints, lengths: Ints) -> Bools:
        left, right = strings[:, :-1], strings[:, 1:]
        inside = np.arange(1, strings.shape[1]) < lengths[:, None]
        return (left >= k) & (right >= k) & (left != right) & inside

    def none(strings: Ints, lengths: Ints) -> Bools:
        return exchangeable(strings, lengths).sum(axis=1) == 0

    strings = redrawn(lambda lengths: _nested(rng, lengths, k), none, lengths)
    rows, place = np.arange(len(strings)), _any_of(rng, exchangeable(strings, lengths))
    strings[rows, place], strings[rows, place + 1] = strings[rows, place + 1], strings[rows, place]
    return strings


def _wrong_type(rng: np.random.Generator, lengths: Ints, k: int, wrap: int = 0) -> Ints:
    """Draw a nested word and change the type of one random closing bracket."""
    strings = _nested(rng, lengths, k, wrap)
    rows, inside = np.arange(len(strings)), np.arange(strings.shape[1]) < lengths[:, None]
    place = _any_of(rng, (strings >= k) & inside)
    strings[rows, place] = k + (strings[rows, place] + rng.integers(1, k, len(strings))) % k
    return strings


def _any_of(rng: np.random.Generator, cells: Bools) -> Ints:
    """Return the index of a random True entry of each row, int[n]."""
    return np.argmax((1 - rng.random(cells.shape)) * cells, axis=1)


_OTHERS = MappingProxyType(
    {"unequal": _unequal, "shuffled": _shuffled, "crossed": _crossed, "wrong-type": _wrong_type}
)
"""Functions that draw negatives."""
