"""The batch of a step, as a pure function.

Its lengths come from (train config, step) and are the same for all runs of a configuration, so that stacked runs
have one shape and no padding is paid for. Its contents come from (task, data_seed, step). Nothing depends on the
stack, its order, the device, the number of workers, or a resume.
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

# -- Where examples stand: the positions that a model is given with its tokens, in training and in evaluation
#
# Most models are told the position of an example's first token (an offset, for learned positions). Where positions
# are the task's own ids, or random ones, they are told that of every token. An example's placement follows from its
# own length, its row, a seed and the configuration: never from the answer, from the other examples of the batch, or
# from what the batch is padded to.


def widths(task: Task, lengths: Ints) -> Ints:
    """Positions that an input of each of these lengths may take, whatever is drawn: int[n]."""
    return _by_length(lengths, lambda length: task.width(length) - 1)


def widest(task: Task, lengths: Ints) -> int:
    """Positions that inputs of these lengths may take, whatever is drawn: alike for all runs of a stack."""
    return int(widths(task, lengths).max())


def positions_of(task: Task, batch: Examples, seed: list[int], cfg: ModelConfig) -> Ints:
    """Position of each example's first token, int[batch], or of all tokens that there may be, int[batch, pos].

    With `cfg.offsets` at `random` an offset is uniform over what the context leaves beside the widest example of the
    same length; the task's ids are moved alike, as far as those of its longest examples go (an id of 0 stays). At
    `zero` nothing is moved. Random positions (Ruoss et al. 2023, arXiv 2305.16843) are as many of `random_positions`
    ones as the example has, drawn without replacement for each example, in order.

    Args:
        seed: row i of any batch with this seed stands at the same place, given its length.
        cfg: the model's configuration.
    """
    rng, own = np.random.default_rng(seed), widths(task, batch.lengths)
    law = cfg.offsets
    if law == "batch":  # every row gets the room of the widest one
        own = np.full(len(batch), own.max())
    if not cfg.needs_ids:
        return np.zeros(len(batch), np.int64) if law == "zero" else _shifts(rng, task.n_ctx - own, law)
    kind, width = cfg.given_positions, int(own.max())
    ids = _own(task, batch, kind, width) if kind else np.broadcast_to(np.arange(width), (len(batch), width))
    reach = _by_length(batch.lengths, lambda length: task.id_reach(kind, length)) if kind else own - 1
    if law == "batch":
        reach = np.full(len(batch), reach.max())
    ids = np.minimum(ids, reach[:, None])  # what lies beyond an example's own tokens is padding
    if cfg.random_positions:
        return _spread(rng, ids, reach, cfg.random_positions, fixed=bool(kind))
    if law == "zero":
        return ids
    return ids + (ids > 0) * _shifts(rng, task.id_reach(kind, task.max_len) - reach, law)[:, None]


def _by_length(lengths: Ints, of: Callable[[int], int]) -> Ints:
    """A function of an example's length, for each of `lengths`, called once a distinct one."""
    distinct, place = np.unique(lengths, return_inverse=True)
    return np.array([of(int(length)) for length in distinct], dtype=np.int64)[place]


def _shifts(rng: np.random.Generator, room: Ints, law: str) -> Ints:
    """A shift from 0 to `room`, both included, for each row: int[n]. One number of `rng` serves each row."""
    if law == "batch":  # bit for bit what runs of this law were given
        return rng.integers(0, int(room[0]) + 1, size=len(room))
    return np.floor(rng.random(len(room)) * (room + 1)).astype(np.int64)


def _own(task: Task, batch: Examples, kind: str, width: int) -> Ints:
    given = task.placed(batch, kind, width).position_ids
    assert given is not None
    return given


def _spread(rng: np.random.Generator, ids: Ints, reach: Ints, places: int, fixed: bool) -> Ints:
    """Each row's ids 0 to its reach as that many random places, in order; with `fixed`, an id of 0 stays at 0."""
    order = np.argsort(rng.random((len(ids), places - fixed)), axis=1)
    rank = np.argsort(order, axis=1)
    taken = rank < (reach + 1 - fixed)[:, None]
    drawn = np.argsort(~taken, axis=1, kind="stable") + fixed  # the places that a row takes first, rising
    if fixed:
        drawn = np.pad(drawn, ((0, 0), (1, 0)))
    return np.take_along_axis(drawn, ids, axis=1)


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


# -- A stacked batch with the places that its loss is taken at: as arrays, and on a device

Arrays = dict[str, np.ndarray]
"""The fields of `Places` as numpy arrays: what can be made ahead, in another process."""


@dataclass(frozen=True, slots=True)
class Places:
    """A batch on the device, with the places that the loss is taken at.

    Attributes:
        inputs: int[run, batch, pos] of tokens, or float[run, batch, pos, d_values] of real-valued items.
        offsets: position of each example's first token, or of every token.
        lengths: int[run, batch], each example's own length.
        at: int[run, place], in batch * pos; runs with fewer places repeat their first at weight 0.
        targets: int[run, place].
        weights: float[run, place]; those of a run add up to 1.
        since: the first position that any place stands at, or one before it.
        packing: the tokens that are no padding, where there is much padding.
    """

    inputs: Int[Tensor, "run batch pos"] | Float[Tensor, "run batch pos d_values"]
    offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"]
    lengths: Int[Tensor, "run batch"]
    at: Int[Tensor, "run place"]
    targets: Int[Tensor, "run place"]
    weights: Float[Tensor, "run place"]
    since: int
    packing: Packing | None = None


def arranged(batch: Examples, offsets: np.ndarray, loss: str, grain: int = 1) -> Arrays:
    """A stacked batch `[run, batch, pos]` with the places of its loss.

    Args:
        loss: `scored`, or `all` for every token that is no pad.
        grain: the number of places is rounded up, and the first position of any down, to a multiple of it: fewer
            distinct shapes, the same loss.
    """
    assert batch.trained is not None, "stack_examples fills it"
    taken = batch.targets != Vocab.pad if loss == "all" else batch.trained
    mask = taken.reshape(len(taken), -1)
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
        "since": np.array(int(taken.any(axis=(0, 1)).argmax()) // grain * grain),
    }


_WORTH = 0.87
"""Batches of fewer tokens than this share of their places are packed: below it that pays (benchmarks/packing.py)."""


def packed(batch: Examples, cfg: ModelConfig | None) -> Arrays:
    """The fields of a `Packing` of a stacked batch, or nothing where it would save little.

    A token that a model reads is any but the padding on the right. An LSTM, a model without blocks and one whose
    loops grow with the length take no packed batch.
    """
    runs, rows, width = batch.tokens.shape
    lens = width - (batch.tokens[..., ::-1] != Vocab.pad).argmax(axis=-1)
    real = (np.arange(width) < lens[..., None]).reshape(runs, -1)
    counts = real.sum(axis=1)
    takes = cfg is not None and cfg.architecture == "transformer" and cfg.n_layers and not cfg.loop_growth
    if not takes or batch.values is not None or counts.max() > _WORTH * rows * width:
        return {}
    places = np.tile(real.argmax(axis=1)[:, None], int(counts.max()))
    places[np.arange(places.shape[1]) < counts[:, None]] = np.nonzero(real)[1]
    return {"packed_places": places, "packed_rows": np.maximum(real.cumsum(axis=1) - 1, 0)}


def moved(arrays: Arrays, like: Tensor) -> Places:
    """On the device and in the precision of `like`."""

    def there(name: str) -> Tensor:
        tensor = torch.from_numpy(arrays[name])
        if like.is_cuda:
            tensor = tensor.pin_memory()  # so that the copy does not wait for what the device does
        return tensor.to(like.device, non_blocking=True)

    whole = {name: there(name) for name in ("inputs", "offsets", "lengths", "at", "targets")}
    packing = None
    if "packed_places" in arrays:
        packing = Packing(there("packed_places"), there("packed_rows"), whole["lengths"].shape[1])
    return Places(**whole, weights=there("weights").to(like.dtype), since=int(arrays["since"]), packing=packing)
