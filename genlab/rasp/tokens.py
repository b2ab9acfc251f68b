"""Token values: the integers that represent the tokens of every task in a program.

- A numeral is its own value: `7` is 7.
- A letter name (`a`, `b`, ..., `z`, `aa`, ...) is 1000 plus its index in the alphabet: `c` is 1002.
- A word of three or more letters (`that`, `isn't`) is read as a number in base 32: see `word_value`.
- Every other token is a small negative number: see `SPECIALS`.

If the alphabet of a task must grow with the length (numbers to sort, index hints), its growing part is treated as
*hints*, symbols that are only compared: see `HINTS`.
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
"""The id for a value that is not a token."""

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
"""All remaining tokens take the values -100, -101, ... by their id."""

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
"""(task, format) -> the tokens that are hints: letters or numerals."""


def letter_value(name: str) -> int:
    """The value of a letter name.

    >>> letter_value("a"), letter_value("z"), letter_value("aa")
    (1000, 1025, 1026)
    """
    number = 0
    for letter in name:
        number = 26 * number + ord(letter) - ord("a") + 1
    return LETTER + number - 1


def word_value(word: str) -> int:
    """The value of a word: its letters as a number in base 32, negated, so that it is below all other values.

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
        tokens: the vocabulary, by token id.
        values: the value of each token, int[vocab].
        hints: the tokens that are hints: `letters`, `numerals`, or empty.
    """

    tokens: tuple[str, ...]
    values: Ints
    hints: str

    def encode(self, ids: Any) -> Ints:
        """Convert token ids to values, in the same shape."""
        return self.values[np.asarray(ids)]

    def decode(self, values: Any) -> Ints:
        """Convert values to token ids, in the same shape; `NO_TOKEN` for a value that is not a token."""
        array = np.asarray(values)
        order = np.argsort(self.values)
        nearest_index = np.minimum(np.searchsorted(self.values[order], array), len(order) - 1)
        ids = order[nearest_index]
        return np.where(self.values[ids] == array, ids, NO_TOKEN)

    def parse(self, text: str | Sequence[str]) -> Ints:
        """The values of tokens separated by spaces, or of a sequence of tokens: int[token].

        Raises:
            UserError: a token is not in the vocabulary.
        """
        words = text.split() if isinstance(text, str) else text
        ids = {token: i for i, token in enumerate(self.tokens)}
        for word in words:
            if word not in ids:
                near = nearest(word, self.tokens)
                hint = f"; did you mean {near!r}?" if near else ""
                raise UserError(f"unknown token {word!r}{hint} (allowed: {self.summary})")
        return self.values[[ids[word] for word in words]]

    @property
    def summary(self) -> str:
        """A short description of the vocabulary.

        >>> token_map(["<end>", ">", *map(str, range(200))]).summary
        '0 to 199, <end>, >'
        """
        numerals = sorted(int(token) for token in self.tokens if _is_numeral(token))
        others = [token for token in self.tokens if not _is_numeral(token)]
        left_out = [f"and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
        return ", ".join([*([f"{numerals[0]} to {numerals[-1]}"] if numerals else []), *others[:_SHOWN], *left_out])

    def name(self, value: int) -> str:
        """The token with a value, or the value in brackets if it is not a token."""
        token_id = int(self.decode(value))
        return f"[{value}]" if token_id == NO_TOKEN else self.tokens[token_id]

    @property
    def domain(self) -> Domain:
        """The values that the input of a program can take, at any length."""
        scale = {"letters": Scale("hint", LETTER), "numerals": Scale("hint", 0)}.get(self.hints)
        finite = [v for v in self.values.tolist() if scale is None or not _is_hint(self.hints, v)]
        return Domain(frozenset(finite), frozenset() if scale is None else frozenset([scale]))

    @property
    def alphabet(self) -> frozenset[int]:
        """All values of this vocabulary."""
        return frozenset(self.values.tolist())


def token_map(vocab: Iterable[str], task: str = "", format: str = "") -> TokenMap:
    """The token values of a vocabulary.

    Args:
        vocab: the tokens, by token id.
        task, format: determine which tokens are hints; see `HINTS`.

    >>> token_map(["<pad>", "<end>", ">", "0", "1", "a", "b"], "parity", "running").values.tolist()
    [-1, -2, -3, 0, 1, 1000, 1001]
    """
    tokens = tuple(vocab)
    return TokenMap(
        tokens, np.array([_value(token, i) for i, token in enumerate(tokens)]), HINTS.get((task, format), "")
    )


def _value(token: str, token_id: int) -> int:
    if token in SPECIALS:
        return SPECIALS[token]
    if _is_numeral(token):
        return int(token)
    if len(token) <= _LONGEST_NAME and token.isascii() and token.isalpha() and token.islower():
        return letter_value(token)
    if _LONGEST_NAME < len(token) <= _LONGEST_WORD and set(token) <= set(_LETTERS):
        return word_value(token)
    return _FREE - token_id


def _is_numeral(token: str) -> bool:
    return token.isascii() and token.isdecimal()


def _is_hint(hints: str, value: int) -> bool:
    return value >= LETTER if hints == "letters" else 0 <= value < LETTER
