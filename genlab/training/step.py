"""One training step of a stack: forward, loss, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genlab.models import Model
from genlab.spec import RunSpec
from genlab.tasks import Examples, Vocab

__all__ = ["Places", "dropout", "losses_and_gradients", "places", "precision"]

_DROPOUT = 8


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
        since: the first position that any place stands at.
    """

    inputs: Int[Tensor, "run batch pos"] | Float[Tensor, "run batch pos d_values"]
    offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"]
    lengths: Int[Tensor, "run batch"]
    at: Int[Tensor, "run place"]
    targets: Int[Tensor, "run place"]
    weights: Float[Tensor, "run place"]
    since: int


def places(batch: Examples, offsets: np.ndarray, loss: str, like: Tensor) -> Places:
    """A stacked batch `[run, batch, pos]` as tensors on the device and in the precision of `like`."""
    assert batch.trained is not None, "stack_examples fills it"
    taken = batch.targets != Vocab.pad if loss == "all" else batch.trained
    mask = taken.reshape(len(taken), -1)
    counts = mask.sum(axis=1)
    at = np.tile(mask.argmax(axis=1)[:, None], int(counts.max()))
    filled = np.arange(at.shape[1]) < counts[:, None]
    at[filled] = np.nonzero(mask)[1]
    targets = np.take_along_axis(batch.targets.reshape(len(mask), -1), at, axis=1)
    weights = filled / counts[:, None]

    def moved(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(like.device, non_blocking=True)

    since = int(taken.any(axis=(0, 1)).argmax())
    where = (moved(batch.inputs), moved(offsets), moved(batch.lengths))
    return Places(*where, moved(at), moved(targets), moved(weights).to(like.dtype), since)


def losses_and_gradients(
    model: Model, batch: Places, drop: Callable[[Tensor], Tensor] | None = None
) -> tuple[Float[Tensor, " run"], Float[Tensor, "run params"]]:
    """Mean loss of each run at its places, and its gradient, a row a run like the weights."""
    leaves = {name: view.detach().requires_grad_() for name, view in model.params.items()}
    read = {"at": batch.at, "since": batch.since, "lengths": batch.lengths, "training": True}
    logits = model.with_params(leaves)(batch.inputs, batch.offsets, drop=drop, **read)
    each = F.cross_entropy(logits.flatten(0, 1).to(batch.weights.dtype), batch.targets.flatten(), reduction="none")
    losses = (each.view_as(batch.weights) * batch.weights).sum(dim=1)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
    return losses.detach(), torch.cat([g.flatten(1) for g in gradients], dim=1)


def dropout(specs: Sequence[RunSpec], step: int, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Dropout for a step, each run from its own generator, so that a mask does not depend on the stack."""
    rate = specs[0].train.dropout
    if not rate:
        return None
    seeds = [np.random.SeedSequence([_DROPOUT, s.train.init_seed, s.train.data_seed, step]) for s in specs]
    generators = [torch.Generator(device).manual_seed(int(s.generate_state(1, np.uint64)[0] >> 1)) for s in seeds]

    def drop(x: Float[Tensor, "run ..."]) -> Float[Tensor, "run ..."]:
        kept = torch.stack([torch.rand(x.shape[1:], generator=g, device=device) >= rate for g in generators])
        return x * kept / (1 - rate)

    return drop


def precision(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which matrix products run at `dtype`; it leaves torch's settings as it found them."""
    if dtype == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return _tf32() if dtype == "tf32" else nullcontext()


@contextmanager
def _tf32():
    matmul = torch.backends.cuda.matmul
    newer = hasattr(matmul, "fp32_precision")  # torch 2.9: tells unset from off, which allow_tf32 does not put back
    before = matmul.fp32_precision if newer else matmul.allow_tf32
    if before in ("tf32", True):
        yield
        return
    matmul.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32 = False
        if newer:
            matmul.fp32_precision = before
