"""Weights as a model declares them: their shapes, the law of their initial numbers, and views into one flat tensor.

Names and shapes follow TransformerLens, but for two things: queries, keys and values share one matrix (`W_QKV`,
one product instead of three), and heads are joined in the last axis. `[run, ...]` leads every shape.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from genlab.spec import ModelConfig


class Weight(NamedTuple):
    """One parameter of one run; its initial numbers are N(mean, std^2), or the mean where `std` is 0."""

    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0


Weights = dict[str, Weight]
"""Name -> weight, in the order of the flat tensor."""


def linear(cfg: ModelConfig, place: str, name: str, d_in: int, d_out: int) -> Weights:
    """W and b; what a sublayer writes to the stream starts smaller where the configuration says so."""
    residual = name in ("O", "out") and cfg.scale_residual_init
    std = cfg.init_std / math.sqrt(2 * cfg.n_layers) if residual else cfg.init_std
    weight = {f"{place}.W_{name}": Weight((d_in, d_out), std)}
    return weight | ({f"{place}.b_{name}": Weight((d_out,))} if cfg.bias else {})


def unembedding(cfg: ModelConfig, width: int) -> Weights:
    """W_U and, where the configuration has one, b_U."""
    found = linear(cfg, "unembed", "U", width, cfg.d_vocab)
    return found if cfg.unembed_bias else {"unembed.W_U": found["unembed.W_U"]}


def norm(cfg: ModelConfig, place: str) -> Weights:
    """Gain and, for LayerNorm, shift; nothing without a norm."""
    if cfg.normalization_type == "none":
        return {}
    gain = {f"{place}.w": Weight((cfg.d_model,), mean=1.0)}
    return gain | ({f"{place}.b": Weight((cfg.d_model,))} if cfg.normalization_type == "LN" else {})


def size(found: Weights) -> int:
    """How many numbers they are."""
    return sum(math.prod(weight.shape) for weight in found.values())


def views(flat: Float[Tensor, "run params"], found: Weights) -> dict[str, Tensor]:
    """Name -> view `[run, ...]` into the flat tensor; writing one writes the other."""
    columns = flat.split([math.prod(weight.shape) for weight in found.values()], dim=1)
    return {
        name: column.unflatten(1, weight.shape) if len(weight.shape) > 1 else column
        for (name, weight), column in zip(found.items(), columns, strict=True)
    }
