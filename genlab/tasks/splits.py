"""What is in distribution for a run, how its training weighs lengths, and when a run has fitted: the one rule.

A run is judged in distribution on one split, between its shortest and its longest training length. Means over lengths
weigh training lengths as training draws them (brackets of length 2 are one in 500,000, so that a run is not unfitted
for being wrong there), and all other lengths equally.
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
"""Exact match in distribution from which a run counts as having learned its task."""
_ROUNDING = 1e-9
"""Weighted sums of exact matches whose mean is `FIT` may fall short of it by this."""


def fitted(exact_match: Any) -> Any:
    """Whether exact match in distribution is that of a run that has learned its task, elementwise; NaN has not.

    >>> fitted([1.0, 0.99, 0.989, float("nan")]).tolist()
    [True, True, False, False]
    """
    return np.asarray(exact_match, float) >= FIT - _ROUNDING


def spread(lengths: Sequence[int] | Ints, most: int) -> tuple[int, ...]:
    """At most `most` of some rising lengths, the first and the last among them, evenly apart.

    >>> spread(range(1, 21), 5)
    (1, 6, 11, 15, 20)
    """
    last = len(lengths) - 1
    if last < most:
        return tuple(int(length) for length in lengths)
    return tuple(int(lengths[round(i * last / (most - 1))]) for i in range(most))


def in_distribution(task: Task, train: TrainConfig) -> Split:
    """The split on which a run is judged in distribution, without lengths.

    It is `id`, or the split of training where a user chose another than the task's own.
    """
    return task.split(_judged_on(task.train_split, train.train_split))


def _judged_on(own: str, train_split: str) -> str:
    return "id" if train_split == own else train_split


@dataclass(frozen=True)
class TrainingLaw:
    """The lengths of a training configuration.

    Attributes:
        split: the name of the split on which its runs are judged in distribution.
        train_split: the name of the split that training draws from (another one where `id` is held out from it).
        min_len, train_len: the shortest and the longest training length.
        lengths: the lengths that training draws, rising.
        probabilities: of each of them; they add up to 1.
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
        asked = np.asarray(length)
        return (asked >= self.min_len) & (asked <= self.train_len)

    def inside(self, split: Any, length: Any) -> Bools:
        """Whether (split, length) is in distribution and counts in what a run has learned, elementwise."""
        return (np.asarray(split) == self.split) & self.trains(length)

    def outside(self, split: Any, length: Any) -> Bools:
        """Whether (split, length) is out of distribution, elementwise.

        Examples of the split that training itself draws from are neither, where `id` is held out from training.
        """
        drawn = (np.asarray(split) == self.split) | (np.asarray(split) == self.train_split)
        return ~(drawn & self.trains(length))

    def relative(self, length: int | Sequence[int] | Ints) -> Floats:
        """How often training draws these lengths, the likeliest being 1; NaN where they are no training lengths."""
        asked = np.asarray(length)
        known, law = np.asarray(self.lengths), np.asarray(self.probabilities) / max(self.probabilities)
        at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return np.where(self.trains(asked), np.where(known[at] == asked, law[at], 0.0), np.nan)

    def mean(self, values: Sequence[float] | Floats, lengths: Sequence[int] | Ints) -> float:
        """The mean of `values` at some lengths of one split, as `mean_over_lengths` weighs them."""
        return float(mean_over_lengths(values, self.relative(lengths)))

    def flat(self) -> TrainingLaw:
        """The same ends, with all lengths between them equally likely."""
        lengths = tuple(range(self.min_len, self.train_len + 1))
        return replace(self, lengths=lengths, probabilities=(1 / len(lengths),) * len(lengths))

    @property
    def uniform(self) -> bool:
        """Whether all training lengths are drawn equally often."""
        return len(set(self.probabilities)) == 1

    def as_text(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> TrainingLaw:
        """What `as_text` wrote."""
        found = json.loads(text)
        pair = {name: tuple(found[name]) for name in ("lengths", "probabilities")}
        return cls(**{**found, **pair})


def training_law(task: Task, train: TrainConfig) -> TrainingLaw:
    """The law of training lengths of a configuration.

    >>> from genlab.tasks import make
    >>> law = training_law(make("brackets", 40), TrainConfig(min_len=2, train_len=40))
    >>> round(law.mean([0.0, 1.0, 1.0, 0.0], [2, 20, 22, 40]), 4), law.mean([0.0, 1.0], [42, 60])
    (1.0, 0.5)

    Raises:
        UserError: the training split makes none of the training lengths.
    """
    lengths, law = task.length_law(train.train_split, train.min_len, train.train_len)
    names = (_judged_on(task.train_split, train.train_split), train.train_split)
    return TrainingLaw(*names, train.min_len, train.train_len, tuple(lengths.tolist()), tuple(law.tolist()))


def mean_over_lengths(values: Any, relative: Any) -> Floats:
    """The mean over the lengths at which one split was tested, float[...] from float[..., length].

    Training lengths share their part of the mean as training draws them; every other length counts one.

    Args:
        values: NaN where a length was not tested.
        relative: how often training draws each length, on any scale; NaN for lengths outside training.

    >>> mean_over_lengths([0.2, 1.0, 0.0, 0.5], [0.25, 0.75, np.nan, np.nan]).item()     # (2 * 0.8 + 0 + 0.5) / 4
    0.525
    """
    found = np.asarray(values, float)
    tested = ~np.isnan(found)
    weights = _weights(np.broadcast_to(np.asarray(relative, float), found.shape), tested)
    total = weights.sum(axis=-1)
    sums = (np.where(tested, found, 0.0) * weights).sum(axis=-1)
    return np.divide(sums, total, out=np.full(total.shape, np.nan), where=total > 0)


def _weights(relative: Floats, tested: Bools) -> Floats:
    """What each length counts: those of a uniform law exactly 1, so that their mean has the bits of a plain one."""
    trained = tested & ~np.isnan(relative)
    law = np.where(trained, relative, 0.0)
    sums, counts = law.sum(axis=-1, keepdims=True), trained.sum(axis=-1, keepdims=True)
    scaled = law * np.divide(counts, sums, out=np.ones(sums.shape), where=sums > 0)
    return np.where(trained & (sums > 0), scaled, tested.astype(float))


def lengths_in_words(lengths: Sequence[int] | Ints, trained: Iterable[tuple[int, int]] = ()) -> str:
    """Some lengths as a reader is told them: in one range, or in two where the training lengths lie between.

    Args:
        trained: shortest and longest training length, of each configuration.

    >>> lengths_in_words([21, 30, 50]), lengths_in_words([7])
    ('lengths 21 to 50', 'length 7')
    >>> lengths_in_words([2, 3, 5, 11, 20], [(6, 10)])
    'lengths 2 to 5 and 11 to 20'
    """
    found = sorted({int(length) for length in lengths})
    ends = set(trained)
    parts: list[list[int]] = [found[:1]]
    for before, length in pairwise(found):
        if any(before < low and high < length for low, high in ends):
            parts.append([])
        parts[-1].append(length)
    told = [f"{part[0]}" if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts if part]
    return ("length " if len(found) == 1 else "lengths ") + " and ".join(told)


def split_in_words(split: str, laws: Sequence[TrainingLaw]) -> str:
    """A split as a reader is told it: `unshifted` where length alone may differ from training, else by its name.

    `id` is no name for that: it is in distribution at training lengths, and not beyond. Where training is on a
    shifted split, `id` is the task's `own`.

    >>> law = TrainingLaw("id", "id", 1, 20, (10, 20), (0.5, 0.5))
    >>> split_in_words("id", [law]), split_in_words("deeper", [law])
    ('unshifted', 'deeper')
    """
    if all(law.split == split for law in laws):
        return "unshifted"
    return "own" if split == "id" else split


def place_in_words(split: str, lengths: Sequence[int] | Ints, laws: Sequence[TrainingLaw]) -> str:
    """Where something was measured, to stand after its name.

    >>> law = TrainingLaw("id", "id", 1, 20, (10, 20), (0.5, 0.5))
    >>> place_in_words("id", [21, 50], [law]), place_in_words("deeper", [20], [law])
    (', lengths 21 to 50', ' on split deeper, length 20')
    """
    said = split_in_words(split, laws)
    where = {"unshifted": "", "own": " on the task's own split"}.get(said, f" on split {said}")
    return f"{where}, {lengths_in_words(lengths, {law.ends for law in laws})}" if len(lengths) else where
