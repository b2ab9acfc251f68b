"""Question formation and tense reinflection: answers by hand, a slow grammar, the rules that each split fits."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.sentences import AUX, NOUN, VI, VT, Grammar, Parser

QUESTION, TENSE = "question-formation", "tense-reinflection"
GRAMMARS = {QUESTION: Grammar(auxiliaries=True), TENSE: Grammar(auxiliaries=False)}
PARSERS = {name: Parser(grammar) for name, grammar in GRAMMARS.items()}
KINDS = {
    name: {form: kind for kind, words in grammar.forms.items() for forms in words for form in forms}
    for name, grammar in GRAMMARS.items()
}
SINGULAR = {one for one, _ in GRAMMARS[QUESTION].forms[NOUN]}
BY_HAND = [
    (QUESTION, "my otter does sing . decl >", "my otter does sing ."),
    (QUESTION, "the yaks near her zebra don't sing . quest >", "don't the yaks near her zebra sing ?"),
    (
        QUESTION,
        "my otter does amuse our yaks that don't sing . quest >",
        "does my otter amuse our yaks that don't sing ?",
    ),
    (
        QUESTION,
        "my otter who the yaks do amuse doesn't sing . quest >",
        "doesn't my otter who the yaks do amuse sing ?",
    ),
    (
        QUESTION,
        "my otter who the yaks that do rest don't amuse does sing . quest >",
        "does my otter who the yaks that do rest don't amuse sing ?",
    ),
    (TENSE, "my otter sang . PAST >", "my otter sang ."),
    (TENSE, "my otter near the yaks sang . PRESENT >", "my otter near the yaks sings ."),
    (TENSE, "my otter that the yaks amused swam . PRESENT >", "my otter that the yaks amuse swims ."),
    (
        TENSE,
        "the yaks who praised her zebra accepted my otter that slept . PRESENT >",
        "the yaks who praise her zebra accept my otter that sleeps .",
    ),
]


@pytest.mark.parametrize(("name", "prompt", "answer"), BY_HAND)
def test_solve_by_hand(name, prompt, answer):
    assert " ".join(make(name, 30).solve(prompt.split())) == answer


QUEST = "my otter that does sing doesn't wait . quest >"
QUESTION_RULES = {
    "MOVE-MAIN": "doesn't my otter that does sing wait ?",
    "MOVE-FIRST": "does my otter that sing doesn't wait ?",
    "main in front, first left out": "doesn't my otter that sing doesn't wait ?",
    "first in front, main left out": "does my otter that does sing wait ?",
    "main in front, none left out": "doesn't my otter that does sing doesn't wait ?",
    "first in front, none left out": "does my otter that does sing doesn't wait ?",
    "none": "do my otter that does sing wait ?",
}


TENSES = (
    "my otter near the yaks sang . PRESENT >",
    "my otter near the yaks sings .",
    "my otter near the yaks sing .",
)


@pytest.mark.parametrize(("rule", "answer"), QUESTION_RULES.items())
def test_the_rule_that_a_question_follows(rule, answer):
    task = make(QUESTION, 16)
    prompt = QUEST.split()
    assert [name for name, given in task.rules(prompt).items() if given == tuple(answer.split())] == (
        [] if rule == "none" else [rule]
    )
    assert task.judge(prompt, answer.split()) == {"main_auxiliary": answer.startswith("doesn't")}


def test_the_rule_that_a_tense_follows():
    task = make(TENSE, 13)
    prompt, right, linear = (text.split() for text in TENSES)
    assert task.rules(prompt) == {"AGREE-SUBJECT": tuple(right), "AGREE-RECENT": tuple(linear)}
    assert task.judge(prompt, [*"abcde", "sings"]) == {"main_verb": True}
    assert task.judge(prompt, linear) == task.judge(prompt, ()) == {"main_verb": False}


# -- a slow grammar, as rules that are followed word by word


class Slow:
    """Draws a sentence by following the grammar's rules: words, and whether a split of training may use it."""

    def __init__(self, seed, auxiliaries):
        self.random = random.Random(seed)
        self.auxiliaries = auxiliaries
        self.forms = GRAMMARS[QUESTION if auxiliaries else TENSE].forms

    def noun(self):
        plural = self.random.randrange(2)
        return self.random.choice(self.forms[NOUN])[plural], plural

    def one(self, kind):
        return self.random.choice(self.forms[kind])[0]

    def verb(self, kind, plural):
        helper = [self.random.choice([("does", "do"), ("doesn't", "don't")])[plural]] if self.auxiliaries else []
        return [*helper, self.one(kind)]  # the first form: the base form, or the past

    def phrase(self):
        noun, plural = self.noun()
        head = [self.one(0), noun]
        kind = self.random.choice(["plain", "prepositional", "relative"])
        last = plural
        if kind == "prepositional":
            other, last = self.noun()
            head += [self.one(2), self.one(0), other]
        if kind == "relative":
            clause = self.random.randrange(3)
            other, other_plural = self.noun()
            head += [self.one(3)]
            if clause == 0:
                head += self.verb(VI, plural)
            elif clause == 1:
                head += [*self.verb(VT, plural), self.one(0), other]
            else:
                head += [self.one(0), other, *self.verb(VT, other_plural)]
            last = other_plural if clause else plural
        return head, kind, plural, last

    def sentence(self):
        subject, kind, plural, last = self.phrase()
        transitive = self.random.random() < 0.5
        rest = [*self.verb(VT, plural), *self.phrase()[0]] if transitive else self.verb(VI, plural)
        return subject + rest, kind, plural == last


def fits(name, split, words, kind, agree, second):
    """Whether a split holds a sentence (its subject of this kind, its nearest noun like the subject), so asked."""
    if split == "id":
        return not second or (kind != "relative" if name == QUESTION else agree)
    if name == TENSE:
        return second and not agree
    auxiliaries = [word for word in words if word.startswith("do") and KINDS[QUESTION][word] == AUX]
    same = split == "same-auxiliaries"
    return second and kind == "relative" and (auxiliaries[0] == auxiliaries[1]) == same


def slow_prompts(name, split, count):
    """Sentences asked for by a coin, of which those that the split does not hold are left out."""
    grammar = Slow(0, auxiliaries=name == QUESTION)
    while count:
        words, kind, agree = grammar.sentence()
        second = grammar.random.random() < 0.5
        if fits(name, split, words, kind, agree, second):
            count -= 1
            yield [*words, ".", {QUESTION: ("decl", "quest"), TENSE: ("PAST", "PRESENT")}[name][second], ">"]


def shape(name, prompt):
    """The kinds of the words, and what is asked."""
    return (*(KINDS[name][word] for word in prompt[:-3]), prompt[-2])


def drawn(name, split, lengths, seed=0):
    task = make(name, 30)
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    return task, [task.read(examples, row) for row in range(len(examples))]


def assert_alike(some, others):
    """Two counters come from one law, as far as what they count often can tell."""
    common = [key for key in some | others if some[key] + others[key] > 20]
    assert stats.chi2_contingency([[counter[key] for key in common] for counter in (some, others)]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "split"),
    [
        (QUESTION, "id"),
        (QUESTION, "relative-subject"),
        (QUESTION, "same-auxiliaries"),
        (TENSE, "id"),
        (TENSE, "attractor"),
    ],
)
def test_sentences_are_those_of_a_slow_grammar(name, split):
    task = make(name, 30)
    slow = list(slow_prompts(name, split, 4000))
    lengths, law = task.length_law(split, 1, 30)
    found = Counter(len(prompt) - 3 for prompt in slow)
    assert set(found) == set(lengths.tolist())
    assert stats.chisquare([found[n] for n in lengths.tolist()], 4000 * law).pvalue > 1e-3
    fast = [prompt for prompt, _ in drawn(name, split, np.random.default_rng(1).choice(lengths, 4000, p=law))[1]]
    for view in (lambda p: [shape(name, p)], lambda p: [(len(p), p[-2])], lambda p: p):
        assert_alike(*(Counter(key for prompt in prompts for key in view(prompt)) for prompts in (slow, fast)))
    assert {word for prompt in fast for word in prompt} == {word for prompt in slow for word in prompt}


@pytest.mark.parametrize(("name", "length", "share"), [(TENSE, 3, 1 / 2), (TENSE, 6, 1 / 3), (QUESTION, 4, 1 / 2)])
def test_how_often_training_asks_for_a_change(name, length, share):
    """Six words without auxiliaries are "the otter near my yak sang": half of those for the present are left out."""
    _, read = drawn(name, "id", [length] * 4000)
    changed = sum(prompt[-2] in ("PRESENT", "quest") for prompt, _ in read)
    assert stats.binomtest(changed, 4000, share).pvalue > 1e-3


def test_the_grammar_has_every_kind_of_sentence_once():
    for grammar in GRAMMARS.values():
        # 6 ends: no object, or one of 5 kinds; nested are 3 clauses in 2 that hold a noun.
        kinds = Counter(template.subject for template in grammar.templates)
        assert kinds == {"plain": 6, "prepositional": 6, "relative": 3 * 6, "nested": 3 * 2 * 6}
        assert len({template.slots for template in grammar.templates}) == len(grammar.templates)


SPLITS = [(name, split) for name in (QUESTION, TENSE) for split in make(name, 30).splits]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SPLITS), st.integers(0, 2**32))
def test_samples_are_solved_at_mixed_lengths(which, seed):
    task = make(which[0], 30)
    lengths = np.random.default_rng(seed).choice(task.lengths_between(which[1], 1, 30), 6)
    _, read = drawn(*which, lengths, seed)
    for length, (prompt, answer) in zip(lengths, read, strict=True):
        assert len(prompt) == length + 3
        assert task.solve(prompt) == answer
        assert len(prompt) + len(answer) + 1 == task.width(length)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SPLITS), st.integers(0, 2**32))
def test_asking_changes_the_order_alone_and_tense_the_verbs_alone(which, seed):
    task = make(which[0], 30)
    lengths = np.random.default_rng(seed).choice(task.lengths_between(which[1], 1, 30), 4)
    _, read = drawn(*which, lengths, seed)
    for prompt, answer in read:
        words = prompt[:-3]
        if which[0] == QUESTION:
            assert sorted(answer[:-1]) == sorted(words)
        else:
            changed = {place for place, word in enumerate(words) if answer[place] != word}
            verbs = set(PARSERS[TENSE].read(words).subjects)
            assert changed == (verbs if prompt[-2] == "PRESENT" else set())


FITS = {
    (QUESTION, "id"): {"MOVE-MAIN", "MOVE-FIRST"},
    (QUESTION, "questions"): {"MOVE-MAIN", "MOVE-FIRST"},
    (QUESTION, "relative-subject"): {"MOVE-MAIN"},
    (QUESTION, "same-auxiliaries"): {"MOVE-MAIN", "first in front, main left out"},
    (QUESTION, "deeper"): {"MOVE-MAIN"},
    (TENSE, "id"): {"AGREE-SUBJECT", "AGREE-RECENT"},
    (TENSE, "present"): {"AGREE-SUBJECT", "AGREE-RECENT"},
    (TENSE, "attractor"): {"AGREE-SUBJECT"},
    (TENSE, "deeper"): {"AGREE-SUBJECT"},
}


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_which_rules_a_split_fits(name, split):
    task = make(name, 30)
    lengths = task.lengths_between(split, 1, 30)
    task, read = drawn(name, split, np.tile(lengths, 40))
    right = Counter(rule for prompt, answer in read for rule, said in task.rules(prompt).items() if said == answer)
    fits = FITS[name, split]
    assert {right[rule] for rule in fits} == {len(read)}
    assert set(right) == fits  # every other rule is wrong each time
    asked = Counter(prompt[-2] for prompt, _ in read)
    if split == "id":
        assert len(asked) == 2
        for prompt, _ in read:
            if prompt[-2] == "quest":
                assert min(PARSERS[QUESTION].read(prompt[:-3]).subjects) > 0
    else:
        assert set(asked) == {"quest" if name == QUESTION else "PRESENT"}


@pytest.mark.parametrize(("name", "split", "length"), [(QUESTION, "relative-subject", 9), (TENSE, "attractor", 9)])
def test_both_auxiliaries_and_numbers_vary_evenly(name, split, length):
    """The pairs that may stand are equally likely, for each kind of clause."""
    _, read = drawn(name, split, [length] * 4000)
    pairs = {}
    for prompt, _ in read:
        parse = PARSERS[name].read(prompt[:-3])
        if name == QUESTION:
            pair = tuple(prompt[place] for place in (min(parse.subjects), parse.verb))
            pairs.setdefault(shape(name, prompt), Counter())[pair] += 1
        else:
            near = max(noun for noun in parse.nouns if noun < parse.verb)
            pairs.setdefault(shape(name, prompt), Counter())[prompt[near].endswith("s")] += 1
    assert len(pairs) >= 2
    for counts in pairs.values():
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    if name == QUESTION:
        # An auxiliary of the subject differs in "n't" alone, another in number too.
        assert {len(counts) for counts in pairs.values()} == {4, 12}


@pytest.mark.parametrize(("name", "length"), [(QUESTION, 4), (QUESTION, 7), (TENSE, 3), (TENSE, 6)])
def test_chance_is_the_sum_of_squared_probabilities(name, length):
    """Sentences seldom meet: count how often their shapes and numbers do, and divide by the words of each kind."""
    task, read = drawn(name, "id", [length] * 8000)
    frames = Counter()
    for prompt, _ in read:
        plural = tuple(word not in SINGULAR for word in prompt[:-3] if KINDS[name][word] == NOUN)
        frames[shape(name, prompt), plural] += 1
    words = {kind: len(words) for kind, words in GRAMMARS[name].forms.items()}
    expected = sum(
        (count / len(read)) ** 2 / np.prod([float(words[kind]) for kind in kinds[:-1]])
        for (kinds, _), count in frames.items()
    )
    assert task.chance(length) == pytest.approx(expected, rel=0.08)


def test_lengths_without_a_sentence_are_refused():
    task, rng = make(QUESTION, 30), np.random.default_rng(0)
    with pytest.raises(UserError, match="no example of 5 words on split 'id'; nearest available: 4, 6"):
        task.sample(rng, "id", [5])
    with pytest.raises(UserError, match="allowed are 12 to 21 words"):
        task.sample(rng, "deeper", [22])
