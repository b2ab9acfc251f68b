"""Causal attention over stacked heads: written out where something looks at it, fused where nothing does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["NORMALISERS", "causal_mask", "fused", "softmax", "written_out"]

Queries = Float[Tensor, "*b head query d_head"]
Keys = Float[Tensor, "*b head key d_head"]
Scores = Float[Tensor, "*b head query key"]
Bias = Float[Tensor, "*#b head query key"]
Normaliser = Callable[[Scores, Bool[Tensor, "query key"]], Scores]


def softmax(scores: Scores, seen: Bool[Tensor, "query key"]) -> Scores:
    """Weights over the keys that each query sees; they sum to 1."""
    del seen  # the scores of unseen keys are -inf already
    return scores.softmax(dim=-1)


NORMALISERS: dict[str, Normaliser] = {"softmax": softmax}
"""Name (`ModelConfig.attn_weights`) -> what makes weights of scores; unseen keys come in at -inf and weigh 0."""


def causal_mask(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """True where a query may look: at itself and before. The queries are the last ones of the keys."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def scores_of(q: Queries, k: Keys, bias: Bias | None, seen: Bool[Tensor, "query key"]) -> Scores:
    """q . k / sqrt(d_head), plus the position bias, -inf at unseen keys."""
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return scores.masked_fill(~seen, float("-inf"))


def written_out(
    q: Queries,
    k: Keys,
    v: Keys,
    bias: Bias | None,
    normaliser: Normaliser,
    on_scores: Callable[[Tensor], Tensor],
    on_pattern: Callable[[Tensor], Tensor],
) -> Queries:
    """Attention step by step, so that scores and pattern can be read and replaced on the way."""
    seen = causal_mask(q.shape[-2], k.shape[-2], q.device)
    scores = on_scores(scores_of(q, k, bias, seen))
    return on_pattern(normaliser(scores, seen)) @ v


def fused(q: Queries, k: Keys, v: Keys, bias: Bias | None) -> Queries:
    """The same for softmax, in torch's fused kernel (which wants one batch axis before the heads)."""
    shape, queries, keys = q.shape, q.shape[-2], k.shape[-2]
    mask = None if queries in (1, keys) else causal_mask(queries, keys, q.device)
    if bias is not None:
        bias = bias.to(q.dtype).masked_fill(~causal_mask(queries, keys, q.device), float("-inf"))
        mask = bias.flatten(0, -4) if bias.ndim > 3 else bias[None]
    q, k, v = (x.flatten(0, -4) for x in (q, k, v))
    causal = mask is None and queries == keys
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal).reshape(shape)
