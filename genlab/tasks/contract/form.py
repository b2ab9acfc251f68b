"""Clauses on what a task says of itself, on the form of its examples, and on what it refuses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from genlab.errors import UserError
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks.base import Task, Vocab
from genlab.tasks.contract.batches import cycle, draw, lengths_of, same, splits_of, whole

__all__ = [
    "depends_on_the_generator_alone",
    "describes_itself",
    "fits_its_width",
    "leaves_global_randomness_alone",
    "makes_longer_examples_at_longer_lengths",
    "refuses_what_it_cannot_make",
    "scores_the_answer",
    "writes_sequences",
]


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
