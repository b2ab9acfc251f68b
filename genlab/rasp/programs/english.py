"""The two syntax tasks: which auxiliary moves to the front, and which noun a verb agrees with.

Both write a sentence again, whose words may repeat, so that places are found by arithmetic on indices. The syntax
itself is told by counts: each relative clause is opened by a pronoun and has one verb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from genlab.rasp.lang import firsts, full, index_select, indices, lasts, num_prev, tok_map, where
from genlab.rasp.programs.parts import seen, sep_index
from genlab.rasp.tokens import END, SPECIALS, letter_value, word_value

STOP, QUESTION_MARK, QUEST, PRESENT = (SPECIALS[token] for token in (".", "?", "quest", "PRESENT"))
NOWHERE = -9

NOUNS = (
    *("badger", "donkey", "falcon", "heron", "lizard", "otter", "parrot"),
    *("rabbit", "spider", "turtle", "viper", "yak", "zebra"),
)
VERBS = {
    **{"danced": "dance", "laughed": "laugh", "rested": "rest", "sang": "sing", "slept": "sleep", "smiled": "smile"},
    **{"swam": "swim", "waited": "wait", "waved": "wave", "accepted": "accept", "admired": "admire"},
    **{"amused": "amuse", "applauded": "applaud", "comforted": "comfort", "confused": "confuse"},
    **{"entertained": "entertain", "praised": "praise", "remembered": "remember"},
}
"""Past form -> base form."""

AUXILIARIES = frozenset([letter_value("do"), *map(word_value, ("does", "don't", "doesn't"))])
PRONOUNS = frozenset(map(word_value, ("that", "who")))
SINGULAR, PLURAL = (frozenset(word_value(noun + ending) for noun in NOUNS) for ending in ("", "s"))
PAST = frozenset(map(word_value, VERBS))
THIRD_PERSON = {word_value(past): word_value(base + "s") for past, base in VERBS.items()}
BASE = {word_value(past): word_value(base) for past, base in VERBS.items()}


def main_auxiliary_moves(x: Any) -> Any:
    """The main auxiliary is the first one of which more have come than clauses were opened."""
    auxiliary, pronoun = tok_map(x, one_of(AUXILIARIES)), tok_map(x, one_of(PRONOUNS))
    return with_moved(x, auxiliary & (so_far(auxiliary) > so_far(pronoun)))


def first_auxiliary_moves(x: Any) -> Any:
    """The first auxiliary."""
    return with_moved(x, tok_map(x, one_of(AUXILIARIES)))


def verb_agrees_with_subject(x: Any) -> Any:
    """A verb closes the last clause that is open at its level; its subject stands before the pronoun or after it."""
    verb, pronoun = tok_map(x, one_of(PAST)), tok_map(x, one_of(PRONOUNS))
    level = so_far(pronoun) - so_far(verb)
    clause = lasts(where(pronoun, level, full(x, NOWHERE)), level + 1)  # -1, before the sentence, for a main clause
    noun = where(index_select(verb, clause + 1), clause - 1, clause + 2)
    return with_agreement(x, index_select(x, noun))


def verb_agrees_with_nearest(x: Any) -> Any:
    """The noun that stands nearest before the verb."""
    return with_agreement(x, index_select(x, lasts(tok_map(x, one_of(SINGULAR | PLURAL)), full(x, 1))))


def with_moved(x: Any, moving: Any) -> Any:
    """The sentence; made a question, the first word that is moving comes first."""
    written, asked, source = indices(x) - sep_index(x), seen(x, QUEST), firsts(moving, full(x, 1))
    place = where(asked & (written <= source), written - 1, written)
    place = where(asked & (written == 0), source, place)
    word = where(asked & (written == firsts(x, full(x, STOP))), full(x, QUESTION_MARK), index_select(x, place))
    return until_stop(x, written, word)


def with_agreement(x: Any, subject: Any) -> Any:
    """The sentence; put into the present, each verb in the number of its subject."""
    written = indices(x) - sep_index(x)
    third_person, base = tok_map(x, replaced(THIRD_PERSON)), tok_map(x, replaced(BASE))
    present = where(tok_map(subject, one_of(SINGULAR)), third_person, base)
    word = where(seen(x, PRESENT), index_select(present, written), index_select(x, written))
    return until_stop(x, written, word)


def until_stop(x: Any, written: Any, word: Any) -> Any:
    """The word, until as many are written as stand before the full stop, and the stop itself."""
    return where(written > firsts(x, full(x, STOP)), full(x, END), word)


def so_far(flags: Any) -> Any:
    """How many flags are set so far."""
    return num_prev(flags, full(flags, 1))


def one_of(words: Iterable[int]) -> Callable[[int], int]:
    """Whether a token is one of these."""
    return lambda token: int(token in words)


def replaced(words: dict[int, int]) -> Callable[[int], int]:
    """A token, or what stands for it."""
    return lambda token: words.get(int(token), token)
