"""Training batches as pure functions of the configuration and the step, and their layout on the device.

Lengths depend on (train config, step) and are the same for all runs of a configuration, so that stacked runs have one
shape and need no padding. Contents depend on (task, data_seed, step). Nothing depends on the stack or its order, the
device, the number of workers, or an interruption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.errors import UserError
from genlab.models.stacked import Packing
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import Examples, Task
from genlab.tasks.examples import Ints, Vocab

# -- Positions: what a model is given with its tokens, in training and evaluation
#
# Most models get the position of an example's first token (an offset, for learned positions). Where positions are
# random or given by the task, they get that of every token. The positions of an example depend on its length, its
# row, a seed and the configuration, and never on the answer, the other examples of the batch, or the padding.


def widths(task: Task, lengths: Ints) -> Ints:
    """Maximum number of input positions for each of these lengths, int[n]."""
    return _by_length(lengths, lambda length: task.reach(length))


def widest(task: Task, lengths: Ints) -> int:
    """Maximum number of input positions over these lengths, the same for all runs of a stack."""
    return int(widths(task, lengths).max())


def positions_of(task: Task, batch: Examples, seed: list[int], cfg: ModelConfig) -> Ints:
    """The position of each example's first token, int[batch], or of every possible token, int[batch, pos].

    With `cfg.offsets` set to `random`, an offset is uniform over the room that the context leaves beyond the widest
    example of the same length; ids given by the task are shifted likewise, up to the ids of the longest examples (an
    id of 0 stays). With `zero` nothing is shifted. Random positions (Ruoss et al. 2023, arXiv 2305.16843) are drawn
    per example, without replacement and in order, from `random_positions` ones.

    Args:
        task: the task, which knows the width of its examples.
        batch: the examples.
        seed: row i of any batch with this seed gets the same positions, given its length.
        cfg: the model configuration.
    """
    rng, used = np.random.default_rng(seed), widths(task, batch.lengths)
    law = cfg.offsets
    if law == "batch":  # every row gets the room of the widest one
        used = np.full(len(batch), used.max())
    if not cfg.needs_ids:
        return np.zeros(len(batch), np.int64) if law == "zero" else _shifts(rng, task.n_ctx - used, law)
    kind, width = cfg.given_positions, int(used.max())
    ids = _task_ids(task, batch, kind, width) if kind else np.broadcast_to(np.arange(width), (len(batch), width))
    reach = _by_length(batch.lengths, lambda length: task.id_reach(kind, length)) if kind else used - 1
    if law == "batch":
        reach = np.full(len(batch), reach.max())
    ids = np.minimum(ids, reach[:, None])  # later positions are padding
    if cfg.random_positions:
        return _random_positions(rng, ids, reach, cfg.random_positions, fixed=bool(kind))
    if law == "zero":
        return ids
    return ids + (ids > 0) * _shifts(rng, task.id_reach(kind, task.max_len) - reach, law)[:, None]


def _by_length(lengths: Ints, function: Callable[[int], int]) -> Ints:
    """Apply a function of the length to each of `lengths`, calling it once per distinct length."""
    distinct, index = np.unique(lengths, return_inverse=True)
    return np.array([function(int(length)) for length in distinct], dtype=np.int64)[index]


def _shifts(rng: np.random.Generator, room: Ints, law: str) -> Ints:
    """A shift from 0 to `room` (inclusive) for each row, int[n]; every row uses one number of `rng`."""
    if law == "batch":  # bit-identical to runs made under this law
        return rng.integers(0, int(room[0]) + 1, size=len(room))
    return np.floor(rng.random(len(room)) * (room + 1)).astype(np.int64)


def _task_ids(task: Task, batch: Examples, kind: str, width: int) -> Ints:
    ids = task.placed(batch, kind, width).position_ids
    assert ids is not None
    return ids


def _random_positions(rng: np.random.Generator, ids: Ints, reach: Ints, count: int, fixed: bool) -> Ints:
    """Map each row's ids, 0 to its reach, to as many random positions in order; with `fixed`, id 0 stays 0."""
    order = np.argsort(rng.random((len(ids), count - fixed)), axis=1)
    rank = np.argsort(order, axis=1)
    taken = rank < (reach + 1 - fixed)[:, None]
    drawn = np.argsort(~taken, axis=1, kind="stable") + fixed  # the row's positions first, in increasing order
    if fixed:
        drawn = np.pad(drawn, ((0, 0), (1, 0)))
    return np.take_along_axis(drawn, ids, axis=1)


_LENGTHS, _CONTENTS, _POOL, _PASS, _OFFSETS, _EVAL_OFFSETS, _ORDER, _NOISE = 1, 2, 3, 4, 5, 6, 9, 10
_MIX_LENGTHS, _MIX_CONTENTS = 11, 12
"""First word of each seed: the purpose of the randomness (7 draws evaluation sets, 8 dropout masks)."""


def batch_lengths(task: Task, train: TrainConfig, step: int) -> Ints:
    """The lengths of a fresh batch, int[batch]: few distinct ones, the same for every seed.

    They follow the task's distribution of lengths (uniform for most tasks). With a curriculum, the maximum length
    grows linearly from `min_len` to `train_len` over the fraction `train.curriculum` of the steps.
    """
    lengths, weights = task.length_law(train.train_split, train.min_len, train.train_len)
    if train.curriculum:
        progress = min(1.0, (step + 1) / (train.curriculum * train.steps))
        longest = train.min_len + round(progress * (train.train_len - train.min_len))
        reached = lengths <= max(longest, lengths[0])  # some tasks cannot produce the shortest lengths
        lengths, weights = lengths[reached], weights[reached] / weights[reached].sum()
    rng = np.random.default_rng([_LENGTHS, step])
    return np.resize(rng.choice(lengths, size=train.lengths_per_batch, p=weights), train.batch_size)


class Stream:
    """The training examples of one run, by step."""

    def __init__(self, task: Task, train: TrainConfig, model: ModelConfig | None = None):
        """
        Args:
            task: the task.
            train: the training configuration.
            model: determines the positions of the examples; without it, `offsets` cannot be called.

        Raises:
            UserError: the task cannot produce the training lengths on the training split.
        """
        task.check_lengths(train.train_split, [train.min_len, train.train_len])
        if train.mix:
            task.check_lengths(*train.mixed_in)
        self.task, self.train, self.model = task, train, model
        self._epoch: tuple[int, list[Ints]] | None = None

    def batch(self, step: int) -> Examples:
        """The examples of a step (counted from 0)."""
        clean = self._clean_batch(step)
        if not self.train.label_noise:
            return clean
        return _add_noise(clean, np.random.default_rng([_NOISE, self.train.data_seed, step]), self.train.label_noise)

    def _clean_batch(self, step: int) -> Examples:
        if self.train.pool:
            return _trim(self.pool[self._pool_rows(step)])
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
        """The positions of the examples, int[batch] or int[batch, pos] (see `positions_of`)."""
        assert self.model is not None, "positions depend on the model"
        return positions_of(self.task, batch, [_OFFSETS, self.train.data_seed, step], self.model)

    @cached_property
    def pool(self) -> Examples:
        """The fixed pool, by increasing length: lengths are shared by all seeds, contents depend on data_seed."""
        train = self.train
        shared, own = np.random.default_rng([_LENGTHS, train.pool]), np.random.default_rng([_POOL, train.data_seed])
        return self.task.sample_pool(shared, own, train.train_split, train.min_len, train.train_len, train.pool)

    def _pool_rows(self, step: int) -> Ints:
        """The pool rows of a step's batch; every epoch visits each example once.

        Batches hold examples of similar length (`lengths_per_batch` 1), or lengths in random order in the proportions
        of the pool.
        """
        epoch, index = divmod(step, -(-self.train.pool // self.train.batch_size))
        if self._epoch is None or self._epoch[0] != epoch:  # cached: one epoch serves many steps
            self._epoch = (epoch, self._epoch_batches(epoch))
        return self._epoch[1][index]

    def _epoch_batches(self, epoch: int) -> list[Ints]:
        """The batches of an epoch, as rows of the pool.

        The order of the lengths is the same for all seeds; the order of the examples of one length depends on the
        seed.
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
    """Lengths of the mixed-in examples, int[count]: few distinct ones, the same for every seed."""
    split, (low, high) = train.mixed_in
    lengths, weights = task.length_law(split, low, high)
    rng = np.random.default_rng([_MIX_LENGTHS, step])
    return np.resize(rng.choice(lengths, size=min(train.lengths_per_batch, count), p=weights), count)


def join_examples(first: Examples, second: Examples) -> Examples:
    """The examples of both, in that order, padded on the right to a common width."""
    width = max(first.tokens.shape[1], second.tokens.shape[1])
    joined: dict[str, np.ndarray] = {}
    for field in fields(Examples):
        pair = [getattr(first, field.name), getattr(second, field.name)]
        if any(array is None for array in pair):
            continue  # absent from both: they come from one task
        if field.name != "lengths":
            rest = [(0, 0)] * (pair[0].ndim - 2)
            pair = [np.pad(a, [(0, 0), (0, width - a.shape[1]), *rest]) for a in pair]  # padding is 0 and not scored
        joined[field.name] = np.concatenate(pair)
    return Examples(**joined)


def _add_noise(batch: Examples, rng: np.random.Generator, fraction: float) -> Examples:
    """Replace a fraction of the trained targets by targets drawn from the same batch: plausible and mostly wrong.

    `<end>` targets and the input tokens are left unchanged.
    """
    trained = batch.scored if batch.trained is None else batch.trained
    row, column = np.nonzero(trained & (batch.targets != Vocab.end))
    noisy = rng.random(len(row)) < fraction
    targets = batch.targets.copy()
    targets[row[noisy], column[noisy]] = rng.choice(batch.targets[row, column], size=int(noisy.sum()))
    return replace(batch, targets=targets)


def _trim(batch: Examples) -> Examples:
    """Remove the columns that are padding in every row."""
    width = int(np.flatnonzero((batch.targets != Vocab.pad).any(axis=0))[-1]) + 1
    return batch.columns(width)


def eval_offsets(task: Task, batch: Examples, seed: int, model: ModelConfig) -> Ints:
    """The positions of evaluation examples: drawn as in training, from a fixed seed."""
    return positions_of(task, batch, [_EVAL_OFFSETS, seed], model)


def stack_examples(batches: list[Examples], width: int = 0) -> Examples:
    """Stack the batches of several runs, `[run, batch, pos]`, padded on the right to at least `width`.

    Raises:
        UserError: the examples have position ids of their own, which no model here supports.
    """
    if any(b.position_ids is not None for b in batches):
        raise UserError("this format has its own position ids, which no model here supports")
    longest = max(width, *(b.tokens.shape[1] for b in batches))

    def pad_and_stack(arrays: list[np.ndarray], fill: int | bool) -> np.ndarray:
        if all(a.shape[1] == longest for a in arrays):
            return np.stack(arrays)
        rest = [(0, 0)] * (arrays[0].ndim - 2)
        return np.stack([np.pad(a, [(0, 0), (0, longest - a.shape[1]), *rest], constant_values=fill) for a in arrays])

    values = [b.values for b in batches if b.values is not None]
    trained = [b.scored if b.trained is None else b.trained for b in batches]
    return Examples(
        tokens=pad_and_stack([b.tokens for b in batches], Vocab.pad),
        targets=pad_and_stack([b.targets for b in batches], Vocab.pad),
        scored=pad_and_stack([b.scored for b in batches], False),
        lengths=np.stack([b.lengths for b in batches]),
        trained=pad_and_stack(trained, False),
        values=pad_and_stack(values, 0) if values else None,
    )


# -- A stacked batch with its loss positions, as arrays and on a device

Arrays = dict[str, np.ndarray]
"""The fields of `Places` as numpy arrays, which other processes can prepare."""


@dataclass(frozen=True, slots=True)
class Places:
    """A batch on the device, with the positions at which the loss is taken.

    Attributes:
        inputs: int[run, batch, pos] of tokens, or float[run, batch, pos, d_values] of real-valued items.
        offsets: the position of each example's first token, or of every token.
        lengths: int[run, batch], the length of each example.
        at: int[run, place], flat indices into batch * pos; runs with fewer loss positions repeat their first with
            weight 0.
        targets: int[run, place].
        weights: float[run, place]; those of a run sum to 1.
        since: the first loss position over all examples, or a position before it.
        packing: the tokens that are not padding, if there is much padding.
    """

    inputs: Int[Tensor, "run batch pos"] | Float[Tensor, "run batch pos d_values"]
    offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"]
    lengths: Int[Tensor, "run batch"]
    at: Int[Tensor, "run place"]
    targets: Int[Tensor, "run place"]
    weights: Float[Tensor, "run place"]
    since: int
    packing: Packing | None = None


def arrange(batch: Examples, offsets: np.ndarray, loss: str, grain: int = 1) -> Arrays:
    """A stacked batch `[run, batch, pos]` with its loss positions.

    Args:
        batch: the examples, from `stack_examples`.
        offsets: their positions.
        loss: `scored`, or `all` for every token that is not padding.
        grain: the number of loss positions is rounded up, and the first position down, to a multiple of it, which
            gives fewer distinct shapes and the same loss.
    """
    assert batch.trained is not None, "stack_examples fills it"
    trained = batch.targets != Vocab.pad if loss == "all" else batch.trained
    mask = trained.reshape(len(trained), -1)
    counts = mask.sum(axis=1)
    at = np.tile(mask.argmax(axis=1)[:, None], -(-int(counts.max()) // grain) * grain)
    filled = np.arange(at.shape[1]) < counts[:, None]
    at[filled] = np.nonzero(mask)[1]
    return {
        "inputs": np.ascontiguousarray(batch.inputs),
        "offsets": np.ascontiguousarray(offsets),
        "lengths": np.ascontiguousarray(batch.lengths),
        "at": at,
        "targets": np.take_along_axis(batch.targets.reshape(len(mask), -1), at, axis=1),
        "weights": filled / counts[:, None],
        "since": np.array(int(trained.any(axis=(0, 1)).argmax()) // grain * grain),
    }


_PACK_BELOW = 0.87
"""Batches whose fraction of real tokens is below this are packed, which is faster then (benchmarks/packing.py)."""
_GROUPS, _GROUP_ABOVE = 3, 100_000
"""Attention reads a packed batch in so many groups, where it would have more query-key pairs than this otherwise."""


def shortest_first(batch: Examples, offsets: np.ndarray) -> tuple[Examples, np.ndarray]:
    """The examples and their positions in the order of their number of tokens, so that groups need little padding."""
    order = np.argsort((batch.targets != Vocab.pad).sum(axis=1), kind="stable")
    return batch[order], offsets[order]


def pack_tokens(batch: Examples, cfg: ModelConfig | None) -> Arrays:
    """The fields of a `Packing` of a stacked batch, or an empty dict if it would save little.

    Every token except the padding on the right is kept. LSTMs, models without blocks and models whose loops grow with
    the length do not support packed batches.
    """
    runs, rows, width = batch.tokens.shape
    lens = width - (batch.tokens[..., ::-1] != Vocab.pad).argmax(axis=-1)
    real = (np.arange(width) < lens[..., None]).reshape(runs, -1)
    counts = real.sum(axis=1)
    supported = cfg is not None and cfg.architecture == "transformer" and cfg.n_layers and not cfg.loop_growth
    if not supported or batch.values is not None or counts.max() > _PACK_BELOW * rows * width:
        return {}
    places = np.tile(real.argmax(axis=1)[:, None], int(counts.max()))
    places[np.arange(places.shape[1]) < counts[:, None]] = np.nonzero(real)[1]
    groups = np.array_split(np.arange(rows), _GROUPS if rows * width**2 > _GROUP_ABOVE else 1)
    shapes = np.array([[len(group), lens[:, group].max()] for group in groups])
    reach = np.repeat(shapes[:, 1], shapes[:, 0])  # the padded width of each example
    starts = np.cumsum(reach) - reach
    example, position = places // width, places % width
    inside = np.arange(width) < reach[:, None]
    tokens = np.maximum(real.cumsum(axis=1) - 1, 0)[:, inside.ravel()]
    return {
        "packed_places": places,
        "packed_cells": starts[example] + position,
        "packed_tokens": tokens,
        "packed_starts": np.tile(starts, (runs, 1)),
        "packed_groups": np.tile(shapes, (runs, 1, 1)),
    }


def to_device(arrays: Arrays, like: Tensor) -> Places:
    """Copy a batch to the device, and to the precision, of `like`."""

    def copy(name: str) -> Tensor:
        tensor = torch.from_numpy(arrays[name])
        if like.is_cuda:
            tensor = tensor.pin_memory()  # makes the copy asynchronous
        return tensor.to(like.device, non_blocking=True)

    whole = {name: copy(name) for name in ("inputs", "offsets", "lengths", "at", "targets")}
    packing = None
    if "packed_places" in arrays:
        groups = tuple((int(count), int(width)) for count, width in arrays["packed_groups"][0])
        packing = Packing(
            places=copy("packed_places"),
            cells=copy("packed_cells"),
            tokens=copy("packed_tokens"),
            starts=copy("packed_starts")[0],
            groups=groups,
        )
    return Places(**whole, weights=copy("weights").to(like.dtype), since=int(arrays["since"]), packing=packing)
