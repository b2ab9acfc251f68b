"""Regular tasks of the Chomsky hierarchy benchmark: even pairs and cycle navigation.

The benchmark's other regular tasks are `parity` and `modular-chain` with the format `precedence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.drawing import WORD_SPLITS, draw_words, present, word_shares
from genlab.tasks.examples import Examples, Ints, Part, Vocab, assemble

_SOURCE = "Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
_SEP, _END = Part(Vocab.sep), Part(Vocab.end, scored=True)


class EvenPairs(Task):
    """Decide whether `a b` and `b a` together occur an even number of times, that is, whether the first and the last
    letter are equal.

    >>> from genlab.tasks import make
    >>> make("even-pairs", 8).solve("a a b b b a >".split())                  # one a b, one b a
    ('even',)
    >>> make("even-pairs", 8).solve("a b a b a a b >".split())                # three a b, two b a
    ('odd',)
    """

    name = "even-pairs"
    family = "Chomsky hierarchy"
    asks = "is the number of unequal adjacent letters even?"
    source = _SOURCE
    length_unit = "letters"
    language_class = "regular"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "a word > even or odd"})
    splits = split_map(*WORD_SPLITS)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 10, "n_layers": 2, "positions": "none", "lr": 0.002, "steps": 5000}}
    )

    def symbols(self) -> tuple[str, ...]:
        return ("a", "b", "even", "odd")

    def width(self, length: int) -> int:
        return length + 3  # the word, `>`, the answer, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        words = draw_words(rng, split, lengths, letters=2)
        last = words[np.arange(len(words)), lengths - 1]
        answer = Part(Vocab.first + 2 + (words[:, 0] != last)[:, None], scored=True)
        return assemble([Part(Vocab.first + words, keep=present(lengths)), _SEP, answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        text = " ".join(prompt)
        unequal = sum(text.startswith(("a b", "b a"), i) for i in range(len(text)))
        return ("odd" if unequal % 2 else "even",)

    def chance(self, length: int) -> float:
        return 1.0 if length == 1 else 0.5

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        return word_shares(split, "ab", length)


class CycleNavigation(Task):
    """Find the position on a cycle after steps forward `+`, back `-` or none `=`, starting at 0.

    >>> from genlab.tasks import make
    >>> make("cycle-navigation", 8).solve("+ + = - + >".split())
    ('2',)
    >>> make("cycle-navigation", 8).solve("- - = >".split())                  # two steps back on a cycle of 5
    ('3',)
    """

    name = "cycle-navigation"
    family = "Chomsky hierarchy"
    asks = "where on a cycle do these steps end?"
    source = _SOURCE
    length_unit = "steps"
    language_class = "regular"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "steps > position"})
    splits = split_map(
        Split(name="id", about="the three steps are equally likely", shift={"stay": 1 / 3, "forward": 1 / 3}),
        Split(name="forward", about="eight steps in ten go forward", shift={"stay": 0.1, "forward": 0.8}),
        Split(name="still", about="eight steps in ten stay", shift={"stay": 0.8, "forward": 0.1}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 6, "n_layers": 2, "positions": "none", "lr": 0.002, "steps": 6000}}
    )

    class Params(Task.Params):
        """The size of the cycle."""

        places: int = Field(5, ge=2, le=200, description="number of positions on the cycle")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        return ("=", "+", "-", *map(str, range(self.params.places)))

    def width(self, length: int) -> int:
        return length + 3  # the steps, `>`, the answer, `<end>`

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        keep = present(lengths)
        level = rng.random((len(lengths), int(lengths.max())))
        stay, forward = float(split.shift["stay"]), float(split.shift["forward"])
        moves, backwards = level >= stay, level >= stay + forward
        steps = moves.astype(np.int64) + backwards  # 0 stay, 1 forward, 2 back
        going = np.where(backwards, -1, moves) if keep is None else np.where(backwards, -1, moves) * keep
        place = going.sum(axis=1) % self.params.places
        answer = Part(Vocab.first + 3 + place[:, None], scored=True)
        return assemble([Part(Vocab.first + steps, keep=keep), _SEP, answer, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        place = 0
        for step in prompt:
            place += {"+": 1, "-": -1, "=": 0, ">": 0}[step]
        return (str(place % self.params.places),)

    def chance(self, length: int) -> float:
        step = np.zeros(self.params.places)
        for move in (-1, 0, 1):
            step[move] += 1 / 3
        # The position is a sum of steps, so its Fourier transform is a power of that of one step (Parseval).
        return float(np.sum(np.abs(np.fft.fft(step)) ** (2 * length)) / self.params.places)

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        stay, forward = float(split.shift["stay"]), float(split.shift["forward"])
        shares = {"=": stay, "+": forward, "-": 1 - stay - forward}
        return {step: share * length / (length + 1) for step, share in shares.items()} | {">": 1 / (length + 1)}
