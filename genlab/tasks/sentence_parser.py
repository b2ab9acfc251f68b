"""Read a sentence of the small English: where its main verb is, and which noun is the subject of each verb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genlab.tasks.sentences import AUX, DET, NOUN, PREP, REL, VT, Grammar

__all__ = ["Parse", "Parser"]


@dataclass(frozen=True, slots=True)
class Parse:
    """What a reader understands of a sentence.

    Attributes:
        verb: place of the main verb, or of its auxiliary.
        subjects: place of each verb (or of its auxiliary) -> place of its subject's noun, from left to right.
        nouns: the places of all nouns.
    """

    verb: int
    subjects: dict[int, int]
    nouns: tuple[int, ...]


class Parser:
    """Recursive descent through the grammar, one method a phrase; each returns the place after its phrase.

    >>> Parser(Grammar(auxiliaries=True)).read("the otter that my yaks do amuse does sing".split())
    Parse(verb=7, subjects={5: 4, 7: 1}, nouns=(1, 4))
    """

    def __init__(self, grammar: Grammar):
        kinds = {form: kind for kind, words in grammar.forms.items() for forms in words for form in forms}
        self._kinds, self._auxiliaries = kinds, AUX in grammar.forms

    def read(self, words: Sequence[str]) -> Parse:
        """Raises `ValueError` where the words are no sentence."""
        subjects: dict[int, int] = {}
        verb = self._noun_phrase(words, 0, subjects)
        end = self._verb_phrase(words, verb, 1, subjects)
        if end != len(words):
            raise ValueError(f"no sentence: {' '.join(words)}")
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
