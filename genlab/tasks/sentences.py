"""A fragment of English: sentences whose nouns have prepositional phrases and relative clauses.

The grammar is that of McCoy, Frank and Linzen (2020), with our own vocabulary. A sentence is a subject, a verb and
possibly an object. Subject and object are plain ("the otter") or have a prepositional phrase ("the otter near my
yak") or one of three relative clauses ("the otter that does sing", "... that does amuse my yak", "... that my yak
does amuse"). There is no recursion, so all sentences come from a few dozen templates that are filled with words. In
templates with a `nested` subject, its relative clause contains another relative clause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import numpy as np

from genlab.tasks.examples import Bools, Floats, Ints

DET, NOUN, PREP, REL, AUX, VI, VT = range(7)
"""Word classes; VI and VT are intransitive and transitive verbs."""

_ONE_FORM: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        DET: ("the", "some", "my", "your", "our", "her"),
        PREP: ("above", "around", "behind", "below", "by", "near", "upon", "with"),
        REL: ("that", "who"),
    }
)
_AUXILIARIES = (("does", "do"), ("doesn't", "don't"))
_NOUNS = (
    *("badger", "donkey", "falcon", "heron", "lizard", "otter", "parrot"),
    *("rabbit", "spider", "turtle", "viper", "yak", "zebra"),
)
_VERBS: Mapping[int, Mapping[str, str]] = MappingProxyType(
    {
        VI: {
            **{"dance": "danced", "laugh": "laughed", "rest": "rested", "sing": "sang", "sleep": "slept"},
            **{"smile": "smiled", "swim": "swam", "wait": "waited", "wave": "waved"},
        },
        VT: {
            **{"accept": "accepted", "admire": "admired", "amuse": "amused", "applaud": "applauded"},
            **{"comfort": "comforted", "confuse": "confused", "entertain": "entertained"},
            **{"praise": "praised", "remember": "remembered"},
        },
    }
)
"""Maps the base form of each verb to its past form."""

Slots = tuple[tuple[int, int], ...]
"""The class of each word, and the position of the noun that it agrees with (arbitrary if it does not inflect)."""


@dataclass(frozen=True, slots=True)
class Template:
    """The structure of a sentence.

    Attributes:
        slots: its words.
        verb: position of the main verb or its auxiliary; everything before it is the subject.
        subject: plain, prepositional, relative or nested.
        weight: its probability under the grammar.
    """

    slots: Slots
    verb: int
    subject: str
    weight: float

    def places(self, kind: int) -> list[int]:
        """Return the positions of the words of a class."""
        return [place for place, (its, _) in enumerate(self.slots) if its == kind]


_PLAIN: Slots = ((DET, 0), (NOUN, 1))


def _after(before: Slots, phrase: Slots) -> Slots:
    return before + tuple((kind, noun + len(before)) for kind, noun in phrase)


def _verb(kind: int, noun: int, auxiliaries: bool) -> Slots:
    return ((AUX, noun), (kind, noun)) if auxiliaries else ((kind, noun),)


def _relatives(inner: Slots, auxiliaries: bool) -> tuple[Slots, ...]:
    """Return a noun with each kind of relative clause, in which `inner` is the other noun phrase."""
    head = (*_PLAIN, (REL, 0))
    its_own = _after(head, inner)
    return (
        head + _verb(VI, 1, auxiliaries),
        _after(head + _verb(VT, 1, auxiliaries), inner),
        its_own + _verb(VT, len(head) + 1, auxiliaries),
    )


def _noun_phrases(auxiliaries: bool) -> list[tuple[str, Slots, float]]:
    prepositional = _after((*_PLAIN, (PREP, 0)), _PLAIN)
    relative = [("relative", slots, 1 / 9) for slots in _relatives(_PLAIN, auxiliaries)]
    return [("plain", _PLAIN, 1 / 3), ("prepositional", prepositional, 1 / 3), *relative]


def _templates(auxiliaries: bool) -> Iterator[Template]:
    inner = _relatives(_PLAIN, auxiliaries)
    nested = [slots for clause in inner for slots in _relatives(clause, auxiliaries)[1:]]
    subjects = _noun_phrases(auxiliaries) + [("nested", slots, 1 / 6) for slots in nested]
    for kind, subject, weight in subjects:
        verb = len(subject)
        yield Template(subject + _verb(VI, 1, auxiliaries), verb, kind, weight / 2)
        for _, phrase, share in _noun_phrases(auxiliaries):
            yield Template(_after(subject + _verb(VT, 1, auxiliaries), phrase), verb, kind, weight * share / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Sentences:
    """A batch of sentences.

    Attributes:
        template: int[n].
        words: int[n, width], index of each word within its class.
        plural: int[n, width], 1 if the noun at that position is plural (arbitrary if it is not a noun).
    """

    template: Ints
    words: Ints
    plural: Ints


class Choice:
    """A sampler of templates by length; templates of one length are drawn in proportion to `weights`."""

    def __init__(self, templates: Sequence[Template], weights: Floats):
        self._lengths = np.array([len(t.slots) for t in templates])
        self._weights = weights
        self._order = np.lexsort((weights == 0, self._lengths))  # by length, templates of weight 0 last
        self._upper = np.cumsum(weights[self._order])
        lengths = np.where(weights > 0, self._lengths, -1)[self._order]
        self.weights = {int(n): float(weights[self._lengths == n].sum()) for n in np.unique(lengths[lengths > 0])}
        """Return the total weight of each length that has templates."""
        self._range = np.zeros((int(lengths.max()) + 1, 2), np.int64)
        for length in self.weights:
            self._range[length] = np.flatnonzero(lengths == length)[[0, -1]]

    def __call__(self, rng: np.random.Generator, lengths: Ints) -> Ints:
        """Draw a template of each length: int[n]."""
        first, last = self._range[lengths].T
        low = np.where(first > 0, self._upper[first - 1], 0.0)
        at = low + rng.random(len(lengths)) * (self._upper[last] - low)
        # Rounding must not select a template of another length.
        return self._order[np.clip(np.searchsorted(self._upper, at, side="right"), first, last)]

    def shares(self, length: int) -> Floats:
        """Return the probability of each template at a length."""
        weights = np.where(self._lengths == length, self._weights, 0.0)
        return weights / weights.sum()


class Grammar:
    """Templates and vocabulary, with auxiliaries ("does sing") or without ("sings", "sang")."""

    def __init__(self, auxiliaries: bool):
        self.templates = tuple(_templates(auxiliaries))
        nouns = tuple((noun, noun + "s") for noun in _NOUNS)
        verbs = {
            kind: tuple(_forms(base, past, auxiliaries) for base, past in _VERBS[kind].items()) for kind in _VERBS
        }
        one_form = {kind: tuple((word,) for word in _ONE_FORM[kind]) for kind in _ONE_FORM}
        forms = {**one_form, NOUN: nouns, **({AUX: _AUXILIARIES} if auxiliaries else {}), **verbs}
        self.forms: Mapping[int, tuple[tuple[str, ...], ...]] = MappingProxyType(forms)
        """The forms of each word in each class."""
        self.words = tuple(form for words in forms.values() for word in words for form in word)
        """All forms of all words, in the order of their ids."""
        self.kinds = self._table([[kind for kind, _ in t.slots] for t in self.templates], fill=DET)
        self.nouns = self._table([[noun for _, noun in t.slots] for t in self.templates], fill=0)
        first = {kind: self.words.index(forms[kind][0][0]) for kind in forms}
        self._first_id = self._by_kind(first)
        self._n_words = self._by_kind({kind: len(forms[kind]) for kind in forms})
        self._n_forms = self._by_kind({kind: len(forms[kind][0]) for kind in forms})

    def _table(self, rows: list[list[int]], fill: int) -> Ints:
        width = max(map(len, rows))
        return np.array([row + [fill] * (width - len(row)) for row in rows])

    def _by_kind(self, values: Mapping[int, int]) -> Ints:
        return np.array([values.get(kind, 0) for kind in range(7)])[self.kinds]

    def draw(self, rng: np.random.Generator, template: Ints, width: int) -> Sentences:
        """Fill templates with uniform words of each class; nouns are singular or plural with equal probability."""
        shape = (len(template), width)
        words = (rng.random(shape) * self._n_words[template, :width]).astype(np.int64)
        return Sentences(template, words, rng.integers(0, 2, shape))

    def ids(self, sentences: Sentences, past: Bools | bool = False) -> Ints:
        """Return the ids of the words, int[n, width], from 0; verbs and auxiliaries agree with their nouns.

        If verbs have a past form, rows in `past` use it, and the others use the present.
        """
        template, width = sentences.template, sentences.words.shape[1]
        rows = np.arange(len(template))[:, None]
        plural = sentences.plural[rows, np.minimum(self.nouns[template, :width], width - 1)]
        forms = self._n_forms[template, :width]
        present = np.where(forms == 3, (1 + plural) * ~np.atleast_1d(past)[:, None], plural * (forms == 2))
        return self._first_id[template, :width] + sentences.words * forms + present

    def word_counts(self, template: int, past: bool = False) -> dict[str, float]:
        """Return the expected count of each form in a sentence of a template."""
        counts: dict[str, float] = {}
        for kind, _ in self.templates[template].slots:
            for forms in self.forms[kind]:
                shown = forms[:1] if past and len(forms) == 3 else forms[-2:]
                for form in shown:
                    counts[form] = counts.get(form, 0.0) + 1 / len(self.forms[kind]) / len(shown)
        return counts

    def same_words(self, template: int) -> float:
        """Return the probability that two sentences of a template are equal."""
        kinds = [kind for kind, _ in self.templates[template].slots]
        return 0.5 ** kinds.count(NOUN) / prod(len(self.forms[kind]) for kind in kinds)


def _forms(base: str, past: str, auxiliaries: bool) -> tuple[str, ...]:
    return (base,) if auxiliaries else (past, base + "s", base)


# -- Parser


@dataclass(frozen=True, slots=True)
class Parse:
    """The parse of a sentence.

    Attributes:
        verb: position of the main verb or its auxiliary.
        subjects: maps the position of each verb (or its auxiliary) to that of its subject's noun, from left to right.
        nouns: positions of all nouns.
    """

    verb: int
    subjects: dict[int, int]
    nouns: tuple[int, ...]


class Parser:
    """Recursive descent parser with one method per phrase; each returns the position after its phrase.

    >>> Parser(Grammar(auxiliaries=True)).read("the otter that my yaks do amuse does sing".split())
    Parse(verb=7, subjects={5: 4, 7: 1}, nouns=(1, 4))
    """

    def __init__(self, grammar: Grammar):
        kinds = {form: kind for kind, words in grammar.forms.items() for forms in words for form in forms}
        self._kinds, self._auxiliaries = kinds, AUX in grammar.forms

    def read(self, words: Sequence[str]) -> Parse:
        """Raises `ValueError` if the words do not form a sentence."""
        subjects: dict[int, int] = {}
        verb = self._noun_phrase(words, 0, subjects)
        end = self._verb_phrase(words, verb, 1, subjects)
        if end != len(words):
            raise ValueError(f"not a sentence: {' '.join(words)}")
        nouns = tuple(place for place, word in enumerate(words) if self._kinds[word] == NOUN)
        return Parse(verb, subjects, nouns)

    def _is(self, words: Sequence[str], place: int, *kinds: int) -> bool:
        return place < len(words) and self._kinds.get(words[place]) in kinds

    def _noun_phrase(self, words: Sequence[str], place: int, subjects: dict[int, int]) -> int:
        if not (self._is(words, place, DET) and self._is(words, place + 1, NOUN)):
            raise ValueError(f"no noun at word {place} of: {' '.join(words)}")
        noun, after = place + 1, place + 2
        if self._is(words, after, PREP):
            return self._noun_phrase(words, after + 1, subjects)
        if not self._is(words, after, REL):
            return after
        if not self._is(words, after + 1, DET):
            return self._verb_phrase(words, after + 1, noun, subjects)
        verb = self._noun_phrase(words, after + 1, subjects)
        return self._verb(verb, after + 2, subjects)

    def _verb_phrase(self, words: Sequence[str], place: int, noun: int, subjects: dict[int, int]) -> int:
        after = self._verb(place, noun, subjects)
        return self._noun_phrase(words, after, subjects) if self._is(words, after - 1, VT) else after

    def _verb(self, place: int, noun: int, subjects: dict[int, int]) -> int:
        subjects[place] = noun
        return place + 1 + self._auxiliaries
