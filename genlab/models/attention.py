"""Causal attention over stacked heads: written out where something looks at it, fused where nothing does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Queries = Float[Tensor, "*b head query d_head"]
Keys = Float[Tensor, "*b head key d_head"]
Scores = Float[Tensor, "*b head query key"]
Bias = Float[Tensor, "*#b head query key"]
Seen = Bool[Tensor, "*#d query key"]


def causal_mask(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """True where a query may look: at itself and before. The queries are the last ones of the keys."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def scores_of(q: Queries, k: Keys, bias: Bias | None, seen: Seen) -> Scores:
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
    weigh: Callable[[Tensor, Tensor], Tensor],
    on_scores: Callable[[Tensor], Tensor],
    on_pattern: Callable[[Tensor], Tensor],
) -> Queries:
    """Attention step by step, so that scores and pattern can be read and replaced on the way.

    Args:
        weigh: makes weights of the scores and of what is seen, bool[..., query, key].
    """
    seen = causal_mask(q.shape[-2], k.shape[-2], q.device)
    if bias is not None:
        seen = seen & ~bias.isneginf()
    scores = on_scores(scores_of(q, k, bias, seen))
    if scores.dtype in (torch.bfloat16, torch.float16):  # sums over many keys, and logarithms, want more digits
        scores = scores.float()
    return on_pattern(weigh(scores, seen)) @ v


def fused(q: Queries, k: Keys, v: Keys, bias: Bias | None, temperature: float = 1.0) -> Queries:
    """The same for softmax, in torch's fused kernel (which wants one batch axis before the heads).

    Not in bfloat16 on a CPU, where its backward takes ten times as long as that of two plain products.
    """
    shape, queries, keys = q.shape, q.shape[-2], k.shape[-2]
    scale = 1 / (temperature * shape[-1] ** 0.5)
    mask = None if queries in (1, keys) else causal_mask(queries, keys, q.device)
    if bias is not None:
        bias = (bias.to(q.dtype) / temperature).masked_fill(~causal_mask(queries, keys, q.device), float("-inf"))
        alike = bias.ndim == 3 or bias.shape[:-3].numel() == 1
        mask = bias.view(1, *bias.shape[-3:]) if alike else bias.expand(*shape[:-3], -1, -1, -1).flatten(0, -4)
    q, k, v = (x.flatten(0, -4) for x in (q, k, v))
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
        return _two_products(q, k, v, None if bias is None else mask, scale).view(shape)
    causal = mask is None and queries == keys
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale).reshape(shape)


def _two_products(q: Queries, k: Keys, v: Keys, bias: Bias | None, scale: float) -> Queries:
    """Causal softmax attention as two batched products; `bias` is -inf at unseen keys."""
    shape, queries, keys = q.shape, q.shape[-2], k.shape[-2]
    if bias is None:
        bias = q.new_full((queries, keys), float("-inf")).triu(keys - queries + 1)
    added = bias.expand(*shape[:-1], keys).flatten(0, -3)
    q, k, v = (x.flatten(0, -3) for x in (q, k, v))
    weights = torch.baddbmm(added, q, k.mT, alpha=scale).softmax(-1)
    return torch.bmm(weights, v).view(shape)
