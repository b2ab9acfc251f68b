"""The grammar of the syntax tasks: templates are read back as they were made, and chosen by their weights."""

import numpy as np
import pytest
from scipy import stats

from genlab.tasks.sentences import NOUN, Choice, Grammar, Parser, Template

GRAMMARS = (Grammar(auxiliaries=True), Grammar(auxiliaries=False))


def test_every_template_is_read_as_it_was_made():
    for grammar in GRAMMARS:
        rng, parser = np.random.default_rng(0), Parser(grammar)
        for number, template in enumerate(grammar.templates):
            sentences = grammar.draw(rng, np.array([number]), len(template.slots))
            words = [grammar.words[i] for i in grammar.ids(sentences)[0]]
            parse = parser.read(words)
            assert parse.verb == template.verb
            assert parse.nouns == tuple(template.places(NOUN))
            assert {p: template.slots[p][1] for p in parse.subjects} == parse.subjects


def test_words_that_are_no_sentence_are_not_read():
    parser = Parser(GRAMMARS[0])
    for text in ("my sing", "my otter does sing sing", "otter does sing", "my otter"):
        with pytest.raises(ValueError, match=r"(no noun|not a sentence)"):
            parser.read(text.split())


def test_templates_are_chosen_by_weight_among_those_of_a_length():
    slots = [((0, 0),) * n for n in (2, 3, 2, 3, 2)]
    templates = [Template(s, 1, "plain", 1.0) for s in slots]
    choice = Choice(templates, np.array([0.2, 0.1, 0.6, 0.0, 0.0]))
    assert choice.weights == pytest.approx({2: 0.8, 3: 0.1})
    chosen = choice(np.random.default_rng(0), np.array([2, 3] * 3000))
    assert set(chosen[1::2]) == {1}
    assert stats.chisquare([np.sum(chosen[::2] == i) for i in (0, 2)], [750, 2250]).pvalue > 1e-3
    assert choice.shares(2) == pytest.approx([0.25, 0, 0.75, 0, 0])
