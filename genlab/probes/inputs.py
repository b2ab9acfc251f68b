"""The input of a probe: trained models and batches from their training distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.errors import NotApplicable, UserError
from genlab.models import Model, initial, model_of
from genlab.probes.model import Hooked, Modules, Probed, Stacked, check_readable
from genlab.runs.plan import MOST_EXAMPLES
from genlab.spec import RunSpec
from genlab.tasks import Examples, Task, Vocab, make
from genlab.tasks.examples import Ints
from genlab.training.batches import eval_offsets, join_examples
from genlab.training.state import first_weights

PROBE_N = 512
"""Default number of probe examples of a configuration: two halves of 256."""
_FEWEST = 16
_PROBE = 11
"""First word of the seed of probe batches (the others are in `genlab.training.batches`)."""
UNTRAINED = 16
"""Number of untrained models that a null is averaged over."""
_UNTRAINED_SEED = 1_000_000_000
_HOOKS = (".hook_attn_scores", ".hook_pattern", ".hook_resid_post", "blocks.0.hook_resid_pre", ".mlp.hook_post")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Examples of one training length, the same for all runs; both halves of the rows have the same distribution.

    Attributes:
        length: the length as the task defines it.
        tokens, targets: int[batch, pos], padded on the right.
        real: bool[batch, pos], where `tokens` is not padding.
        scored: bool[batch, pos], where the target is part of the answer.
        offsets: int[batch], the position of each example's first token; or int[batch, pos], that of every token.
    """

    length: int
    tokens: Tensor
    targets: Tensor
    real: Tensor
    scored: Tensor
    offsets: Tensor | None

    def rows(self, rows: slice | Tensor) -> Batch:
        """Some of the examples."""
        tokens, targets, real, scored = (a[rows] for a in (self.tokens, self.targets, self.real, self.scored))
        offsets = None if self.offsets is None else self.offsets[rows]
        return Batch(self.length, tokens, targets, real, scored, offsets)

    def first(self, count: int) -> Batch:
        """The first examples."""
        return self.rows(slice(count))


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch with a model's logits and activations.

    Attributes:
        batch: the input.
        logits: float[run, batch, pos, d_vocab].
        kept: hook name -> activation, `[run, batch, ...]`.
    """

    batch: Batch
    logits: Tensor
    kept: Mapping[str, Tensor]

    def rows(self, rows: slice, batch: Batch) -> Seen:
        """Some of the examples, given also as `batch`, without another forward pass."""
        activations = {name: x[:, rows] for name, x in self.kept.items()}
        return Seen(batch, self.logits[:, rows], activations)

    def pattern(self, layer: int) -> Tensor:
        """Attention weights, float[run, batch, head, query, key]."""
        return self.at(f"blocks.{layer}.attn.hook_pattern")

    def scores(self, layer: int) -> Tensor:
        """Attention scores, -inf at masked keys, float[run, batch, head, query, key]."""
        return self.at(f"blocks.{layer}.attn.hook_attn_scores")

    def residual(self, layer: int) -> Tensor:
        """The residual stream after a layer (-1: before the first layer), float[run, batch, pos, d_model]."""
        return self.at("blocks.0.hook_resid_pre" if layer < 0 else f"blocks.{layer}.hook_resid_post")

    def at(self, name: str) -> Tensor:
        """The activation at a hook point, `[run, batch, ...]`. Raises `NotApplicable` if the model has none there."""
        if name not in self.kept:
            raise NotApplicable(f"the model has no hook point {name}")
        return self.kept[name]


@dataclass(frozen=True, eq=False)
class ProbeInput:
    """The input of a signal.

    Attributes:
        model: the trained models, as a stack.
        batches: in-distribution examples, one batch per length, in increasing order of length.
        vocab: the task's tokens by id.
        spec: the spec that the runs share (except for seeds, learning rate and the like); None for an external model.
        initial: the same models before training, if known.
        history: per run, the columns `step`, `loss`, `lr`, `exact_match`, `grad_norm` and `grad_norm_max`; empty if
            unknown.

    `halves` are two inputs that share only the models: a signal read on both shows its reliability.
    """

    model: Probed
    batches: tuple[Batch, ...]
    vocab: tuple[str, ...]
    spec: RunSpec | None = None
    initial: Probed | None = None
    history: tuple[Mapping[str, np.ndarray], ...] = ()
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    _of: ProbeInput | None = field(default=None, repr=False)
    _rows: tuple[tuple[int, slice], ...] = ()
    _half: int | None = None

    @property
    def cfg(self) -> Any:
        """The shape of the models."""
        return self.model.cfg

    @cached_property
    def seen(self) -> tuple[Seen, ...]:
        """Every batch with the models' logits and activations."""
        if self._of is not None:
            pairs = zip(self._rows, self.batches, strict=True)
            return tuple(self._of.seen[i].rows(rows, batch) for (i, rows), batch in pairs)
        return tuple(self.look(batch) for batch in self.batches)

    @cached_property
    def halves(self) -> tuple[ProbeInput, ProbeInput]:
        """The same models with the first and the second half of every batch, without further forward passes.

        Raises:
            NotApplicable: no batch has two examples.
        """
        sizes = [len(batch.tokens) for batch in self.batches]
        first = tuple((i, slice(0, -(-size // 2))) for i, size in enumerate(sizes))
        second = tuple((i, slice(-(-size // 2), size)) for i, size in enumerate(sizes) if size > 1)
        if not second:
            raise NotApplicable("too few in-distribution examples for two halves")
        return self._part(0, first), self._part(1, second)

    def _part(self, half: int, rows: tuple[tuple[int, slice], ...]) -> ProbeInput:
        batches = tuple(self.batches[i].rows(some) for i, some in rows)
        return replace(self, batches=batches, _memo={}, _of=self, _rows=rows, _half=half)

    @property
    def root(self) -> ProbeInput:
        """The full input that this one is a part of, or itself."""
        return self if self._of is None else self._of.root

    def alternate(self, rows: Tensor) -> Tensor:
        """Rows of data other than the probe examples: all of them, or every other row for a half."""
        of_parent = rows if self._of is None else self._of.alternate(rows)
        return of_parent if self._half is None else of_parent[self._half :: 2]

    def whole(self, key: str, make_it: Callable[[ProbeInput], Sequence[Any]], axis: int = 0) -> list[Any]:
        """Arrays with the examples of each batch along `axis`, computed once for all examples; a half gets its slice.

        The values of an example must not depend on the other examples.

        Args:
            key: the name under which the arrays are cached.
            make_it: computes the arrays, one per batch.
            axis: the axis of the examples.
        """
        if self._of is None:
            return list(self.once(key, lambda: make_it(self)))
        arrays, before = self._of.whole(key, make_it, axis), (slice(None),) * axis
        return [arrays[i][(*before, rows)] for i, rows in self._rows]

    def mean(self, of_batches: Sequence[Tensor]) -> Tensor:
        """The mean over all examples of per-batch means, given as one float[...] per batch."""
        sizes = torch.tensor([float(len(batch.tokens)) for batch in self.batches], dtype=torch.float64)
        stacked = torch.stack(list(of_batches))
        return torch.einsum("b...,b->...", stacked, (sizes / sizes.sum()).to(stacked))

    @property
    def commonest(self) -> int:
        """Index of the batch with the most examples; of several, the one with the longest."""
        return max(range(len(self.batches)), key=lambda i: (len(self.batches[i].tokens), i))

    @torch.no_grad()
    def look(self, batch: Batch, tap: Callable[[str, Tensor], Tensor] | None = None) -> Seen:
        """Run the models on a batch and record the activations that signals read; `tap` may change activations."""
        recorded: dict[str, Tensor] = {}

        def record(name: str, x: Tensor) -> Tensor:
            x = x if tap is None else tap(name, x)
            if name.endswith(_HOOKS):
                recorded[name] = x
            return x

        return Seen(batch, self.model(batch.tokens, batch.offsets, tap=record), recorded)

    def once(self, key: str, make_it: Callable[[], Any]) -> Any:
        """A cached value that several signals share, computed on first use."""
        if key not in self._memo:
            self._memo[key] = make_it()
        return self._memo[key]

    @cached_property
    def sound(self) -> Tensor:
        """Whether all weights and logits of a run are finite (not so for diverged runs), bool[run]."""
        whole = self.model.flat.isfinite().all(1)
        for seen in self.seen:
            whole = whole & seen.logits.isfinite()[:, seen.batch.real].flatten(1).all(1)
        return whole

    def of_runs(self, rows: Tensor) -> ProbeInput:
        """The same batches with some of the runs, given by their indices in the stack, int[some]."""
        if not isinstance(self.model, Stacked):
            raise NotApplicable("an external model is a single run")
        initial = self.initial.of_runs(rows) if isinstance(self.initial, Stacked) else None
        history = tuple(self.history[row] for row in rows.tolist()) if self.history else ()
        return ProbeInput(self.model.of_runs(rows), self.batches, self.vocab, self.spec, initial, history)

    @property
    def start(self) -> int:
        """The number of start tokens before each example, 0 or 1."""
        return int(self.spec is not None and self.spec.task.start_token)

    @property
    def own_vocab(self) -> tuple[str, ...]:
        """The vocabulary without the start token: that of the task."""
        return self.vocab[: len(self.vocab) - self.start]

    def task(self) -> tuple[str, str, Mapping[str, Any]]:
        """Name, format and parameters of the task. Raises `NotApplicable` for an external model."""
        if self.spec is None:
            raise NotApplicable("the task of an external model is not known")
        return self.spec.task.name, self.spec.task.format, self.spec.task.params

    def untrained(self, which: Sequence[int] = range(UNTRAINED)) -> ProbeInput:
        """The same batches with untrained models of the same shape, given by their numbers."""
        if self.spec is None:
            raise NotApplicable("the initialization of an external model is not known")
        seeds = [_UNTRAINED_SEED + i for i in which]
        fresh = Stacked(model_of(self.spec.model, initial(self.spec.model, seeds).to(self.model.flat)))
        return ProbeInput(fresh, self.batches, self.vocab, self.spec, fresh)


def check_probe_n(n: int) -> int:
    """Check the number of probe examples, and return it.

    Raises:
        UserError: the number is odd or below 16.
    """
    if n < _FEWEST or n % 2:
        raise UserError(f"--probe-n {n} is not allowed (allowed: even numbers from {_FEWEST}, for two equal halves)")
    if n > MOST_EXAMPLES:
        raise UserError(f"--probe-n {n} is not allowed: at most {MOST_EXAMPLES:,}")
    return n


def probe_batches(spec: RunSpec, device: torch.device, seed: int = 0, n: int = PROBE_N) -> tuple[Batch, ...]:
    """The in-distribution batches of a configuration, drawn like its training examples, one batch per length.

    The `n` examples are divided over lengths by the task's length distribution, rounded so that any range of lengths
    has the right number to within one per half; a fraction `mix` of them are the longer or shifted examples that
    training mixes in. Both halves of every batch have the same distribution. Runs that train on a fixed pool get
    examples from the distribution of their pools, the same for all of them, rather than the pools.

    Args:
        spec: the configuration.
        device: where the tensors go.
        seed: another seed gives other examples.
        n: number of examples, even and at least 16.

    Raises:
        NotApplicable: the model does not read tokens, or has no attention.
        UserError: the number of examples is not allowed.
    """
    check_readable(spec.model)
    task = make(spec.task)
    wanted = _count_examples(task, spec, check_probe_n(n) // 2)
    batches: list[Batch] = []
    for length in sorted({length for _, length in wanted}):
        rng = np.random.default_rng([_PROBE, length, seed])
        parts = [
            task.sample(rng, split, np.full(count, length))
            for _half in range(2)
            for (split, at), count in wanted.items()
            if at == length
        ]
        batches.append(placed_batch(spec, task, reduce(join_examples, parts), length, device, seed))
    return tuple(batches)


def _count_examples(task: Task, spec: RunSpec, half: int) -> dict[tuple[str, int], int]:
    """(split, length) -> the number of its examples in each half of the probe examples."""
    train = spec.train
    mixed = round(train.mix * half)
    counts: dict[tuple[str, int], int] = {}
    own = (train.train_split, (train.min_len, train.train_len))
    for (split, (low, high)), count in ((own, half - mixed), (train.mixed_in, mixed)):
        lengths, weights = task.length_law(split, low, high) if count else (np.empty(0, int), np.empty(0))
        for length, some in zip(lengths.tolist(), _apportion(weights, count).tolist(), strict=True):
            if some:
                counts[split, length] = counts.get((split, length), 0) + some
    return counts


def _apportion(weights: np.ndarray, count: int) -> Ints:
    """Integers with sum `count` in proportion to `weights`; the sum over any range is right to within one.

    >>> _apportion(np.array([0.05, 0.4, 0.5, 0.05]), 10)
    array([1, 4, 5, 0])
    """
    ends = np.floor(np.cumsum(weights) * count + 0.5 + 1e-9).astype(np.int64)
    return np.diff(ends, prepend=0)


def placed_batch(
    spec: RunSpec, task: Task, examples: Examples, length: int, device: torch.device, seed: int = 0
) -> Batch:
    """Examples as a batch, at the positions that an evaluation with this seed would give them."""
    offsets = torch.from_numpy(eval_offsets(task, examples, seed, spec.model)).to(device)
    return as_batch(examples, length, device, offsets)


def as_batch(examples: Examples, length: int, device: torch.device, offsets: Tensor | None = None) -> Batch:
    """Examples as a batch of tensors."""
    arrays = (examples.tokens, examples.targets, examples.tokens != Vocab.pad, examples.scored)
    tokens, targets, real, scored = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays)
    return Batch(length, tokens, targets, real, scored, offsets)


def probe_input(
    specs: Sequence[RunSpec],
    model: Model,
    batches: tuple[Batch, ...] | None = None,
    history: Sequence[Mapping[str, np.ndarray]] = (),
    n: int = PROBE_N,
) -> ProbeInput:
    """The probe input of runs that share task, shape and training lengths.

    Args:
        specs: the runs.
        model: the runs as a stack, in the order of `specs`.
        batches: the result of `probe_batches`, if it is already computed.
        history: the training history of each run.
        n: number of examples, if `batches` is not given.
    """
    spec = specs[0]
    first = model_of(spec.model, torch.cat([first_weights(s) for s in specs]).to(model.flat))
    inside = batches if batches is not None else probe_batches(spec, model.flat.device, n=n)
    vocab = make(spec.task).vocab.tokens
    return ProbeInput(Stacked(model), inside, vocab, spec, Stacked(first), tuple(history))


def hooked_input(model: Any, examples: Sequence[Examples], vocab: Sequence[str] = ()) -> ProbeInput:
    """The probe input of any model with TransformerLens's hook names.

    Args:
        model: the model.
        examples: in-distribution batches, each of one length; the caller is responsible for that.
        vocab: token strings by id, for signals that need them.

    Raises:
        UserError: the model does not have these hook names.
    """
    probed = Hooked(model)
    device = torch.device(getattr(model.cfg, "device", None) or "cpu")
    return ProbeInput(probed, _batches(examples, device), tuple(vocab))


def module_input(
    model: torch.nn.Module,
    examples: Sequence[Examples],
    vocab: Sequence[str] = (),
    *,
    at: Mapping[str, str],
    n_ctx: int | None = None,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> ProbeInput:
    """The probe input of any torch module whose attention weights are the output of a submodule.

    A submodule that does nothing is enough: the dropout after the softmax, or an `nn.Identity()`.

    Args:
        model: the module.
        examples: in-distribution batches, each of one length; the caller is responsible for that.
        vocab: token strings by id, for signals that need them.
        at: TransformerLens's hook point -> path of the submodule with this output, `{}` for the layer's number:
            `{"attn.hook_pattern": "blocks.{}.dropout", "hook_resid_post": "blocks.{}"}`. The first is needed; signals
            that need another one do not apply without it.
        n_ctx: the longest input that the model takes, for signals that write texts of their own (default: the
            widest example).
        forward: maps tokens, int[batch, pos], to logits, float[batch, pos, d_vocab] (default: the module itself).

    Raises:
        UserError: an unknown hook point, no such submodule, or an output that is not what the hook point means.
    """
    if not examples:
        raise UserError("no examples to read signals on")
    weight = next(model.parameters(), None)
    batches = _batches(examples, torch.device("cpu") if weight is None else weight.device)
    widest = max(batch.tokens.shape[1] for batch in batches)
    return ProbeInput(Modules(model, at, batches[0].tokens, n_ctx or widest, forward), batches, tuple(vocab))


def _batches(examples: Sequence[Examples], device: torch.device) -> tuple[Batch, ...]:
    return tuple(as_batch(e, int(e.lengths[0]), device) for e in examples)
