"""Question formation: does the main or the first auxiliary move to the front?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from genlab.spec import Scalar, Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Examples, Floats, Ints, Part, Vocab, assemble
from genlab.tasks.sentences import AUX, Choice, Grammar, Parser, Sentences

_STOP, _ASK, _DECL, _QUEST = range(Vocab.first, Vocab.first + 4)
_WORDS = _QUEST + 1


class QuestionFormation(Task):
    """Repeat a sentence (`decl`) or turn it into a question (`quest`).

    English moves the auxiliary of the main verb to the front (MOVE-MAIN). In training, sentences to be turned into
    questions never have a relative clause on the subject, so that the main auxiliary is also the first one and
    MOVE-FIRST is correct too; sentences with such a clause only have to be repeated. In `relative-subject`, all of
    them are turned into questions, and the two auxiliaries differ.

    >>> from genlab.tasks import make
    >>> task = make("question-formation", max_len=16)
    >>> " ".join(task.solve("my otter does sing . quest >".split()))
    'does my otter sing ?'
    >>> prompt = "my otter that does sing doesn't wait . quest >".split()
    >>> " ".join(task.solve(prompt))
    "doesn't my otter that does sing wait ?"
    >>> " ".join(task.rules(prompt)["MOVE-FIRST"])
    "does my otter that sing doesn't wait ?"
    """

    name = "question-formation"
    family = "hierarchy"
    asks = "turn a sentence into a question"
    source = "McCoy, Frank and Linzen 2020, Does syntax need to grow on trees?, arXiv 2001.03632"
    length_unit = "words"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "sentence . decl or quest > the sentence . or its question ?"}
    )
    splits = split_map(
        Split(
            name="id",
            about="statements, and questions whose subject has no relative clause",
            shift={"subject": "training"},
        ),
        Split(name="questions", about="only the questions of `id`", shift={"subject": "training", "quest": True}),
        Split(
            name="relative-subject",
            about="questions whose subject has a relative clause with an auxiliary other than the main one",
            shift={"subject": "relative", "auxiliaries": "differ"},
        ),
        Split(
            name="same-auxiliaries",
            about="like relative-subject, with two equal auxiliaries: the rules differ in which one is deleted",
            shift={"subject": "relative", "auxiliaries": "same"},
        ),
        Split(
            name="deeper",
            about="questions with a relative clause inside the relative clause of the subject",
            shift={"subject": "nested", "auxiliaries": "differ"},
        ),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 12,
                "min_len": 4,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 4000,
            }
        }
    )

    def symbols(self) -> tuple[str, ...]:
        return (".", "?", "decl", "quest", *_GRAMMAR.words)

    def width(self, length: int) -> int:
        return 2 * length + 5

    def min_len(self, split: Split) -> int:
        return min(_law(split).choice.weights)

    def longest(self, split: Split) -> int:
        return min(self.max_len, max(_law(split).choice.weights))

    def makes(self, split: Split, length: int) -> bool:
        return length in _law(split).choice.weights

    def length_weights(self, split: Split, lengths: Ints) -> Floats:
        return np.array([_law(split).choice.weights[length] for length in lengths.tolist()])

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        law = _law(split)
        template = law.choice(rng, lengths)
        place = np.arange(int(lengths.max()))
        sentences = _GRAMMAR.draw(rng, template, len(place))
        if "auxiliaries" in split.shift:
            _relate(rng, sentences, differ=split.shift["auxiliaries"] == "differ")
        quest = rng.random(len(lengths)) < law.quest[template]
        ids = _WORDS + _GRAMMAR.ids(sentences)
        moves = quest[:, None] & (place <= _VERB[template][:, None])
        source = place - moves
        source[:, 0] = np.where(quest, _VERB[template], 0)
        inside = place < lengths[:, None]
        keep = None if inside.all() else inside
        answer = Part(np.take_along_axis(ids, source, axis=1), scored=True, keep=keep)
        ends = Part(np.where(quest, _ASK, _STOP)[:, None], scored=True)
        asked = Part(np.where(quest, _QUEST, _DECL)[:, None])
        prompt = [Part(ids, keep=keep), Part(_STOP), asked, Part(Vocab.sep)]
        return assemble([*prompt, answer, ends, Part(Vocab.end, scored=True)], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        words, asked = list(prompt[:-3]), prompt[-2]
        if asked == "decl":
            return (*words, ".")
        verb = _PARSER.read(words).verb
        return (words[verb], *words[:verb], *words[verb + 1 :], "?")

    def rules(self, prompt: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        words = list(prompt[:-3])
        if prompt[-2] == "decl":
            return {"MOVE-MAIN": self.solve(prompt), "MOVE-FIRST": self.solve(prompt)}
        parse = _PARSER.read(words)
        main, first = parse.verb, min(parse.subjects)

        def question(moved: int, left_out: int) -> tuple[str, ...]:
            rest = [word for place, word in enumerate(words) if place != left_out]
            return (words[moved], *rest, "?")

        rules = {"MOVE-MAIN": question(main, main), "MOVE-FIRST": question(first, first)}
        if main == first:
            return rules
        mixed = {"main in front, first left out": (main, first), "first in front, main left out": (first, main)}
        doubled = {"main in front, none left out": (main, -1), "first in front, none left out": (first, -1)}
        return rules | {name: question(*places) for name, places in (mixed | doubled).items()}

    @property
    def judges(self) -> Mapping[str, str]:
        return {"main_auxiliary": "the first word only, which is the auxiliary in a question"}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        return {"main_auxiliary": tuple(answer[:1]) == self.solve(prompt)[:1]}

    def chance(self, length: int) -> float:
        law = _law(self.splits["id"])
        both = (law.choice.shares(length) ** 2) * (law.quest**2 + (1 - law.quest) ** 2)
        return sum(float(both[t]) * _GRAMMAR.same_words(t) for t in np.flatnonzero(both).tolist())

    def baseline(self, length: int) -> Mapping[str, float]:
        del length
        return {"MOVE-FIRST": 1.0}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        law = _law(split)
        shares = law.choice.shares(length)
        quest = float(shares @ law.quest)
        counts = {".": 1.0, ">": 1.0, "quest": quest, "decl": 1 - quest}
        for t in np.flatnonzero(shares).tolist():
            for word, count in _GRAMMAR.word_counts(t).items():
                counts[word] = counts.get(word, 0.0) + float(shares[t]) * count
        return {token: count / (length + 3) for token, count in counts.items()}


_GRAMMAR = Grammar(auxiliaries=True)
_PARSER = Parser(_GRAMMAR)
_VERB = np.array([t.verb for t in _GRAMMAR.templates])
_FIRST = np.array([t.places(AUX)[0] for t in _GRAMMAR.templates])
_FIRST_NOUN = _GRAMMAR.nouns[np.arange(len(_FIRST)), _FIRST]
"""Positions of the main auxiliary, the first auxiliary and the latter's noun, for each template."""
_SUBJECT = 1
"""Position of the subject's noun."""


@dataclass(frozen=True, slots=True, eq=False)
class _Law:
    """The templates of a split, and the probability that each is turned into a question."""

    choice: Choice
    quest: Floats


def _law(split: Split) -> _Law:
    return _law_of(*(split.shift.get(name) for name in ("subject", "auxiliaries", "quest")))


@cache
def _law_of(subject: Scalar, auxiliaries: Scalar | None, quest: Scalar | None) -> _Law:
    kinds = np.array([t.subject for t in _GRAMMAR.templates])
    weights = np.array([t.weight for t in _GRAMMAR.templates])
    if subject == "training":
        asked = np.where(kinds == "relative", 0.0, 1.0 if quest else 0.5)
        # Half of all sentences become questions, except those with a relative clause on the subject.
        selected = np.where(kinds == "relative", 0.0 if quest else 0.5, 1.0) * (kinds != "nested")
    else:
        asked = np.ones(len(kinds))
        # Two auxiliaries are equal if both or neither have "n't" and their nouns agree in number.
        same = np.where(_FIRST_NOUN == _SUBJECT, 1 / 2, 1 / 4)
        selected = np.where(auxiliaries == "same", same, 1 - same) * (kinds == subject)
    return _Law(Choice(_GRAMMAR.templates, weights * selected), asked)


def _relate(rng: np.random.Generator, sentences: Sentences, differ: bool) -> None:
    """Make the first auxiliary of each sentence differ from the main one, or equal to it, in place."""
    rows, template = np.arange(len(sentences.template)), sentences.template
    noun = _FIRST_NOUN[template]
    # The first bit flips the number, the second "n't"; an auxiliary of the subject agrees with the subject.
    change = np.where(noun == _SUBJECT, 2, rng.integers(1, 4, len(rows))) if differ else np.zeros(len(rows), np.int64)
    sentences.plural[rows, noun] = sentences.plural[rows, _SUBJECT] ^ (change & 1)
    sentences.words[rows, _FIRST[template]] = sentences.words[rows, _VERB[template]] ^ (change >> 1)
