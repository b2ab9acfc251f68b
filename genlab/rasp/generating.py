"""Generate pairs of tasks from programs that differ in a single legality rule.

Both tasks of a pair ask for one bit of a string over the same alphabet, and their programs have the same number of
operations. One program is strictly legal, the other breaks one rule. It is unknown at this time what models learn on
either task, so that the sealed rule makes a genuine prediction.

Every kind of pair is implemented twice: as a program, and as a slow reference (`_slow`) on a list of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.analysis import complexity
from genlab.rasp.analysis.rules import Verdict, verdicts
from genlab.rasp.lang import (
    aggr,
    elementwise,
    equals,
    full,
    geq,
    gt,
    has_seen,
    index_select,
    indices,
    kqv,
    lasts,
    maximum,
    num_prev,
    select,
    seq_map,
    shift_right,
    tok_map,
)
from genlab.rasp.programs.parts import answer_once
from genlab.rasp.running import Program, predict, trace
from genlab.rasp.tokens import SEP, TokenMap, token_map

# -- Kinds of pairs, and side facts
#
# The slow references read the values of a prompt from its first symbol to `>`, and return the bit at `>`.

Symbols = tuple[int, int, int]
HALF = 3
"""Symbols below this bound are called small."""


class Kind(NamedTuple):
    """The difference within a pair, as program(x, symbols, legal) and slow(values, symbols, legal)."""

    program: Callable[[Any, Symbols, bool], Any]
    slow: Callable[[Sequence[int], Symbols, bool], bool]


class Side(NamedTuple):
    """A legal side fact, as program(x, symbols) and slow(values, symbols)."""

    program: Callable[[Any, Symbols], Any]
    slow: Callable[[Sequence[int], Symbols], bool]


def _compare_or_parity(x: Any, symbols: Symbols, legal: bool) -> Any:
    """Of two counts, whether the first is larger, or whether their sum is odd."""
    first, second = num_prev(x, full(x, symbols[0])), num_prev(x, full(x, symbols[1]))
    return seq_map(first, second, gt if legal else _odd_sum)


def _compare_or_parity_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    first, second = values.count(symbols[0]), values.count(symbols[1])
    return first > second if legal else (first + second) % 2 == 1


def _before_or_half_way(x: Any, symbols: Symbols, legal: bool) -> Any:
    """Whether the token before the last occurrence of a symbol, or at half its index, is small."""
    place = lasts(x, full(x, symbols[0]))
    return tok_map(index_select(x, place - 1 if legal else place // 2), _is_small)


def _before_or_half_way_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    place = max((i for i, value in enumerate(values) if value == symbols[0]), default=-1)
    place = place - 1 if legal else place // 2
    return 0 <= (values[place] if place >= 0 else 0) < HALF


def _last_or_mean_place(x: Any, symbols: Symbols, legal: bool) -> Any:
    """Whether the token after the last occurrence of a symbol, or after the mean of its indices, is small."""
    reduction = "max" if legal else "mean"
    place = kqv(x, full(x, symbols[0]), indices(x), equals, default=0, reduction=reduction)
    return tok_map(index_select(x, place + 1), _is_small)


def _last_or_mean_place_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    places = [i for i, value in enumerate(values) if value == symbols[0]] or [0]
    place = max(places) if legal else sum(places) // len(places)
    return 0 <= (values[place + 1] if place + 1 < len(values) else 0) < HALF


def _own_or_other_extreme(x: Any, symbols: Symbols, legal: bool) -> Any:
    """The largest symbol where a count is at its own maximum, or at least the maximum of another count."""
    return _at_extreme(x, symbols, legal, equal=False)


def _own_extreme_or_equal(x: Any, symbols: Symbols, legal: bool) -> Any:
    """The smallest symbol where a count is at its own maximum, or equal to the maximum of another count."""
    return _at_extreme(x, symbols, legal, equal=True)


def _at_extreme(x: Any, symbols: Symbols, legal: bool, equal: bool) -> Any:
    first, second = num_prev(x, full(x, symbols[0])), num_prev(x, full(x, symbols[1]))
    reached = select(first, maximum(first if legal else second), equals if equal and not legal else geq)
    chosen = aggr(reached, x, default=-1, reduction="min" if equal else "max")
    return seq_map(tok_map(chosen, _is_small), seq_map(first, second, gt), unequal)


def _own_or_other_extreme_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    return _at_extreme_slow(values, symbols, legal, equal=False)


def _own_extreme_or_equal_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    return _at_extreme_slow(values, symbols, legal, equal=True)


def _at_extreme_slow(values: Sequence[int], symbols: Symbols, legal: bool, equal: bool) -> bool:
    counts = [[list(values[: i + 1]).count(symbol) for i in range(len(values))] for symbol in symbols[:2]]
    top = max(counts[0 if legal else 1])
    reached = [v for v, n in zip(values, counts[0], strict=True) if (n == top if equal and not legal else n >= top)]
    chosen = (min if equal else max)(reached, default=-1)
    return (0 <= chosen < HALF) != (counts[0][-1] > counts[1][-1])


KINDS = MappingProxyType(
    {
        "compare or parity": Kind(_compare_or_parity, _compare_or_parity_slow),
        "before or half way": Kind(_before_or_half_way, _before_or_half_way_slow),
        "last or mean place": Kind(_last_or_mean_place, _last_or_mean_place_slow),
        "own or other extreme": Kind(_own_or_other_extreme, _own_or_other_extreme_slow),
        "own extreme or equal count": Kind(_own_extreme_or_equal, _own_extreme_or_equal_slow),
    }
)
"""Kinds of pairs by name: `legal or illegal`."""


def _last_is_small(x: Any, symbols: Symbols) -> Any:
    del symbols
    return tok_map(shift_right(x, 1), _is_small)


def _last_is_small_slow(values: Sequence[int], symbols: Symbols) -> bool:
    del symbols
    return 0 <= (values[-2] if len(values) > 1 else 0) < HALF


def _first_is_small(x: Any, symbols: Symbols) -> Any:
    del symbols
    return tok_map(index_select(x, full(x, 0)), _is_small)


def _first_is_small_slow(values: Sequence[int], symbols: Symbols) -> bool:
    del symbols
    return 0 <= values[0] < HALF


def _twice_in_a_row(x: Any, symbols: Symbols) -> Any:
    return has_seen(seq_map(x, shift_right(x, 1, default=-1), _both(symbols[2])), full(x, 1))


def _twice_in_a_row_slow(values: Sequence[int], symbols: Symbols) -> bool:
    return (symbols[2], symbols[2]) in list(pairwise(values))


SIDES = MappingProxyType(
    {
        "the last symbol is small": Side(_last_is_small, _last_is_small_slow),
        "the first symbol is small": Side(_first_is_small, _first_is_small_slow),
        "the third symbol stands twice in a row": Side(_twice_in_a_row, _twice_in_a_row_slow),
    }
)


@elementwise
def _odd_sum(first: Any, second: Any) -> Any:
    return np.equal((np.asarray(first) + second) % 2, 1)


@elementwise
def unequal(first: Any, second: Any) -> Any:
    """Whether two values differ."""
    return np.not_equal(first, second)


@elementwise
def _is_small(token: Any) -> Any:
    return np.greater_equal(token, 0) & np.less(token, HALF)


def _both(symbol: int) -> Callable[[Any, Any], Any]:
    @elementwise
    def both(first: Any, second: Any) -> Any:
        return np.equal(first, symbol) & np.equal(second, symbol)

    return both


# -- Drawing pairs of tasks

Ints = NDArray[np.int64]

ALPHABET = 6
"""Number of symbols: the numerals below this bound."""


@dataclass(frozen=True)
class Drawn:
    """One task of a pair.

    Attributes:
        name: its name.
        kind: the kind of the pair, a key of `KINDS`.
        legal: whether it is the legal task of the pair.
        symbols: the symbols that its program refers to.
        side: a key of `SIDES`; the answer is whether this fact differs from the bit that `kind` defines.
    """

    name: str
    kind: str
    legal: bool
    symbols: tuple[int, int, int]
    side: str

    @property
    def program(self) -> Program:
        """Its program, which returns the next token at every position."""
        program = partial(_program, recipe=self)
        program.__dict__["__name__"] = self.name
        return program

    @property
    def tokens(self) -> TokenMap:
        """The token values of its vocabulary."""
        return token_map(["<pad>", "<end>", ">", *map(str, range(ALPHABET))])

    def answers(self, strings: Ints) -> Ints:
        """The answers to a batch of strings, int[n] for symbols int[n, length], computed by the program."""
        prompts = np.concatenate([strings, np.full((len(strings), 1), SEP)], axis=1)
        return predict(self.program, prompts)[:, -1]

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        """The answer to a prompt, computed by the slow reference."""
        values = [SEP if token == ">" else int(token) for token in prompt[: list(prompt).index(">") + 1]]
        core = KINDS[self.kind].slow(values, self.symbols, self.legal)
        return (str(int(core != SIDES[self.side].slow(values, self.symbols))),)

    def verdict(self) -> Verdict:
        """The verdict on its program under the strict rules."""
        graphs = [trace(self.program, np.zeros(length, int)) for length in (2, 5, 9)]
        return verdicts(graphs, self.tokens.domain, self.tokens.alphabet)["strict"]

    def recipe(self) -> dict[str, Any]:
        """The task as plain data; `Drawn(**recipe)` restores it."""
        return {**asdict(self), "symbols": tuple(self.symbols)}


@dataclass(frozen=True)
class Pair:
    """A legal and an illegal task.

    Attributes:
        legal, illegal: the tasks.
        rule: the rule that the illegal one breaks.
        operations: the number of operations of each program.
    """

    legal: Drawn
    illegal: Drawn
    rule: str
    operations: int


def _program(x: Any, recipe: Drawn) -> Any:
    core = KINDS[recipe.kind].program(x, recipe.symbols, recipe.legal)
    side = SIDES[recipe.side].program(x, recipe.symbols)
    return answer_once(x, seq_map(core, side, unequal))


def draw_pairs(count: int, rng: np.random.Generator, prefix: str = "rasp") -> list[Pair]:
    """Draw pairs of tasks whose answers are nearly balanced, and differ within a pair.

    The names are assigned at random within a pair, so that they do not reveal which task is legal.

    Args:
        count: number of pairs.
        rng: source of randomness.
        prefix: common prefix of the task names.
    """
    pairs: list[Pair] = []
    kinds = sorted(KINDS)
    while len(pairs) < count:
        kind, side = kinds[len(pairs) % len(kinds)], str(rng.choice(sorted(SIDES)))
        one, two, three = (int(symbol) for symbol in rng.permutation(ALPHABET)[:3])
        drawn = partial(Drawn, kind=kind, symbols=(one, two, three), side=side)
        names = [f"{prefix}-{len(pairs)}{letter}" for letter in rng.permutation(["a", "b"])]
        legal, illegal = drawn(names[0], legal=True), drawn(names[1], legal=False)
        if _is_informative(legal, illegal, rng):
            pairs.append(_pair(legal, illegal))
    return pairs


def _pair(legal: Drawn, illegal: Drawn) -> Pair:
    sizes = [complexity(trace(task.program, np.zeros(5, int))).length for task in (legal, illegal)]
    broken = illegal.verdict().broken
    if not legal.verdict().legal or len(broken) != 1 or sizes[0] != sizes[1]:
        raise AssertionError(f"pair {legal.name} is not valid: {sizes} operations, {broken} broken")
    return Pair(legal, illegal, broken[0], sizes[0])


def _is_informative(legal: Drawn, illegal: Drawn, rng: np.random.Generator) -> bool:
    """Whether both answers are nearly balanced at short and long lengths, and differ often enough."""
    for length in (20, 60):
        strings = rng.integers(0, ALPHABET, (512, length))
        answers = [task.answers(strings) for task in (legal, illegal)]
        balanced = all(0.3 < float(bits.mean()) < 0.7 for bits in answers)
        if not balanced or float((answers[0] != answers[1]).mean()) < 0.15:
            return False
    return True
