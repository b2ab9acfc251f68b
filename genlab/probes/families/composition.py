"""Do heads of different layers fit together? What one writes against what a later one reads, from weights alone.

Of all pairs of an earlier head and this one the best counts (which is ours: the papers show all pairs); a value
belongs to the later head.
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
    """W_QK and W_OV of all heads, float[run, layer, head, d_model, d_model]: x W_QK y^T, and x W_OV."""
    if given.cfg.n_layers < 2:
        raise NotApplicable("composition is between heads of two layers; the model has fewer")
    w = given.model.weights()
    return given.once("circuits", lambda: (w.W_Q @ w.W_K.transpose(-1, -2), w.W_V @ w.W_O))


def later_and_earlier(one: Tensor, other: Tensor, score: object) -> Tensor:
    """score(later head, earlier head) for all pairs, the best earlier one of each; NaN in the first layer."""
    import torch

    runs, layers, heads = one.shape[:3]
    found = torch.full((runs, layers, heads), float("nan"), dtype=torch.float64)
    for layer in range(1, layers):
        earlier = other[:, :layer].flatten(1, 2)  # [run, earlier head, ...]
        pairs = score(one[:, layer, :, None], earlier[:, None])  # pyright: ignore[reportCallIssue]
        found[:, layer] = pairs.double().amax(-1).cpu()
    return found


def norm_ratio(left: Tensor, right: Tensor) -> Tensor:
    """|A B| / (|A| |B|), Frobenius."""
    import torch

    norm = torch.linalg.matrix_norm
    return norm(left @ right) / (norm(left) * norm(right)).clamp(min=1e-30)


@signal(
    "q_composition",
    per="head",
    about="a head's queries read what an earlier head writes",
    formula="max over earlier heads of |W_OV W_QK| / (|W_OV| |W_QK|), Frobenius norms, gains folded in",
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
    about="a head's keys read what an earlier head writes, as an induction head's do",
    formula="max over earlier heads of |W_OV W_QK^T| / (|W_OV| |W_QK|)",
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
    about="a head's values read what an earlier head writes",
    formula="max over earlier heads of |W_OV(earlier) W_OV(later)| / product of norms",
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
    """Orthonormal bases `[run, layer, head, d_model, j]` of what keys read most and of what heads write most; j."""
    import torch

    def made() -> tuple[Tensor, Tensor, int]:
        qk, ov = reads_and_writes(given)
        j = min(_WIDEST, given.cfg.d_head)
        # Both are the column space of the transpose: key side of x W_QK y^T, output side of x W_OV.
        reads, writes = (torch.linalg.svd(m.double(), full_matrices=False).Vh for m in (qk, ov))
        return reads[..., :j, :].transpose(-1, -2), writes[..., :j, :].transpose(-1, -2), j

    return given.once("subspaces", made)


def alignment(reads: Tensor, writes: Tensor) -> Tensor:
    """The cosine of the smallest angle between two subspaces, given by orthonormal bases."""
    import torch

    return torch.linalg.matrix_norm(reads.transpose(-1, -2) @ writes, ord=2)


@signal(
    "subspace_match",
    per="head",
    about="how far what a head's keys read contains a direction that an earlier head writes",
    formula=f"max over earlier heads of the largest cosine between the top-j right singular spaces of W_QK and W_OV, "
    f"j = min({_WIDEST}, d_head), gains of norms folded in",
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
    about="the same among random pairs: at small widths chance alone gives large cosines (0.67 at d 64, j 10)",
    formula=f"share of {_RANDOM_PAIRS} pairs of random subspaces of the same rank and width whose cosine is lower, "
    "to the power of the number of earlier heads",
    unit="share",
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
    share = torch.searchsorted(chance, match.nan_to_num(0.0)) / len(chance)
    earlier = torch.arange(match.shape[1])[:, None] * match.shape[2]
    return torch.where(match.isnan(), match, share.double() ** earlier)


def random_alignments(d_model: int, j: int) -> Tensor:
    """Cosines of pairs of random j-dimensional subspaces, rising; the same ones each time."""
    import torch

    generator = torch.Generator().manual_seed(64)
    shape = (2, _RANDOM_PAIRS, d_model, j)
    one, other = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64)).Q
    return alignment(one, other).sort().values


@signal(
    "diagonal_score",
    per="head",
    about="whether a head's keys look for just what an earlier head copies",
    formula="max over earlier heads of (mean diagonal - mean) / std of the entries of W_QK W_OV^T, gains of norms "
    "folded in",
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
