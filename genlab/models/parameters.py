"""How a model declares its weights: shapes, initial distributions, and named views of one flat tensor.

Names and shapes follow TransformerLens with two exceptions: queries, keys and values share one matrix (`W_QKV`, one
product instead of three), and heads are concatenated in the last axis. Views add a leading run axis, `[run, ...]`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from genlab.spec import ModelConfig


class Weight(NamedTuple):
    """One parameter of one run; initial values are N(mean, std^2), or constant at the mean if `std` is 0."""

    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0


Weights = dict[str, Weight]
"""Name -> weight, in the order of the flat tensor."""


def linear(cfg: ModelConfig, prefix: str, name: str, d_in: int, d_out: int) -> Weights:
    """W and b. Projections into the residual stream start smaller if `cfg.scale_residual_init` is set."""
    into_residual = name in ("O", "out") and cfg.scale_residual_init
    std = cfg.init_std / math.sqrt(2 * cfg.n_layers) if into_residual else cfg.init_std
    weight = {f"{prefix}.W_{name}": Weight((d_in, d_out), std)}
    return weight | ({f"{prefix}.b_{name}": Weight((d_out,))} if cfg.bias else {})


def unembedding(cfg: ModelConfig, width: int) -> Weights:
    """W_U, and b_U if the configuration has an unembedding bias."""
    declared = linear(cfg, "unembed", "U", width, cfg.d_vocab)
    return declared if cfg.unembed_bias else {"unembed.W_U": declared["unembed.W_U"]}


def norm(cfg: ModelConfig, prefix: str) -> Weights:
    """The gain and, for LayerNorm, the shift; empty if there is no norm."""
    if cfg.normalization_type == "none":
        return {}
    gain = {f"{prefix}.w": Weight((cfg.d_model,), mean=1.0)}
    return gain | ({f"{prefix}.b": Weight((cfg.d_model,))} if cfg.normalization_type == "LN" else {})


def size(declared: Weights) -> int:
    """Total number of scalar parameters."""
    return sum(math.prod(weight.shape) for weight in declared.values())


def views(flat: Float[Tensor, "run params"], declared: Weights) -> dict[str, Tensor]:
    """Name -> view `[run, ...]` of the flat tensor; the views share its memory."""
    columns = flat.split([math.prod(weight.shape) for weight in declared.values()], dim=1)
    return {
        name: column.unflatten(1, weight.shape) if len(weight.shape) > 1 else column
        for (name, weight), column in zip(declared.items(), columns, strict=True)
    }
