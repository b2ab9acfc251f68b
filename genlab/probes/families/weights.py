"""Signals from the weights: their size, and their distance from initialization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput

_ANY = float("inf")


@signal(
    "weight_norm",
    per="run",
    about="size of the weights",
    formula="Euclidean norm of all parameters",
    blind="Embeddings of unused tokens and positions count; depends on weight decay more than on what was learned.",
    unit="norm",
    low=0,
    high=_ANY,
    source="Jiang et al. 2019, Fantastic generalization measures, arXiv 1912.02178 (there squared)",
    reads="weights",
)
def weight_norm(given: ProbeInput) -> Tensor:
    return given.model.flat.double().norm(dim=1)


@signal(
    "distance_from_init",
    per="run",
    about="how far training has moved the weights",
    formula="Euclidean distance of all parameters from their initial values / norm of the initial values",
    blind="Grows with the learning rate and the number of steps, whatever was learned.",
    unit="ratio",
    low=0,
    high=_ANY,
    source="after Jiang et al. 2019, arXiv 1912.02178 (there not divided by the initial norm)",
    reads="weights",
)
def distance_from_init(given: ProbeInput) -> Tensor:
    if given.initial is None:
        raise NotApplicable("the initial weights of an external model are not known")
    now, then = given.model.flat.double(), given.initial.flat.double()
    return (now - then).norm(dim=1) / then.norm(dim=1).clamp(min=1e-30)


@signal(
    "qk_spectral_norm",
    per="head",
    about="the sharpest attention that a head's weights allow for inputs of a given norm",
    formula="largest singular value of W_Q W_K^T / sqrt(d_head), gains of norms folded in",
    blind="An upper bound: the direction of the largest norm may not occur in any input.",
    unit="norm",
    low=0,
    high=_ANY,
    source="after Zhai et al. 2023, attention entropy collapse, arXiv 2303.06296 (there not over sqrt(d_head))",
    reads="weights",
)
def qk_spectral_norm(given: ProbeInput) -> Tensor:
    import torch

    w = given.model.weights()
    return torch.linalg.matrix_norm(w.W_Q @ w.W_K.transpose(-1, -2), ord=2) / given.cfg.d_head**0.5


@signal(
    "ov_spectral_norm",
    per="head",
    about="the largest output that a head can write for an input of a given norm",
    formula="largest singular value of W_V W_O, gains of norms folded in",
    blind="Same as qk_spectral_norm.",
    unit="norm",
    low=0,
    high=_ANY,
    source="ours, of the OV circuit of Elhage et al. 2021, A mathematical framework for transformer circuits",
    reads="weights",
)
def ov_spectral_norm(given: ProbeInput) -> Tensor:
    import torch

    w = given.model.weights()
    return torch.linalg.matrix_norm(w.W_V @ w.W_O, ord=2)


@signal(
    "ov_norm",
    per="head",
    about="size of a head's output map",
    formula="Frobenius norm of W_V W_O, gains of norms folded in",
    blind="Says how much a head writes, not whether anything reads it.",
    unit="norm",
    low=0,
    high=_ANY,
    source="ours, of the OV circuit of Elhage et al. 2021, A mathematical framework for transformer circuits",
    reads="weights",
)
def ov_norm(given: ProbeInput) -> Tensor:
    import torch

    w = given.model.weights()
    return torch.linalg.matrix_norm(w.W_V @ w.W_O)
