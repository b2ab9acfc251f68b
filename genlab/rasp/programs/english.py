"""Programs for the two syntax tasks: question formation and tense reinflection.

Both tasks copy a sentence whose words may repeat, so that positions are found by arithmetic on indices. The syntax
itself only takes counting: each relative clause starts with a relative pronoun and has one verb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from genlab.rasp.lang import firsts, full, has_seen, index_select, indices, lasts, num_prev, tok_map, where
from genlab.rasp.programs.parts import has_token, sep_index
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
    """Move the main auxiliary: the first one at which there are more auxiliaries than relative pronouns so far."""
    return move_to_front(x, _main_auxiliary(x))


def main_auxiliary_moves_by_count(x: Any) -> Any:
    """Like `main_auxiliary_moves`, where the place is the number of words before it."""
    return move_to_front(x, _main_auxiliary(x), by_count=True)


def first_auxiliary_moves_by_count(x: Any) -> Any:
    """Like `first_auxiliary_moves`, where the place is the number of words before it."""
    return move_to_front(x, tok_map(x, is_one_of(AUXILIARIES)), by_count=True)


def first_auxiliary_moves(x: Any) -> Any:
    """Move the first auxiliary."""
    return move_to_front(x, tok_map(x, is_one_of(AUXILIARIES)))


def verb_agrees_with_subject(x: Any) -> Any:
    """A verb closes the innermost open clause; its subject is just before or just after the relative pronoun."""
    verb, pronoun = tok_map(x, is_one_of(PAST)), tok_map(x, is_one_of(PRONOUNS))
    level = count_so_far(pronoun) - count_so_far(verb)
    clause = lasts(where(pronoun, level, full(x, NOWHERE)), level + 1)  # the pronoun; -1 for the main clause
    noun = where(index_select(verb, clause + 1), clause - 1, clause + 2)
    return inflect_verbs(x, index_select(x, noun))


def verb_agrees_with_nearest(x: Any) -> Any:
    """A verb agrees with the nearest noun before it."""
    return inflect_verbs(x, index_select(x, lasts(tok_map(x, is_one_of(SINGULAR | PLURAL)), full(x, 1))))


def _main_auxiliary(x: Any) -> Any:
    """Auxiliaries at which there are more auxiliaries than relative pronouns so far; the first is the main one."""
    auxiliary, pronoun = tok_map(x, is_one_of(AUXILIARIES)), tok_map(x, is_one_of(PRONOUNS))
    return auxiliary & (count_so_far(auxiliary) > count_so_far(pronoun))


def move_to_front(x: Any, moving: Any, by_count: bool = False) -> Any:
    """The sentence, with the first word marked by `moving` at the front if a question is asked for.

    With `by_count`, its place is the number of positions at which none has been marked so far.
    """
    written, question = indices(x) - sep_index(x), has_token(x, QUEST)
    source = num_prev(has_seen(moving, full(x, 1)), full(x, 0)) if by_count else firsts(moving, full(x, 1))
    place = where(question & (written <= source), written - 1, written)
    place = where(question & (written == 0), source, place)
    word = where(question & (written == firsts(x, full(x, STOP))), full(x, QUESTION_MARK), index_select(x, place))
    return until_stop(x, written, word)


def inflect_verbs(x: Any, subject: Any) -> Any:
    """The sentence, with each verb in the present tense and in the number of its subject if that is asked for."""
    written = indices(x) - sep_index(x)
    third_person, base = tok_map(x, replace_words(THIRD_PERSON)), tok_map(x, replace_words(BASE))
    present = where(tok_map(subject, is_one_of(SINGULAR)), third_person, base)
    word = where(has_token(x, PRESENT), index_select(present, written), index_select(x, written))
    return until_stop(x, written, word)


def until_stop(x: Any, written: Any, word: Any) -> Any:
    """The word, up to and including the full stop; then the end token."""
    return where(written > firsts(x, full(x, STOP)), full(x, END), word)


def count_so_far(flags: Any) -> Any:
    """The number of flags set so far."""
    return num_prev(flags, full(flags, 1))


def is_one_of(words: Iterable[int]) -> Callable[[int], int]:
    """A function that tells whether a token is one of `words`."""
    return lambda token: int(token in words)


def replace_words(words: dict[int, int]) -> Callable[[int], int]:
    """A function that replaces a token according to `words`; other tokens are unchanged."""
    return lambda token: words.get(int(token), token)
