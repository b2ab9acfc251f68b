"""Tasks drawn from programs: pairs that differ in one rule of legality, and in nothing else that shows.

Both tasks of a pair ask for one bit of a string over the same alphabet, and their programs have the same number of
operations. One program is strictly legal, the other breaks one rule. What a model learns of either is not known
when they are drawn, so what the sealed rule says of them is a prediction.

Each kind of pair is written twice: as a program (`_program`) and as a slow answer over a list (`_slow`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.analysis import complexity
from genlab.rasp.analysis.rules import Verdict, verdicts
from genlab.rasp.generating_kinds import KINDS, SIDES, unequal
from genlab.rasp.lang import seq_map
from genlab.rasp.programs.parts import said_once
from genlab.rasp.running import Program, predict, trace
from genlab.rasp.tokens import SEP, TokenMap, token_map

__all__ = ["ALPHABET", "Drawn", "Pair", "draw_pairs"]

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
