"""Tense reinflection: does the verb agree with its subject or with the nearest noun?"""

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
from genlab.tasks.sentences import NOUN, VI, VT, Choice, Grammar, Parser

_STOP, _PAST, _PRESENT = range(Vocab.first, Vocab.first + 3)
_WORDS = _PRESENT + 1


class TenseReinflection(Task):
    """Repeat a sentence in the past tense (`PAST`) or put it into the present tense (`PRESENT`).

    In the present tense, English verbs agree with their subjects (AGREE-SUBJECT). In training, whenever a sentence is
    put into the present, the last noun before the main verb has the same number as the subject, so that AGREE-RECENT
    is correct too; sentences with a different number only have to be repeated. In `attractor`, all of them are put
    into the present.

    >>> from genlab.tasks import make
    >>> task = make("tense-reinflection", max_len=13)
    >>> " ".join(task.solve("my otters sang . PRESENT >".split()))
    'my otters sing .'
    >>> prompt = "my otters near her yak sang . PRESENT >".split()
    >>> " ".join(task.solve(prompt))
    'my otters near her yak sing .'
    >>> " ".join(task.rules(prompt)["AGREE-RECENT"])
    'my otters near her yak sings .'
    """

    name = "tense-reinflection"
    family = "hierarchy"
    asks = "put a sentence into the present tense"
    source = "McCoy, Frank and Linzen 2020, Does syntax need to grow on trees?, arXiv 2001.03632"
    length_unit = "words"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "sentence . PAST or PRESENT > the sentence in that tense ."}
    )
    splits = split_map(
        Split(
            name="id",
            about="in the present tense, the nearest noun and the subject agree",
            shift={"subject": "training"},
        ),
        Split(name="present", about="only the present tense of `id`", shift={"subject": "training", "present": True}),
        Split(
            name="attractor",
            about="present tense; the nearest noun and the subject differ in number",
            shift={"subject": "attractor"},
        ),
        Split(
            name="deeper",
            about="like attractor, with a relative clause inside the relative clause of the subject",
            shift={"subject": "nested"},
        ),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 12,
                "min_len": 3,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 4000,
            }
        }
    )

    def symbols(self) -> tuple[str, ...]:
        return (".", "PAST", "PRESENT", *_GRAMMAR.words)

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
        present = rng.random(len(lengths)) < law.present[template]
        rows, near = np.flatnonzero(present), _NEAREST[template[present]]
        other = _ATTRACTED[template[present]] & (split.shift["subject"] != "training")
        sentences.plural[rows, near] = sentences.plural[rows, _SUBJECT] ^ other
        inside = place < lengths[:, None]
        keep = None if inside.all() else inside
        before = Part(_WORDS + _GRAMMAR.ids(sentences, past=True), keep=keep)
        after = Part(_WORDS + _GRAMMAR.ids(sentences, past=~present), scored=True, keep=keep)
        tense = Part(np.where(present, _PRESENT, _PAST)[:, None])
        ends = [Part(_STOP, scored=True), Part(Vocab.end, scored=True)]
        return assemble([before, Part(_STOP), tense, Part(Vocab.sep), after, *ends], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        if prompt[-2] == "PAST":
            return tuple(prompt[:-2])
        return self._present(prompt, _PARSER.read(prompt[:-3]).subjects)

    def _present(self, prompt: Sequence[str], subjects: Mapping[int, int]) -> tuple[str, ...]:
        """Return the sentence in the present tense, each verb agreeing with a given noun."""
        words = list(prompt[:-2])
        for verb, noun in subjects.items():
            singular = any(words[noun] == one for one, _ in _GRAMMAR.forms[NOUN])
            for past, third_person, base in (*_GRAMMAR.forms[VI], *_GRAMMAR.forms[VT]):
                if prompt[verb] == past:
                    words[verb] = third_person if singular else base
        return tuple(words)

    def rules(self, prompt: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        if prompt[-2] == "PAST":
            return {"AGREE-SUBJECT": self.solve(prompt), "AGREE-RECENT": self.solve(prompt)}
        parse = _PARSER.read(prompt[:-3])
        recent = {verb: max(noun for noun in parse.nouns if noun < verb) for verb in parse.subjects}
        return {"AGREE-SUBJECT": self.solve(prompt), "AGREE-RECENT": self._present(prompt, recent)}

    @property
    def judges(self) -> Mapping[str, str]:
        return {"main_verb": "the main verb only"}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        verb = _PARSER.read(prompt[:-3]).verb
        return {"main_verb": tuple(answer[verb : verb + 1]) == self.solve(prompt)[verb : verb + 1]}

    def chance(self, length: int) -> float:
        law = _law(self.splits["id"])
        # In the present tense, the subject and a later noun agree in number, which leaves one choice fewer.
        agree = law.present**2 * np.where(_ATTRACTED, 2, 1) + (1 - law.present) ** 2
        both = law.choice.shares(length) ** 2 * agree
        return sum(float(both[t]) * _GRAMMAR.same_words(t) for t in np.flatnonzero(both).tolist())

    def baseline(self, length: int) -> Mapping[str, float]:
        del length
        return {"AGREE-RECENT": 1.0}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        law = _law(split)
        shares = law.choice.shares(length)
        present = float(shares @ law.present)
        counts = {".": 1.0, ">": 1.0, "PRESENT": present, "PAST": 1 - present}
        for t in np.flatnonzero(shares).tolist():
            for word, count in _GRAMMAR.word_counts(t, past=True).items():
                counts[word] = counts.get(word, 0.0) + float(shares[t]) * count
        return {token: count / (length + 3) for token, count in counts.items()}


_GRAMMAR = Grammar(auxiliaries=False)
_PARSER = Parser(_GRAMMAR)
_SUBJECT = 1
"""Position of the subject's noun."""
_NEAREST = np.array([max(n for n in t.places(NOUN) if n < t.verb) for t in _GRAMMAR.templates])
"""Position of the last noun before the main verb, for each template."""
_ATTRACTED = _NEAREST != _SUBJECT


@dataclass(frozen=True, slots=True, eq=False)
class _Law:
    """The templates of a split, and the probability that each is put into the present tense."""

    choice: Choice
    present: Floats


def _law(split: Split) -> _Law:
    return _law_of(split.shift["subject"], bool(split.shift.get("present", False)))


@cache
def _law_of(subject: Scalar, present: bool) -> _Law:
    kinds = np.array([t.subject for t in _GRAMMAR.templates])
    weights = np.array([t.weight for t in _GRAMMAR.templates])
    if subject != "training":
        chosen = (kinds == "nested") if subject == "nested" else (kinds != "nested") & _ATTRACTED
        return _Law(Choice(_GRAMMAR.templates, weights * chosen), np.ones(len(weights)))
    # Half of all sentences are in the present tense, minus those with an attractor of the wrong number (one in two).
    in_present, in_past = np.where(_ATTRACTED, 1 / 4, 1 / 2), 0.0 if present else 1 / 2
    selected = (in_present + in_past) * (kinds != "nested")
    return _Law(Choice(_GRAMMAR.templates, weights * selected), in_present / (in_present + in_past))
