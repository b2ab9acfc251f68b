"""The transformer again: one run, one sequence, loops over heads and positions, straight from the definitions.

Slow on purpose, and written without a look at `genlab.models`: it shares with it the names of the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genlab.spec import ModelConfig


def twin_logits(
    cfg: ModelConfig,
    weights: Mapping[str, Tensor],
    tokens: Tensor,
    offset: int = 0,
    ids: Sequence[int] | None = None,
    training: bool = False,
    length: int = 0,
) -> Tensor:
    """Logits `[pos, d_vocab]` of one sequence of ids, whose first token stands at position `offset`.

    `ids` are positions that are given, one a token; `length` is the example's own, for loops that grow with it.
    """
    n = len(tokens)
    x = torch.stack([weights["embed.W_E"][token] for token in tokens])
    if ids is None:
        ids = [p + (offset if cfg.positions == "learned" else 0) for p in range(n)]
    if cfg.positions in ("learned", "abacus", "coupled"):
        x = x + torch.stack([weights["pos_embed.W_pos"][p] for p in ids])
    if cfg.positions == "sinusoidal":
        x = x + torch.stack([_wave(p, cfg.d_model).to(x.dtype) for p in ids])
    for _ in range(cfg.loops + math.floor(cfg.loop_growth * length)):
        for i in range(cfg.n_layers):
            x = _block(cfg, weights, f"blocks.{i}", x, ids, training)
    if cfg.final_norm:
        x = _normed(cfg, weights, "ln_final", x)
    if cfg.tie_word_embeddings:
        return x @ weights["embed.W_E"].T
    return _affine(cfg, weights, "unembed", "U", x)


def _block(
    cfg: ModelConfig, weights: Mapping[str, Tensor], block: str, x: Tensor, ids: Sequence[int], training: bool
) -> Tensor:
    read = _normed(cfg, weights, f"{block}.ln1", x)
    x = x + _attention(cfg, weights, f"{block}.attn", read, ids, training)
    if cfg.attn_only:
        return x
    hidden = _affine(cfg, weights, f"{block}.mlp", "in", _normed(cfg, weights, f"{block}.ln2", x))
    hidden = {"gelu": _gelu, "gelu_new": _tanh_gelu, "relu": lambda x: torch.where(x > 0, x, 0 * x)}[cfg.act_fn](
        hidden
    )
    return x + _affine(cfg, weights, f"{block}.mlp", "out", hidden)


def _affine(cfg: ModelConfig, weights: Mapping[str, Tensor], place: str, name: str, x: Tensor) -> Tensor:
    out = x @ weights[f"{place}.W_{name}"]
    biased = cfg.bias and (cfg.unembed_bias or place != "unembed")
    return out + weights[f"{place}.b_{name}"] if biased else out


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


def _attention(
    cfg: ModelConfig, weights: Mapping[str, Tensor], place: str, x: Tensor, ids: Sequence[int], training: bool
) -> Tensor:
    """Each head by itself; heads stand side by side in Q, then in K, then in V, then in the input of W_O."""
    joined = _affine(cfg, weights, place, "QKV", x)
    width = cfg.n_heads * cfg.d_head
    parts = [
        [joined[:, part * width + h * cfg.d_head :][:, : cfg.d_head] for part in range(3)] for h in range(cfg.n_heads)
    ]
    scores = [_scores(cfg, weights, place, h, q, k, ids) for h, (q, k, _) in enumerate(parts)]
    scores = [[{j: z / cfg.attn_temperature for j, z in row.items()} for row in of_head] for of_head in scores]
    out = []
    for h, (_, _, v) in enumerate(parts):
        learnt = {name: weights[f"{place}.{name}"][h] for name in LEARNT if f"{place}.{name}" in weights}
        rows = [twin_weights(cfg, scores, h, i, learnt, training) for i in range(len(v))]
        out.append(torch.stack([sum((p * v[j] for j, p in row.items()), 0.0 * v[0]) for row in rows]))
    return _affine(cfg, weights, place, "O", torch.cat(out, dim=1))


Row = dict[int, Tensor]
"""A number for each key that a query sees."""


def _scores(
    cfg: ModelConfig, weights: Mapping[str, Tensor], place: str, h: int, q: Tensor, k: Tensor, ids: Sequence[int]
) -> list[Row]:
    if cfg.positions == "rotary":
        q, k = (torch.stack([_rotation(p, cfg.d_head).to(y.dtype) @ y[i] for i, p in enumerate(ids)]) for y in (q, k))
    rows: list[Row] = []
    for i in range(len(q)):
        row = {}
        for j in range(i + 1):
            bias = twin_bias(cfg, weights, place, h, ids[i], ids[j])
            if bias is not None:
                row[j] = q[i] @ k[j] / math.sqrt(cfg.d_head) + bias
        rows.append(row)
    return rows


def twin_bias(
    cfg: ModelConfig, weights: Mapping[str, Tensor], place: str, h: int, at: int, key: int
) -> Tensor | float | None:
    """What the scores of head h change by for a query at one position and a key at another; None hides the key."""
    distance, heads = at - key, cfg.n_heads
    if cfg.positions == "alibi":
        return -(2.0 ** (-8.0 * (h + 1) / heads)) * distance
    if cfg.positions == "hard-alibi":
        windows = [None] * (heads - heads // 2) + [*range(1, heads // 2 + 1)]
        return None if windows[h] is not None and distance >= windows[h] else 0.0
    if cfg.positions == "t5":
        bucket = distance if distance < 16 else min(31, 16 + int(math.log(distance / 16) / math.log(8) * 16))
        return weights["pos_embed.W_rel"][bucket, h]
    if cfg.positions == "fire":
        c, far = weights[f"{place}.fire.c"][0].abs(), 512 * weights[f"{place}.fire.L"][0].abs()
        share = torch.log(c * distance + 1) / torch.log(c * max(at, far) + 1)
        hidden = [
            max(share * w + b, 0.0 * share)
            for w, b in zip(weights[f"{place}.fire.W_1"][0], weights[f"{place}.fire.b_1"], strict=True)
        ]
        out = weights[f"{place}.fire.W_2"][:, h]
        return sum(x * w for x, w in zip(hidden, out, strict=True)) + weights[f"{place}.fire.b_2"][h]
    return 0.0


LEARNT = ("s", "delta", "beta", "gamma")


def twin_weights(
    cfg: ModelConfig, scores: list[list[Row]], h: int, i: int, learnt: Mapping[str, Tensor], training: bool
) -> Row:
    """Weights of query i over its keys in head h, from the scores of all heads and queries."""
    row = scores[h][i]
    n = len(row)
    match cfg.attn_weights:
        case "adaptive" if cfg.adaptive_training or not training:
            p = list(_softmax(row).values())
            entropy = -sum(x * torch.log(x) for x in p)
            fitted = -0.037 * entropy**4 + 0.481 * entropy**3 - 2.3 * entropy**2 + 4.917 * entropy - 1.791
            beta = max(1.0, float(fitted)) if entropy > 0.5 else 1.0
            return _softmax({j: beta * z for j, z in row.items()})
        case "scalable":
            return _softmax({j: learnt["s"] * math.log(n) * z for j, z in row.items()})
        case "entmax15":
            return _entmax(row)
        case "scalable-entmax":
            scale = learnt["delta"] + learnt["beta"] * math.log(n) ** learnt["gamma"] if n > 1 else 1.0
            return _entmax({j: scale * z for j, z in row.items()})
        case "sigmoid":
            return {j: 1 / (1 + n * torch.exp(-z)) for j, z in row.items()}
        case "stick-breaking":
            found, left = {}, 1.0
            for j in sorted(set(row) - {i}, reverse=True):
                share = 1 / (1 + torch.exp(-row[j]))
                found[j], left = left * share, left * (1 - share)
            return found
        case "selective":
            votes = {
                j: sum(
                    max(before[j], 0 * before[j]) for m, before in enumerate(scores[0][:i]) if j in before and m != j
                )
                for j in row
            }
            return _softmax({j: z - votes[j] for j, z in row.items()})
    return _softmax(row)


def _softmax(row: Row) -> Row:
    top = max(row.values())
    powers = {j: torch.exp(z - top) for j, z in row.items()}
    return {j: power / sum(powers.values()) for j, power in powers.items()}


def _entmax(row: Row) -> Row:
    """(z / 2 - tau)^2 where that is positive, tau by halving an interval that holds it."""
    low, high = float(max(row.values())) / 2 - 1, float(max(row.values())) / 2
    for _ in range(80):
        tau = (low + high) / 2
        low, high = (tau, high) if sum(max(float(z) / 2 - tau, 0.0) ** 2 for z in row.values()) > 1 else (low, tau)
    return {j: torch.clamp(z / 2 - low, min=0) ** 2 for j, z in row.items()}


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


def _tanh_gelu(x: Tensor) -> Tensor:
    """The approximation of the same article, which GPT-2 and minGPT have."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0 * x)
