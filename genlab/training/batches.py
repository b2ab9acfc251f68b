"""The batch of a step, as a pure function.

Its lengths come from (train config, step) and are the same for all runs of a configuration, so that stacked runs
have one shape and no padding is paid for. Its contents come from (task, data_seed, step). Nothing depends on the
stack, its order, the device, the number of workers, or a resume.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cached_property

import numpy as np

from genlab.errors import UserError
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import Examples, Task
from genlab.tasks.base import Ints, Vocab
from genlab.training.placing import positions_of, widest, widths

__all__ = ["Stream", "batch_lengths", "eval_offsets", "join_examples", "stack_examples", "widest", "widths"]

_LENGTHS, _CONTENTS, _POOL, _PASS, _OFFSETS, _EVAL_OFFSETS, _ORDER, _NOISE = 1, 2, 3, 4, 5, 6, 9, 10
_MIX_LENGTHS, _MIX_CONTENTS = 11, 12
"""First word of each seed: what the randomness is for (7 draws evaluation sets, 8 dropout masks)."""


def batch_lengths(task: Task, train: TrainConfig, step: int) -> Ints:
    """The lengths of a fresh batch, int[batch]: few distinct ones, the same for every seed.

    They are drawn as the task's own law of lengths says (uniform for most). With a curriculum, the longest length
    grows linearly from `min_len` to `train_len` over that share of the steps.
    """
    lengths, weights = task.length_law(train.train_split, train.min_len, train.train_len)
    if train.curriculum:
        done = min(1.0, (step + 1) / (train.curriculum * train.steps))
        longest = train.min_len + round(done * (train.train_len - train.min_len))
        reached = lengths <= max(longest, lengths[0])  # the task may not make the shortest ones
        lengths, weights = lengths[reached], weights[reached] / weights[reached].sum()
    rng = np.random.default_rng([_LENGTHS, step])
    return np.resize(rng.choice(lengths, size=train.lengths_per_batch, p=weights), train.batch_size)


class Stream:
    """The training examples of one run, by step."""

    def __init__(self, task: Task, train: TrainConfig, model: ModelConfig | None = None):
        """`model`: which positions it is given (None: `offsets` is not asked for).

        Raises `UserError` where the task cannot make the training lengths on the training split."""
        task.check_lengths(train.train_split, [train.min_len, train.train_len])
        if train.mix:
            task.check_lengths(*train.mixed_in)
        self.task, self.train, self.model = task, train, model
        self._pass: tuple[int, list[Ints]] | None = None

    def batch(self, step: int) -> Examples:
        """The examples of a step (counted from 0)."""
        drawn = self._drawn(step)
        if not self.train.label_noise:
            return drawn
        return _noisy(drawn, np.random.default_rng([_NOISE, self.train.data_seed, step]), self.train.label_noise)

    def _drawn(self, step: int) -> Examples:
        if self.train.pool:
            return _trimmed(self.pool[self._pool_rows(step)])
        train, mixed = self.train, round(self.train.mix * self.train.batch_size)
        lengths = batch_lengths(self.task, train, step)[: train.batch_size - mixed]
        parts: list[Examples] = []
        if len(lengths):
            rng = np.random.default_rng([_CONTENTS, train.data_seed, step])
            parts.append(self.task.sample(rng, train.train_split, lengths))
        if mixed:
            rng = np.random.default_rng([_MIX_CONTENTS, train.data_seed, step])
            parts.append(self.task.sample(rng, train.mixed_in[0], _mix_lengths(self.task, train, step, mixed)))
        return parts[0] if len(parts) == 1 else join_examples(*parts)

    def offsets(self, step: int, batch: Examples) -> Ints:
        """Where each example stands: int[batch], or int[batch, pos] (see `positions_of`)."""
        assert self.model is not None, "where examples stand is a matter of the model"
        return positions_of(self.task, batch, [_OFFSETS, self.train.data_seed, step], self.model)

    @cached_property
    def pool(self) -> Examples:
        """The fixed pool, lengths rising: lengths alike for all seeds, contents of (task, data_seed)."""
        train = self.train
        shared, own = np.random.default_rng([_LENGTHS, train.pool]), np.random.default_rng([_POOL, train.data_seed])
        return self.task.draw_pool(shared, own, train.train_split, train.min_len, train.train_len, train.pool)

    def _pool_rows(self, step: int) -> Ints:
        """Rows of the pool at a step: every pass visits each example once.

        Batches hold like lengths (`lengths_per_batch` 1) or lengths in random order, mixed as the pool is.
        """
        epoch, place = divmod(step, -(-self.train.pool // self.train.batch_size))
        if self._pass is None or self._pass[0] != epoch:  # one pass serves many steps
            self._pass = (epoch, self._pass_over_pool(epoch))
        return self._pass[1][place]

    def _pass_over_pool(self, epoch: int) -> list[Ints]:
        """The batches of a pass, as rows of the pool.

        The order of the lengths is the same for all seeds; which example of a length comes when is each seed's own.
        """
        train, size = self.train, self.train.batch_size
        shuffle = np.random.default_rng([_PASS, train.data_seed, epoch]).random(train.pool)
        rows = np.lexsort((shuffle, self.pool.lengths))
        shared, starts = np.random.default_rng([_ORDER, epoch]), np.arange(0, train.pool, size)
        if train.lengths_per_batch > 1:
            rows = rows[shared.permutation(train.pool)]
        else:
            starts = starts[shared.permutation(len(starts))]
        return [rows[start : start + size] for start in starts]


def _mix_lengths(task: Task, train: TrainConfig, step: int, count: int) -> Ints:
    """Few distinct lengths, the same for every seed, as those of the rest of the batch."""
    split, (low, high) = train.mixed_in
    lengths, weights = task.length_law(split, low, high)
    rng = np.random.default_rng([_MIX_LENGTHS, step])
    return np.resize(rng.choice(lengths, size=min(train.lengths_per_batch, count), p=weights), count)


def join_examples(first: Examples, second: Examples) -> Examples:
    """The examples of both, in that order, padded on the right to one width."""
    width = max(first.tokens.shape[1], second.tokens.shape[1])
    found: dict[str, np.ndarray] = {}
    for field in fields(Examples):
        pair = [getattr(first, field.name), getattr(second, field.name)]
        if any(array is None for array in pair):
            continue  # neither has it: one task made both
        if field.name != "lengths":
            rest = [(0, 0)] * (pair[0].ndim - 2)
            pair = [np.pad(a, [(0, 0), (0, width - a.shape[1]), *rest]) for a in pair]  # a pad is 0, and not scored
        found[field.name] = np.concatenate(pair)
    return Examples(**found)


def _noisy(batch: Examples, rng: np.random.Generator, share: float) -> Examples:
    """That share of the trained targets replaced by targets drawn from the same batch: plausible and mostly wrong.

    `<end>` stays where it is, and the tokens that are read stay true.
    """
    trained = batch.scored if batch.trained is None else batch.trained
    row, column = np.nonzero(trained & (batch.targets != Vocab.end))
    noisy = rng.random(len(row)) < share
    targets = batch.targets.copy()
    targets[row[noisy], column[noisy]] = rng.choice(batch.targets[row, column], size=int(noisy.sum()))
    return replace(batch, targets=targets)


def _trimmed(batch: Examples) -> Examples:
    """Without the columns that are pads in every row."""
    width = int(np.flatnonzero((batch.targets != Vocab.pad).any(axis=0))[-1]) + 1
    return batch.columns(width)


def eval_offsets(task: Task, batch: Examples, seed: int, model: ModelConfig) -> Ints:
    """Where the examples of an evaluation stand: drawn like those of training, from a fixed seed."""
    return positions_of(task, batch, [_EVAL_OFFSETS, seed], model)


def stack_examples(batches: list[Examples], width: int = 0) -> Examples:
    """Batches of several runs as one, `[run, batch, pos]`; shorter ones are padded on the right, to `width` at least.

    Raises:
        UserError: examples with positions of their own, which no model here reads.
    """
    if any(b.position_ids is not None for b in batches):
        raise UserError("this format has positions of its own, which no model here reads")
    longest = max(width, *(b.tokens.shape[1] for b in batches))

    def joined(arrays: list[np.ndarray], fill: int | bool) -> np.ndarray:
        if all(a.shape[1] == longest for a in arrays):
            return np.stack(arrays)
        rest = [(0, 0)] * (arrays[0].ndim - 2)
        return np.stack([np.pad(a, [(0, 0), (0, longest - a.shape[1]), *rest], constant_values=fill) for a in arrays])

    values = [b.values for b in batches if b.values is not None]
    trained = [b.scored if b.trained is None else b.trained for b in batches]
    return Examples(
        tokens=joined([b.tokens for b in batches], Vocab.pad),
        targets=joined([b.targets for b in batches], Vocab.pad),
        scored=joined([b.scored for b in batches], False),
        lengths=np.stack([b.lengths for b in batches]),
        trained=joined(trained, False),
        values=joined(values, 0) if values else None,
    )
