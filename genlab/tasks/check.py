"""`check_task`: test that a task fulfills its contract."""

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
    batches_equal,
    cycle,
    draw,
    follows_token_shares,
    lengths_of,
    mixes_lengths_without_bias,
    separates_training_from_test,
    sequences,
    splits_of,
    states_chance_correctly,
)
from genlab.tasks.examples import START, Examples, Ints, Vocab

# -- Metadata, form of examples, and invalid requests


def describes_itself(task: Task) -> Iterator[str]:
    """Metadata is present, tokens have no spaces, widths are integers, defaults are options, scores probabilities."""
    if empty := [field for field in ("name", "family", "asks", "source", "length_unit") if not getattr(task, field)]:
        yield f"empty: {', '.join(empty)}"
    if spaced := [token for token in task.vocab.tokens if token.split() != [token]]:
        yield f"tokens that contain spaces: {spaced}"
    if not isinstance(width := task.width(task.max_len), int | np.integer):
        yield f"width is not a whole number: {width!r}"
    if task.train_split not in task.splits:
        yield f"train_split {task.train_split!r} is not a split"
    if "id" not in splits_of(task):
        yield "no length up to max_len on split 'id'"
    for split in splits_of(task):
        weights = task.length_weights(task.splits[split], np.array(lengths_of(task, split)))
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            yield f"split {split!r}: length_weights are not valid weights: {weights}"
    for format, options in task.defaults.items():
        if format not in ("*", *task.formats):
            yield f"defaults for {format!r}, which is not a format"
        if (
            strange := options.keys()
            - ModelConfig.model_fields.keys()
            - TrainConfig.model_fields.keys()
            - {"test_len", "params"}
        ):
            yield f"defaults that are not model or training options: {sorted(strange)}"
        if strange := options.get("params", {}).keys() - task.Params.model_fields.keys():
            yield f"defaults that are not parameters of the task: {sorted(strange)}"
    if task.resolve(task.format, task.max_len, task.params.model_dump()) != task.spec.params:
        yield f"`resolve` changes the params {task.spec.params}"
    for length in lengths_of(task, "id"):
        scores = {"chance": task.chance(length), **task.baseline(length)}
        if wrong := {name: score for name, score in scores.items() if not 0 <= score <= 1}:
            yield f"not probabilities, at length {length}: {wrong}"


def is_reproducible(task: Task) -> Iterator[str]:
    """The same generator state gives the same batch, from this task and from another with the same spec."""
    twin = type(task)(task.spec)
    for split in splits_of(task):
        lengths = cycle(task, split, 64)
        first = draw(task, split, lengths)
        if not all(batches_equal(first, draw(other, split, lengths)) for other in (task, twin)):
            yield f"split {split!r} gives different batches for the same generator state"


def preserves_global_random_state(task: Task) -> Iterator[str]:
    """Sampling neither uses nor seeds `random` and `numpy.random`."""
    original = _global_states()
    try:
        # A known state, so that a task that always sets the same seed is caught too.
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002
        before = _global_states()
        for split in splits_of(task):
            draw(task, split, cycle(task, split, 16))
        after = _global_states()
    finally:
        random.setstate(original[0])
        np.random.set_state(original[1])  # noqa: NPY002
    for name, old, new in zip(("random", "numpy.random"), before, after, strict=True):
        if str(old) != str(new):
            yield f"sampling changes the state of `{name}`"


_SEED = 726_354_819


def _global_states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def writes_valid_sequences(task: Task) -> Iterator[str]:
    """Ids are in the vocabulary, targets are next tokens, padding is on the right, lengths and values match."""
    for split in splits_of(task):
        lengths = cycle(task, split, 200)
        x = draw(task, split, lengths)
        if not (x.tokens.shape == x.targets.shape == x.scored.shape and len(x.tokens) == len(lengths)):
            yield f"split {split!r}: tokens, targets and scored do not have one shape with one row per example"
            continue
        tokens = sequences(x)
        if (tokens < 0).any() or (tokens >= len(task.vocab)).any():
            yield f"split {split!r}: ids outside the vocabulary"
        if (x.tokens[:, 1:] != x.targets[:, :-1]).any():
            yield f"split {split!r}: targets are not the next tokens"
        if ((tokens[:, :-1] == Vocab.pad) & (tokens[:, 1:] != Vocab.pad)).any():
            yield f"split {split!r}: padding before a token"
        values = (*x.tokens.shape, task.d_values) if task.d_values else None
        if (None if x.values is None else x.values.shape) != values:
            yield f"split {split!r}: `values` are not d_values ({task.d_values}) numbers at each position"
        if not np.array_equal(x.lengths, lengths):
            yield f"split {split!r}: `lengths` differ from the requested ones"


def scores_the_answer(task: Task) -> Iterator[str]:
    """Each row has one contiguous scored block: the answer and, if the task uses one, the end token after it."""
    for split in splits_of(task):
        x = draw(task, split, cycle(task, split, 200))
        around = np.pad(x.scored, ((0, 0), (1, 1)))
        first, last = x.scored & ~around[:, :-2], x.scored & ~around[:, 2:]
        ends = x.targets == Vocab.end
        if (first.sum(axis=1) != 1).any():
            yield f"split {split!r}: scored targets are not one contiguous block in every row"
        if (x.scored & (x.targets == Vocab.pad)).any():
            yield f"split {split!r}: padding is scored"
        if ends.any() and not np.array_equal(ends, last):
            yield f"split {split!r}: the last scored target, and no other, must be the end token"
        if x.trained is not None and (x.scored & ~x.trained).any():
            yield f"split {split!r}: a scored target is not trained"


def fits_its_width(task: Task) -> Iterator[str]:
    """No example has more tokens than `width`, some example reaches it, and all fit into `n_ctx` positions."""
    reached = False
    for split in splits_of(task):
        x = draw(task, split, cycle(task, split, 400))
        counts = (sequences(x) != Vocab.pad).sum(axis=1)
        widths = np.array([task.width(int(length)) for length in x.lengths])
        reached = reached or bool((counts == widths).any())
        if (counts > widths).any():
            row = int(np.argmax(counts - widths))
            yield f"split {split!r}: {counts[row]} tokens at length {x.lengths[row]}, but width is {widths[row]}"
        if x.tokens.shape[1] > task.n_ctx:
            yield f"split {split!r}: {x.tokens.shape[1]} positions, more than n_ctx {task.n_ctx}"
    if not reached:
        yield "no example reaches `width`"


def grows_with_length(task: Task) -> Iterator[str]:
    """Prompts or answers grow with length: no example is silently shorter than requested."""
    for split in splits_of(task):
        lengths = lengths_of(task, split)
        x = draw(task, split, np.repeat(lengths, 200))
        answers = x.scored.sum(axis=1)
        prompts = (sequences(x) != Vocab.pad).sum(axis=1) - answers
        means = np.stack([prompts, answers]).reshape(2, -1, 200).mean(axis=2)
        for i in np.flatnonzero((np.diff(means) <= 0).all(axis=0))[:1]:
            yield f"split {split!r}: examples of length {lengths[i + 1]} are no longer than those of {lengths[i]}"


def refuses_invalid_requests(task: Task) -> Iterator[str]:
    """Invalid lengths and unknown splits, formats and parameters raise `UserError` with a one-line message."""
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
    """Return what a call did instead of raising a one-line `UserError`; empty if it raised one."""
    try:
        call(*arguments)
    except UserError as error:
        return "gives an error of more than one line" if "\n" in str(error) else ""
    except Exception as error:
        return f"raises {type(error).__name__}, not UserError"
    return "is not refused"


# -- Answers and their metrics


def agrees_with_solve(task: Task, n: int = 1000) -> Iterator[str]:
    """On 1,000 examples of mixed lengths, the sampled answer equals that of `solve`, or `accepts` accepts both."""
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, -(-n // len(splits_of(task)))))
        for row in range(len(examples)):
            if fault := _fault(task, examples, row):
                yield f"split {split!r}: {fault}"
                break
        if type(task).accepts is not Task.accepts and not _refuses_something(task, examples):
            yield f"split {split!r}: `accepts` accepts the answers to other prompts"


def _fault(task: Task, examples: Examples, row: int) -> str:
    prompt, answer = task.read(examples, row)
    solved = tuple(task.solve_example(examples, row))
    if type(task).accepts is Task.accepts:
        both = f"was sampled with answer {' '.join(answer)!r}, but `solve` gives {' '.join(solved)!r}"
        return "" if answer == solved else f"{' '.join(prompt)!r} {both}"
    rejected = [" ".join(given) for given in (answer, solved) if not task.accepts(prompt, given)]
    return f"`accepts` rejects {rejected} for {' '.join(prompt)!r}" if rejected else ""


def _refuses_something(task: Task, examples: Examples) -> bool:
    read = [task.read(examples, row) for row in range(len(examples))]
    return any(not task.accepts(prompt, other) for (prompt, _), (_, other) in pairwise(read))


def judges_true_answers_correct(task: Task) -> Iterator[str]:
    """Metrics in `judges` hold for true answers and are defined for ill-formed ones; a rule gives the true answer."""
    expected = set(task.judges)
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, 50))
        for row in range(len(examples)):
            prompt, answer = task.read(examples, row)
            scores = task.judge(prompt, answer)
            if scores != dict.fromkeys(expected, True):
                yield f"split {split!r}: the true answer to {' '.join(prompt)!r} is scored {scores}"
                break
            if any(
                set(task.judge(prompt, given)) != expected for given in ((), answer[:-1], ("<pad>", ">", "<end>"))
            ):
                yield f"split {split!r}: an ill-formed answer to {' '.join(prompt)!r} lacks metrics"
                break
            rules = task.rules(prompt)
            if rules and answer not in rules.values():
                yield f"split {split!r}: no rule gives the true answer to {' '.join(prompt)!r}"
                break


def computes_factors_per_example(task: Task) -> Iterator[str]:
    """`factors` gives one integer per example, independent of the rest of the batch."""
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, 60))
        subset = np.arange(0, 60, 7)
        alone = task.factors(examples[subset])
        for name, values in task.factors(examples).items():
            if values.shape != (60,) or not np.issubdtype(values.dtype, np.integer):
                yield f"split {split!r}: factor {name!r} is not one integer per example"
            elif not np.array_equal(values[subset], alone[name]):
                yield f"split {split!r}: factor {name!r} of an example depends on the batch"


# -- Position ids


def takes_position_ids_from_the_prompt(task: Task) -> Iterator[str]:
    """Position ids cover all of `n_ctx`, are between 0 and `id_reach`, and do not depend on the answer."""
    for kind in task.id_kinds:
        try:
            task.check_ids(kind)
        except UserError:
            continue  # not available for this format
        for split in splits_of(task):
            yield from (f"split {split!r}, ids {kind!r}: {fault}" for fault in _id_faults(task, kind, split))


def _id_faults(task: Task, kind: str, split: str) -> Iterator[str]:
    x = draw(task, split, cycle(task, split, 200))
    ids = task.placed(x, kind, task.n_ctx).position_ids
    if ids is None or ids.shape != (len(x), task.n_ctx):
        yield "there is not one id per position of `n_ctx`"
        return
    reach = np.array([task.id_reach(kind, int(length)) for length in x.lengths])
    if (ids < 0).any() or (ids > reach[:, None]).any():
        row = int(np.argmax(ids.max(axis=1) - reach))
        yield f"{ids[row].max()} at length {x.lengths[row]}, but `id_reach` is {reach[row]}"
    answer = np.pad(x.scored, ((0, 0), (1, 0)))[:, :-1]  # where the answer is an input
    other = np.random.default_rng(0).integers(Vocab.first, len(task.vocab), x.tokens.shape)
    changed = task.placed(replace(x, tokens=np.where(answer, other, x.tokens)), kind, task.n_ctx).position_ids
    if changed is None or (ids != changed).any():
        yield "ids change with the answer"


# -- Start tokens


def takes_a_start_token(task: Task) -> Iterator[str]:
    """With a start token, examples are the same ones behind it: prompts, answers, factors and ids do not change."""
    if not task.may_lead():
        return
    led = type(task)(task.spec.model_copy(update={"start_token": True}))
    if led.vocab.tokens != (*task.vocab.tokens, START) or led.n_ctx != task.n_ctx + 1:
        yield "the start token is not the last of the vocabulary, with one more position for it"
    for split in splits_of(task):
        x, y = (draw(one, split, cycle(task, split, 60)) for one in (task, led))
        if not (batches_equal(led.bare(y), x) and (y.tokens[:, 0] == led.vocab.id(START)).all()):
            yield f"split {split!r}: the examples are not those without a start token, behind one"
        if any(led.read(y, row) != task.read(x, row) for row in range(len(x))):
            yield f"split {split!r}: prompts or answers change"
        for kind in task.id_kinds:
            ids, behind = _ids(task, x, kind), _ids(led, y, kind)
            if ids is not None and (behind is None or not np.array_equal(behind, np.pad(ids, ((0, 0), (1, 0))))):
                yield f"split {split!r}, ids {kind!r}: they change"


def _ids(task: Task, examples: Examples, kind: str) -> Ints | None:
    """Return the position ids of examples, or None if the format has none."""
    try:
        return task.placed(examples, kind).position_ids
    except UserError:
        return None


# -- The contract

CLAUSES: tuple[Callable[[Task], Iterator[str]], ...] = (
    describes_itself,
    is_reproducible,
    preserves_global_random_state,
    writes_valid_sequences,
    scores_the_answer,
    fits_its_width,
    grows_with_length,
    refuses_invalid_requests,
    takes_position_ids_from_the_prompt,
    agrees_with_solve,
    judges_true_answers_correct,
    computes_factors_per_example,
    follows_token_shares,
    mixes_lengths_without_bias,
    states_chance_correctly,
    separates_training_from_test,
    takes_a_start_token,
)
"""The contract. Each clause yields one line per violation; its docstring states what a task must fulfill."""


class ContractError(AssertionError):
    """A task violates its contract. `violations` holds one line per problem: `clause: message`."""

    def __init__(self, task: Task, violations: Sequence[str]):
        self.violations = tuple(violations)
        about = f"task {task.name!r}, format {task.format!r}, max_len {task.max_len}, violates its contract:"
        super().__init__("\n  ".join([about, *violations]))


def check_task(task: Task) -> None:
    """Test that a task fulfills its contract. Authors of tasks should call it in a test, for every format.

    Seeds are fixed, so a task either always passes or always fails. A `max_len` between 6 and 20 is most
    informative: short enough for examples to repeat by chance, long enough for lengths to differ.

    >>> from genlab.tasks import make
    >>> check_task(make("parity", max_len=8))

    Raises:
        ContractError: If any clause is violated; it lists all violations.
    """
    bare = type(task)(task.spec.model_copy(update={"start_token": False}))
    violations = [f"{clause.__name__}: {violation}" for clause in CLAUSES for violation in _violations(clause, bare)]
    if violations:
        raise ContractError(task, violations)


_QUICK = 200
"""Examples of a quick check."""


def quick_check(task: Task) -> None:
    """Test the part of the contract that takes no time: form, scored block, and answers against `solve`.

    Raises:
        ContractError: a clause is violated. An exception of the task itself is raised as it is.
    """
    quick = (describes_itself, writes_valid_sequences, scores_the_answer)
    violations = [violation for clause in quick for violation in clause(task)]
    violations += agrees_with_solve(task, _QUICK)
    if violations:
        raise ContractError(task, violations)


def _violations(clause: Callable[[Task], Iterator[str]], task: Task) -> list[str]:
    violations: list[str] = []
    try:
        violations.extend(clause(task))
    except Exception as error:  # an exception is a violation too, and the remaining clauses still run
        violations.append(f"raised {type(error).__name__}: {error}")
    return violations
