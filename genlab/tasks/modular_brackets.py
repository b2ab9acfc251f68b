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
from genlab.tasks.bracketings import BRACKET_SPLITS, draw_bracketing, reduce_brackets
from genlab.tasks.modular_chain import draw_operands, operand_shares, result_table

__all__ = ["ModularBrackets"]


class ModularBrackets(Task):
    """The value modulo m of a fully bracketed expression; a length counts its numbers.

    On `id` the operators are applied in random order: the outermost one is equally likely to be any, and so on
    within. Depth then grows with the logarithm of the length; the splits `left` and `right` nest as deep as can be.
    Beside exact match the results are given by depth, the most brackets that are open at once.

    >>> from genlab.tasks import make
    >>> make("modular-brackets", 8).solve("( ( 3 + 4 ) * 2 ) >".split())                     # 14 = 4 modulo 5
    ('4',)
    >>> make("modular-brackets", 8).solve("( 1 - ( 4 * ( 2 + 2 ) ) ) >".split())             # -15
    ('0',)
    """

    name = "modular-brackets"
    family = "modular arithmetic"
    asks = "what is a bracketed expression modulo m?"
    source = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
    length_unit = "numbers"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "a fully bracketed expression > value"})
    splits = split_map(*BRACKET_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 3, "n_layers": 2, "positions": "rotary", "lr": 0.002, "warmup": 100, "steps": 15000}}
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
        return (*map(str, range(self.params.modulus)), "(", ")", *given)

    def width(self, length: int) -> int:
        # length numbers, length - 1 operators, as many pairs of brackets; then `>`, the answer, `<end>`
        return 4 * length

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        modulus = self.params.modulus
        numbers = draw_operands(rng, split, (len(lengths), int(lengths.max())), modulus)
        brackets = draw_bracketing(rng, split, numbers, lengths, modulus, self.params.operators)
        prompt = brackets.part(Vocab.first + numbers, Vocab.first + modulus)
        answer = Part(Vocab.first + brackets.values[:, None], scored=True)
        return assemble([prompt, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        expression = prompt[: list(prompt).index(">")]
        return (str(reduce_brackets(expression) % self.params.modulus),)

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
        shares[1] = 1 / modulus
        for length in range(2, self.max_len + 1):
            # Probability of the values left and right of the outermost operator, over all its places.
            both = shares[1:length].T @ shares[length - 1 : 0 : -1] / (length - 1)
            for result in results:
                shares[length] += np.bincount(result, both.ravel(), minlength=modulus) / len(operators)
        return shares

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        each = (length - 1) / len(self.params.operators)
        brackets = {"(": length - 1, ")": length - 1, ">": 1}
        counts = operand_shares(split, length, self.params.modulus) | dict.fromkeys(self.params.operators, each)
        return {token: count / (4 * length - 2) for token, count in (counts | brackets).items()}
