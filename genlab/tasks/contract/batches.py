"""Batches to check a task on, all from fixed seeds."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from genlab.tasks.base import Examples, Ints, Task, Vocab

__all__ = ["answer_keys", "cycle", "draw", "lengths_of", "prompt_keys", "same", "splits_of", "whole"]


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
