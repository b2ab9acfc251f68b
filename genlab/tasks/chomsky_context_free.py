"""Context-free tasks of the Chomsky hierarchy benchmark: stack manipulation, equations and comparisons.

The benchmark's other context-free tasks are `reverse` and `modular-brackets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import WORD_SPLITS, draw_words, present, word_shares
from genlab.tasks.examples import Examples, Ints, Part, Vocab, assemble
from genlab.tasks.expressions import (
    BRACKET_SPLITS,
    bracket_value,
    draw_bracketing,
    draw_published,
    published_counts,
)
from genlab.tasks.modular_chain import draw_operands, operand_shares
from genlab.tasks.words import arranged

_SOURCE = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
_SEP, _END = Part(Vocab.sep), Part(Vocab.end, scored=True)


class StackManipulation(Task):
    """Apply pushes (`+a`, `+b`) and `pop`s to a stack given bottom first, and write the result top first.

    Popping an empty stack does nothing. Length is the number of letters plus the number of actions. The size of the
    initial stack is uniform between 1 and length - 1.

    >>> from genlab.tasks import make
    >>> make("stack-manipulation", 8).solve("a b b a +b pop pop >".split())
    ('b', 'b', 'a')
    >>> make("stack-manipulation", 8).solve("b b pop pop pop +a >".split())
    ('a',)
    """

    name = "stack-manipulation"
    family = "Chomsky hierarchy"
    asks = "what is on the stack after these actions?"
    source = _SOURCE
    length_unit = "letters and actions"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "a stack, bottom first, and actions > the stack, top first"}
    )
    splits = split_map(
        Split(name="id", about="pop, push a and push b are equally likely", shift={"p_pop": 1 / 3}),
        Split(name="emptying", about="six actions in ten are pops", shift={"p_pop": 0.6}),
        Split(name="growing", about="one action in ten is a pop", shift={"p_pop": 0.1}),
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
        return ("a", "b", "+a", "+b", "pop")

    def width(self, length: int) -> int:
        return 2 * length + 2  # letters and actions, `>`, at most as many letters, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        keep = present(lengths)
        shape = (len(lengths), int(lengths.max()))
        letters = rng.integers(0, 2, shape)
        given = np.arange(shape[1]) < rng.integers(1, np.maximum(lengths, 2))[:, None]
        pops = (rng.random(shape) < float(split.shift["p_pop"])) & ~given
        written = np.where(pops, 4, np.where(given, letters, letters + 2))
        # Stack height. Pops of an empty stack lower all later heights equally, which changes no comparison.
        height = np.cumsum(np.where(pops, -1, 1), axis=1)
        if keep is not None:
            height[~keep] = shape[1]  # above all others, so that padding removes nothing
        # A letter stays if the stack never drops below it later.
        stays = ~pops & (np.minimum.accumulate(height[:, ::-1], axis=1)[:, ::-1] == height)
        if keep is not None:
            stays &= keep
        left = Part(Vocab.first + letters[:, ::-1], scored=True, keep=stays[:, ::-1])
        return assemble([Part(Vocab.first + written, keep=keep), _SEP, left, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        stack: list[str] = []
        for token in prompt[: list(prompt).index(">")]:
            if token != "pop":
                stack.append(token[-1])
            elif stack:
                stack.pop()
        return tuple(reversed(stack))

    def chance(self, length: int) -> float:
        if length == 1:
            return 0.5
        heights = np.zeros(length + 1)
        for given in range(1, length):  # initial size of the stack; the actions follow
            heights[given] += 1 / (length - 1)
            pushed, popped = heights * 2 / 3, heights / 3
            heights = np.append(0.0, pushed[:-1]) + np.append(popped[1:], 0.0)
            heights[0] += popped[0]
        # Given its height, a stack is uniform: two stacks are equal if their heights and all letters are.
        return float(np.sum(heights**2 * 0.5 ** np.arange(length + 1)))

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        given = length / 2 if length > 1 else 1.0
        pops = (length - given) * float(split.shift["p_pop"])
        pushes = length - given - pops
        counts = {"a": given / 2, "b": given / 2, "+a": pushes / 2, "+b": pushes / 2, "pop": pops, ">": 1.0}
        return {token: count / (length + 1) for token, count in counts.items() if count}


class SolveEquation(Task):
    """Solve a bracketed equation modulo m, with sums and differences only, for x.

    Without products, each equation has exactly one solution. In `plain`, length is the number of numbers on the left
    side, including x. `published` uses the grammar of the authors' program on the left: d, -d, (d), (-d) or (left
    operator right). There, x replaces the first number after a random token (cyclically), and length counts tokens.

    >>> from genlab.tasks import make
    >>> make("solve-equation", 8).solve("( ( x - 2 ) + 4 ) = 1 >".split())    # 4 - 2 + 4 = 6 = 1 modulo 5
    ('4',)
    >>> make("solve-equation", 8).solve("x = 3 >".split())
    ('3',)
    >>> make("solve-equation", 8, "published").solve("( 1 - ( - x ) ) = 3 >".split())
    ('2',)
    """

    name = "solve-equation"
    family = "Chomsky hierarchy"
    asks = "which x solves a bracketed equation modulo m?"
    source = _SOURCE
    length_unit = "numbers (published: tokens)"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "a bracketed expression with x = value > x",
            "published": "like plain, but also with -d, (d) and (-d); length counts tokens",
        }
    )
    splits = split_map(*BRACKET_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 3,
                "n_layers": 3,
                "d_model": 128,
                "positions": "rotary",
                "batch_size": 128,
                "lr": 0.001,
                "steps": 14000,
            },
            "published": {"train_len": 11},
        }
    )

    class Params(Task.Params):
        """The modulus."""

        modulus: int = Field(5, ge=2, le=200, description="numbers are 0 to modulus - 1")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        return (*map(str, range(self.params.modulus)), "(", ")", "+", "-", "x", "=")

    def width(self, length: int) -> int:
        # numbers, operators and brackets as in `modular-brackets`, then `=`, the value, `>`, the answer, `<end>`
        return length + 3 if self._published else 4 * length + 2

    @property
    def _published(self) -> bool:
        return self.format == "published"

    def min_len(self, split: Split) -> int:
        del split
        return 3 if self._published else 1

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        if self._published:
            return self._draw_published(rng, split, lengths)
        modulus = self.params.modulus
        numbers = draw_operands(rng, split, (len(lengths), int(lengths.max())), modulus)
        brackets = draw_bracketing(rng, split, numbers, lengths, modulus, "+-")
        x, equals = Vocab.first + modulus + 4, Vocab.first + modulus + 5
        rows, hidden = np.arange(len(lengths)), rng.integers(0, lengths)
        written = Vocab.first + numbers
        answer = Part(written[rows, hidden, None], scored=True)
        written[rows, hidden] = x
        left, value = brackets.part(written, Vocab.first + modulus), Part(Vocab.first + brackets.values[:, None])
        return assemble([left, Part(equals), value, _SEP, answer, _END], lengths)

    def _draw_published(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        modulus, size = self.params.modulus, lengths - 2
        drawn = draw_published(rng, split, size, modulus, "+-")
        rows, place = np.arange(len(lengths)), np.arange(drawn.tokens.shape[1])
        behind = (place - rng.integers(0, size)[:, None]) % size[:, None]  # distance after a random token of the row
        hidden = np.argmin(np.where(drawn.numbers, behind, behind.max() + 1), axis=1)
        written = Vocab.first + drawn.tokens
        answer = Part(written[rows, hidden, None], scored=True)
        written[rows, hidden] = Vocab.first + modulus + 4
        value = Part(Vocab.first + drawn.values[:, None])
        left = Part(written, keep=present(size))
        return assemble([left, Part(Vocab.first + modulus + 5), value, _SEP, answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        modulus, text = self.params.modulus, list(prompt)
        left, value = text[: text.index("=")] if "=" in text else [], text[-2:-1]
        if text[len(left) + 2 :] != [">"] or left.count("x") != 1 or not "".join(value).isdigit():
            raise UserError(f"{' '.join(text)!r} is not an equation: write an expression with one x, then = VALUE >")
        for number in map(str, range(modulus)):
            known = [number if token == "x" else token for token in left]
            if bracket_value(known) % modulus == int(value[0]):
                return (number,)
        raise UserError(f"no number from 0 to {modulus - 1} solves {' '.join(text)!r} modulo {modulus}")

    def chance(self, length: int) -> float:
        del length
        return 1 / self.params.modulus

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        if split.shift["p_zero"] != "uniform":
            return {}  # then the value is not uniform, unlike a sum of uniform numbers
        if self._published:
            numbers, minuses, pairs = published_counts(str(split.shift["order"]), length - 2)
            each = (length - 2 - numbers - minuses - 2 * pairs) / 2
            signs = {"+": each, "-": each + minuses, "(": pairs, ")": pairs}
            counts = operand_shares(split, numbers, self.params.modulus) | signs | {"x": 1, "=": 1, ">": 1}
            return {token: count / (length + 1) for token, count in counts.items() if count}
        signs = {"+": (length - 1) / 2, "-": (length - 1) / 2, "(": length - 1, ")": length - 1}
        counts = operand_shares(split, length, self.params.modulus) | signs | {"x": 1, "=": 1, ">": 1}
        return {token: count / (4 * length) for token, count in counts.items()}


class CompareOccurrence(Task):
    """Decide which of two letters occurs more often in a word; `b` if they tie.

    >>> from genlab.tasks import make
    >>> make("compare-occurrence", 8).solve("b b b a a a b >".split())
    ('b',)
    >>> make("compare-occurrence", 8).solve("a a b a >".split())
    ('a',)
    """

    name = "compare-occurrence"
    family = "Chomsky hierarchy"
    asks = "which of two letters occurs more often?"
    source = _SOURCE + " (in its program: dcf/compare_occurrence)"
    length_unit = "letters"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "a word > its more frequent letter (b in a tie)"}
    )
    splits = split_map(
        *WORD_SPLITS,
        Split(name="near-tie", about="the counts differ by at most 2", shift={"letters": "near-tie"}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 1, "positions": "none", "steps": 3000}}
    )

    def symbols(self) -> tuple[str, ...]:
        return ("a", "b")

    def width(self, length: int) -> int:
        return length + 3  # the word, `>`, the answer, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        near = split.shift["letters"] == "near-tie"
        words = _near_ties(rng, lengths) if near else draw_words(rng, split, lengths, letters=2)
        keep = present(lengths)
        count = words.sum(axis=1) if keep is None else np.sum(words * keep, axis=1)
        answer = Part(Vocab.first + (2 * count >= lengths)[:, None], scored=True)
        return assemble([Part(Vocab.first + words, keep=keep), _SEP, answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        word = list(prompt)
        return ("a" if word.count("a") > word.count("b") else "b",)

    def chance(self, length: int) -> float:
        b_wins = _b_wins(length)
        return b_wins**2 + (1 - b_wins) ** 2

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the accuracy of always answering `b`, which benefits from ties."""
        return {"always b": _b_wins(length)} if length % 2 == 0 else {}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        if split.shift["letters"] != "near-tie":
            return word_shares(split, "ab", length)
        b = length / 2 if length % 2 else (length - 1) / 2
        return {"a": (length - b) / (length + 1), "b": b / (length + 1), ">": 1 / (length + 1)}


def _b_wins(length: int) -> float:
    """Return the probability that at least half the letters of a uniform word are `b`."""
    return sum(comb(length, count) for count in range(-(-length // 2), length + 1)) / 2**length


def _near_ties(rng: np.random.Generator, lengths: Ints) -> Ints:
    """Draw words in which half the letters are `b`, or one more or less, so that both answers are equally likely."""
    coin = rng.integers(0, 2, len(lengths))
    count = lengths // 2 + np.where(lengths % 2, coin, -coin)
    return arranged(rng, lengths, count).astype(np.int64)
