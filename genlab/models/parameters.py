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

from genlab.models.biases import encoding
from genlab.models.normalisers import learnt_weights
from genlab.models.weight import Weight, Weights
from genlab.spec import ModelConfig

__all__ = ["count", "decay_mask", "initial", "lstm_width", "shapes", "views", "weights"]

_INIT_STREAM = 0x1417
"""First word of every seed of initial weights, so that they share no stream with data."""


def weights(cfg: ModelConfig) -> Weights:
    """Name -> shape and initial law of every parameter of one run, in the order of the flat tensor."""
    if cfg.d_values:
        return _of_set_model(cfg)
    return _of_lstm(cfg, lstm_width(cfg)) if cfg.architecture == "lstm" else _of_transformer(cfg)


def shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of one run, in the order of the flat tensor."""
    return {name: weight.shape for name, weight in weights(cfg).items()}


def _of_transformer(cfg: ModelConfig) -> Weights:
    d, heads, mlp, positions = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp, encoding(cfg)
    found: Weights = {"embed.W_E": Weight((cfg.d_vocab, d), cfg.init_std), **positions.shared_weights()}
    for i in range(cfg.n_layers):
        block = f"blocks.{i}"
        found |= _norm(cfg, f"{block}.ln1")
        found |= _linear(cfg, f"{block}.attn", "QKV", d, 3 * heads) | _linear(cfg, f"{block}.attn", "O", heads, d)
        own = positions.block_weights() | learnt_weights(cfg)
        found |= {f"{block}.attn.{name}": weight for name, weight in own.items()}
        if not cfg.attn_only:
            found |= _norm(cfg, f"{block}.ln2")
            found |= _linear(cfg, f"{block}.mlp", "in", d, mlp) | _linear(cfg, f"{block}.mlp", "out", mlp, d)
    if cfg.final_norm:
        found |= _norm(cfg, "ln_final")
    if not cfg.tie_word_embeddings:
        found |= _unembedding(cfg, d)
    return found


def _of_set_model(cfg: ModelConfig) -> Weights:
    d, heads, mlp, place = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp, "blocks.0.attn"
    found: Weights = {}
    for name, d_in, d_out in (("items", cfg.d_values, d), ("query", cfg.d_values, d), ("answer", d, cfg.d_vocab)):
        found |= _linear(cfg, f"{name}.mlp", "in", d_in, mlp) | _linear(cfg, f"{name}.mlp", "out", mlp, d_out)
    found |= _linear(cfg, place, "Q", d, heads) | _linear(cfg, place, "KV", d, 2 * heads)
    found |= {f"{place}.{name}": weight for name, weight in learnt_weights(cfg).items()}
    return found | _linear(cfg, place, "O", heads, d)


def _of_lstm(cfg: ModelConfig, width: int) -> Weights:
    found: Weights = {"embed.W_E": Weight((cfg.d_vocab, cfg.d_model), cfg.init_std)}
    for i in range(cfg.n_layers):
        place = f"blocks.{i}.lstm"
        found |= _linear(cfg, place, "x", width if i else cfg.d_model, 4 * width)
        found[f"{place}.W_h"] = Weight((width, 4 * width), cfg.init_std)
    return found | _unembedding(cfg, width)


def lstm_width(cfg: ModelConfig) -> int:
    """Width of the state at which an LSTM has as many parameters as the transformer of its configuration, nearly."""
    as_default = {"positions": "learned", "normalization_type": "LN", "final_norm": True}
    wanted = _size(_of_transformer(cfg.model_copy(update=as_default)))
    width = 1
    while _size(_of_lstm(cfg, width + 1)) <= wanted:
        width += 1
    return min(width, width + 1, key=lambda w: abs(_size(_of_lstm(cfg, w)) - wanted))


def _size(found: Weights) -> int:
    return sum(math.prod(weight.shape) for weight in found.values())


def _linear(cfg: ModelConfig, place: str, name: str, d_in: int, d_out: int) -> Weights:
    """W and b; what a sublayer writes to the stream starts smaller where the configuration says so."""
    residual = name in ("O", "out") and cfg.scale_residual_init
    std = cfg.init_std / math.sqrt(2 * cfg.n_layers) if residual else cfg.init_std
    weight = {f"{place}.W_{name}": Weight((d_in, d_out), std)}
    return weight | ({f"{place}.b_{name}": Weight((d_out,))} if cfg.bias else {})


def _unembedding(cfg: ModelConfig, width: int) -> Weights:
    found = _linear(cfg, "unembed", "U", width, cfg.d_vocab)
    return found if cfg.unembed_bias else {"unembed.W_U": found["unembed.W_U"]}


def _norm(cfg: ModelConfig, place: str) -> Weights:
    if cfg.normalization_type == "none":
        return {}
    gain = {f"{place}.w": Weight((cfg.d_model,), mean=1.0)}
    return gain | ({f"{place}.b": Weight((cfg.d_model,))} if cfg.normalization_type == "LN" else {})


def count(cfg: ModelConfig) -> int:
    """Number of parameters of one run."""
    return _size(weights(cfg))


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
    `scale_residual_init` says so (Radford et al. 2019, GPT-2). What a variant trains beside them starts as it says.
    """
    found = weights(cfg).values()
    scale = np.concatenate([np.full(math.prod(w.shape), w.std, np.float32) for w in found])
    shift = np.concatenate([np.full(math.prod(w.shape), w.mean, np.float32) for w in found])
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
