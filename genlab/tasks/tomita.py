"""The seven regular languages of Tomita: which symbols may follow a prefix, and may it end here?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Examples, Floats, Ints, Part, Vocab, assemble

_DEAD = -1


class Grammar(NamedTuple):
    """A language by its automaton. State 0 is the start; a prefix that no word continues leads to `_DEAD`.

    Attributes:
        about: what its words are.
        after: the next state after 0 and after 1, by state.
        accepting: the states in which a word may end.
    """

    about: str
    after: tuple[tuple[int, int], ...]
    accepting: tuple[int, ...]


_GRAMMARS: Mapping[int, Grammar] = MappingProxyType(
    {
        1: Grammar("ones only", ((_DEAD, 0),), (0,)),
        2: Grammar("repetitions of 1 0", ((_DEAD, 1), (0, _DEAD)), (0,)),
        # 0 to 2: no odd run of ones is over; the run of ones so far is empty, odd, even. 3 to 5: one is over; now in
        # an odd run of zeros, an even one, a run of ones.
        3: Grammar(
            "no odd run of ones is followed by an odd run of zeros",
            ((0, 1), (3, 2), (0, 1), (4, _DEAD), (3, 5), (3, 5)),
            (0, 1, 2, 4, 5),
        ),
        4: Grammar("no three zeros in a row", ((1, 0), (2, 0), (_DEAD, 0)), (0, 1, 2)),
        5: Grammar("an even number of zeros and an even number of ones", ((1, 2), (0, 3), (3, 0), (2, 1)), (0,)),
        6: Grammar("zeros less ones are a multiple of 3", ((1, 2), (2, 0), (0, 1)), (0,)),
        7: Grammar("zeros, ones, zeros, ones", ((0, 1), (2, 1), (2, 3), (_DEAD, 3)), (0, 1, 2, 3)),
    }
)

_SETS = ("0", "1", "0|1", "0|.", "1|.", "0|1|.")
"""The possible answers: symbols that may follow, `.` if the prefix is a word itself."""


class Tomita(Task):
    """Write which symbols may follow a prefix of a word, and whether the word may end: `1|.` reads "1, or the end".

    The languages are those of Tomita (1982) over 0 and 1, by number: 1. ones only; 2. repetitions of `1 0`; 3. no odd
    run of ones is followed, anywhere, by an odd run of zeros; 4. no three zeros in a row; 5. an even number of zeros
    and an even number of ones; 6. zeros less ones are a multiple of 3; 7. zeros, ones, zeros, ones. Prefixes of `id`
    are uniform among all prefixes of words of their length; in `walk`, each symbol that may follow is as likely.

    >>> from genlab.tasks import make
    >>> make("tomita", max_len=8).solve("0 1 0 0 >".split())
    ('1|.',)
    >>> make("tomita", max_len=8, params={"language": 5}).solve("0 1 0 1 >".split())
    ('0|1|.',)
    """

    name = "tomita"
    family = "hierarchy"
    asks = "which symbols may follow in a word of this regular language?"
    source = (
        "Bhattamishra et al. 2020, On the Ability and Limitations of Transformers to Recognize Formal Languages, "
        "arXiv 2009.11264"
    )
    length_unit = "symbols"
    language_class = "regular"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"next": "prefix > the symbols that may follow"})
    splits = split_map(
        Split(name="id", about="uniform among all prefixes of words", shift={"kind": "uniform"}),
        Split(name="walk", about="each symbol that may follow is as likely", shift={"kind": "walk"}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "n_layers": 2, "positions": "none", "steps": 3000}}
    )

    class Params(Task.Params):
        language: int = Field(4, ge=1, le=7, description="number of the language")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        return _SETS

    def width(self, length: int) -> int:
        return length + 3

    @cached_property
    def _next(self) -> Ints:
        """The next state after 0 and after 1, int[states, 2]."""
        return np.array(_GRAMMARS[self.params.language].after)

    @cached_property
    def _answers(self) -> Ints:
        """The place in `_SETS` of each state's answer."""
        return np.array([_SETS.index(self._answer(state)) for state in range(len(self._next))])

    def _answer(self, state: int) -> str:
        grammar = _GRAMMARS[self.params.language]
        may_follow = [symbol for symbol, after in zip("01", grammar.after[state], strict=True) if after != _DEAD]
        return "|".join(may_follow + (["."] if state in grammar.accepting else []))

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        longest = int(lengths.max())
        one = self._chances_of_one(longest, str(split.shift["kind"]))
        states, bits = np.zeros(len(lengths), np.int64), np.zeros((len(lengths), longest), np.int64)
        final = states
        for place in range(longest):
            left = np.maximum(lengths - place, 1)
            bits[:, place] = rng.random(len(lengths)) < one[left, states]
            # A row that is over takes any step that there is.
            moved = self._next[states, bits[:, place]]
            states = np.where(place < lengths, moved, states)
            final = np.where(place == lengths - 1, states, final)
        keep = np.arange(longest) < lengths[:, None]
        answer = Part(Vocab.first + self._answers[final][:, None], scored=True)
        prompt = Part(Vocab.first + bits, keep=None if keep.all() else keep)
        return assemble([prompt, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def _chances_of_one(self, longest: int, kind: str) -> Floats:
        """Return the probability that 1 is next, by symbols left to draw and state: float[longest + 1, states]."""
        alive = self._next != _DEAD
        counts = np.ones(len(self._next))  # of continuations, up to a factor
        chances = np.zeros((longest + 1, len(self._next)))
        for left in range(1, longest + 1):
            paths = np.where(alive, counts[self._next] if kind == "uniform" else 1.0, 0.0)
            chances[left] = paths[:, 1] / paths.sum(axis=1)
            counts = paths.sum(axis=1) / paths.sum()
        return chances

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        grammar, state = _GRAMMARS[self.params.language], 0
        prefix = prompt[: list(prompt).index(">")]
        for place, token in enumerate(prefix):
            state = grammar.after[state][int(token)]
            if state == _DEAD:
                begin = " ".join(prefix[: place + 1])
                raise UserError(
                    f"no word of Tomita's language {self.params.language} ({grammar.about}) begins with {begin!r}"
                )
        return (self._answer(state),)

    def chance(self, length: int) -> float:
        one = self._chances_of_one(length, "uniform")
        shares = np.eye(len(self._next))[0]
        for left in range(length, 0, -1):
            moved = np.zeros_like(shares)
            for symbol, chance in enumerate((1 - one[left], one[left])):
                alive = self._next[:, symbol] != _DEAD
                np.add.at(moved, self._next[alive, symbol], (shares * chance)[alive])
            shares = moved
        return float((np.bincount(self._answers, shares) ** 2).sum())

    def factors(self, examples: Examples) -> dict[str, Ints]:
        """Return `changes`, how often a symbol differs from the one before it."""
        bits = np.where(np.cumsum(examples.tokens == Vocab.sep, axis=1) == 0, examples.tokens, -1)
        both = (bits[:, 1:] >= Vocab.first) & (bits[:, :-1] >= Vocab.first)
        return {"changes": (both & (bits[:, 1:] != bits[:, :-1])).sum(axis=1)}
