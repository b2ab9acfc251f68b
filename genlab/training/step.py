"""One training step of a stack: forward, loss, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from genlab.models import Model
from genlab.spec import RunSpec
from genlab.training.places import Places

__all__ = ["dropout", "losses_and_gradients", "precision"]

_DROPOUT = 8


def losses_and_gradients(
    model: Model, batch: Places, drop: Callable[[Tensor], Tensor] | None = None, decoupling: float = 0.0
) -> tuple[Float[Tensor, " run"], Float[Tensor, "run params"]]:
    """Mean loss of each run at its places, and its gradient, a row a run like the weights.

    Args:
        decoupling: the gradient is also that of `decoupling / 2` times the mean squared norm of the logits: spectral
            decoupling (Pezeshki et al. 2020, arXiv 2011.09468). The loss that is given back is without it.
    """
    leaves = {name: view.detach().requires_grad_() for name, view in model.params.items()}
    read = {"at": batch.at, "since": batch.since, "lengths": batch.lengths, "training": True}
    if batch.packing is not None:
        read["packing"] = batch.packing
    logits = model.with_params(leaves)(batch.inputs, batch.offsets, drop=drop, **read)
    each = F.cross_entropy(logits.flatten(0, 1).to(batch.weights.dtype), batch.targets.flatten(), reduction="none")
    losses = (each.view_as(batch.weights) * batch.weights).sum(dim=1)
    total = losses.sum()
    if decoupling:
        total = total + decoupling / 2 * (logits.to(losses.dtype).square().sum(-1) * batch.weights).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
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
        # A weight cast in one step must not be used in the next, which a captured step would do.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=device.type != "cuda")
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
