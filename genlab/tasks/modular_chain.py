"""Chains of sums, differences and products modulo m, of any length, without brackets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Scalar, Split, build
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Part, Vocab, assemble

OPERAND_SPLITS = (
    Split(name="id", about="uniform operands and operators", shift={"p_zero": "uniform"}),
    Split(name="nonzero", about="no operand is 0", shift={"p_zero": 0.0}),
    Split(name="zeros", about="half of the operands are 0", shift={"p_zero": 0.5}),
)


class ModularChain(Task):
    """Evaluate numbers joined by operators modulo m. Length is the number of numbers.

    `sum` only uses `+`. `left-to-right` applies each operator to the result so far, ignoring precedence; `running`
    also writes that result after every number. In `precedence`, products come before sums and differences.

    >>> from genlab.tasks import make
    >>> make("modular-chain", 8).solve("3 + 4 + 4 >".split())                                # 11 = 1 modulo 5
    ('1',)
    >>> make("modular-chain", 8, "left-to-right").solve("3 + 4 * 2 >".split())               # 7 = 2, then 2 * 2
    ('4',)
    >>> make("modular-chain", 8, "running").solve("3 + 4 * 2 >".split())
    ('3', '2', '4')
    >>> make("modular-chain", 8, "precedence").solve("3 + 4 * 2 >".split())                  # 3 + 8 = 11
    ('1',)
    """

    name = "modular-chain"
    family = "modular arithmetic"
    asks = "what is the value of a chain of +, - and * modulo m?"
    source = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098 (precedence)"
    length_unit = "numbers"
    language_class = "regular"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "sum": "numbers joined by + > value",
            "left-to-right": "numbers joined by operators > value, evaluated from left to right",
            "running": "numbers joined by operators > the result so far after every number",
            "precedence": "numbers joined by operators > value, products first",
        }
    )
    splits = split_map(*OPERAND_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {"train_len": 4, "n_layers": 2, "lr": 0.002, "steps": 6000},
            "sum": {"positions": "none"},
            "running": {"train_len": 10, "positions": "rotary", "steps": 4000},
        }
    )

    class Params(Task.Params):
        """The modulus and the operators."""

        modulus: int = Field(5, ge=2, le=200, description="numbers are 0 to modulus - 1")
        operators: str = Field("+-*", description="operators to use, out of + - and *; only + in format 'sum'")

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        del max_len
        return build(cls.Params, {"operators": "+" if format == "sum" else "+-*", **params}).model_dump()

    def symbols(self) -> tuple[str, ...]:
        given, allowed = self.params.operators, "+" if self.format == "sum" else "+-*"
        if not given or len(set(given)) < len(given) or not set(given) <= set(allowed):
            raise UserError(
                f"operators {given!r} is not allowed: format {self.format!r} uses a selection of {allowed!r}, "
                "each once"
            )
        return (*map(str, range(self.params.modulus)), *given)

    def width(self, length: int) -> int:
        # 2 length - 1 tokens of the prompt, `>`, the answer, `<end>`
        return 3 * length + 1 if self.format == "running" else 2 * length + 2

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        n, longest, modulus = len(lengths), int(lengths.max()), self.params.modulus
        inside = np.arange(longest) < lengths[:, None]
        keep = None if inside.all() else inside
        numbers = draw_operands(rng, split, (n, longest), modulus)
        signs = rng.integers(0, len(self.params.operators), (n, longest))
        # The operator before the first number is not written.
        written = np.stack([Vocab.first + modulus + signs, Vocab.first + numbers], axis=2).reshape(n, -1)[:, 1:]
        prompt = Part(written, keep=None if keep is None else np.repeat(keep, 2, axis=1)[:, 1:])
        values = Vocab.first + self._values(numbers, signs, inside)
        answer = Part(values, True, keep) if self.format == "running" else Part(values[:, -1:], True)
        return assemble([prompt, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def _values(self, numbers: Ints, signs: Ints, inside: Bools) -> Ints:
        """Return the value of the chain up to each number, int[n, number]; the final value beyond the last one."""
        start = len(self.params.operators)
        follow = np.where(inside, signs, start + 1)
        follow[:, 0] = start
        values = _scan(self._table, follow, numbers)
        if self.format != "precedence":
            return values
        # `values` holds the current product; it is added up if a sum, a difference or the end follows.
        product_goes_on = np.array([sign == "*" for sign in self.params.operators])[signs] & inside
        ends = inside.copy()
        ends[:, :-1] &= ~product_goes_on[:, 1:]
        return np.cumsum(values * ends, axis=1) % self.params.modulus

    @cached_property
    def _table(self) -> Ints:
        """Return the value after an operator and a number, int[operator, number, before].

        The operators are followed by the start (`before` counts as 0) and the end (the value is unchanged). If
        products come first, the value is the product so far, and a sum or difference starts a new one.
        """
        modulus, operators = self.params.modulus, self.params.operators
        number, before = np.indices((modulus, modulus))
        steps = list(result_table(modulus, operators).transpose(0, 2, 1))
        if self.format == "precedence":
            pairs = zip(operators, steps, strict=True)
            steps = [step if sign == "*" else np.broadcast_to(step[:, :1], step.shape) for sign, step in pairs]
        return np.stack([*steps, number, before])

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        body = list(prompt[: list(prompt).index(">")])
        if self.format == "precedence":
            while "*" in body:
                i = body.index("*")
                body[i - 1 : i + 2] = [str(int(body[i - 1]) * int(body[i + 1]))]
        so_far = [int(body[0])]
        for sign, number in zip(body[1::2], map(int, body[2::2]), strict=True):
            last = so_far[-1]
            so_far.append({"+": last + number, "-": last - number, "*": last * number}[sign])
        answer = tuple(str(value % self.params.modulus) for value in so_far)
        return answer if self.format == "running" else answer[-1:]

    def chance(self, length: int) -> float:
        modulus = self.params.modulus
        if self.format != "running":
            return float(np.sum(self._value_shares(length) ** 2))
        # Two answers are equal if they agree at every step.
        together, both = np.full(modulus, modulus**-2.0), self._steps() ** 2
        for _ in range(length - 1):
            together = together @ both
        return float(together.sum())

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the accuracy of always giving the most frequent value (0, if there are products)."""
        if self.format == "running":
            return {}
        most = float(self._value_shares(length).max())
        return {"most frequent answer": most} if most > self.chance(length) + 1e-12 else {}

    def _steps(self) -> Floats:
        """Return the transition probabilities of the value for a random operator and number: [before, after]."""
        tables = result_table(self.params.modulus, self.params.operators)
        after = tables[..., None] == np.arange(self.params.modulus)  # [operator, before, number, after]
        return after.mean(axis=(0, 2))

    def _value_shares(self, length: int) -> Floats:
        """Return the distribution of the value on `id`."""
        modulus, operators = self.params.modulus, self.params.operators
        if self.format == "precedence":
            return _precedence_shares(length, modulus, operators)
        shares, steps = np.full(modulus, 1 / modulus), self._steps()
        for _ in range(length - 1):
            shares = shares @ steps
        return shares

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        operators = {sign: (length - 1) / len(self.params.operators) for sign in self.params.operators}
        counts = operand_shares(split, length, self.params.modulus) | operators | {">": 1}
        return {token: count / (2 * length) for token, count in counts.items()}

    @property
    def judges(self) -> Mapping[str, str]:
        return {"final_answer": "the value after the last number"} if self.format == "running" else {}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        return {"final_answer": tuple(answer[-1:]) == self.solve(prompt)[-1:]} if self.judges else {}


def draw_operands(rng: np.random.Generator, split: Split, shape: tuple[int, int], modulus: int) -> Ints:
    """Draw numbers below the modulus as the split specifies, int[shape]."""
    p_zero = split.shift["p_zero"]
    if p_zero == "uniform":
        return rng.integers(0, modulus, shape)
    return rng.integers(1, modulus, shape) * (rng.random(shape) >= float(p_zero))


def operand_shares(split: Split, count: float, modulus: int) -> dict[str, float]:
    """Return the expected count of each number among `count` drawn numbers."""
    p_zero = split.shift["p_zero"]
    zero = 1 / modulus if p_zero == "uniform" else float(p_zero)
    return {str(i): count * ((1 - zero) / (modulus - 1) if i else zero) for i in range(modulus)}


def result_table(modulus: int, operators: str) -> Ints:
    """Return the value of `a operator b`, int[operator, a, b].

    >>> result_table(3, "+*")[:, 2].tolist()
    [[2, 0, 1], [0, 2, 1]]
    """
    a, b = np.arange(modulus)[:, None], np.arange(modulus)
    values = {"+": a + b, "-": a - b, "*": a * b}
    return np.stack([values[sign] for sign in operators]) % modulus


def _scan(table: Ints, operators: Ints, numbers: Ints) -> Ints:
    """Follow a chain through a table of steps [operator, number, before], int[n, number]."""
    moduli = table.shape[1:]
    rows = np.ascontiguousarray(((operators * moduli[0] + numbers) * moduli[1]).T)
    flat, values = table.ravel(), np.empty_like(rows)
    value: Ints | int = 0
    for i, row in enumerate(rows):
        value = flat.take(
            row + value, out=values[i], mode="clip"
        )  # indices are in range; mode="clip" skips the check
    return values.T


def _precedence_shares(length: int, modulus: int, operators: str) -> Floats:
    """Return the distribution of the value if products come first.

    Tracks, number by number, the joint distribution of the sum of finished products and the unfinished product. A sum
    or difference finishes the product and starts a uniform one; a product continues it.
    """
    times = result_table(modulus, "*")[0][..., None] == np.arange(modulus)
    on = times.mean(axis=1)  # probability of [product, product after another number]
    whole = result_table(modulus, "+")[0].ravel()
    p_times = operators.count("*") / len(operators)
    joint = np.zeros((modulus, modulus))  # [sum, product]
    joint[0] = 1 / modulus
    for _ in range(length - 1):
        joint = p_times * (joint @ on) + (1 - p_times) * _summed(whole, joint)[:, None] / modulus
    return _summed(whole, joint)


def _summed(classes: Ints, weights: Floats) -> Floats:
    """Sum the weights of each class."""
    return np.bincount(classes, weights.ravel()).astype(np.float64)
