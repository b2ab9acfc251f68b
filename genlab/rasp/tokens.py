"""The integers that stand for a task's tokens in a program. Stated here, once, for every task.

- A numeral is its own value: `7` is 7.
- A letter name (`a`, `b`, ..., `z`, `aa`, ...) is 1000 and its place in the alphabet: `c` is 1002.
- A word of three letters or more (`that`, `isn't`) is read as a number in base 32: see `word_value`.
- Every other token is a small negative number: see `SPECIALS`.

Of a task whose alphabet must grow with its lengths (numbers to sort, index hints) the growing part is read as
*hints*, symbols that are only compared; see `HINTS`. All others are tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError, nearest
from genlab.rasp.lang.domain import Domain, Scale

Ints = NDArray[np.int64]

PAD, END, SEP = -1, -2, -3
LETTER = 1000
NO_TOKEN = -1
"""The id that stands for a value which is no token."""

SPECIALS: Mapping[str, int] = MappingProxyType(
    {"<pad>": PAD, "<end>": END, ">": SEP}
    | {"+": -4, "-": -5, "*": -6, "=": -7, "?": -8, "<start>": -9}
    | {"True": -10, "False": -11, "even": -12, "odd": -13}
    | {"(": -14, ")": -15, "[": -16, "]": -17, "{": -18, "}": -19, "⟨": -20, "⟩": -21}
    | {"«": -22, "»": -23, "‹": -24, "›": -25, "⟦": -26, "⟧": -27, "⌈": -28, "⌉": -29}
    | {"none": -30, "_": -31, "pop": -32, "+a": -33, "+b": -34}
    | {".": -35, "decl": -36, "quest": -37, "PAST": -38, "PRESENT": -39}
    | {"<ORIGIN_START>": -40, "<TARGET_START>": -41, "<PATH_START>": -42}
)
_LONGEST_NAME, _LONGEST_WORD = 2, 12
_SHOWN = 20
_FREE = -100
"""Tokens that no rule names take -100, -101, ... in the order of the vocabulary."""

HINTS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("parity", "running"): "letters",
        ("parity", "scratchpad"): "letters",
        ("addition", "forward-hints"): "letters",
        ("addition", "reversed-hints"): "letters",
        ("count", "plain"): "numerals",
        ("sort", "plain"): "numerals",
        ("copy", "unique"): "numerals",
        ("copy", "reverse"): "numerals",
        ("reverse", "unique"): "letters",
        ("mode", "by-symbol"): "numerals",
        ("mode", "by-count"): "numerals",
        ("max-retrieval", "tokens"): "numerals",
        ("associative-recall", "in-place"): "letters",
        ("associative-recall", "one-query"): "letters",
        ("associative-recall", "every-query"): "letters",
    }
)
"""(task, format) -> which of its tokens are hints."""


def letter_value(name: str) -> int:
    """The value of a letter name.

    >>> letter_value("a"), letter_value("z"), letter_value("aa")
    (1000, 1025, 1026)
    """
    place = 0
    for letter in name:
        place = 26 * place + ord(letter) - ord("a") + 1
    return LETTER + place - 1


def word_value(word: str) -> int:
    """The value of a word: minus the number that its letters are in base 32, below all other values.

    >>> word_value("the") == -(20 * 32**2 + 8 * 32 + 5)
    True
    """
    number = 0
    for letter in word:
        number = 32 * number + _LETTERS.index(letter)
    return -number


_LETTERS = "'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TokenMap:
    """The tokens of one task and their values.

    Attributes:
        tokens: the vocabulary, in the order of its ids.
        values: the value of each, int[vocab].
        hints: which kind of token is a hint: letters, numerals or none.
    """

    tokens: tuple[str, ...]
    values: Ints
    hints: str

    def encode(self, ids: Any) -> Ints:
        """Values of token ids."""
        return self.values[np.asarray(ids)]

    def decode(self, values: Any) -> Ints:
        """Token ids of values; `NO_TOKEN` where a value is no token."""
        array = np.asarray(values)
        order = np.argsort(self.values)
        place = np.minimum(np.searchsorted(self.values[order], array), len(order) - 1)
        ids = order[place]
        return np.where(self.values[ids] == array, ids, NO_TOKEN)

    def parse(self, text: str | Sequence[str]) -> Ints:
        """Values of a text of tokens apart by spaces. Raises `UserError` for an unknown token."""
        words = text.split() if isinstance(text, str) else text
        places = {token: i for i, token in enumerate(self.tokens)}
        for word in words:
            if word not in places:
                near = nearest(word, self.tokens)
                hint = f"; did you mean {near!r}?" if near else ""
                raise UserError(f"unknown token {word!r}{hint} (allowed: {self.summary})")
        return self.values[[places[word] for word in words]]

    @property
    def summary(self) -> str:
        """The vocabulary in a few words.

        >>> token_map(["<end>", ">", *map(str, range(200))]).summary
        '0 to 199, <end>, >'
        """
        numerals = sorted(int(token) for token in self.tokens if _is_numeral(token))
        others = [token for token in self.tokens if not _is_numeral(token)]
        left_out = [f"and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
        return ", ".join([*([f"{numerals[0]} to {numerals[-1]}"] if numerals else []), *others[:_SHOWN], *left_out])

    def name(self, value: int) -> str:
        """The token of a value, or the value in brackets where it is none."""
        place = int(self.decode(value))
        return f"[{value}]" if place == NO_TOKEN else self.tokens[place]

    @property
    def domain(self) -> Domain:
        """What a program's input can hold, at any length."""
        scale = {"letters": Scale("hint", LETTER), "numerals": Scale("hint", 0)}.get(self.hints)
        kept = [v for v in self.values.tolist() if scale is None or not _on(self.hints, v)]
        return Domain(frozenset(kept), frozenset() if scale is None else frozenset([scale]))

    @property
    def alphabet(self) -> frozenset[int]:
        """All values of this vocabulary."""
        return frozenset(self.values.tolist())


def token_map(vocab: Iterable[str], task: str = "", format: str = "") -> TokenMap:
    """The values of a vocabulary, in the order of its ids, as the task reads it.

    >>> token_map(["<pad>", "<end>", ">", "0", "1", "a", "b"], "parity", "running").values.tolist()
    [-1, -2, -3, 0, 1, 1000, 1001]
    """
    tokens = tuple(vocab)
    return TokenMap(
        tokens, np.array([_value(token, i) for i, token in enumerate(tokens)]), HINTS.get((task, format), "")
    )


def _value(token: str, place: int) -> int:
    if token in SPECIALS:
        return SPECIALS[token]
    if _is_numeral(token):
        return int(token)
    if len(token) <= _LONGEST_NAME and token.isascii() and token.isalpha() and token.islower():
        return letter_value(token)
    if _LONGEST_NAME < len(token) <= _LONGEST_WORD and set(token) <= set(_LETTERS):
        return word_value(token)
    return _FREE - place


def _is_numeral(token: str) -> bool:
    return token.isascii() and token.isdecimal()


def _on(hints: str, value: int) -> bool:
    return value >= LETTER if hints == "letters" else 0 <= value < LETTER
