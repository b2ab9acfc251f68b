"""What a probe is given: trained models, and batches of the distribution that they were trained on. Nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.models import Model, initial, model_of
from genlab.probes.model import Hooked, Probed, Stacked, check_readable
from genlab.probes.signal import NotApplicable
from genlab.spec import RunSpec
from genlab.tasks import Examples, Vocab, make, spread
from genlab.training.batches import eval_offsets

__all__ = ["Batch", "ProbeInput", "hooked_input", "probe_batches", "probe_input"]

EXAMPLES, LENGTHS = 192, 6
"""Examples of all batches together, and the most batches: one a training length, evenly apart."""
_PROBE = 11
"""First word of the seed of probe batches (`genlab.training.batches` has the others)."""
UNTRAINED = 16
"""Untrained models that a null is the mean of."""
_UNTRAINED_SEED = 1_000_000_000
_KEPT = (".hook_attn_scores", ".hook_pattern", ".hook_resid_post", "blocks.0.hook_resid_pre", ".mlp.hook_post")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Examples of one training length, alike for all runs.

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

    def first(self, count: int) -> Batch:
        """Its first examples."""
        tokens, targets, real, scored = (a[:count] for a in (self.tokens, self.targets, self.real, self.scored))
        offsets = None if self.offsets is None else self.offsets[:count]
        return Batch(self.length, tokens, targets, real, scored, offsets)


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
    """

    model: Probed
    batches: tuple[Batch, ...]
    vocab: tuple[str, ...]
    spec: RunSpec | None = None
    initial: Probed | None = None
    history: tuple[Mapping[str, np.ndarray], ...] = ()
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def cfg(self) -> Any:
        """The shape of the models."""
        return self.model.cfg

    @cached_property
    def seen(self) -> tuple[Seen, ...]:
        """Every batch with what the models made of it."""
        return tuple(self.look(batch) for batch in self.batches)

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

    def untrained(self) -> ProbeInput:
        """The same batches with models of this shape that have learned nothing."""
        if self.spec is None:
            raise NotApplicable("how a model from elsewhere was initialised is not known")
        seeds = [_UNTRAINED_SEED + i for i in range(UNTRAINED)]
        fresh = Stacked(model_of(self.spec.model, initial(self.spec.model, seeds).to(self.model.flat)))
        return ProbeInput(fresh, self.batches, self.vocab, self.spec, fresh)


def probe_batches(spec: RunSpec, device: torch.device, seed: int = 0) -> tuple[Batch, ...]:
    """The in-distribution batches of a configuration: a function of its task, training split and lengths alone.

    Raises:
        NotApplicable: a model that does not read tokens, or has no attention.
    """
    check_readable(spec.model)
    task, train = make(spec.task), spec.train
    lengths = spread(task.lengths_between(train.train_split, train.min_len, train.train_len), LENGTHS)
    found: list[Batch] = []
    for length in lengths:
        rng = np.random.default_rng([_PROBE, length, seed])
        examples = task.sample(rng, train.train_split, np.full(EXAMPLES // len(lengths), length))
        offsets = torch.from_numpy(eval_offsets(task, examples, seed, spec.model)).to(device)
        found.append(as_batch(examples, length, device, offsets))
    return tuple(found)


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
) -> ProbeInput:
    """The probe input of runs that share task, shape and training lengths.

    Args:
        model: the runs as a stack, in the order of `specs`.
        batches: those of `probe_batches`, if they are made already.
    """
    spec = specs[0]
    first = model_of(spec.model, torch.cat([initial(s.model, [s.train.init_seed]) for s in specs]).to(model.flat))
    inside = batches if batches is not None else probe_batches(spec, model.flat.device)
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
