"""The clause on position ids, for tasks that give them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from genlab.errors import UserError
from genlab.tasks.base import Task, Vocab
from genlab.tasks.contract.batches import cycle, draw, splits_of

__all__ = ["places_tokens_by_the_prompt_alone"]


def places_tokens_by_the_prompt_alone(task: Task) -> Iterator[str]:
    """Position ids are there for all of `n_ctx`, lie between 0 and their reach, and do not follow from the answer."""
    for kind in task.id_kinds:
        try:
            task.check_ids(kind)
        except UserError:
            continue  # this format has none of them, and says so
        for split in splits_of(task):
            yield from (f"split {split!r}, ids {kind!r}: {fault}" for fault in _faults(task, kind, split))


def _faults(task: Task, kind: str, split: str) -> Iterator[str]:
    x = draw(task, split, cycle(task, split, 200))
    ids = task.placed(x, kind, task.n_ctx).position_ids
    if ids is None or ids.shape != (len(x), task.n_ctx):
        yield "they are not one for each position of `n_ctx`"
        return
    reach = np.array([task.id_reach(kind, int(length)) for length in x.lengths])
    if (ids < 0).any() or (ids > reach[:, None]).any():
        row = int(np.argmax(ids.max(axis=1) - reach))
        yield f"{ids[row].max()} at length {x.lengths[row]}, where `id_reach` is {reach[row]}"
    answer = np.pad(x.scored, ((0, 0), (1, 0)))[:, :-1]  # the answer as it is read
    other = np.random.default_rng(0).integers(Vocab.first, len(task.vocab), x.tokens.shape)
    changed = task.placed(replace(x, tokens=np.where(answer, other, x.tokens)), kind, task.n_ctx).position_ids
    if changed is None or (ids != changed).any():
        yield "they change with the answer"
