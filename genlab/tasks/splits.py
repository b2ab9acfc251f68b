"""Which split, and which lengths of it, stand for "in distribution"."""

from __future__ import annotations

from collections.abc import Sequence

from genlab.spec import Split, TrainConfig
from genlab.tasks.base import Ints, Task

__all__ = ["in_distribution", "spread"]


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
    """The split that says whether a run has learned what it was trained on, without lengths.

    It is `id`, or the split of training where a user chose another than the task's own.
    """
    return task.split("id" if train.train_split == task.train_split else train.train_split)
