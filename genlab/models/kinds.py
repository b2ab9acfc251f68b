"""Build the model that a configuration describes, its initial weights, and named views of the flat weight tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genlab.errors import UserError, unknown
from genlab.models import parameters
from genlab.models.lstm import LSTM
from genlab.models.normalisers import LEARNT, NORMALISERS
from genlab.models.parameters import Weights
from genlab.models.set_model import SetModel
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig, build

Model = Transformer | LSTM | SetModel

_INIT_STREAM = 0x1417
"""First word of every seed for initial weights, which keeps their random streams separate from those of the data."""


def model_class(cfg: ModelConfig) -> type[Model]:
    """The model class for a configuration."""
    if cfg.d_values:
        return SetModel
    return LSTM if cfg.architecture == "lstm" else Transformer


def model_of(cfg: ModelConfig, flat: Float[Tensor, "run params"]) -> Model:
    """A stack of models with the given configuration and weights, float[run, params]."""
    return model_class(cfg)(cfg, flat)


def with_attention(cfg: ModelConfig, name: str) -> ModelConfig:
    """A configuration with other attention weights for evaluation, on the same parameters ('': its own).

    Raises:
        UserError: an unknown name, a model without attention, or attention weights with trained parameters.
    """
    if not name or name == cfg.attn_weights:
        return cfg
    if name not in NORMALISERS:
        raise unknown("attn_weights", name, NORMALISERS)
    if cfg.architecture == "lstm":
        raise UserError(f"attn_weights {name!r} is not possible: an LSTM has no attention")
    trained = [one for one in (cfg.attn_weights, name) if LEARNT.get(one)]
    if trained:
        allowed = ", ".join(sorted(one for one in NORMALISERS if not LEARNT.get(one)))
        raise UserError(
            f"attn_weights {trained[0]!r} has trained parameters, so it cannot be exchanged after training; "
            f"allowed for runs without them: {allowed}"
        )
    return build(ModelConfig, {**cfg.model_dump(), "attn_weights": name, "adaptive_training": False})


def weights(cfg: ModelConfig) -> Weights:
    """Name -> shape and initial distribution of every parameter of one run, in the order of the flat tensor."""
    return model_class(cfg).weights(cfg)


def shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of one run, in the order of the flat tensor."""
    return {name: weight.shape for name, weight in weights(cfg).items()}


def count(cfg: ModelConfig) -> int:
    """Number of parameters of one run."""
    return parameters.size(weights(cfg))


def views(flat: Float[Tensor, "run params"], cfg: ModelConfig) -> dict[str, Tensor]:
    """Name -> view `[run, ...]` of the flat tensor; the views share its memory."""
    return parameters.views(flat, weights(cfg))


def flat_of(cfg: ModelConfig, named: Mapping[str, np.ndarray]) -> Float[Tensor, "1 params"]:
    """The flat tensor of one run, float32, from its weights by name; the inverse of `views`."""
    parts = [np.asarray(named[name], np.float32).reshape(shape) for name, shape in shapes(cfg).items()]
    return torch.from_numpy(np.concatenate([part.reshape(-1) for part in parts]))[None]


def initial(cfg: ModelConfig, init_seeds: Sequence[int]) -> Float[Tensor, "run params"]:
    """Initial weights, one row per seed: a pure function of (model config, init_seed), drawn on the CPU in float32.

    Matrices are N(0, init_std), gains 1, biases 0. With `scale_residual_init`, W_O and W_out are divided by
    sqrt(2 n_layers) (Radford et al. 2019, GPT-2). The extra parameters of a variant define their own initialization.

    Returns:
        float32[run, params].
    """
    declared = weights(cfg).values()
    scale = np.concatenate([np.full(math.prod(w.shape), w.std, np.float32) for w in declared])
    shift = np.concatenate([np.full(math.prod(w.shape), w.mean, np.float32) for w in declared])
    rows = [
        np.random.default_rng([_INIT_STREAM, seed]).standard_normal(len(scale), np.float32) * scale + shift
        for seed in init_seeds
    ]
    return torch.from_numpy(np.stack(rows))


def decay_mask(cfg: ModelConfig, decay: str) -> Float[Tensor, " params"]:
    """1 where weight decay applies: to 'all' parameters, to 'matrices', or to 'linear' maps (no embeddings)."""

    def acts(name: str, shape: tuple[int, ...]) -> bool:
        if decay == "linear":
            return len(shape) > 1 and "embed." not in name.replace("unembed.", "")
        return decay == "all" or len(shape) > 1

    parts = [torch.full((math.prod(s),), float(acts(name, s))) for name, s in shapes(cfg).items()]
    return torch.cat(parts)
