"""Which model a configuration describes: a transformer or an LSTM, which read tokens, or a set model of numbers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from genlab.models.lstm import LSTM
from genlab.models.set_model import SetModel
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig

__all__ = ["Model", "model_of"]

Model = Transformer | LSTM | SetModel


def model_of(cfg: ModelConfig, flat: Float[Tensor, "run params"]) -> Model:
    """The stack of models that a configuration and its weights make."""
    if cfg.d_values:
        return SetModel(cfg, flat)
    return LSTM(cfg, flat) if cfg.architecture == "lstm" else Transformer(cfg, flat)
