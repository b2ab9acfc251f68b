"""What counts as in distribution, how lengths are weighted in means, and when a run has fitted its task.

A run's in-distribution test is one split, between its shortest and its longest training length. Means over lengths
weight training lengths by their probability in training and all other lengths equally. (In `brackets`, one training
example in 500,000 has length 2, so errors there should not make a run count as unfitted.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from genlab.spec import Split, TrainConfig
from genlab.tasks.base import Task
from genlab.tasks.examples import Bools, Floats, Ints

FIT = 0.99
"""In-distribution exact match at which a run counts as having learned its task."""
_ROUNDING = 1e-9
"""Tolerance for rounding errors in weighted means that equal `FIT`."""


def fitted(exact_match: Any) -> Any:
    """Whether in-distribution exact match reaches `FIT`, elementwise; False for NaN.

    >>> fitted([1.0, 0.99, 0.989, float("nan")]).tolist()
    [True, True, False, False]
    """
    return np.asarray(exact_match, float) >= FIT - _ROUNDING


def spread(lengths: Sequence[int] | Ints, most: int) -> tuple[int, ...]:
    """Return at most `most` evenly spaced elements of ascending `lengths`, including the first and the last.

    >>> spread(range(1, 21), 5)
    (1, 6, 11, 15, 20)
    """
    last = len(lengths) - 1
    if last < most:
        return tuple(int(length) for length in lengths)
    return tuple(int(lengths[round(i * last / (most - 1))]) for i in range(most))


def in_distribution(task: Task, train: TrainConfig) -> Split:
    """Return the split on which a run is tested in distribution, without lengths.

    It is `id`, unless the user chose a training split other than the task's default; then it is that split.
    """
    return task.split(_test_split(task.train_split, train.train_split))


def _test_split(default: str, train_split: str) -> str:
    return "id" if train_split == default else train_split


@dataclass(frozen=True)
class TrainingLaw:
    """The distribution of training lengths in a configuration.

    Attributes:
        split: name of the in-distribution test split.
        train_split: name of the split that training draws from (it differs if `id` is held out from training).
        min_len, train_len: shortest and longest training length.
        lengths: lengths that training draws, in ascending order.
        probabilities: the probability of each length; they sum to 1.
    """

    split: str
    train_split: str
    min_len: int
    train_len: int
    lengths: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def ends(self) -> tuple[int, int]:
        """The shortest and the longest training length."""
        return self.min_len, self.train_len

    def trains(self, length: int | Sequence[int] | Ints) -> Bools:
        """Whether these are training lengths, elementwise."""
        queried = np.asarray(length)
        return (queried >= self.min_len) & (queried <= self.train_len)

    def inside(self, split: Any, length: Any) -> Bools:
        """Whether (split, length) is part of the in-distribution test, elementwise."""
        return (np.asarray(split) == self.split) & self.trains(length)

    def outside(self, split: Any, length: Any) -> Bools:
        """Whether (split, length) is out of distribution, elementwise.

        If `id` is held out from training, training lengths of the training split are neither inside nor outside.
        """
        known = (np.asarray(split) == self.split) | (np.asarray(split) == self.train_split)
        return ~(known & self.trains(length))

    def relative(self, length: int | Sequence[int] | Ints) -> Floats:
        """Return training probabilities relative to the most likely length; NaN outside the training lengths."""
        queried = np.asarray(length)
        known, law = np.asarray(self.lengths), np.asarray(self.probabilities) / max(self.probabilities)
        index = np.minimum(np.searchsorted(known, queried), len(known) - 1)
        return np.where(self.trains(queried), np.where(known[index] == queried, law[index], 0.0), np.nan)

    def mean(self, values: Sequence[float] | Floats, lengths: Sequence[int] | Ints) -> float:
        """Return the mean of `values` over lengths of one split, weighted as in `mean_over_lengths`."""
        return float(mean_over_lengths(values, self.relative(lengths)))

    def flat(self) -> TrainingLaw:
        """Return the same range of lengths with a uniform distribution."""
        lengths = tuple(range(self.min_len, self.train_len + 1))
        return replace(self, lengths=lengths, probabilities=(1 / len(lengths),) * len(lengths))

    @property
    def uniform(self) -> bool:
        """Whether all training lengths are equally likely."""
        return len(set(self.probabilities)) == 1

    def as_text(self) -> str:
        """Return this distribution as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> TrainingLaw:
        """Parse the output of `as_text`."""
        fields = json.loads(text)
        pair = {name: tuple(fields[name]) for name in ("lengths", "probabilities")}
        return cls(**{**fields, **pair})


def training_law(task: Task, train: TrainConfig) -> TrainingLaw:
    """Return the distribution of training lengths of a configuration.

    >>> from genlab.tasks import make
    >>> law = training_law(make("brackets", 40), TrainConfig(min_len=2, train_len=40))
    >>> round(law.mean([0.0, 1.0, 1.0, 0.0], [2, 20, 22, 40]), 4), law.mean([0.0, 1.0], [42, 60])
    (1.0, 0.5)

    Raises:
        UserError: If the training split has none of the training lengths.
    """
    lengths, law = task.length_law(train.train_split, train.min_len, train.train_len)
    names = (_test_split(task.train_split, train.train_split), train.train_split)
    return TrainingLaw(*names, train.min_len, train.train_len, tuple(lengths.tolist()), tuple(law.tolist()))


def mean_over_lengths(values: Any, relative: Any) -> Floats:
    """Return the mean over the lengths at which one split was tested.

    Training lengths are weighted by their training probabilities, scaled to an average weight of 1; every other
    length has weight 1.

    Args:
        values: float[..., length], NaN for lengths that were not tested.
        relative: unnormalized training probability of each length; NaN for lengths outside training.

    Returns:
        float[...], NaN where nothing was tested.

    >>> mean_over_lengths([0.2, 1.0, 0.0, 0.5], [0.25, 0.75, np.nan, np.nan]).item()     # (2 * 0.8 + 0 + 0.5) / 4
    0.525
    """
    scores = np.asarray(values, float)
    tested = ~np.isnan(scores)
    weights = _weights(np.broadcast_to(np.asarray(relative, float), scores.shape), tested)
    total = weights.sum(axis=-1)
    sums = (np.where(tested, scores, 0.0) * weights).sum(axis=-1)
    return np.divide(sums, total, out=np.full(total.shape, np.nan), where=total > 0)


def _weights(relative: Floats, tested: Bools) -> Floats:
    """Return the weight of each length: exactly 1 under a uniform law, so that the mean is bitwise a plain one."""
    trained = tested & ~np.isnan(relative)
    law = np.where(trained, relative, 0.0)
    sums, counts = law.sum(axis=-1, keepdims=True), trained.sum(axis=-1, keepdims=True)
    scaled = law * np.divide(counts, sums, out=np.ones(sums.shape), where=sums > 0)
    return np.where(trained & (sums > 0), scaled, tested.astype(float))


def lengths_in_words(lengths: Sequence[int] | Ints, trained: Iterable[tuple[int, int]] = ()) -> str:
    """Describe lengths in words, as one range, or as two if the training lengths lie between them.

    Args:
        trained: shortest and longest training length of each configuration.

    >>> lengths_in_words([21, 30, 50]), lengths_in_words([7])
    ('lengths 21 to 50', 'length 7')
    >>> lengths_in_words([2, 3, 5, 11, 20], [(6, 10)])
    'lengths 2 to 5 and 11 to 20'
    """
    distinct = sorted({int(length) for length in lengths})
    ends = set(trained)
    parts: list[list[int]] = [distinct[:1]]
    for before, length in pairwise(distinct):
        if any(before < low and high < length for low, high in ends):
            parts.append([])
        parts[-1].append(length)
    ranges = [f"{part[0]}" if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts if part]
    return ("length " if len(distinct) == 1 else "lengths ") + " and ".join(ranges)


def split_in_words(split: str, laws: Sequence[TrainingLaw]) -> str:
    """Describe a split: `unshifted` if only length may differ from training, otherwise its name.

    `id` would be a misleading name, since it is out of distribution beyond the training lengths. If training uses
    a shifted split, `id` is the task's `own` split.

    >>> law = TrainingLaw("id", "id", 1, 20, (10, 20), (0.5, 0.5))
    >>> split_in_words("id", [law]), split_in_words("deeper", [law])
    ('unshifted', 'deeper')
    """
    if all(law.split == split for law in laws):
        return "unshifted"
    return "own" if split == "id" else split


def place_in_words(split: str, lengths: Sequence[int] | Ints, laws: Sequence[TrainingLaw]) -> str:
    """Describe where a quantity was measured, as text to append to its name.

    >>> law = TrainingLaw("id", "id", 1, 20, (10, 20), (0.5, 0.5))
    >>> place_in_words("id", [21, 50], [law]), place_in_words("deeper", [20], [law])
    (', lengths 21 to 50', ' on split deeper, length 20')
    """
    name = split_in_words(split, laws)
    where = {"unshifted": "", "own": " on the task's own split"}.get(name, f" on split {name}")
    return f"{where}, {lengths_in_words(lengths, {law.ends for law in laws})}" if len(lengths) else where
