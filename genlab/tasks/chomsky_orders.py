"""The context-sensitive tasks of the Chomsky-hierarchy battery that put the letters of a word in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from genlab.spec import Split
from genlab.tasks.base import Examples, Ints, Part, Task, Vocab, assemble, split_map
from genlab.tasks.letters import WORD_SPLITS, draw_words, present, word_shares

__all__ = ["BucketSort", "OddsFirst"]

_SOURCE = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
_SEP, _END = Part(Vocab.sep), Part(Vocab.end, scored=True)


class OddsFirst(Task):
    """A word with its letters at odd places first (the first, third, ...), then those at even places.

    The authors' text and docstring say so; their program writes those at even places first, as `published` does.

    >>> from genlab.tasks import make
    >>> " ".join(make("odds-first", 8).solve("a a b b a b a b >".split()))
    'a b a a a b b b'
    >>> " ".join(make("odds-first", 8).solve("b b a >".split()))
    'b a b'
    >>> " ".join(make("odds-first", 8, "published").solve("a a b b a b a b >".split()))
    'a b b b a b a a'
    """

    name = "odds-first"
    family = "Chomsky hierarchy"
    asks = "write the letters at odd places, then those at even places"
    source = _SOURCE
    length_unit = "letters"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "a word > its odd, then its even letters",
            "published": "a word > its even, then its odd letters, as in the authors' program",
        }
    )
    splits = split_map(*WORD_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 8,
                "n_layers": 2,
                "positions": "rotary",
                "lengths_per_batch": 8,
                "lr": 0.002,
                "warmup": 100,
                "steps": 6000,
            }
        }
    )

    def symbols(self) -> tuple[str, ...]:
        return ("a", "b")

    def width(self, length: int) -> int:
        return 2 * length + 2  # the word, `>`, the word in another order, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        words, keep = Vocab.first + draw_words(rng, split, lengths, letters=2), present(lengths)
        halves = (
            Part(words[:, start::2], scored=True, keep=None if keep is None else keep[:, start::2])
            for start in ((1, 0) if self.format == "published" else (0, 1))
        )
        return assemble([Part(words, keep=keep), _SEP, *halves, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        numbered = list(enumerate(prompt[:-1], start=1))
        order = (0, 1) if self.format == "published" else (1, 0)
        return tuple(letter for odd in order for place, letter in numbered if place % 2 == odd)

    def chance(self, length: int) -> float:
        return 0.5**length

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        return word_shares(split, "ab", length)


class BucketSort(Task):
    """A word over five letters, sorted; letters repeat (unlike in `sort`), so that counting them is enough.

    >>> from genlab.tasks import make
    >>> " ".join(make("bucket-sort", 8).solve("4 2 1 3 0 2 >".split()))
    '0 1 2 2 3 4'
    >>> " ".join(make("bucket-sort", 8).solve("3 3 0 >".split()))
    '0 3 3'
    """

    name = "bucket-sort"
    family = "Chomsky hierarchy"
    asks = "sort a word over five letters"
    source = _SOURCE
    length_unit = "letters"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "a word > the word sorted"})
    splits = split_map(*WORD_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 2, "positions": "none", "steps": 4000}}
    )

    def symbols(self) -> tuple[str, ...]:
        return ("0", "1", "2", "3", "4")

    def width(self, length: int) -> int:
        return 2 * length + 2  # the word, `>`, the word sorted, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        words, keep = draw_words(rng, split, lengths, letters=5), present(lengths)
        if keep is not None:
            words[~keep] = 5  # places that are not there sort to the end
        in_order = Part(Vocab.first + np.sort(words, axis=1), scored=True, keep=keep)
        return assemble([Part(Vocab.first + words, keep=keep), _SEP, in_order, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return tuple(letter for letter in "01234" for _ in range(list(prompt).count(letter)))

    def chance(self, length: int) -> float:
        # Two words have one answer if they agree in the count of one letter and then, among the rest, of the next.
        agree = np.array([1.0] + [0.0] * length)  # by the number of letters that are left
        for letters in range(1, 6):
            count, shares = np.ones(1), []  # the law of the count of one letter among n, for n = 0, 1, ...
            for n in range(length + 1):
                shares.append(np.sum(count**2 * agree[n::-1]))
                count = np.append(count * (1 - 1 / letters), 0.0) + np.append(0.0, count / letters)
            agree = np.array(shares)
        return float(agree[length])

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        return word_shares(split, "01234", length)
