"""Bracketed expressions modulo m, of any length and shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import present
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Part, Vocab, assemble
from genlab.tasks.modular_chain import draw_operands, operand_shares, result_table

# -- Sampling and evaluating expressions
#
# There are fully bracketed expressions, whose length counts numbers, and those of the published grammar, with -d, (d)
# and (-d), whose length counts tokens. The latter is the grammar of the program of Delétang et al. 2023
# (arXiv 2207.02098).

BRACKET_SPLITS = (
    Split(name="id", about="operators are applied in random order", shift={"order": "random", "p_zero": "uniform"}),
    Split(name="left", about="nested to the left, as deep as possible", shift={"order": "left", "p_zero": "uniform"}),
    Split(
        name="right", about="nested to the right, as deep as possible", shift={"order": "right", "p_zero": "uniform"}
    ),
    Split(name="shallow", about="nested as flat as possible", shift={"order": "pairs", "p_zero": "uniform"}),
    Split(name="nonzero", about="no number is 0", shift={"order": "random", "p_zero": 0.0}),
)


@dataclass(frozen=True, slots=True, eq=False)
class Bracketing:
    """A batch of bracketed expressions.

    Attributes:
        lengths: int[n], count of numbers in each expression.
        signs: int[n, number], operator after each number, as an index into the operators.
        opens: int[n, number], count of brackets opened before each number.
        closes: int[n, number], count of brackets closed after each number.
        values: int[n], value of each expression.
    """

    lengths: Ints
    signs: Ints
    opens: Ints
    closes: Ints
    values: Ints

    def part(self, numbers: Ints, first: int) -> Part:
        """Return the expressions as a part, given the ids of their numbers.

        `(`, `)` and the operators have consecutive ids starting at `first`.
        """
        place = np.arange(numbers.shape[1])
        counts = [self.opens, place < self.lengths[:, None], self.closes, place + 1 < self.lengths[:, None]]
        units = np.broadcast_arrays(first, numbers, first + 1, first + 2 + self.signs)
        written = np.repeat(np.stack(units, axis=2).ravel(), np.stack(counts, axis=2).ravel())
        widths = 4 * self.lengths - 3
        if (widths == widths[0]).all():
            return Part(written.reshape(len(widths), -1))
        keep = np.arange(widths.max()) < widths[:, None]
        ids = np.full(keep.shape, Vocab.pad, np.int64)
        ids[keep] = written
        return Part(ids, keep=keep)


def draw_bracketing(
    rng: np.random.Generator, split: Split, numbers: Ints, lengths: Ints, modulus: int, operators: str
) -> Bracketing:
    """Draw operators and the order in which they are applied, and apply them.

    Each operator in turn replaces the values to its left and right by one value.
    """
    n, longest = numbers.shape
    signs = rng.integers(0, len(operators), (n, longest))
    if longest == 1:
        return Bracketing(lengths, signs, signs * 0, signs * 0, numbers[:, 0])
    real = np.arange(1, longest) < lengths[:, None]
    order = np.argsort(np.where(real, _priority(rng, str(split.shift["order"]), real), np.inf), axis=1)
    applied = np.where(real, signs[:, :-1], len(operators))
    first, last, values = _apply(order, applied, numbers, _table(modulus, operators))
    written = np.take_along_axis(real, order, axis=1).T
    opens, closes = (np.bincount(ends[written], minlength=n * longest).reshape(n, longest) for ends in (first, last))
    return Bracketing(lengths, signs, opens, closes, values)


@cache
def _table(modulus: int, operators: str) -> Ints:
    """Return the value of `a operator b`, int[operator, a, b]; the last operator is the end, which keeps a."""
    return np.concatenate([result_table(modulus, operators), [np.indices((modulus, modulus))[0]]])


def _priority(rng: np.random.Generator, order: str, gaps: Bools) -> Floats:
    """Return a rank for each gap between two numbers, [n, gap]; operators are applied in ascending order of rank."""
    if order == "random":
        return rng.random(gaps.shape)
    index = np.arange(1, gaps.shape[1] + 1)
    # Pairs, then pairs of pairs, and so on: by the largest power of 2 that divides the index of the gap.
    by_order = {"left": index, "right": -index, "pairs": index & -index}
    return np.broadcast_to(by_order[order].astype(np.float64), gaps.shape)


def _apply(order: Ints, applied: Ints, numbers: Ints, table: Ints) -> tuple[Ints, Ints, Ints]:
    """Apply the operators of each row in `order`, int[n, gap].

    Returns:
        The first and the last operand of each operator, as indices into `numbers.ravel()`, int[gap, n], and the
        value of each row, int[n].
    """
    n, longest = numbers.shape
    modulus, flat = table.shape[1], table.ravel()
    value, cell = numbers.ravel().copy(), np.arange(numbers.size)
    start, end = cell.copy(), cell.copy()  # of the block ending, and of the block starting, at a number
    rows = np.arange(n) * longest
    gaps = (order + rows[:, None]).T.copy()
    signs = (np.take_along_axis(applied, order, axis=1) * modulus).T.copy()
    first, last = np.empty_like(gaps), np.empty_like(gaps)
    for step, (gap, after, sign) in enumerate(zip(gaps, gaps + 1, signs, strict=True)):
        left, right = start.take(gap, out=first[step], mode="clip"), end.take(after, out=last[step], mode="clip")
        value[left] = flat[(sign + value[left]) * modulus + value[after]]
        start[right], end[left] = left, right
    return first, last, value[rows]


@dataclass(frozen=True, slots=True, eq=False)
class Expressions:
    """A batch of expressions in the published grammar.

    Attributes:
        tokens: int[n, token], numbers as themselves, then `(`, `)` and the signs, numbered from the modulus on;
            undefined beyond the length of a row.
        numbers: bool[n, token], whether the token is a number.
        values: int[n], value of each expression.
    """

    tokens: Ints
    numbers: Bools
    values: Ints


def draw_published(
    rng: np.random.Generator, split: Split, lengths: Ints, modulus: int, operators: str
) -> Expressions:
    """Draw expressions with a given number of tokens like the published program: d, -d, (d), (-d) or (left operator
    right).

    The order of the split determines how the tokens other than brackets and operator are divided between the two
    sides; on `id`, the size of the left side is uniform. All subexpressions at the same depth are drawn together.
    """
    n, width = len(lengths), int(lengths.max())
    opening, closing, minus = modulus, modulus + 1, modulus + 2 + signs_of(operators).index("-")
    tokens, numbers = np.zeros((n, width), np.int64), np.zeros((n, width), bool)
    row, start, size = np.arange(n), np.zeros(n, np.int64), lengths
    levels: list[tuple[Bools, Ints, Ints]] = []
    while len(row):
        leaf, wrapped, negative = size < 5, size > 2, (size == 2) | (size == 4)
        tokens[row[wrapped], start[wrapped]] = opening
        tokens[row[wrapped], (start + size - 1)[wrapped]] = closing
        tokens[row[negative], (start + size - 2 - wrapped)[negative]] = minus
        digits = draw_operands(rng, split, (int(leaf.sum()), 1), modulus)[:, 0]
        place = (row[leaf], (start + size - 1 - wrapped)[leaf])
        tokens[place], numbers[place] = digits, True
        left = _left_size(rng, str(split.shift["order"]), size[~leaf])
        sign = rng.integers(0, len(operators), len(left))
        row, start, size = row[~leaf], start[~leaf], size[~leaf]
        tokens[row, start + 1 + left] = modulus + 2 + sign
        levels.append((leaf, np.where(negative[leaf], -digits, digits) % modulus, sign))
        row = np.concatenate([row, row])
        start, size = np.concatenate([start + 1, start + 2 + left]), np.concatenate([left, size - 3 - left])
    values, table = np.zeros(0, np.int64), result_table(modulus, operators)
    for leaf, of_leaves, sign in reversed(levels):
        sides, values = values.reshape(2, -1), np.empty(len(leaf), np.int64)
        values[leaf], values[~leaf] = of_leaves, table[sign, sides[0], sides[1]]
    return Expressions(tokens, numbers, values)


def _left_size(rng: np.random.Generator, order: str, size: Ints) -> Ints:
    """Draw the number of tokens on the left side of `(left operator right)`, given the total."""
    return rng.integers(1, size - 3) if order == "random" else _LEFT_SIZE[order](size)


_LEFT_SIZE: Mapping[str, Callable[[Ints], Ints]] = MappingProxyType(
    {"left": lambda size: size - 4, "right": np.ones_like, "pairs": lambda size: (size - 2) // 2}
)
"""Size of the left side for nesting to the left, to the right, or as flat as possible."""


def signs_of(operators: str) -> str:
    """Return the signs in the published grammar: the operators, and the minus sign of `-d`.

    >>> signs_of("+-*"), signs_of("+*")
    ('+-*', '+*-')
    """
    return operators if "-" in operators else operators + "-"


@cache
def published_counts(order: str, length: int) -> tuple[float, float, float]:
    """Return the expected count of numbers, unary minus signs and bracket pairs in an expression of a given size.

    The remaining tokens are operators.

    >>> published_counts("left", 9), published_counts("left", 10)          # ((d+d)+d) and ((-d+d)+d)
    ((3.0, 0.0, 2.0), (3.0, 1.0, 2.0))
    """
    if length < 5:
        return 1.0, float(length % 2 == 0), float(length > 2)
    lefts = range(1, length - 3) if order == "random" else [int(_LEFT_SIZE[order](np.array(length)))]
    sides = [(*published_counts(order, left), *published_counts(order, length - 3 - left)) for left in lefts]
    numbers, minuses, pairs, *right = np.mean(sides, axis=0)
    return float(numbers + right[0]), float(minuses + right[1]), float(1 + pairs + right[2])


def bracket_value(tokens: Sequence[str]) -> int:
    """Evaluate an expression of numbers, -d, (expression) and (left operator right), without a modulus.

    >>> bracket_value("( 3 - ( 2 * 4 ) )".split()), bracket_value("( - 3 - - 4 )".split())
    (-5, 1)

    Raises:
        UserError: If the tokens do not form such an expression.
    """
    rest: list[str | int] = list(tokens)  # evaluated brackets become Python ints
    while ")" in rest:
        close = rest.index(")")
        open_ = max((i for i, token in enumerate(rest[:close]) if token == "("), default=-1)
        value = _flat_value(rest[open_ + 1 : close])
        if open_ < 0 or value is None:
            raise _unreadable(tokens)
        rest[open_ : close + 1] = [value]
    value = _flat_value(rest)
    if value is None or len(rest) > 2:  # an operator needs brackets
        raise _unreadable(tokens)
    return value


def _flat_value(tokens: Sequence[str | int]) -> int | None:
    """Return the value of d, -d, or one operator between two of these; None for anything else."""
    terms: list[int] = []
    signs: list[str] = []
    at = 0
    while at < len(tokens):
        if terms:
            signs.append(str(tokens[at]))
            at += 1
        negative = at + 1 < len(tokens) and tokens[at] == "-" and isinstance(tokens[at + 1], str)
        at += negative
        if at == len(tokens) or not str(tokens[at]).removeprefix("-").isdigit():
            return None
        terms.append(-int(tokens[at]) if negative else int(tokens[at]))
        at += 1
    if len(terms) == 1:
        return terms[0]
    if len(terms) != 2 or signs[0] not in ("+", "-", "*"):
        return None
    a, b = terms
    return {"+": a + b, "-": a - b, "*": a * b}[signs[0]]


def _unreadable(tokens: Sequence[str]) -> UserError:
    return UserError(
        f"{' '.join(tokens)!r} is not a bracketed expression: allowed are numbers d, -d, (d), (-d) and "
        "(left operator right), with spaces between tokens"
    )


class ModularBrackets(Task):
    """Evaluate a bracketed expression modulo m.

    In `plain`, expressions are fully bracketed, and length counts numbers. `published` uses the grammar of the
    authors' program: d, -d, (d), (-d) or (left operator right). There, length counts tokens, and the shape follows
    from how tokens are divided between left and right sides. Both draw numbers and operators in the same way.

    On `id`, operators are applied in random order: the outermost operator is uniform, and so on recursively. Depth
    then grows with the logarithm of length; the splits `left` and `right` nest as deep as possible. Results are also
    broken down by depth, the maximum number of open brackets.

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
    asks = "what is the value of a bracketed expression modulo m?"
    source = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
    length_unit = "numbers (published: tokens)"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "a fully bracketed expression > value",
            "published": "like plain, but also with -d, (d) and (-d); length counts tokens",
        }
    )
    splits = split_map(*BRACKET_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {"train_len": 3, "n_layers": 2, "positions": "rotary", "lr": 0.002, "steps": 15000},
            "published": {"train_len": 9},
        }
    )

    class Params(Task.Params):
        """The modulus and the operators."""

        modulus: int = Field(5, ge=2, le=200, description="numbers are 0 to modulus - 1")
        operators: str = Field("+-*", description="operators to use, out of + - and *")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        given = self.params.operators
        if not given or len(set(given)) < len(given) or not set(given) <= set("+-*"):
            raise UserError(f"operators {given!r} is not allowed: use a selection of '+-*', each at most once")
        signs = signs_of(given) if self._published else given
        return (*map(str, range(self.params.modulus)), "(", ")", *signs)

    @property
    def _published(self) -> bool:
        return self.format == "published"

    def width(self, length: int) -> int:
        if self._published:
            return length + 3
        # `length` numbers, length - 1 operators and as many pairs of brackets, then `>`, the answer, `<end>`
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
        """Return the accuracy of always giving the most frequent value (0, if there are products)."""
        most = float(self._value_shares[length].max())
        return {"most frequent answer": most} if most > self.chance(length) + 1e-12 else {}

    @cached_property
    def _value_shares(self) -> Floats:
        """Return the distribution of the value on `id`, float[length, value]."""
        modulus, operators = self.params.modulus, self.params.operators
        results = result_table(modulus, operators).reshape(len(operators), -1)
        shares = np.zeros((self.max_len + 1, modulus))
        # Up to this length, there is a single number. An operator takes `taken` tokens in addition to its two sides.
        longest, taken = (4, 3) if self._published else (1, 0)
        shares[1 : longest + 1] = 1 / modulus
        for length in range(longest + 1, self.max_len + 1):
            # Joint distribution of the values on both sides of the outermost operator, averaged over its positions.
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
