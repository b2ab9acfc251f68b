"""Which model a configuration describes: a transformer, which reads tokens, or a set model of real-valued items."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from genlab.models.kernels import Kernel
from genlab.models.set_model import SetModel
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig

__all__ = ["Model", "model_of"]

Model = Transformer | SetModel


def model_of(cfg: ModelConfig, flat: Float[Tensor, "run params"], kernel: Kernel = "torch") -> Model:
    """The stack of models that a configuration and its weights make."""
    return SetModel(cfg, flat, kernel) if cfg.d_values else Transformer(cfg, flat, kernel)
