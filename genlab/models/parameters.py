"""The parameters of a stack: one flat tensor with a row a run, and named views into it.

Names and shapes follow TransformerLens, but for two things: queries, keys and values share one matrix (`W_QKV`,
one product instead of three), and heads are joined in the last axis. `[run, ...]` leads every shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genlab.spec import ModelConfig

__all__ = ["count", "decay_mask", "initial", "shapes", "views"]

_INIT_STREAM = 0x1417
"""First word of every seed of initial weights, so that they share no stream with data."""


def shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of one run, in the order of the flat tensor."""
    d, heads, mlp = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp
    if cfg.d_values:
        return _of_set_model(cfg)
    found: dict[str, tuple[int, ...]] = {"embed.W_E": (cfg.d_vocab, d)}
    if cfg.positions == "learned":
        found["pos_embed.W_pos"] = (cfg.n_ctx, d)
    for i in range(cfg.n_layers):
        block = f"blocks.{i}"
        found |= _norm(cfg, f"{block}.ln1")
        found |= _linear(cfg, f"{block}.attn", "QKV", d, 3 * heads) | _linear(cfg, f"{block}.attn", "O", heads, d)
        if not cfg.attn_only:
            found |= _norm(cfg, f"{block}.ln2")
            found |= _linear(cfg, f"{block}.mlp", "in", d, mlp) | _linear(cfg, f"{block}.mlp", "out", mlp, d)
    if cfg.final_norm:
        found |= _norm(cfg, "ln_final")
    if not cfg.tie_word_embeddings:
        found |= _linear(cfg, "unembed", "U", d, cfg.d_vocab)
    return found


def _of_set_model(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    d, heads, mlp, place = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp, "blocks.0.attn"
    found: dict[str, tuple[int, ...]] = {}
    for name, d_in, d_out in (("items", cfg.d_values, d), ("query", cfg.d_values, d), ("answer", d, cfg.d_vocab)):
        found |= _linear(cfg, f"{name}.mlp", "in", d_in, mlp) | _linear(cfg, f"{name}.mlp", "out", mlp, d_out)
    found |= _linear(cfg, place, "Q", d, heads) | _linear(cfg, place, "KV", d, 2 * heads)
    return found | _linear(cfg, place, "O", heads, d)


def _linear(cfg: ModelConfig, place: str, name: str, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
    weight = {f"{place}.W_{name}": (d_in, d_out)}
    return weight | ({f"{place}.b_{name}": (d_out,)} if cfg.bias else {})


def _norm(cfg: ModelConfig, place: str) -> dict[str, tuple[int, ...]]:
    if cfg.normalization_type == "none":
        return {}
    gain = {f"{place}.w": (cfg.d_model,)}
    return gain | ({f"{place}.b": (cfg.d_model,)} if cfg.normalization_type == "LN" else {})


def count(cfg: ModelConfig) -> int:
    """Number of parameters of one run."""
    return sum(math.prod(shape) for shape in shapes(cfg).values())


def views(flat: Float[Tensor, "run params"], cfg: ModelConfig) -> dict[str, Tensor]:
    """Name -> view `[run, ...]` into the flat tensor; writing one writes the other."""
    sizes = [math.prod(shape) for shape in shapes(cfg).values()]
    columns = flat.split(sizes, dim=1)
    return {
        name: column.unflatten(1, shape) if len(shape) > 1 else column
        for (name, shape), column in zip(shapes(cfg).items(), columns, strict=True)
    }


def initial(cfg: ModelConfig, init_seeds: Sequence[int]) -> Float[Tensor, "run params"]:
    """Initial weights, a row a seed: a pure function of (model config, init_seed), drawn on the CPU in float32.

    Matrices are N(0, init_std), gains 1, biases 0; W_O and W_out are smaller by sqrt(2 n_layers) where
    `scale_residual_init` says so (Radford et al. 2019, GPT-2).
    """
    deviation, offset = [], []
    for name, shape in shapes(cfg).items():
        size, is_matrix = math.prod(shape), len(shape) > 1
        residual = name.endswith((".W_O", ".W_out")) and cfg.scale_residual_init
        std = cfg.init_std / math.sqrt(2 * cfg.n_layers) if residual else cfg.init_std
        deviation.append(np.full(size, std if is_matrix else 0.0, np.float32))
        offset.append(np.full(size, 1.0 if name.endswith(".w") else 0.0, np.float32))
    scale, shift = np.concatenate(deviation), np.concatenate(offset)
    rows = [
        np.random.default_rng([_INIT_STREAM, seed]).standard_normal(len(scale), np.float32) * scale + shift
        for seed in init_seeds
    ]
    return torch.from_numpy(np.stack(rows))


def decay_mask(cfg: ModelConfig, decay: str) -> Float[Tensor, " params"]:
    """1 where weight decay acts: on 'all' parameters, on 'matrices', or on 'linear' maps (no embeddings)."""

    def acts(name: str, shape: tuple[int, ...]) -> bool:
        if decay == "linear":
            return len(shape) > 1 and "embed." not in name.replace("unembed.", "")
        return decay == "all" or len(shape) > 1

    parts = [torch.full((math.prod(s),), float(acts(name, s))) for name, s in shapes(cfg).items()]
    return torch.cat(parts)
