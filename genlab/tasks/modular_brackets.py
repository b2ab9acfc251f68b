"""Bracketed expressions modulo m, of any length and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Examples, Floats, Ints, Part, Task, Vocab, assemble, split_map
from genlab.tasks.bracketings import (
    BRACKET_SPLITS,
    bracket_value,
    draw_bracketing,
    draw_published,
    published_counts,
    signs_of,
)
from genlab.tasks.letters import present
from genlab.tasks.modular_chain import draw_operands, operand_shares, result_table

__all__ = ["ModularBrackets"]


class ModularBrackets(Task):
    """The value modulo m of a bracketed expression.

    In `plain` it is fully bracketed and a length counts its numbers. `published` has the grammar of the authors'
    program, d, -d, (d), (-d) or (left operator right), and a length counts its tokens; by how many of these go to
    the left side of an expression its shape follows. Numbers and operators are drawn alike in both.

    On `id` the operators are applied in random order: the outermost one is equally likely to be any, and so on
    within. Depth then grows with the logarithm of the length; the splits `left` and `right` nest as deep as can be.
    Beside exact match the results are given by depth, the most brackets that are open at once.

    >>> from genlab.tasks import make
    >>> make("modular-brackets", 8).solve("( ( 3 + 4 ) * 2 ) >".split())                     # 14 = 4 modulo 5
    ('4',)
    >>> make("modular-brackets", 8).solve("( 1 - ( 4 * ( 2 + 2 ) ) ) >".split())             # -15
    ('0',)
    >>> make("modular-brackets", 8, "published").solve("( - 4 * ( 2 ) ) >".split())          # -8 = 2 modulo 5
    ('2',)
    """

    name = "modular-brackets"
    family = "modular arithmetic"
    asks = "what is a bracketed expression modulo m?"
    source = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
    length_unit = "numbers (published: tokens)"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "a fully bracketed expression > value",
            "published": "an expression with -d, (d) and (-d) too > value; a length counts tokens",
        }
    )
    splits = split_map(*BRACKET_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {"train_len": 3, "n_layers": 2, "positions": "rotary", "lr": 0.002, "warmup": 100, "steps": 15000},
            "published": {"train_len": 9},
        }
    )

    class Params(Task.Params):
        """The numbers and the operators."""

        modulus: int = Field(5, ge=2, le=200, description="numbers are 0 to modulus - 1")
        operators: str = Field("+-*", description="signs that occur, of + - and *")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        given = self.params.operators
        if not given or len(set(given)) < len(given) or not set(given) <= set("+-*"):
            raise UserError(f"operators {given!r}: allowed are some of '+-*', each once")
        signs = signs_of(given) if self._published else given
        return (*map(str, range(self.params.modulus)), "(", ")", *signs)

    @property
    def _published(self) -> bool:
        return self.format == "published"

    def width(self, length: int) -> int:
        if self._published:
            return length + 3
        # length numbers, length - 1 operators, as many pairs of brackets; then `>`, the answer, `<end>`
        return 4 * length

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        modulus, operators = self.params.modulus, self.params.operators
        if self._published:
            drawn = draw_published(rng, split, lengths, modulus, operators)
            return _written(Part(Vocab.first + drawn.tokens, keep=present(lengths)), drawn.values, lengths)
        numbers = draw_operands(rng, split, (len(lengths), int(lengths.max())), modulus)
        brackets = draw_bracketing(rng, split, numbers, lengths, modulus, operators)
        return _written(brackets.part(Vocab.first + numbers, Vocab.first + modulus), brackets.values, lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        expression = prompt[: list(prompt).index(">")] if ">" in prompt else prompt
        return (str(bracket_value(expression) % self.params.modulus),)

    def factors(self, examples: Examples) -> dict[str, Ints]:
        opening = Vocab.first + self.params.modulus
        steps = (examples.tokens == opening).astype(np.int64) - (examples.tokens == opening + 1)
        return {"depth": np.cumsum(steps, axis=1).max(axis=1)}

    def chance(self, length: int) -> float:
        return float(np.sum(self._value_shares[length] ** 2))

    def baseline(self, length: int) -> Mapping[str, float]:
        """The most frequent value (0, where there are products)."""
        most = float(self._value_shares[length].max())
        return {"most frequent answer": most} if most > self.chance(length) + 1e-12 else {}

    @cached_property
    def _value_shares(self) -> Floats:
        """Distribution of the value on `id`, float[length, value]: the outermost operator splits evenly."""
        modulus, operators = self.params.modulus, self.params.operators
        results = result_table(modulus, operators).reshape(len(operators), -1)
        shares = np.zeros((self.max_len + 1, modulus))
        # Up to so many tokens or numbers there is one number; an operator takes `taken` tokens beside its two sides.
        longest, taken = (4, 3) if self._published else (1, 0)
        shares[1 : longest + 1] = 1 / modulus
        for length in range(longest + 1, self.max_len + 1):
            # Probability of the values left and right of the outermost operator, over all its places.
            sides = length - taken
            both = shares[1:sides].T @ shares[sides - 1 : 0 : -1] / (sides - 1)
            for result in results:
                shares[length] += np.bincount(result, both.ravel(), minlength=modulus) / len(operators)
        return shares

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        if self._published:
            return self._published_shares(split, length)
        each = (length - 1) / len(self.params.operators)
        brackets = {"(": length - 1, ")": length - 1, ">": 1}
        counts = operand_shares(split, length, self.params.modulus) | dict.fromkeys(self.params.operators, each)
        return {token: count / (4 * length - 2) for token, count in (counts | brackets).items()}

    def _published_shares(self, split: Split, length: int) -> Mapping[str, float]:
        numbers, minuses, pairs = published_counts(str(split.shift["order"]), length)
        each = (length - numbers - minuses - 2 * pairs) / len(self.params.operators)
        counts = operand_shares(split, numbers, self.params.modulus) | dict.fromkeys(self.params.operators, each)
        counts |= {"(": pairs, ")": pairs, ">": 1.0, "-": counts.get("-", 0.0) + minuses}
        return {token: count / (length + 1) for token, count in counts.items() if count}


def _written(expression: Part, values: Ints, lengths: Ints) -> Examples:
    answer = Part(Vocab.first + values[:, None], scored=True)
    return assemble([expression, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)
