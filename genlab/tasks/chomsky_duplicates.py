"""Context-sensitive tasks of the Chomsky hierarchy benchmark on duplicated words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import WORD_SPLITS, draw_words, letter_shares, present, word_shares
from genlab.tasks.examples import Examples, Ints, Part, Vocab, assemble

_SOURCE = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
_SEP, _END = Part(Vocab.sep), Part(Vocab.end, scored=True)


class DuplicateString(Task):
    """Write a word twice.

    >>> from genlab.tasks import make
    >>> " ".join(make("duplicate-string", 8).solve("a b b >".split()))
    'a b b a b b'
    >>> " ".join(make("duplicate-string", 8).solve("b >".split()))
    'b b'
    """

    name = "duplicate-string"
    family = "Chomsky hierarchy"
    asks = "write a word twice"
    source = _SOURCE
    length_unit = "letters"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "a word > the word twice"})
    splits = split_map(*WORD_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 8,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 6000,
            }
        }
    )

    def symbols(self) -> tuple[str, ...]:
        return ("a", "b")

    def width(self, length: int) -> int:
        return 3 * length + 2  # the word, `>`, two words, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        words, keep = Vocab.first + draw_words(rng, split, lengths, letters=2), present(lengths)
        copy = Part(words, scored=True, keep=keep)
        return assemble([Part(words, keep=keep), _SEP, copy, copy, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return 2 * tuple(prompt[:-1])

    def chance(self, length: int) -> float:
        return 0.5**length

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        return word_shares(split, "ab", length)


class MissingDuplicate(Task):
    """Fill in the missing letter, `_`, in a word written twice. Length is the number of letters of the word.

    >>> from genlab.tasks import make
    >>> make("missing-duplicate", 8).solve("a b b a a b _ a >".split())       # a b b a, twice
    ('b',)
    >>> make("missing-duplicate", 8).solve("_ b a b a b >".split())
    ('b',)
    """

    name = "missing-duplicate"
    family = "Chomsky hierarchy"
    asks = "which letter is missing from a word written twice?"
    source = _SOURCE
    length_unit = "letters"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "the word twice with a gap > the letter"})
    splits = split_map(
        *(split.model_copy(update={"shift": {**split.shift, "gap": "any"}}) for split in WORD_SPLITS),
        Split(name="gap-first", about="the gap is in the first copy", shift={"letters": "uniform", "gap": "first"}),
        Split(
            name="gap-second", about="the gap is in the second copy", shift={"letters": "uniform", "gap": "second"}
        ),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 5,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 6000,
            }
        }
    )

    def symbols(self) -> tuple[str, ...]:
        return ("a", "b", "_")

    def width(self, length: int) -> int:
        return 2 * length + 3  # the word twice, `>`, the letter, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        words, keep = Vocab.first + draw_words(rng, split, lengths, letters=2), present(lengths)
        rows, gap = np.arange(len(lengths)), rng.integers(0, lengths)
        answer = Part(words[rows, gap, None], scored=True)
        in_second = {"any": rng.integers(0, 2, len(lengths)), "first": 0, "second": 1}[str(split.shift["gap"])]
        both = np.concatenate([words, words], axis=1)
        both[rows, gap + in_second * words.shape[1]] = Vocab.first + 2
        there = None if keep is None else np.concatenate([keep, keep], axis=1)
        return assemble([Part(both, keep=there), _SEP, answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        word = list(prompt[:-1])
        if len(word) % 2 or word.count("_") != 1:
            raise UserError(f"{' '.join(prompt)!r} is not a word written twice with one letter replaced by _")
        first, second = word[: len(word) // 2], word[len(word) // 2 :]
        return next((b if a == "_" else a,) for a, b in zip(first, second, strict=True) if "_" in (a, b))

    def chance(self, length: int) -> float:
        del length
        return 0.5

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the accuracy of answering with the more frequent letter.

        It is wrong only if the other letters, which come in pairs, outweigh the copy of the missing one.
        """
        others = length - 1
        tied = 0.0 if others % 2 else comb(others, others // 2) / 2**others
        return {"more frequent letter": (1 + tied) / 2} if tied else {}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        counts = {letter: (2 * length - 1) * p for letter, p in zip("ab", letter_shares(split, 2), strict=True)}
        return {token: count / (2 * length + 1) for token, count in (counts | {"_": 1, ">": 1}).items()}


class InterlockedPairing(Task):
    """Given n times one letter, then m times the other, write n of the first, n + m of the other, m of the first.

    >>> from genlab.tasks import make
    >>> " ".join(make("interlocked-pairing", 8).solve("a a b >".split()))
    'a a b b b a'
    >>> " ".join(make("interlocked-pairing", 8).solve("b a a a >".split()))
    'b a a a a b b b'
    """

    name = "interlocked-pairing"
    family = "Chomsky hierarchy"
    asks = "write a^n b^(n+m) a^m for a^n b^m"
    source = _SOURCE + " (in its program: cs/interlocked_pairing)"
    length_unit = "letters"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "a^n b^m > a^n b^(n+m) a^m"})
    splits = split_map(
        Split(name="id", about="n is uniform", shift={"n": "uniform"}),
        Split(name="halves", about="n and m differ by at most one", shift={"n": "half"}),
        Split(name="lopsided", about="n or m is one", shift={"n": "ends"}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 10,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 4000,
            }
        }
    )

    def symbols(self) -> tuple[str, ...]:
        return ("a", "b")

    def width(self, length: int) -> int:
        return 3 * length + 2  # n + m letters, `>`, twice as many, `<end>`

    def min_len(self, split: Split) -> int:
        del split
        return 2

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        first, coin = rng.integers(0, 2, (2, len(lengths), 1))
        total = lengths[:, None]
        kind = split.shift["n"]
        if kind == "uniform":
            n = rng.integers(1, total)
        else:
            n = (total + coin) // 2 if kind == "half" else np.where(coin, 1, total - 1)
        place = np.arange(2 * int(lengths.max()))
        ids = Vocab.first + np.stack([first, 1 - first])
        prompt = Part(np.where(place[: len(place) // 2] < n, *ids), keep=present(lengths))
        around = (place < n) | (place >= n + total)
        answer = Part(np.where(around, *ids), scored=True, keep=present(2 * lengths))
        return assemble([prompt, _SEP, answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        word = tuple(prompt[:-1])
        return word + tuple({"a": "b", "b": "a"}[letter] for letter in word)

    def chance(self, length: int) -> float:
        return 1 / (2 * (length - 1))

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        del split
        half = length / (2 * length + 2)
        return {"a": half, "b": half, ">": 1 / (length + 1)}
