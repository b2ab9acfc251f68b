"""Tasks drawn from programs: pairs that differ in one rule of legality, and in nothing else that shows.

Both tasks of a pair ask for one bit of a string over the same alphabet, and their programs have the same number of
operations. One program is strictly legal, the other breaks one rule. What a model learns of either is not known
when they are drawn, so what the sealed rule says of them is a prediction.

Each kind of pair is written twice: as a program (`_program`) and as a slow answer over a list (`_slow`).
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
from genlab.rasp.programs.parts import said_once
from genlab.rasp.running import Program, predict, trace
from genlab.rasp.tokens import SEP, TokenMap, token_map

# -- What the pairs of generated tasks differ in, and what their answers are compared with
#
# Every kind and every side fact is written as a program and as a slow answer. The slow answers read the values of a
# prompt from its first symbol to `>`, and say the bit that belongs to `>`.

Symbols = tuple[int, int, int]
HALF = 3
"""Symbols below this are small."""


class Kind(NamedTuple):
    """One difference: program(x, symbols, legal) and slow(values, symbols, legal)."""

    program: Callable[[Any, Symbols, bool], Any]
    slow: Callable[[Sequence[int], Symbols, bool], bool]


class Side(NamedTuple):
    """One legal fact: program(x, symbols) and slow(values, symbols)."""

    program: Callable[[Any, Symbols], Any]
    slow: Callable[[Sequence[int], Symbols], bool]


def _compare_or_parity(x: Any, symbols: Symbols, legal: bool) -> Any:
    """Two counts: which is larger, or whether their sum is odd."""
    first, second = num_prev(x, full(x, symbols[0])), num_prev(x, full(x, symbols[1]))
    return seq_map(first, second, gt if legal else _odd_sum)


def _compare_or_parity_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    first, second = values.count(symbols[0]), values.count(symbols[1])
    return first > second if legal else (first + second) % 2 == 1


def _before_or_half_way(x: Any, symbols: Symbols, legal: bool) -> Any:
    """The last place of a symbol: what stands before it, or half as far in."""
    place = lasts(x, full(x, symbols[0]))
    return tok_map(index_select(x, place - 1 if legal else place // 2), _is_small)


def _before_or_half_way_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    place = max((i for i, value in enumerate(values) if value == symbols[0]), default=-1)
    place = place - 1 if legal else place // 2
    return 0 <= (values[place] if place >= 0 else 0) < HALF


def _last_or_mean_place(x: Any, symbols: Symbols, legal: bool) -> Any:
    """What stands behind the last place of a symbol, or behind the mean of its places."""
    reduction = "max" if legal else "mean"
    place = kqv(x, full(x, symbols[0]), indices(x), equals, default=0, reduction=reduction)
    return tok_map(index_select(x, place + 1), _is_small)


def _last_or_mean_place_slow(values: Sequence[int], symbols: Symbols, legal: bool) -> bool:
    places = [i for i, value in enumerate(values) if value == symbols[0]] or [0]
    place = max(places) if legal else sum(places) // len(places)
    return 0 <= (values[place + 1] if place + 1 < len(values) else 0) < HALF


def _own_or_other_extreme(x: Any, symbols: Symbols, legal: bool) -> Any:
    """The largest symbol from where a count is at its maximum on, or at another count's maximum."""
    return _at_extreme(x, symbols, legal, equal=False)


def _own_extreme_or_equal(x: Any, symbols: Symbols, legal: bool) -> Any:
    """The same, the other count selected by equality."""
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
"""The first of each name is legal, the second is not."""


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
    """Whether two facts differ."""
    return np.not_equal(first, second)


@elementwise
def _is_small(token: Any) -> Any:
    return np.greater_equal(token, 0) & np.less(token, HALF)


def _both(symbol: int) -> Callable[[Any, Any], Any]:
    @elementwise
    def both(first: Any, second: Any) -> Any:
        return np.equal(first, symbol) & np.equal(second, symbol)

    return both


Ints = NDArray[np.int64]

ALPHABET = 6
"""Symbols are the numerals below this."""


@dataclass(frozen=True)
class Drawn:
    """One task of a pair.

    Attributes:
        name: its name.
        kind: what differs within the pair; see `KINDS`.
        legal: which of the two it is.
        symbols: the symbols that its program asks for.
        side: a legal fact; the answer is whether it and the program's own say different things.
    """

    name: str
    kind: str
    legal: bool
    symbols: tuple[int, int, int]
    side: str

    @property
    def program(self) -> Program:
        """The program: the next token at every position."""
        program = partial(_program, recipe=self)
        program.__dict__["__name__"] = self.name
        return program

    @property
    def tokens(self) -> TokenMap:
        """The values of its vocabulary."""
        return token_map(["<pad>", "<end>", ">", *map(str, range(ALPHABET))])

    def answers(self, strings: Ints) -> Ints:
        """The bits of a batch of strings, int[n, length] of symbols: fast."""
        prompts = np.concatenate([strings, np.full((len(strings), 1), SEP)], axis=1)
        return predict(self.program, prompts)[:, -1]

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        """The answer to a prompt: slow."""
        values = [SEP if token == ">" else int(token) for token in prompt[: list(prompt).index(">") + 1]]
        core = KINDS[self.kind].slow(values, self.symbols, self.legal)
        return (str(int(core != SIDES[self.side].slow(values, self.symbols))),)

    def verdict(self) -> Verdict:
        """Its program under the strict rules."""
        graphs = [trace(self.program, np.zeros(length, int)) for length in (2, 5, 9)]
        return verdicts(graphs, self.tokens.domain, self.tokens.alphabet)["strict"]

    def recipe(self) -> dict[str, Any]:
        """As plain data: `Drawn(**recipe)` gives it back."""
        return {**asdict(self), "symbols": tuple(self.symbols)}


@dataclass(frozen=True)
class Pair:
    """A legal task, an illegal one, and the rule that the second breaks."""

    legal: Drawn
    illegal: Drawn
    rule: str
    operations: int


def _program(x: Any, recipe: Drawn) -> Any:
    core = KINDS[recipe.kind].program(x, recipe.symbols, recipe.legal)
    side = SIDES[recipe.side].program(x, recipe.symbols)
    return said_once(x, seq_map(core, side, unequal))


def draw_pairs(count: int, rng: np.random.Generator, prefix: str = "rasp") -> list[Pair]:
    """Pairs of tasks whose answers are both near a coin's flip, and differ.

    The order within a pair, and so the names, does not tell which one is legal.
    """
    pairs: list[Pair] = []
    kinds = sorted(KINDS)
    while len(pairs) < count:
        kind, side = kinds[len(pairs) % len(kinds)], str(rng.choice(sorted(SIDES)))
        one, two, three = (int(symbol) for symbol in rng.permutation(ALPHABET)[:3])
        make = partial(Drawn, kind=kind, symbols=(one, two, three), side=side)
        names = [f"{prefix}-{len(pairs)}{letter}" for letter in rng.permutation(["a", "b"])]
        legal, illegal = make(names[0], legal=True), make(names[1], legal=False)
        if _worth_it(legal, illegal, rng):
            pairs.append(_pair(legal, illegal))
    return pairs


def _pair(legal: Drawn, illegal: Drawn) -> Pair:
    sizes = [complexity(trace(task.program, np.zeros(5, int))).length for task in (legal, illegal)]
    broken = illegal.verdict().broken
    if not legal.verdict().legal or len(broken) != 1 or sizes[0] != sizes[1]:
        raise AssertionError(f"pair {legal.name} is not one: {sizes} operations, {broken} broken")
    return Pair(legal, illegal, broken[0], sizes[0])


def _worth_it(legal: Drawn, illegal: Drawn, rng: np.random.Generator) -> bool:
    """Whether both answers vary at short and long lengths, and are not the same answer."""
    for length in (20, 60):
        strings = rng.integers(0, ALPHABET, (512, length))
        said = [task.answers(strings) for task in (legal, illegal)]
        if not all(0.3 < float(bits.mean()) < 0.7 for bits in said) or float((said[0] != said[1]).mean()) < 0.15:
            return False
    return True
