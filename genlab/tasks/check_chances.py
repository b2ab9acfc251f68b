"""Clauses on distributions: symbols, mixed lengths, chance, and what training shares with the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from genlab.tasks.base import Task
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Vocab

# -- Chi-square tests, as the number of standard deviations by which counts are further off than chance gives

_FEWEST = 5.0
"""Cells with fewer expected counts are pooled."""


def fit_z(counts: Ints, shares: Floats) -> float:
    """How badly counts fit the shares that they should have; infinite where an impossible thing was counted.

    >>> round(fit_z(np.array([60, 40]), np.array([0.5, 0.5])), 1)        # p = 0.046, one-sided 1.7
    1.7
    """
    expected = counts.sum() * shares
    if (counts[expected == 0] > 0).any():
        return float("inf")
    seen, due = _pooled(np.stack([counts.astype(float), expected]), rare=expected < _FEWEST)
    return _z(float(np.sum((seen - due) ** 2 / due)), len(due) - 1)


def homogeneity_z(first: Ints, second: Ints) -> float:
    """How badly two rows of counts fit one law.

    >>> homogeneity_z(np.array([50, 50]), np.array([100, 101])) < 0
    True
    >>> homogeneity_z(np.array([50, 50]), np.array([150, 50])) > 3
    True
    """
    table = np.stack([first, second]).astype(float)
    sizes = table.sum(axis=1, keepdims=True)
    share = min(first.sum(), second.sum()) / table.sum()
    table = _pooled(table, rare=table.sum(axis=0) * share < _FEWEST)
    due = sizes * table.sum(axis=0) / table.sum()
    return _z(float(np.sum((table - due) ** 2 / due)), table.shape[1] - 1)


def _pooled(table: Floats, rare: Bools) -> Floats:
    """The columns of a table, the rare ones added up to one (left out if it is empty)."""
    rest = table[:, rare].sum(axis=1, keepdims=True)
    return np.hstack([table[:, ~rare], rest]) if rest.any() else table[:, ~rare]


def _z(statistic: float, freedom: int) -> float:
    """The normal deviate of a chi-square statistic (its cube root is close to normal: Wilson and Hilferty 1931)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5


# -- Batches to check a task on, all from fixed seeds


def lengths_of(task: Task, split: str, most: int = 12) -> list[int]:
    """At most `most` of the lengths that a split makes, the shortest and the longest among them, rising."""
    made = task.lengths_between(split, 0, task.max_len)
    chosen = np.linspace(0, len(made) - 1, min(most, len(made)))
    return [int(length) for length in made[chosen.round().astype(int)]]


def splits_of(task: Task) -> list[str]:
    """The splits that make some length up to `max_len`."""
    return [split for split in task.splits if len(task.lengths_between(split, 0, task.max_len))]


def cycle(task: Task, split: str, n: int) -> Ints:
    """n lengths that a split makes, mixed, int[n]."""
    return np.resize(lengths_of(task, split), n)


def draw(task: Task, split: str, lengths: Ints, state: int = 0) -> Examples:
    """Examples of a split, from a new generator."""
    return task.sample(np.random.default_rng([20, state]), split, lengths)


def whole(examples: Examples) -> Ints:
    """The sequences with their last token, which is never read, int[n, pos + 1]."""
    return np.concatenate([examples.tokens, examples.targets[:, -1:]], axis=1)


def same(first: Examples, second: Examples) -> bool:
    """Whether two batches are equal in every array."""
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(Examples)]
    return all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in pairs)


def answer_keys(examples: Examples) -> list[bytes]:
    """For each example, bytes that are equal where the answers are."""
    return [row[scored].tobytes() for row, scored in zip(examples.targets, examples.scored, strict=True)]


def prompt_keys(examples: Examples) -> list[bytes]:
    """For each example, bytes that are equal where the prompts are (real values included)."""
    begun = np.logical_or.accumulate(examples.scored, axis=1)
    is_prompt = np.pad(~begun, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
    prompts = np.where(is_prompt, examples.tokens, Vocab.pad)
    values = [b""] * len(prompts) if examples.values is None else [row.tobytes() for row in examples.values]
    return [row.tobytes() + value for row, value in zip(prompts, values, strict=True)]


_FAR = 5.0
"""Standard deviations beyond which a count is no chance: one in three million."""


def draws_tokens_as_it_says(task: Task) -> Iterator[str]:
    """Where `token_shares` says how often tokens stand in prompts, they do (chi-square, one place an example)."""
    for name in splits_of(task):
        for length in lengths_of(task, name, most=3)[1:]:
            said = task.token_shares(task.splits[name], length)
            if not said:
                continue
            if set(said) - set(task.vocab.tokens) or abs(sum(said.values()) - 1) > 1e-6:
                yield f"split {name!r}, length {length}: token_shares are no distribution over the vocabulary"
                continue
            shares = np.array([said.get(token, 0.0) for token in task.vocab.tokens])
            x = draw(task, name, np.full(5000, length))
            counts = _tokens_at_random(task, x.tokens, np.argmax(x.scored, axis=1) + 1)
            if (z := fit_z(counts, shares)) > _FAR:
                yield f"split {name!r}, length {length}: tokens are not drawn as token_shares says ({z:.0f} sd off)"


def _tokens_at_random(task: Task, tokens: Ints, sizes: Ints) -> Ints:
    """How often each token of the vocabulary stands at a random one of the first `sizes` places of a row."""
    rows = np.arange(len(tokens))
    place = np.random.default_rng(7).integers(0, sizes)
    return np.bincount(tokens[rows, place], minlength=len(task.vocab))


def mixes_lengths_without_bias(task: Task) -> Iterator[str]:
    """Examples of a length are drawn alike whether the batch holds one length or several."""
    for split in splits_of(task):
        lengths = lengths_of(task, split)
        length, longest = lengths[len(lengths) // 2 - 1], lengths[-1]
        if length == longest:
            continue
        alone = draw(task, split, np.full(2000, length), state=1)
        mixed = draw(task, split, np.resize([length, longest], 4000), state=2)[::2]
        counts = [
            _tokens_at_random(task, tokens := whole(x), (tokens != Vocab.pad).sum(axis=1)) for x in (alone, mixed)
        ]
        if (z := homogeneity_z(*counts)) > _FAR:
            yield f"split {split!r}: length {length} is drawn otherwise beside length {longest} ({z:.0f} sd apart)"


def knows_its_chance(task: Task) -> Iterator[str]:
    """`chance` is how often one example's answer answers another one of its length (measured at short lengths)."""
    for length in task.lengths_between("id", 0, task.max_len)[:3].tolist():
        n, chance = 2000, task.chance(length)
        first, second = (draw(task, "id", np.full(n, length), state) for state in (3, 4))
        hits = sum(_answer_each_other(task, first, second))
        if abs(hits - n * chance) > _FAR * (n * chance * (1 - chance)) ** 0.5 + 3:
            yield f"chance {chance:.4g} at length {length}, but {hits} of {n} pairs of answers agree"


def _answer_each_other(task: Task, first: Examples, second: Examples) -> list[bool]:
    """Whether the answer of each example of the second batch is right for the same row of the first."""
    if type(task).accepts is Task.accepts:
        return [a == b for a, b in zip(answer_keys(first), answer_keys(second), strict=True)]
    rows = range(len(first))
    return [task.accepts(task.read(first, row)[0], task.read(second, row)[1]) for row in rows]


def keeps_test_from_training(task: Task) -> Iterator[str]:
    """Training and test share prompts as often as chance brings two draws together; none if `id` is held out.

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
                yield f"length {length}: training examples stand in the held-out split 'id'"
            continue
        within = sum(count * (count - 1) // 2 for batch in (train, test) for count in batch.values())
        if shared - within > _FAR * (shared + within) ** 0.5 + 5:
            yield f"length {length}: {shared} coincidences of training and test, {within} within them"
        due = n * n * task.chance(length)
        if type(task).accepts is Task.accepts and shared - due > _FAR * due**0.5 + 5:
            yield f"length {length}: {shared} coincidences of training and test, where chance allows {due:.1f}"
