"""Copying heads: does attending to a token raise that token's own logit? Read from weights alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput


@signal(
    "copying_eigenvalues",
    per="head",
    about="whether a head's OV circuit is positive: attended tokens gain logit overall",
    formula="sum of Re(l) / sum of |l| over eigenvalues l of W_E W_V W_O W_U, gains of norms folded in",
    blind="Weights only: ignores LayerNorm, MLPs and later layers, so that a copy whose output passes an MLP may be "
    "missed. A head may copy without ever attending to what should be copied. Meaningless if embedding and "
    "unembedding tokens differ in role.",
    unit="fraction",
    low=-1,
    high=1,
    source="Elhage et al. 2021, A mathematical framework for transformer circuits",
    reads="weights",
)
def copying_eigenvalues(given: ProbeInput) -> Tensor:
    """The nonzero eigenvalues are those of the small matrix W_O W_U W_E W_V."""
    import torch

    w = given.model.weights()
    round_trip = w.W_U @ w.W_E  # [run, d_model, d_model]
    small = w.W_O @ round_trip[:, None, None] @ w.W_V  # [run, layer, head, d_head, d_head]
    values = torch.linalg.eigvals(small.double())
    return values.real.sum(-1) / values.abs().sum(-1).clamp(min=1e-30)


@signal(
    "copying_logits",
    per="head",
    about="rank of a token's own logit among all logits that attending to it changes",
    formula="mean over tokens t of the fraction of other tokens whose entry in row t of W_E W_V W_O W_U is lower "
    "than that of t; 0.5 by chance",
    blind="Same as copying_eigenvalues.",
    unit="fraction",
    low=0,
    high=1,
    source="after Olsson et al. 2022, arXiv 2209.11895 (there the fraction of raised logits)",
    reads="weights",
)
def copying_logits(given: ProbeInput) -> Tensor:
    import torch

    w = given.model.weights()
    layers: list[Tensor] = []
    for layer in range(given.cfg.n_layers):
        ov = w.W_E[:, None] @ w.W_V[:, layer] @ w.W_O[:, layer] @ w.W_U[:, None]  # [run, head, vocab, vocab]
        own = ov.diagonal(dim1=-2, dim2=-1)[..., None]
        layers.append((ov < own).sum(-1).double().mean(-1) / (ov.shape[-1] - 1))
    return torch.stack(layers, dim=1)
