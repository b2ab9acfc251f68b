"""The transformer again: one run, one sequence, loops over heads and positions, straight from the definitions.

Slow on purpose, and written without a look at `genlab.models`: it shares with it the names of the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from genlab.spec import ModelConfig


def twin_logits(cfg: ModelConfig, weights: Mapping[str, Tensor], tokens: Tensor, offset: int = 0) -> Tensor:
    """Logits `[pos, d_vocab]` of one sequence of ids, whose first token stands at position `offset`."""
    n = len(tokens)
    x = torch.stack([weights["embed.W_E"][token] for token in tokens])
    if cfg.positions == "learned":
        x = x + torch.stack([weights["pos_embed.W_pos"][offset + p] for p in range(n)])
    if cfg.positions == "sinusoidal":
        x = x + torch.stack([_wave(p, cfg.d_model).to(x.dtype) for p in range(n)])
    for i in range(cfg.n_layers):
        block = f"blocks.{i}"
        x = x + _attention(cfg, weights, f"{block}.attn", _normed(cfg, weights, f"{block}.ln1", x))
        if not cfg.attn_only:
            hidden = _affine(cfg, weights, f"{block}.mlp", "in", _normed(cfg, weights, f"{block}.ln2", x))
            hidden = _gelu(hidden) if cfg.act_fn == "gelu" else torch.where(hidden > 0, hidden, 0.0 * hidden)
            x = x + _affine(cfg, weights, f"{block}.mlp", "out", hidden)
    if cfg.final_norm:
        x = _normed(cfg, weights, "ln_final", x)
    if cfg.tie_word_embeddings:
        return x @ weights["embed.W_E"].T
    return _affine(cfg, weights, "unembed", "U", x)


def _affine(cfg: ModelConfig, weights: Mapping[str, Tensor], place: str, name: str, x: Tensor) -> Tensor:
    out = x @ weights[f"{place}.W_{name}"]
    return out + weights[f"{place}.b_{name}"] if cfg.bias else out


def _normed(cfg: ModelConfig, weights: Mapping[str, Tensor], place: str, x: Tensor) -> Tensor:
    if cfg.normalization_type == "none":
        return x
    rows = []
    for row in x:
        if cfg.normalization_type == "LN":
            centred = row - row.mean()
            variance = (centred**2).mean()
            rows.append(centred / (variance + 1e-5).sqrt() * weights[f"{place}.w"] + weights[f"{place}.b"])
        else:
            rows.append(row / ((row**2).mean() + 1e-5).sqrt() * weights[f"{place}.w"])
    return torch.stack(rows)


def _attention(cfg: ModelConfig, weights: Mapping[str, Tensor], place: str, x: Tensor) -> Tensor:
    """Each head by itself; heads stand side by side in Q, then in K, then in V, then in the input of W_O."""
    joined = _affine(cfg, weights, place, "QKV", x)
    width = cfg.n_heads * cfg.d_head
    out = []
    for h in range(cfg.n_heads):
        q, k, v = (joined[:, part * width + h * cfg.d_head :][:, : cfg.d_head] for part in range(3))
        out.append(_head(cfg, h, q, k, v))
    return _affine(cfg, weights, place, "O", torch.cat(out, dim=1))


def _head(cfg: ModelConfig, h: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if cfg.positions == "rotary":
        q, k = (torch.stack([_rotation(p, cfg.d_head).to(y.dtype) @ y[p] for p in range(len(y))]) for y in (q, k))
    rows = []
    for i in range(len(q)):
        scores = [q[i] @ k[j] / math.sqrt(cfg.d_head) for j in range(i + 1)]
        if cfg.positions == "alibi":
            slope = 2.0 ** (-8.0 * (h + 1) / cfg.n_heads)
            scores = [score - slope * (i - j) for j, score in enumerate(scores)]
        powers = [torch.exp(score - max(scores)) for score in scores]
        rows.append(sum(power / sum(powers) * v[j] for j, power in enumerate(powers)))
    return torch.stack(rows)


def _wave(position: int, width: int) -> Tensor:
    """sin of all rates, then cos of all rates (Vaswani et al. 2017 interleave them: the same up to a permutation)."""
    angles = [position / 10000 ** (2 * i / width) for i in range(width // 2)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles], dtype=torch.float64)


def _rotation(position: int, width: int) -> Tensor:
    """The block-diagonal matrix of Su et al. 2021, equation 15."""
    matrix = torch.zeros(width, width, dtype=torch.float64)
    for i in range(width // 2):
        angle = position / 10000 ** (2 * i / width)
        matrix[2 * i, 2 * i] = matrix[2 * i + 1, 2 * i + 1] = math.cos(angle)
        matrix[2 * i, 2 * i + 1], matrix[2 * i + 1, 2 * i] = -math.sin(angle), math.sin(angle)
    return matrix


def _gelu(x: Tensor) -> Tensor:
    """x times the chance that a standard normal number is below x (Hendrycks and Gimpel 2016)."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
