"""Context-sensitive tasks of the Chomsky hierarchy benchmark: binary arithmetic and reordering letters.

The benchmark's binary addition is `addition` with base 2. Numbers are stored as bits, least significant first, and
converted to Python integers, since NumPy's are too short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import isqrt
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import WORD_SPLITS, draw_words, present, word_shares
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble

_SOURCE = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
_SEP, _END = Part(Vocab.sep), Part(Vocab.end, scored=True)


class BinaryMultiplication(Task):
    """Multiply two binary numbers without leading zeros. Length is the total number of bits of both.

    `reversed` writes all three numbers least significant bit first, as published; `forward` writes them most
    significant bit first.

    >>> from genlab.tasks import make
    >>> " ".join(make("binary-multiplication", 8).solve("0 1 1 * 1 0 1 >".split()))                # 6 * 5 = 30
    '0 1 1 1 1'
    >>> " ".join(make("binary-multiplication", 8, "forward").solve("1 0 0 * 1 1 >".split()))       # 4 * 3 = 12
    '1 1 0 0'
    """

    name = "binary-multiplication"
    family = "Chomsky hierarchy"
    asks = "what is the product of two binary numbers?"
    source = _SOURCE
    length_unit = "bits of both numbers"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "reversed": "number * number > product, least significant bit first",
            "forward": "number * number > product, most significant bit first",
        }
    )
    splits = split_map(
        Split(
            name="id", about="uniform bits, split at random between the numbers", shift={"bits": "any", "p_one": 0.5}
        ),
        Split(name="halves", about="each number has half of the bits", shift={"bits": "half", "p_one": 0.5}),
        Split(name="sparse", about="one bit in ten is a one", shift={"bits": "any", "p_one": 0.1}),
        Split(name="dense", about="nine bits in ten are ones", shift={"bits": "any", "p_one": 0.9}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 6,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 6000,
            }
        }
    )

    def symbols(self) -> tuple[str, ...]:
        return ("0", "1", "*")

    def width(self, length: int) -> int:
        return 2 * length + 3  # the bits, `*`, `>`, at most as many bits, `<end>`

    def min_len(self, split: Split) -> int:
        del split
        return 2

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        left = lengths // 2 if split.shift["bits"] == "half" else rng.integers(1, lengths)
        factors = [_draw_numbers(rng, widths, float(split.shift["p_one"])) for widths in (left, lengths - left)]
        values = [a * b for a, b in zip(*map(_integers, factors), strict=True)]
        bits = _bits(values, int(lengths.max()))
        # The product of numbers with i and j bits, without leading zeros, has i + j bits or one less.
        size = lengths - 1 + bits[np.arange(len(lengths)), lengths - 1]
        first, second = (
            self._part(bits, widths) for bits, widths in zip(factors, (left, lengths - left), strict=True)
        )
        answer = self._part(bits, size, scored=True)
        return assemble([first, Part(Vocab.first + 2), second, _SEP, answer, _END], lengths)

    def _part(self, bits: Bools, sizes: Ints, scored: bool = False) -> Part:
        return _written(bits, sizes, scored, backwards=self.format == "forward")

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        text = "".join(prompt[:-1])
        if text.count("*") != 1 or text.strip("*") != text or not set(text) <= set("01*"):
            raise UserError(f"{' '.join(prompt)!r} is not a product: write a binary number * a binary number >")
        first, second = (text if self.format == "forward" else text[::-1]).split("*")
        # Long multiplication: add the first number, shifted, for each 1 bit of the second.
        shifted = [int(first, 2) << place for place, bit in enumerate(reversed(second)) if bit == "1"]
        answer = f"{sum(shifted):b}"
        return tuple(answer if self.format == "forward" else answer[::-1])

    def chance(self, length: int) -> float:
        # Exact up to 16 bits; extrapolated beyond, with the factor between 15 and 16 bits.
        known = min(length, 16)
        return _collisions(known) * (_collisions(16) / _collisions(15)) ** (length - known)

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        ones = 2 + (length - 2) * float(split.shift["p_one"])
        counts = {"0": length - ones, "1": ones, "*": 1.0, ">": 1.0}
        return {token: count / (length + 2) for token, count in counts.items() if count}


class SquareRoot(Task):
    """Compute the square root of a binary number, rounded down, most significant bit first.

    A number of `length` bits may have leading zeros. Its root is written with half as many bits, rounded up.

    >>> from genlab.tasks import make
    >>> " ".join(make("square-root", 8).solve("1 0 0 1 0 1 >".split()))       # 37: 6
    '1 1 0'
    >>> " ".join(make("square-root", 8).solve("0 1 1 1 1 >".split()))         # 15: 3
    '0 1 1'
    """

    name = "square-root"
    family = "Chomsky hierarchy"
    asks = "what is the square root of a binary number, rounded down?"
    source = _SOURCE
    length_unit = "bits"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "bits of a number > bits of its root"})
    splits = split_map(
        Split(name="id", about="uniform over all numbers of that many bits", shift={"numbers": "any"}),
        Split(name="squares", about="a square, or one less than a square", shift={"numbers": "square"}),
        Split(name="small", about="the first half of the bits are zeros", shift={"numbers": "small"}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 8, "n_layers": 2, "lr": 0.002, "steps": 4000}}
    )

    def symbols(self) -> tuple[str, ...]:
        return ("0", "1")

    def width(self, length: int) -> int:
        return length + (length + 1) // 2 + 2  # bits, `>`, bits of the root, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        half, kind = (lengths + 1) // 2, split.shift["numbers"]
        if kind == "square":
            # Roots have at most half the bits (one bit, for numbers of one bit), so that their squares fit.
            roots = _integers(_draw_numbers(rng, np.maximum(lengths // 2, 1), 0.5, leading_one=False))
            less = rng.integers(0, 2, len(lengths)).tolist()
            numbers = [max(root * root - one, 0) for root, one in zip(roots, less, strict=True)]
        else:
            numbers = _integers(_draw_numbers(rng, half if kind == "small" else lengths, 0.5, leading_one=False))
        prompt = _written(_bits(numbers, int(lengths.max())), lengths, backwards=True)
        roots = _bits([isqrt(number) for number in numbers], int(half.max()))
        answer = _written(roots, half, scored=True, backwards=True)
        return assemble([prompt, _SEP, answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        bits = prompt[:-1]
        number, root = int("".join(bits), 2), 0
        for place in reversed(range((len(bits) + 1) // 2)):
            if (root | 1 << place) ** 2 <= number:
                root |= 1 << place
        return tuple(f"{root:0{(len(bits) + 1) // 2}b}")

    def chance(self, length: int) -> float:
        # 2 r + 1 numbers have the root r; the last root has those from its square to 2^length.
        last = isqrt(2**length - 1)
        agree = last * (4 * last**2 - 1) // 3 + (2**length - last**2) ** 2
        return agree / 4**length

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        kind = split.shift["numbers"]
        if kind == "square":
            return {}
        ones = (length if kind == "any" else (length + 1) // 2) / 2
        counts = {"0": length - ones, "1": ones, ">": 1.0}
        return {token: count / (length + 1) for token, count in counts.items()}


def _draw_numbers(rng: np.random.Generator, widths: Ints, p_one: float, leading_one: bool = True) -> Bools:
    """Draw numbers of given widths as bits, least significant first, zero-padded: bool[n, max(widths)]."""
    place = np.arange(int(widths.max()))
    bits = (rng.random((len(widths), len(place))) < p_one) & (place < widths[:, None])
    return bits | (place == widths[:, None] - 1) if leading_one else bits


def _integers(bits: Bools) -> list[int]:
    """Convert rows of bits, least significant first, to numbers."""
    return [int.from_bytes(row.tobytes(), "little") for row in np.packbits(bits, axis=1, bitorder="little")]


def _bits(numbers: list[int], width: int) -> Bools:
    """Convert numbers to `width` bits each, least significant first: bool[n, width]."""
    size = -(-width // 8)
    whole = np.frombuffer(b"".join(number.to_bytes(size, "little") for number in numbers), np.uint8)
    return np.unpackbits(whole.reshape(-1, size), axis=1, count=width, bitorder="little").view(np.bool_)


def _written(bits: Bools, sizes: Ints, scored: bool = False, backwards: bool = False) -> Part:
    """Return a part with the first `widths` bits of each row as tokens, possibly in reverse order."""
    keep = np.arange(bits.shape[1]) < sizes[:, None]
    step = -1 if backwards else 1
    return Part(Vocab.first + bits[:, ::step], scored, None if keep.all() else keep[:, ::step])


@cache
def _collisions(length: int) -> float:
    """Return the probability that two products of `length` bits are equal, by enumeration."""
    shares = np.zeros(2**length)
    for bits in range(1, length):
        first, second = (np.arange(2 ** (width - 1), 2**width) for width in (bits, length - bits))
        values = np.multiply.outer(first, second).ravel()
        shares += np.bincount(values, minlength=2**length) / (len(values) * (length - 1))
    return float(np.sum(shares**2))


# -- Reordering letters


class OddsFirst(Task):
    """Write the letters at odd positions (first, third, ...) of a word, then those at even positions.

    This follows the authors' text and docstring. Their program writes the even positions first; so does `published`.

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
    asks = "write the letters at odd positions, then those at even positions"
    source = _SOURCE
    length_unit = "letters"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "a word > its letters at odd, then at even positions",
            "published": "a word > its letters at even, then at odd positions, as in the authors' program",
        }
    )
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
    """Sort a word over five letters. Letters repeat (unlike in `sort`), so that counting them is enough.

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
            words[~keep] = 5  # padding sorts to the end
        in_order = Part(Vocab.first + np.sort(words, axis=1), scored=True, keep=keep)
        return assemble([Part(Vocab.first + words, keep=keep), _SEP, in_order, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return tuple(letter for letter in "01234" for _ in range(list(prompt).count(letter)))

    def chance(self, length: int) -> float:
        # Two words have the same answer if the counts of one letter agree, then those of the next among the rest.
        agree = np.array([1.0] + [0.0] * length)  # by the number of remaining letters
        for letters in range(1, 6):
            count, shares = np.ones(1), []  # distribution of the count of one letter among n, for n = 0, 1, ...
            for n in range(length + 1):
                shares.append(np.sum(count**2 * agree[n::-1]))
                count = np.append(count * (1 - 1 / letters), 0.0) + np.append(0.0, count / letters)
            agree = np.array(shares)
        return float(agree[length])

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        return word_shares(split, "01234", length)
