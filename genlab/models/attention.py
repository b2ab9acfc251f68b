"""Causal attention over stacked heads: an explicit version for hooks and variants, and a fused one for speed."""

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
Visible = Bool[Tensor, "*#d query key"]


def causal_mask(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """True where the key is at or before the query. The queries are the last `queries` of the `keys` positions."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def attention_scores(q: Queries, k: Keys, bias: Bias | None, visible: Visible) -> Scores:
    """q . k / sqrt(d_head) plus the position bias; masked keys get -inf."""
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return scores.masked_fill(~visible, float("-inf"))


def explicit_attention(
    q: Queries,
    k: Keys,
    v: Keys,
    bias: Bias | None,
    weigh: Callable[[Tensor, Tensor], Tensor],
    on_scores: Callable[[Tensor], Tensor],
    on_pattern: Callable[[Tensor], Tensor],
) -> Queries:
    """Attention in separate steps, so that hooks can read and replace the scores and the pattern.

    Args:
        weigh: maps scores and the mask of visible keys, bool[..., query, key], to attention weights.
    """
    visible = causal_mask(q.shape[-2], k.shape[-2], q.device)
    if bias is not None:
        visible = visible & ~bias.isneginf()
    scores = on_scores(attention_scores(q, k, bias, visible))
    if scores.dtype in (torch.bfloat16, torch.float16):  # half precision is too coarse for long sums and logarithms
        scores = scores.float()
    return on_pattern(weigh(scores, visible)) @ v


def fused_attention(q: Queries, k: Keys, v: Keys, bias: Bias | None, temperature: float = 1.0) -> Queries:
    """Softmax attention in PyTorch's fused kernel, which expects one batch axis before the heads.

    In bfloat16 on a CPU two plain matrix products are used instead: the fused backward pass is ten times slower
    there.
    """
    shape, queries, keys = q.shape, q.shape[-2], k.shape[-2]
    scale = 1 / (temperature * shape[-1] ** 0.5)
    mask = None if queries in (1, keys) else causal_mask(queries, keys, q.device)
    if bias is not None:
        bias = (bias.to(q.dtype) / temperature).masked_fill(~causal_mask(queries, keys, q.device), float("-inf"))
        shared = bias.ndim == 3 or bias.shape[:-3].numel() == 1
        mask = bias.view(1, *bias.shape[-3:]) if shared else bias.expand(*shape[:-3], -1, -1, -1).flatten(0, -4)
    q, k, v = (x.flatten(0, -4) for x in (q, k, v))
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
        return _unfused(q, k, v, None if bias is None else mask, scale).view(shape)
    causal = mask is None and queries == keys
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale).reshape(shape)


def _unfused(q: Queries, k: Keys, v: Keys, bias: Bias | None, scale: float) -> Queries:
    """Causal softmax attention as two batched matrix products; `bias` is -inf at masked keys."""
    shape, queries, keys = q.shape, q.shape[-2], k.shape[-2]
    if bias is None:
        bias = q.new_full((queries, keys), float("-inf")).triu(keys - queries + 1)
    added = bias.expand(*shape[:-1], keys).flatten(0, -3)
    q, k, v = (x.flatten(0, -3) for x in (q, k, v))
    weights = torch.baddbmm(added, q, k.mT, alpha=scale).softmax(-1)
    return torch.bmm(weights, v).view(shape)
