"""Every program of the lab: legal as stated, right at all lengths; shortcuts and attempts wrong as stated."""

from __future__ import annotations

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.rasp.checker import check, examine, lengths_of, tokens_of
from genlab.rasp.programs.failed import TRIED
from genlab.rasp.programs.registry import OPEN, PROGRAMS, best, bind, entries
from genlab.rasp.programs.shortcuts import FITS, SHORTCUTS
from genlab.rasp.reports import task_of
from genlab.rasp.running import decode
from genlab.rasp.tokens import END
from genlab.tasks import make, names, task_class

ADDITIONS = [{"base": base, "leading_zero": zero} for base in (2, 10) for zero in (True, False)]


CASES = [
    pytest.param(entry, params, id="-".join([entry.task, entry.format, entry.name, *map(str, params.values())]))
    for entry in PROGRAMS
    for params in (ADDITIONS if entry.task == "addition" else [{}])
]
"""Every program with its task's parameters: addition in both bases, with and without a leading zero."""


def built(entry, params, max_len):
    task = make(entry.task, max_len, entry.format, params) if params else task_of(entry, max_len)
    return task, bind(entry.program, task.params.model_dump())


def wrong(scores):
    return [(score.length, score.right, score.n, score.wrong) for score in scores if score.right < score.n]


@pytest.mark.parametrize(("entry", "params"), CASES)
def test_right_at_short_lengths_on_every_split(entry, params):
    task, program = built(entry, params, 20)
    for split in entry.splits or task.splits:
        longest = 24 if split in ("deeper", "longer") else 9
        if split == "longer":
            continue  # nothing below 42 brackets
        made = lengths_of(task, 1, min(longest, 20), split)
        lengths = sorted({made[0], made[len(made) // 2], made[-1]})
        assert wrong(check(program, task, lengths, 20, np.random.default_rng(0), split)) == []


@pytest.mark.parametrize(("entry", "params"), CASES)
def test_right_token_by_token(entry, params):
    task, program = built(entry, params, 20)
    split = (entry.splits or ("id",))[0]
    lengths = lengths_of(task, 1, 20, split)
    chosen = [lengths[0], lengths[len(lengths) // 3]]
    assert wrong(check(program, task, chosen, 3, np.random.default_rng(0), split, token_by_token=True)) == []


@pytest.mark.parametrize("entry", PROGRAMS, ids=lambda entry: f"{entry.task}-{entry.format}-{entry.name}")
def test_legal_as_stated(entry):
    task, program = built(entry, {}, 20)
    found = examine(program, task, split=(entry.splits or ("id",))[0])
    assert found.verdicts["library"].legal
    assert found.strict.legal == (entry.rules != "library"), found.strict.faults
    if entry.rules == "c-rasp":
        assert found.verdicts["c-rasp"].legal


@pytest.mark.parametrize(
    ("task", "format", "legal"),
    [
        ("majority", "plain", True),
        ("sort", "plain", True),
        ("copy", "unique", True),
        ("dyck-next", "next", True),
        ("parity", "plain", False),
    ],
)
def test_programs_of_the_counting_theory(task, format, legal):
    # Majority, sort, unique copy and bounded Dyck are counting languages, parity is not (Huang et al. 2024).
    found = [examine(*reversed(built(entry, {}, 12))) for entry in entries(task, format)]
    assert any(one.verdicts["c-rasp"].legal for one in found) == legal


def test_every_task_and_format_has_a_program_or_a_reason():
    asked = {(name, format) for name in names() for format in task_class(name).formats}
    programs = {(entry.task, entry.format) for entry in PROGRAMS}
    assert asked == programs | set(OPEN)
    assert programs & set(OPEN) == set()


def test_a_task_without_a_program_says_what_is_known():
    with pytest.raises(UserError, match="no program for task 'maze', format 'cells': a shortest path"):
        entries("maze", "cells")
    with pytest.raises(UserError, match="formats with a program: plain, running, scratchpad"):
        entries("parity", "plian")
    with pytest.raises(UserError, match="nearest task: parity"):
        entries("partiy", "plain")


def test_the_narrowest_rule_set_comes_first():
    assert [entry.rules for entry in entries("dyck-next", "next")] == ["strict", "c-rasp", "library"]
    assert best("parity", "plain").rules == "library"


@pytest.mark.parametrize("shortcut", SHORTCUTS, ids=lambda s: f"{s.task}-{s.format}")
def test_shortcuts_fit_training_and_nothing_else(shortcut):
    split, length = shortcut.fails
    task = make(shortcut.task, max(FITS, length), shortcut.format)
    program = bind(shortcut.program, task.params.model_dump())
    fitted = check(program, task, lengths_of(task, 1, FITS), 30, np.random.default_rng(0))
    assert wrong(fitted) == []
    (score,) = check(program, task, [length], 100, np.random.default_rng(0), split)
    assert score.exact_match < 0.9


@pytest.mark.parametrize("attempt", TRIED, ids=lambda a: f"{a.task}-{a.format}-{a.program.__name__}")
def test_attempts_are_legal_and_fail_where_they_say(attempt):
    params = {"repeats": {"n_tokens": 64}, "maze": {"train_blocks": 1, "test_blocks": 1}}.get(attempt.task, {})
    task = make(attempt.task, 3 if attempt.task == "maze" else 12, attempt.format, params)
    program = bind(attempt.program, task.params.model_dump())
    assert examine(program, task).strict.faults == ()
    tokens, answer = tokens_of(task), task.solve(attempt.fails_on.split())
    prompt = tokens.parse(attempt.fails_on)[None]
    written, _ = decode(program, prompt, np.array([prompt.shape[1]]), len(answer), END)
    assert [tokens.name(int(value)) for value in written[0]] != list(answer)  # wrong before any end token


def test_wherever_no_strict_program_is_known_something_was_tried():
    strict = {(entry.task, entry.format) for entry in PROGRAMS if entry.rules == "strict"}
    wider = {(entry.task, entry.format) for entry in PROGRAMS} - strict
    # The items of the one are no tokens, so that no program can see them; the other is seven languages in one format.
    not_tried = {("max-retrieval", "values"), ("tomita", "next")}
    assert wider | set(OPEN) == {(attempt.task, attempt.format) for attempt in TRIED} | not_tried


def test_all_inputs_of_a_short_length_are_told_apart_from_a_sample():
    task = make("parity", 12)
    program = bind(best("parity", "plain").program, {})
    few, more, many = check(program, task, [3, 6, 12], 300, np.random.default_rng(0))
    assert (few.n, few.complete) == (8, True)
    assert (more.n, more.complete) == (64, True)  # 300 draws alone would not show each of them four times
    assert not many.complete
    assert many.n <= 300


def test_a_wrong_program_shows_an_input():
    task = make("parity", 12)
    (score,) = check(lambda x: x * 0 + END, task, [2], 50, np.random.default_rng(0))
    assert (score.right, score.n) == (0, 4)
    assert score.wrong is not None
    assert score.wrong[1:] == ("0 <end>" if score.wrong[0] in ("0 0 >", "1 1 >") else "1 <end>", "<end> <end>")


# -- all lengths (slow) ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "params"), CASES)
def test_right_at_lengths_1_to_100(entry, params):
    task, program = built(entry, params, 100)
    split = (entry.splits or ("id",))[0]
    for length in lengths_of(task, 1, 100, split):
        assert wrong(check(program, task, [length], 1000, np.random.default_rng(length), split)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "params"), CASES)
def test_right_token_by_token_at_lengths_1_to_100(entry, params):
    task, program = built(entry, params, 100)
    split = (entry.splits or ("id",))[0]
    for length in lengths_of(task, 1, 100, split):
        scores = check(program, task, [length], 20, np.random.default_rng(length), split, token_by_token=True)
        assert wrong(scores) == []


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "params"), [case for case in CASES if case.values[0].task == "addition"])
def test_addition_of_100_digits_by_longest_carry_chain(entry, params):
    task, program = built(entry, params, 100)
    rng = np.random.default_rng(0)
    chains = set()
    for split in ("balanced", "long-carry"):
        examples = task.sample(rng, split, np.full(500, 100))
        chains |= set(task.factors(examples)["carry_chain"].tolist())
        assert wrong(check(program, task, [100], 500, rng, split)) == []
    assert {1, 50, 100} <= {min(chains), sorted(chains)[len(chains) // 2], max(chains)} | chains
