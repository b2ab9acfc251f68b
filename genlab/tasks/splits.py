"""Which split, and which lengths of it, stand for "in distribution"."""

from __future__ import annotations

from genlab.spec import Split, TrainConfig
from genlab.tasks.base import Task

__all__ = ["in_distribution", "spread"]


def spread(low: int, high: int, most: int) -> tuple[int, ...]:
    """At most `most` lengths from `low` to `high`, both included, evenly apart.

    >>> spread(1, 20, 5)
    (1, 6, 10, 15, 20)
    """
    count = min(most, high - low + 1)
    if count < 2:
        return (high,) if count == 1 else ()
    return tuple(sorted({low + round(i * (high - low) / (count - 1)) for i in range(count)}))


def in_distribution(task: Task, train: TrainConfig) -> Split:
    """The split that says whether a run has learned what it was trained on, without lengths.

    It is `id`, or the split of training where a user chose another than the task's own.
    """
    return task.split("id" if train.train_split == task.train_split else train.train_split)
