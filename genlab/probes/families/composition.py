"""Composition of heads across layers: what one head writes against what a later one reads, from the weights.

The value of a head is the maximum over all earlier heads (this maximum is ours: the papers show all pairs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput

ELHAGE = "Elhage et al. 2021, A mathematical framework for transformer circuits"
SONG = "Song et al. 2024, arXiv 2408.09503"
_WIDEST, _RANDOM_PAIRS = 10, 400


def reads_and_writes(given: ProbeInput) -> tuple[Tensor, Tensor]:
    """W_QK and W_OV of all heads, float[run, layer, head, d_model, d_model]: x W_QK y^T and x W_OV."""
    if given.cfg.n_layers < 2:
        raise NotApplicable("composition is between heads of two layers; the model has fewer")
    w = given.model.weights()
    return given.once("circuits", lambda: (w.W_Q @ w.W_K.transpose(-1, -2), w.W_V @ w.W_O))


def later_and_earlier(one: Tensor, other: Tensor, score: object) -> Tensor:
    """The maximum of score(later head, earlier head) over earlier heads; NaN in the first layer."""
    import torch

    runs, layers, heads = one.shape[:3]
    values = torch.full((runs, layers, heads), float("nan"), dtype=torch.float64)
    for layer in range(1, layers):
        earlier = other[:, :layer].flatten(1, 2)  # [run, earlier head, ...]
        pairs = score(one[:, layer, :, None], earlier[:, None])  # pyright: ignore[reportCallIssue]
        values[:, layer] = pairs.double().amax(-1).cpu()
    return values


def norm_ratio(left: Tensor, right: Tensor) -> Tensor:
    """|A B| / (|A| |B|), Frobenius."""
    import torch

    norm = torch.linalg.matrix_norm
    return norm(left @ right) / (norm(left) * norm(right)).clamp(min=1e-30)


@signal(
    "q_composition",
    per="head",
    about="composition of a head's queries with the output of an earlier head",
    formula="max over earlier heads of |W_OV W_QK| / (|W_OV| |W_QK|), Frobenius norms, gains folded in",
    blind="Weights only: high for directions that no input uses, and blind to a path through an MLP. Any pair of "
    "heads that compose counts, not only those of induction: a head that counts what an earlier one found "
    "does. Small widths give high values by chance; compare with the null.",
    unit="ratio",
    low=0,
    high=1,
    source=ELHAGE,
    reads="weights",
)
def q_composition(given: ProbeInput) -> Tensor:
    qk, ov = reads_and_writes(given)
    return later_and_earlier(qk, ov, lambda later, earlier: norm_ratio(earlier, later))


@signal(
    "k_composition",
    per="head",
    about="composition of a head's keys with the output of an earlier head, as in an induction head",
    formula="max over earlier heads of |W_OV W_QK^T| / (|W_OV| |W_QK|)",
    blind="Same as q_composition.",
    unit="ratio",
    low=0,
    high=1,
    source=ELHAGE,
    reads="weights",
)
def k_composition(given: ProbeInput) -> Tensor:
    qk, ov = reads_and_writes(given)
    return later_and_earlier(qk, ov, lambda later, earlier: norm_ratio(earlier, later.transpose(-1, -2)))


@signal(
    "v_composition",
    per="head",
    about="composition of a head's values with the output of an earlier head",
    formula="max over earlier heads of |W_OV(earlier) W_OV(later)| / product of norms",
    blind="Same as q_composition.",
    unit="ratio",
    low=0,
    high=1,
    source=ELHAGE,
    reads="weights",
)
def v_composition(given: ProbeInput) -> Tensor:
    _, ov = reads_and_writes(given)
    return later_and_earlier(ov, ov, lambda later, earlier: norm_ratio(earlier, later))


def subspaces(given: ProbeInput) -> tuple[Tensor, Tensor, int]:
    """Orthonormal bases `[run, layer, head, d_model, j]` of what keys mainly read and heads mainly write, and j."""
    import torch

    def bases() -> tuple[Tensor, Tensor, int]:
        qk, ov = reads_and_writes(given)
        j = min(_WIDEST, given.cfg.d_head)
        # Both are the column space of the transpose: key side of x W_QK y^T, output side of x W_OV.
        reads, writes = (torch.linalg.svd(m.double(), full_matrices=False).Vh for m in (qk, ov))
        return reads[..., :j, :].transpose(-1, -2), writes[..., :j, :].transpose(-1, -2), j

    return given.once("subspaces", bases)


def alignment(reads: Tensor, writes: Tensor) -> Tensor:
    """The cosine of the smallest angle between two subspaces, given by orthonormal bases."""
    import torch

    return torch.linalg.matrix_norm(reads.transpose(-1, -2) @ writes, ord=2)


@signal(
    "subspace_match",
    per="head",
    about="overlap of the subspace that a head's keys read with one that an earlier head writes",
    formula=f"max over earlier heads of the largest cosine between the top-j right singular spaces of W_QK and W_OV, "
    f"j = min({_WIDEST}, d_head), gains of norms folded in",
    blind="Random subspaces overlap strongly at small widths (.67 at d 64, j 10); use subspace_percentile.",
    unit="cosine",
    low=0,
    high=1,
    source=SONG,
    reads="weights",
)
def subspace_match(given: ProbeInput) -> Tensor:
    reads, writes, _ = subspaces(given)
    return later_and_earlier(reads, writes, alignment)


@signal(
    "subspace_percentile",
    per="head",
    about="subspace_match relative to chance: at small widths random subspaces have large cosines (0.67 at d 64, j "
    "10)",
    formula=f"fraction of {_RANDOM_PAIRS} pairs of random subspaces of the same rank and width whose cosine is "
    f"lower, to the power of the number of earlier heads",
    blind="Weights only: LayerNorm and the position encoding in between are ignored. It is 1 for every overlap "
    "above all random ones, so that it does not rank strong overlaps: see subspace_match.",
    unit="fraction",
    low=0,
    high=1,
    source="ours, after Song et al. 2024, arXiv 2408.09503",
    reads="weights",
)
def subspace_percentile(given: ProbeInput) -> Tensor:
    import torch

    reads, writes, j = subspaces(given)
    chance = random_alignments(given.cfg.d_model, j).to(reads.device)
    match = later_and_earlier(reads, writes, alignment)
    below = torch.searchsorted(chance, match.nan_to_num(0.0)) / len(chance)
    earlier = torch.arange(match.shape[1])[:, None] * match.shape[2]
    return torch.where(match.isnan(), match, below.double() ** earlier)


def random_alignments(d_model: int, j: int) -> Tensor:
    """Cosines between pairs of random j-dimensional subspaces, in increasing order; the same for every call."""
    import torch

    generator = torch.Generator().manual_seed(64)
    shape = (2, _RANDOM_PAIRS, d_model, j)
    one, other = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64)).Q
    return alignment(one, other).sort().values


@signal(
    "diagonal_score",
    per="head",
    about="whether a head's keys match exactly what an earlier head copies",
    formula="max over earlier heads of (mean diagonal - mean) / std of the entries of W_QK W_OV^T, gains of norms "
    "folded in",
    blind="Ignores LayerNorm and positions; a match through a rotation of the residual stream by an MLP is missed.",
    unit="standard deviations",
    low=float("-inf"),
    high=float("inf"),
    source=SONG,
    version=2,
    reads="weights",
)
def diagonal_score(given: ProbeInput) -> Tensor:
    def score(later: Tensor, earlier: Tensor) -> Tensor:
        product = later @ earlier.transpose(-1, -2)
        flat = product.flatten(-2)
        return (product.diagonal(dim1=-2, dim2=-1).mean(-1) - flat.mean(-1)) / flat.std(-1, correction=0).clamp(
            min=1e-30
        )

    qk, ov = reads_and_writes(given)
    return later_and_earlier(qk, ov, score)
