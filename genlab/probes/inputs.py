"""What a probe is given: trained models, and batches of the distribution that they were trained on. Nothing else."""

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
from genlab.probes.model import Hooked, Probed, Stacked, check_readable
from genlab.spec import RunSpec
from genlab.tasks import Examples, Task, Vocab, make
from genlab.tasks.examples import Ints
from genlab.training.batches import eval_offsets, join_examples

PROBE_N = 512
"""Probe examples of a configuration unless told: two halves of 256."""
_FEWEST = 16
_PROBE = 11
"""First word of the seed of probe batches (`genlab.training.batches` has the others)."""
UNTRAINED = 16
"""Untrained models that a null is the mean of."""
_UNTRAINED_SEED = 1_000_000_000
_KEPT = (".hook_attn_scores", ".hook_pattern", ".hook_resid_post", "blocks.0.hook_resid_pre", ".mlp.hook_post")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Examples of one training length, the same for all runs; the first half of the rows is drawn as the second is.

    Attributes:
        length: the task's own length.
        tokens, targets: int[batch, pos], pads on the right.
        real: bool[batch, pos], where `tokens` is no pad.
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
        """Some of its examples."""
        tokens, targets, real, scored = (a[rows] for a in (self.tokens, self.targets, self.real, self.scored))
        offsets = None if self.offsets is None else self.offsets[rows]
        return Batch(self.length, tokens, targets, real, scored, offsets)

    def first(self, count: int) -> Batch:
        """Its first examples."""
        return self.rows(slice(count))


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch as a model saw it.

    Attributes:
        batch: what was read.
        logits: float[run, batch, pos, d_vocab].
        kept: hook name -> activation, `[run, batch, ...]`.
    """

    batch: Batch
    logits: Tensor
    kept: Mapping[str, Tensor]

    def rows(self, rows: slice, batch: Batch) -> Seen:
        """Some of its examples, `batch`, without another pass."""
        kept = {name: x[:, rows] for name, x in self.kept.items()}
        return Seen(batch, self.logits[:, rows], kept)

    def pattern(self, layer: int) -> Tensor:
        """Attention weights, float[run, batch, head, query, key]."""
        return self.kept[f"blocks.{layer}.attn.hook_pattern"]

    def scores(self, layer: int) -> Tensor:
        """Attention scores, -inf at unseen keys, float[run, batch, head, query, key]."""
        return self.kept[f"blocks.{layer}.attn.hook_attn_scores"]

    def residual(self, layer: int) -> Tensor:
        """The residual stream after a layer (-1: before the first), float[run, batch, pos, d_model]."""
        return self.kept["blocks.0.hook_resid_pre" if layer < 0 else f"blocks.{layer}.hook_resid_post"]


@dataclass(frozen=True, eq=False)
class ProbeInput:
    """What a signal is a function of.

    Attributes:
        model: the trained models of a stack.
        batches: in-distribution examples, one batch a length, lengths rising.
        vocab: the tokens of the task by their ids.
        spec: the spec that the runs share (but for seeds, learning rate and the like); None for a model from
            elsewhere.
        initial: the same models before training, if known.
        history: a run's loss, learning rate and in-distribution exact match by step, a mapping of columns a run;
            empty where it is not known.

    `halves` are two inputs that share nothing but the models: a signal read on both says how well it is known.
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
        """Every batch with what the models made of it."""
        if self._of is not None:
            pairs = zip(self._rows, self.batches, strict=True)
            return tuple(self._of.seen[i].rows(rows, batch) for (i, rows), batch in pairs)
        return tuple(self.look(batch) for batch in self.batches)

    @cached_property
    def halves(self) -> tuple[ProbeInput, ProbeInput]:
        """The same models with the first and with the second half of every batch; no pass is made again.

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
        """The input that this one is a part of, or itself."""
        return self if self._of is None else self._of.root

    def alternate(self, rows: Tensor) -> Tensor:
        """All rows of what is no probe example; of a half every other row."""
        of_parent = rows if self._of is None else self._of.alternate(rows)
        return of_parent if self._half is None else of_parent[self._half :: 2]

    def whole(self, key: str, make_it: Callable[[ProbeInput], Sequence[Any]], axis: int = 0) -> list[Any]:
        """Arrays that hold the examples of each batch along `axis`: made once of all, of a half its own examples.

        What an example gives must not depend on the others.
        """
        if self._of is None:
            return list(self.once(key, lambda: make_it(self)))
        made, before = self._of.whole(key, make_it, axis), (slice(None),) * axis
        return [made[i][(*before, rows)] for i, rows in self._rows]

    def mean(self, of_batches: Sequence[Tensor]) -> Tensor:
        """The mean over examples of what is a mean over the examples of each batch, float[..., batch] a list."""
        sizes = torch.tensor([float(len(batch.tokens)) for batch in self.batches], dtype=torch.float64)
        stacked = torch.stack(list(of_batches))
        return torch.einsum("b...,b->...", stacked, (sizes / sizes.sum()).to(stacked))

    @property
    def commonest(self) -> int:
        """The batch with the most examples; of several the longest."""
        return max(range(len(self.batches)), key=lambda i: (len(self.batches[i].tokens), i))

    @torch.no_grad()
    def look(self, batch: Batch, tap: Callable[[str, Tensor], Tensor] | None = None) -> Seen:
        """Run the models on a batch, keeping what signals read; `tap` may change activations on the way."""
        kept: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor) -> Tensor:
            x = x if tap is None else tap(name, x)
            if name.endswith(_KEPT):
                kept[name] = x
            return x

        return Seen(batch, self.model(batch.tokens, batch.offsets, tap=keep), kept)

    def once(self, key: str, make_it: Callable[[], Any]) -> Any:
        """A value that several signals share, made by the first that asks."""
        if key not in self._memo:
            self._memo[key] = make_it()
        return self._memo[key]

    @cached_property
    def sound(self) -> Tensor:
        """Whether all weights and logits of a run are numbers, which a diverged run's are not: bool[run]."""
        whole = self.model.flat.isfinite().all(1)
        for seen in self.seen:
            whole = whole & seen.logits.isfinite()[:, seen.batch.real].flatten(1).all(1)
        return whole

    def of_runs(self, rows: Tensor) -> ProbeInput:
        """The same batches with some of the runs, by their places in the stack, int[some]."""
        if not isinstance(self.model, Stacked):
            raise NotApplicable("a model from elsewhere is one run")
        initial = self.initial.of_runs(rows) if isinstance(self.initial, Stacked) else None
        history = tuple(self.history[row] for row in rows.tolist()) if self.history else ()
        return ProbeInput(self.model.of_runs(rows), self.batches, self.vocab, self.spec, initial, history)

    def task(self) -> tuple[str, str, Mapping[str, Any]]:
        """Name, format and parameters of the task. Raises `NotApplicable` for a model from elsewhere."""
        if self.spec is None:
            raise NotApplicable("the task of a model from elsewhere is not known")
        return self.spec.task.name, self.spec.task.format, self.spec.task.params

    def untrained(self, which: Sequence[int] = range(UNTRAINED)) -> ProbeInput:
        """The same batches with models of this shape that have learned nothing, by their numbers."""
        if self.spec is None:
            raise NotApplicable("how a model from elsewhere was initialised is not known")
        seeds = [_UNTRAINED_SEED + i for i in which]
        fresh = Stacked(model_of(self.spec.model, initial(self.spec.model, seeds).to(self.model.flat)))
        return ProbeInput(fresh, self.batches, self.vocab, self.spec, fresh)


def check_probe_n(n: int) -> int:
    """The number of probe examples, checked: two halves, large enough to be read.

    Raises:
        UserError: an odd number, or fewer than 16.
    """
    if n < _FEWEST or n % 2:
        raise UserError(f"--probe-n {n} is not allowed (allowed: even numbers from {_FEWEST}: two halves are read)")
    return n


def probe_batches(spec: RunSpec, device: torch.device, seed: int = 0, n: int = PROBE_N) -> tuple[Batch, ...]:
    """The in-distribution batches of a configuration, drawn as its training examples are, one batch a length.

    Of `n` examples each length has as many as the task's law of lengths gives it, rounded so that any run of lengths
    has its number to within one a half; `mix` of them are of the longer or shifted examples that training mixes in.
    Both halves of every batch are drawn alike. Runs that train on a pool of their own get examples of the law that
    their pools are drawn by, the same ones for all of them, and not their pools.

    Args:
        n: even, at least 16.

    Raises:
        NotApplicable: a model that does not read tokens, or has no attention.
        UserError: a number of examples that is not allowed.
    """
    check_readable(spec.model)
    task = make(spec.task)
    wanted = _wanted(task, spec, check_probe_n(n) // 2)
    found: list[Batch] = []
    for length in sorted({length for _, length in wanted}):
        rng = np.random.default_rng([_PROBE, length, seed])
        parts = [
            task.sample(rng, split, np.full(count, length))
            for _half in range(2)
            for (split, at), count in wanted.items()
            if at == length
        ]
        found.append(placed_batch(spec, task, reduce(join_examples, parts), length, device, seed))
    return tuple(found)


def _wanted(task: Task, spec: RunSpec, half: int) -> dict[tuple[str, int], int]:
    """(split, length) -> how many examples of it half of the probe examples have."""
    train = spec.train
    mixed = round(train.mix * half)
    found: dict[tuple[str, int], int] = {}
    own = (train.train_split, (train.min_len, train.train_len))
    for (split, (low, high)), count in ((own, half - mixed), (train.mixed_in, mixed)):
        lengths, weights = task.length_law(split, low, high) if count else (np.empty(0, int), np.empty(0))
        for length, some in zip(lengths.tolist(), _in_proportion(weights, count).tolist(), strict=True):
            if some:
                found[split, length] = found.get((split, length), 0) + some
    return found


def _in_proportion(weights: np.ndarray, count: int) -> Ints:
    """Whole numbers with this sum in these proportions; the sum of any run of them is right to within one.

    >>> _in_proportion(np.array([0.05, 0.4, 0.5, 0.05]), 10)
    array([1, 4, 5, 0])
    """
    ends = np.floor(np.cumsum(weights) * count + 0.5 + 1e-9).astype(np.int64)
    return np.diff(ends, prepend=0)


def placed_batch(
    spec: RunSpec, task: Task, examples: Examples, length: int, device: torch.device, seed: int = 0
) -> Batch:
    """Examples as a batch, each standing where an evaluation of this seed would put it."""
    offsets = torch.from_numpy(eval_offsets(task, examples, seed, spec.model)).to(device)
    return as_batch(examples, length, device, offsets)


def as_batch(examples: Examples, length: int, device: torch.device, offsets: Tensor | None = None) -> Batch:
    """Examples as tensors."""
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
        model: the runs as a stack, in the order of `specs`.
        batches: those of `probe_batches`, if they are made already.
        n: how many examples, where they are not.
    """
    spec = specs[0]
    first = model_of(spec.model, torch.cat([initial(s.model, [s.train.init_seed]) for s in specs]).to(model.flat))
    inside = batches if batches is not None else probe_batches(spec, model.flat.device, n=n)
    vocab = make(spec.task).vocab.tokens
    return ProbeInput(Stacked(model), inside, vocab, spec, Stacked(first), tuple(history))


def hooked_input(model: Any, examples: Sequence[Examples], vocab: Sequence[str] = ()) -> ProbeInput:
    """The probe input of any model with TransformerLens's hook names.

    Args:
        examples: in-distribution batches, each of one length; whoever gives them answers for that.
        vocab: token strings by id, for signals that need them.

    Raises:
        UserError: it has no such hook names.
    """
    probed = Hooked(model)
    device = torch.device(getattr(model.cfg, "device", None) or "cpu")
    batches = tuple(as_batch(e, int(e.lengths[0]), device) for e in examples)
    return ProbeInput(probed, batches, tuple(vocab))
