"""`check_task`: hold a task against its contract, all clauses at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from genlab.errors import UserError
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks.base import Task
from genlab.tasks.check_chances import (
    cycle,
    draw,
    draws_tokens_as_it_says,
    keeps_test_from_training,
    knows_its_chance,
    lengths_of,
    mixes_lengths_without_bias,
    same,
    splits_of,
    whole,
)
from genlab.tasks.examples import Examples, Vocab

# -- Clauses on what a task says of itself, on the form of its examples, and on what it refuses


def describes_itself(task: Task) -> Iterator[str]:
    """Texts are there, tokens have no spaces, defaults are options, scores are probabilities, the spec is in full."""
    if empty := [field for field in ("name", "family", "asks", "source", "length_unit") if not getattr(task, field)]:
        yield f"empty: {', '.join(empty)}"
    if spaced := [token for token in task.vocab.tokens if token.split() != [token]]:
        yield f"tokens that a text cannot hold: {spaced}"
    if task.train_split not in task.splits:
        yield f"train_split {task.train_split!r} is no split"
    if "id" not in splits_of(task):
        yield "no length up to max_len on split 'id'"
    for split in splits_of(task):
        weights = task.length_weights(task.splits[split], np.array(lengths_of(task, split)))
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            yield f"split {split!r}: length_weights are no weights: {weights}"
    for format, options in task.defaults.items():
        if format not in ("*", *task.formats):
            yield f"defaults for {format!r}, which is no format"
        if (
            strange := options.keys()
            - ModelConfig.model_fields.keys()
            - TrainConfig.model_fields.keys()
            - {"test_len", "params"}
        ):
            yield f"defaults that are no option of a model or of training: {sorted(strange)}"
        if strange := options.get("params", {}).keys() - task.Params.model_fields.keys():
            yield f"defaults that are no parameter of the task: {sorted(strange)}"
    if task.resolve(task.format, task.max_len, task.params.model_dump()) != task.spec.params:
        yield f"`resolve` makes other params of {task.spec.params}"
    for length in lengths_of(task, "id"):
        scores = {"chance": task.chance(length), **task.baseline(length)}
        if wrong := {name: score for name, score in scores.items() if not 0 <= score <= 1}:
            yield f"no probabilities at length {length}: {wrong}"


def depends_on_the_generator_alone(task: Task) -> Iterator[str]:
    """The same generator state gives the same batch, from this task and from another one of its spec."""
    twin = type(task)(task.spec)
    for split in splits_of(task):
        lengths = cycle(task, split, 64)
        first = draw(task, split, lengths)
        if not (same(first, draw(task, split, lengths)) and same(first, draw(twin, split, lengths))):
            yield f"split {split!r} gives different batches for one state of the generator"


def leaves_global_randomness_alone(task: Task) -> Iterator[str]:
    """`random` and `numpy.random` are neither drawn from nor seeded."""
    found = _global_states()
    try:
        # A state of our own, so that a task that always seeds alike is noticed too.
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002
        before = _global_states()
        for split in splits_of(task):
            draw(task, split, cycle(task, split, 16))
        after = _global_states()
    finally:
        random.setstate(found[0])
        np.random.set_state(found[1])  # noqa: NPY002
    for name, then, now in zip(("random", "numpy.random"), before, after, strict=True):
        if str(then) != str(now):
            yield f"sampling changes the state of `{name}`"


_SEED = 726_354_819


def _global_states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def writes_sequences(task: Task) -> Iterator[str]:
    """Ids are of the vocabulary, targets are next tokens, pads stand right; lengths and real values are as asked."""
    for split in splits_of(task):
        lengths = cycle(task, split, 200)
        x = draw(task, split, lengths)
        if not (x.tokens.shape == x.targets.shape == x.scored.shape and len(x.tokens) == len(lengths)):
            yield f"split {split!r}: tokens, targets and scored are not of one shape, a row an example"
            continue
        tokens = whole(x)
        if (tokens < 0).any() or (tokens >= len(task.vocab)).any():
            yield f"split {split!r}: ids outside the vocabulary"
        if (x.tokens[:, 1:] != x.targets[:, :-1]).any():
            yield f"split {split!r}: targets are not the next tokens"
        if ((tokens[:, :-1] == Vocab.pad) & (tokens[:, 1:] != Vocab.pad)).any():
            yield f"split {split!r}: a pad stands before a token"
        values = (*x.tokens.shape, task.d_values) if task.d_values else None
        if (None if x.values is None else x.values.shape) != values:
            yield f"split {split!r}: `values` are not d_values ({task.d_values}) numbers at each position"
        if not np.array_equal(x.lengths, lengths):
            yield f"split {split!r}: `lengths` are not those asked for"


def scores_the_answer(task: Task) -> Iterator[str]:
    """Scored is one block a row: the answer and, where the task ends its answers, the end token behind it."""
    for split in splits_of(task):
        x = draw(task, split, cycle(task, split, 200))
        around = np.pad(x.scored, ((0, 0), (1, 1)))
        first, last = x.scored & ~around[:, :-2], x.scored & ~around[:, 2:]
        ends = x.targets == Vocab.end
        if (first.sum(axis=1) != 1).any():
            yield f"split {split!r}: scored targets are not one block in every row"
        if (x.scored & (x.targets == Vocab.pad)).any():
            yield f"split {split!r}: a pad is scored"
        if ends.any() and not np.array_equal(ends, last):
            yield f"split {split!r}: the last scored target, and no other, has to be the end token"
        if x.trained is not None and (x.scored & ~x.trained).any():
            yield f"split {split!r}: a scored target is not trained"


def fits_its_width(task: Task) -> Iterator[str]:
    """No example has more tokens than `width` says, some have as many, and all fit into `n_ctx` positions."""
    reached = False
    for split in splits_of(task):
        x = draw(task, split, cycle(task, split, 400))
        counts = (whole(x) != Vocab.pad).sum(axis=1)
        widths = np.array([task.width(int(length)) for length in x.lengths])
        reached = reached or bool((counts == widths).any())
        if (counts > widths).any():
            row = int(np.argmax(counts - widths))
            yield f"split {split!r}: {counts[row]} tokens at length {x.lengths[row]}, where width is {widths[row]}"
        if x.tokens.shape[1] > task.n_ctx:
            yield f"split {split!r}: {x.tokens.shape[1]} positions, more than n_ctx {task.n_ctx}"
    if not reached:
        yield "no example is as wide as `width` says"


def makes_longer_examples_at_longer_lengths(task: Task) -> Iterator[str]:
    """Prompts or answers grow with the length: none is silently made shorter than asked for."""
    for split in splits_of(task):
        lengths = lengths_of(task, split)
        x = draw(task, split, np.repeat(lengths, 200))
        answers = x.scored.sum(axis=1)
        prompts = (whole(x) != Vocab.pad).sum(axis=1) - answers
        means = np.stack([prompts, answers]).reshape(2, -1, 200).mean(axis=2)
        for at in np.flatnonzero((np.diff(means) <= 0).all(axis=0))[:1]:
            yield f"split {split!r}: examples of length {lengths[at + 1]} are no longer than those of {lengths[at]}"


def refuses_what_it_cannot_make(task: Task) -> Iterator[str]:
    """Impossible lengths, unknown splits, formats and parameters raise `UserError`, in one line."""
    rng = np.random.default_rng(0)
    for name, split in task.splits.items():
        low, high = task.min_len(split), task.longest(split)
        makes = set(task.lengths_between(split, low, high).tolist())
        for length in sorted({-1, 0, low - 1, high + 1, *range(low, high + 1)} - makes):
            if fault := _not_refused(task.sample, rng, name, [length]):
                yield f"length {length} on split {name!r} {fault}"
    if fault := _not_refused(task.sample, rng, "no-such-split", [task.max_len]):
        yield f"an unknown split {fault}"
    for what, change in (("format", {"format": "no-such-format"}), ("parameter", {"params": {"no_such": 1}})):
        if fault := _not_refused(type(task), task.spec.model_copy(update=change)):
            yield f"an unknown {what} {fault}"


def _not_refused(call: Callable[..., Any], *arguments: Any) -> str:
    """What a call did in place of raising `UserError` in one line; empty where it did."""
    try:
        call(*arguments)
    except UserError as error:
        return "is refused in more than one line" if "\n" in str(error) else ""
    except Exception as error:
        return f"raises {type(error).__name__}, not UserError"
    return "is not refused"


# -- Clauses on answers: they are those of `solve`, and every score of a true answer is right


def answers_as_solved(task: Task) -> Iterator[str]:
    """On 1,000 examples of mixed lengths the drawn answer is that of `solve`, or one that `accepts` takes."""
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, -(-1000 // len(splits_of(task)))))
        for row in range(len(examples)):
            if fault := _fault(task, examples, row):
                yield f"split {split!r}: {fault}"
                break
        if type(task).accepts is not Task.accepts and not _refuses_something(task, examples):
            yield f"split {split!r}: `accepts` takes the answers to all other prompts"


def _fault(task: Task, examples: Examples, row: int) -> str:
    prompt, answer = task.read(examples, row)
    solved = tuple(task.solve_example(examples, row))
    if type(task).accepts is Task.accepts:
        both = f"was drawn with {' '.join(answer)!r}, solved {' '.join(solved)!r}"
        return "" if answer == solved else f"{' '.join(prompt)!r} {both}"
    refused = [" ".join(given) for given in (answer, solved) if not task.accepts(prompt, given)]
    return f"`accepts` refuses {refused} to {' '.join(prompt)!r}" if refused else ""


def _refuses_something(task: Task, examples: Examples) -> bool:
    read = [task.read(examples, row) for row in range(len(examples))]
    return any(not task.accepts(prompt, other) for (prompt, _), (_, other) in pairwise(read))


def judges_true_answers_right(task: Task) -> Iterator[str]:
    """Each score of `judges` is true of the true answer and given for an ill-formed one; a rule gives the former."""
    expected = set(task.judges)
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, 50))
        for row in range(len(examples)):
            prompt, answer = task.read(examples, row)
            scores = task.judge(prompt, answer)
            if scores != dict.fromkeys(expected, True):
                yield f"split {split!r}: the true answer to {' '.join(prompt)!r} is judged {scores}"
                break
            if any(
                set(task.judge(prompt, given)) != expected for given in ((), answer[:-1], ("<pad>", ">", "<end>"))
            ):
                yield f"split {split!r}: an ill-formed answer to {' '.join(prompt)!r} lacks scores"
                break
            said = task.rules(prompt)
            if said and answer not in said.values():
                yield f"split {split!r}: no rule gives the true answer to {' '.join(prompt)!r}"
                break


def factors_example_by_example(task: Task) -> Iterator[str]:
    """`factors` gives one integer an example, which does not depend on the rest of the batch."""
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, 60))
        some = np.arange(0, 60, 7)
        alone = task.factors(examples[some])
        for name, values in task.factors(examples).items():
            if values.shape != (60,) or not np.issubdtype(values.dtype, np.integer):
                yield f"split {split!r}: factor {name!r} is not one integer an example"
            elif not np.array_equal(values[some], alone[name]):
                yield f"split {split!r}: factor {name!r} of an example depends on the batch"


# -- The clause on position ids, for tasks that give them


def places_tokens_by_the_prompt_alone(task: Task) -> Iterator[str]:
    """Position ids are there for all of `n_ctx`, lie between 0 and their reach, and do not follow from the answer."""
    for kind in task.id_kinds:
        try:
            task.check_ids(kind)
        except UserError:
            continue  # this format has none of them, and says so
        for split in splits_of(task):
            yield from (f"split {split!r}, ids {kind!r}: {fault}" for fault in _faults(task, kind, split))


def _faults(task: Task, kind: str, split: str) -> Iterator[str]:
    x = draw(task, split, cycle(task, split, 200))
    ids = task.placed(x, kind, task.n_ctx).position_ids
    if ids is None or ids.shape != (len(x), task.n_ctx):
        yield "they are not one for each position of `n_ctx`"
        return
    reach = np.array([task.id_reach(kind, int(length)) for length in x.lengths])
    if (ids < 0).any() or (ids > reach[:, None]).any():
        row = int(np.argmax(ids.max(axis=1) - reach))
        yield f"{ids[row].max()} at length {x.lengths[row]}, where `id_reach` is {reach[row]}"
    answer = np.pad(x.scored, ((0, 0), (1, 0)))[:, :-1]  # the answer as it is read
    other = np.random.default_rng(0).integers(Vocab.first, len(task.vocab), x.tokens.shape)
    changed = task.placed(replace(x, tokens=np.where(answer, other, x.tokens)), kind, task.n_ctx).position_ids
    if changed is None or (ids != changed).any():
        yield "they change with the answer"


# -- The contract

CLAUSES: tuple[Callable[[Task], Iterator[str]], ...] = (
    describes_itself,
    depends_on_the_generator_alone,
    leaves_global_randomness_alone,
    writes_sequences,
    scores_the_answer,
    fits_its_width,
    makes_longer_examples_at_longer_lengths,
    refuses_what_it_cannot_make,
    places_tokens_by_the_prompt_alone,
    answers_as_solved,
    judges_true_answers_right,
    factors_example_by_example,
    draws_tokens_as_it_says,
    mixes_lengths_without_bias,
    knows_its_chance,
    keeps_test_from_training,
)
"""The contract: each clause yields what breaks it, a line each; its docstring is what a task promises."""


class ContractError(AssertionError):
    """A task breaks its contract. `violations` are lines of `clause: what is wrong`."""

    def __init__(self, task: Task, violations: Sequence[str]):
        self.violations = tuple(violations)
        about = f"task {task.name!r}, format {task.format!r}, max_len {task.max_len}, breaks its contract:"
        super().__init__("\n  ".join([about, *violations]))


def check_task(task: Task) -> None:
    """Hold a task against its contract, for authors of tasks: call it in a test, for every format.

    The seeds are fixed, so that a task passes always or never. A `max_len` between 6 and 20 tells most: short
    enough for examples to meet by chance, long enough for lengths to differ.

    >>> from genlab.tasks import make
    >>> check_task(make("parity", max_len=8))

    Raises:
        ContractError: all violations, each with the clause that it breaks.
    """
    violations = [f"{clause.__name__}: {violation}" for clause in CLAUSES for violation in _violations(clause, task)]
    if violations:
        raise ContractError(task, violations)


def _violations(clause: Callable[[Task], Iterator[str]], task: Task) -> list[str]:
    found: list[str] = []
    try:
        found.extend(clause(task))
    except Exception as error:  # whatever a broken task raises is a finding, and the next clause still runs
        found.append(f"raised {type(error).__name__}: {error}")
    return found
