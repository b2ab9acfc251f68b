"""Words over a few letters: how they are drawn, and which of their places are there."""

from __future__ import annotations

import numpy as np

from genlab.spec import Split
from genlab.tasks.base import Bools, Ints

__all__ = ["WORD_SPLITS", "draw_words", "letter_shares", "present", "word_shares"]

WORD_SPLITS = (
    Split(name="id", about="letters are uniform and independent", shift={"letters": "uniform"}),
    Split(name="skewed", about="nine letters in ten are the first one", shift={"letters": "skewed", "p": 0.9}),
    Split(name="runs", about="nine letters in ten repeat the one before", shift={"letters": "runs", "p": 0.9}),
)


def draw_words(rng: np.random.Generator, split: Split, lengths: Ints, letters: int) -> Ints:
    """Words of 0 to `letters` - 1 as the split asks, int[n, max(lengths)]; nothing is meant beyond a length."""
    shape = (len(lengths), int(lengths.max()))
    kind = split.shift["letters"]
    if kind == "uniform":
        return rng.integers(0, letters, shape)
    rare = rng.random(shape) >= float(split.shift["p"])
    steps = rng.integers(1, letters, shape) * rare
    if kind == "skewed":
        return steps
    steps[:, 0] = rng.integers(0, letters, len(lengths))
    return np.cumsum(steps, axis=1) % letters


def letter_shares(split: Split, letters: int) -> list[float]:
    """How likely each letter is at a place of such a word.

    >>> letter_shares(WORD_SPLITS[1], letters=3)
    [0.9, 0.05, 0.05]
    """
    if split.shift["letters"] != "skewed":
        return [1 / letters] * letters
    first = float(split.shift["p"])
    return [first] + [round((1 - first) / (letters - 1), 12)] * (letters - 1)


def word_shares(split: Split, letters: str, length: int) -> dict[str, float]:
    """How likely each token is at a random place of a prompt that is such a word and `>`."""
    shares = zip(letters, letter_shares(split, len(letters)), strict=True)
    return {letter: share * length / (length + 1) for letter, share in shares} | {">": 1 / (length + 1)}


def present(lengths: Ints) -> Bools | None:
    """Which places each row has, bool[n, max(lengths)]; None where it has all."""
    width = int(lengths.max())
    return None if int(lengths.min()) == width else np.arange(width) < lengths[:, None]
