"""Contract clauses about distributions: tokens, mixed lengths, chance, and overlap of training and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from genlab.tasks.base import Task
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Vocab

# -- Chi-square tests, reported as z-scores

_MIN_EXPECTED = 5.0
"""Cells with smaller expected counts are pooled."""


def fit_z(counts: Ints, probabilities: Floats) -> float:
    """Return the z-score of a chi-square test of fit; infinite if an outcome of probability 0 occurred.

    >>> round(fit_z(np.array([60, 40]), np.array([0.5, 0.5])), 1)        # p = 0.046, one-sided 1.7
    1.7
    """
    expected = counts.sum() * probabilities
    if (counts[expected == 0] > 0).any():
        return float("inf")
    observed, expected = _pool_rare(np.stack([counts.astype(float), expected]), rare=expected < _MIN_EXPECTED)
    return _z(float(np.sum((observed - expected) ** 2 / expected)), len(expected) - 1)


def homogeneity_z(first: Ints, second: Ints) -> float:
    """Return the z-score of a chi-square test that two rows of counts have the same distribution.

    >>> homogeneity_z(np.array([50, 50]), np.array([100, 101])) < 0
    True
    >>> homogeneity_z(np.array([50, 50]), np.array([150, 50])) > 3
    True
    """
    table = np.stack([first, second]).astype(float)
    sizes = table.sum(axis=1, keepdims=True)
    fraction = min(first.sum(), second.sum()) / table.sum()
    table = _pool_rare(table, rare=table.sum(axis=0) * fraction < _MIN_EXPECTED)
    expected = sizes * table.sum(axis=0) / table.sum()
    return _z(float(np.sum((table - expected) ** 2 / expected)), table.shape[1] - 1)


def _pool_rare(table: Floats, rare: Bools) -> Floats:
    """Merge the rare columns of a table into one, which is dropped if empty."""
    rest = table[:, rare].sum(axis=1, keepdims=True)
    return np.hstack([table[:, ~rare], rest]) if rest.any() else table[:, ~rare]


def _z(statistic: float, freedom: int) -> float:
    """Convert a chi-square statistic to a z-score (its cube root is nearly normal: Wilson and Hilferty 1931)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5


# -- Batches from fixed seeds


def lengths_of(task: Task, split: str, most: int = 12) -> list[int]:
    """Return up to `most` lengths of a split, ascending, including the shortest and the longest."""
    available = task.lengths_between(split, 0, task.max_len)
    chosen = np.linspace(0, len(available) - 1, min(most, len(available)))
    return [int(length) for length in available[chosen.round().astype(int)]]


def splits_of(task: Task) -> list[str]:
    """Return the splits that have examples up to `max_len`."""
    return [split for split in task.splits if len(task.lengths_between(split, 0, task.max_len))]


def cycle(task: Task, split: str, n: int) -> Ints:
    """Return n lengths that cycle through those of a split, int[n]."""
    return np.resize(lengths_of(task, split), n)


def draw(task: Task, split: str, lengths: Ints, state: int = 0) -> Examples:
    """Sample examples of a split with a new generator."""
    return task.sample(np.random.default_rng([20, state]), split, lengths)


def sequences(examples: Examples) -> Ints:
    """Return the full sequences, including the last token (never an input), int[n, pos + 1]."""
    return np.concatenate([examples.tokens, examples.targets[:, -1:]], axis=1)


def batches_equal(first: Examples, second: Examples) -> bool:
    """Whether two batches are equal in every array."""
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(Examples)]
    return all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in pairs)


def answer_keys(examples: Examples) -> list[bytes]:
    """Return one key per example; keys are equal exactly if answers are."""
    return [row[scored].tobytes() for row, scored in zip(examples.targets, examples.scored, strict=True)]


def prompt_keys(examples: Examples) -> list[bytes]:
    """Return one key per example; keys are equal exactly if prompts (including real values) are."""
    answer_started = np.logical_or.accumulate(examples.scored, axis=1)
    is_prompt = np.pad(~answer_started, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
    prompts = np.where(is_prompt, examples.tokens, Vocab.pad)
    values = [b""] * len(prompts) if examples.values is None else [row.tobytes() for row in examples.values]
    return [row.tobytes() + value for row, value in zip(prompts, values, strict=True)]


# -- Clauses

_Z_MAX = 5.0
"""z-scores above this are violations: a one-in-three-million event."""


def follows_token_shares(task: Task) -> Iterator[str]:
    """Prompt tokens are distributed as `token_shares` states, if it does (chi-square, one position per example)."""
    for name in splits_of(task):
        for length in lengths_of(task, name, most=3)[1:]:
            stated = task.token_shares(task.splits[name], length)
            if not stated:
                continue
            if set(stated) - set(task.vocab.tokens) or abs(sum(stated.values()) - 1) > 1e-6:
                yield f"split {name!r}, length {length}: token_shares is not a distribution over the vocabulary"
                continue
            probabilities = np.array([stated.get(token, 0.0) for token in task.vocab.tokens])
            x = draw(task, name, np.full(5000, length))
            counts = _tokens_at_random(task, x.tokens, np.argmax(x.scored, axis=1) + 1)
            if (z := fit_z(counts, probabilities)) > _Z_MAX:
                yield f"split {name!r}, length {length}: tokens do not follow token_shares (z = {z:.0f})"


def _tokens_at_random(task: Task, tokens: Ints, sizes: Ints) -> Ints:
    """Count tokens of the vocabulary, each row giving one at a random position below its entry in `sizes`."""
    rows = np.arange(len(tokens))
    position = np.random.default_rng(7).integers(0, sizes)
    return np.bincount(tokens[rows, position], minlength=len(task.vocab))


def mixes_lengths_without_bias(task: Task) -> Iterator[str]:
    """Examples of one length have the same distribution in batches of one length and of several lengths."""
    for split in splits_of(task):
        lengths = lengths_of(task, split)
        length, longest = lengths[len(lengths) // 2 - 1], lengths[-1]
        if length == longest:
            continue
        alone = draw(task, split, np.full(2000, length), state=1)
        mixed = draw(task, split, np.resize([length, longest], 4000), state=2)[::2]
        counts = [
            _tokens_at_random(task, tokens := sequences(x), (tokens != Vocab.pad).sum(axis=1)) for x in (alone, mixed)
        ]
        if (z := homogeneity_z(*counts)) > _Z_MAX:
            yield f"split {split!r}: length {length} has another distribution next to {longest} (z = {z:.0f})"


def states_chance_correctly(task: Task) -> Iterator[str]:
    """`chance` is the probability that an example's answer is correct for another example (at short lengths)."""
    for length in task.lengths_between("id", 0, task.max_len)[:3].tolist():
        n, chance = 2000, task.chance(length)
        first, second = (draw(task, "id", np.full(n, length), state) for state in (3, 4))
        hits = sum(_answer_each_other(task, first, second))
        if abs(hits - n * chance) > _Z_MAX * (n * chance * (1 - chance)) ** 0.5 + 3:
            yield f"chance {chance:.4g} at length {length}, but {hits} of {n} pairs of answers agree"


def _answer_each_other(task: Task, first: Examples, second: Examples) -> list[bool]:
    """Return whether the answer in each row of the second batch is correct for that row of the first."""
    if type(task).accepts is Task.accepts:
        return [a == b for a, b in zip(answer_keys(first), answer_keys(second), strict=True)]
    rows = range(len(first))
    return [task.accepts(task.read(first, row)[0], task.read(second, row)[1]) for row in rows]


def separates_training_from_test(task: Task) -> Iterator[str]:
    """Training and test share prompts only as often as independent draws coincide; never if `id` is held out.

    Two draws coincide at most as often as their answers do, and two batches as often as the examples within them.
    """
    for length in sorted({*lengths_of(task, "id", most=6)} & {*lengths_of(task, task.train_split, most=6)}):
        n = 300
        train, test = (
            Counter(prompt_keys(draw(task, split, np.full(n, length), state)))
            for split, state in ((task.train_split, 5), ("id", 6))
        )
        shared = sum(count * test[key] for key, count in train.items())
        if task.train_split != "id":
            if shared:
                yield f"length {length}: training examples occur in the held-out split 'id'"
            continue
        within = sum(count * (count - 1) // 2 for batch in (train, test) for count in batch.values())
        if shared - within > _Z_MAX * (shared + within) ** 0.5 + 5:
            yield f"length {length}: {shared} coincidences between training and test, {within} within them"
        expected = n * n * task.chance(length)
        if type(task).accepts is Task.accepts and shared - expected > _Z_MAX * expected**0.5 + 5:
            yield f"length {length}: {shared} coincidences between training and test; chance allows {expected:.1f}"
