"""Strings in which one symbol is more frequent than every other, and how often each symbol stands in them."""

from __future__ import annotations

from math import lgamma

import numpy as np

from genlab.spec import Split
from genlab.tasks.base import Examples, Floats, Ints, Vocab

__all__ = ["MOST_LEAD", "draw_with_mode", "lead", "mode_chance", "tally"]

MOST_LEAD = 5
"""Leads of this many and more are reported together."""


def draw_with_mode(rng: np.random.Generator, split: Split, lengths: Ints, k: int) -> tuple[Ints, Ints]:
    """Strings over k symbols with one most frequent symbol, int[n, longest], and their counts, int[n, k].

    Drawn again until they have it: independent symbols, given that no two share the largest count. The shift's
    `favour` is the probability that a place takes the string's favoured symbol (a uniform one) rather than any;
    `lead`, unless 0, bounds the lead of the most frequent symbol over the next.
    """
    favour, most = float(split.shift["favour"]), int(split.shift["lead"])
    strings, counts = _draw(rng, lengths, k, favour)
    while len(again := np.flatnonzero(_refused(counts, most))):
        strings[again], counts[again] = _draw(rng, lengths[again], k, favour, strings.shape[1])
    return strings, counts


def _draw(rng: np.random.Generator, lengths: Ints, k: int, favour: float, width: int = 0) -> tuple[Ints, Ints]:
    shape = (len(lengths), width or int(lengths.max()))
    strings = rng.integers(0, k, shape)
    if favour:
        strings = np.where(rng.random(shape) < favour, rng.integers(0, k, (shape[0], 1)), strings)
    cells = np.arange(shape[0])[:, None] * (k + 1) + np.where(np.arange(shape[1]) < lengths[:, None], strings, k)
    counts = np.bincount(cells.ravel(), minlength=shape[0] * (k + 1)).reshape(-1, k + 1)[:, :k]
    return strings, counts


def _refused(counts: Ints, most: int) -> np.ndarray:
    ahead = _lead(counts)
    return (ahead == 0) | (ahead > most) if most else ahead == 0


def _lead(counts: Ints) -> Ints:
    two = np.partition(counts, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def lead(counts: Ints) -> Ints:
    """By how much the most frequent symbol leads, int[n], at most `MOST_LEAD`."""
    return np.minimum(_lead(counts), MOST_LEAD)


def tally(examples: Examples, k: int) -> Ints:
    """How often each of the task's first k symbols stands in the prompts, int[n, k]."""
    prompt = np.cumsum(examples.tokens == Vocab.sep, axis=1) == 0
    return np.stack([((examples.tokens == Vocab.first + i) & prompt).sum(axis=1) for i in range(k)], axis=1)


def mode_chance(length: int, k: int) -> float:
    """Chance that two strings with one most frequent symbol have the same counts of every symbol.

    With C a vector of counts, it is sum P(C)^2 / (sum P(C))^2 over the vectors whose largest count is unique. Each
    P(C) is a product over symbols (Poisson probabilities, given their total), so both sums are coefficients of a
    product of polynomials: one for the largest count m, and k - 1 with only the powers below m.

    >>> round(mode_chance(2, 3), 6)       # aa, bb or cc
    0.333333
    """
    counts = np.arange(length + 1)
    rate = length / k
    one = np.exp(counts * np.log(rate) - rate - np.array([lgamma(c + 1) for c in counts]))
    return _unique_top(one**2, k) / _unique_top(one, k) ** 2


def _unique_top(weights: Floats, k: int) -> float:
    """Sum over counts (c_1, ..., c_k) of total `len(weights) - 1` with a unique largest, of product weights[c_i]."""
    length = len(weights) - 1
    total = 0.0
    for top in range(1, length + 1):
        below = np.ones(1)
        for _ in range(k - 1):
            below = np.convolve(below, weights[:top])[: length + 1]
        if length - top < len(below):
            total += k * weights[top] * below[length - top]
    return float(total)
