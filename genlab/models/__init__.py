"""Stacked models: transformer, LSTM and set model, with position encodings and attention variants.

`as_hooked`, `to_lens`, `from_lens` and their like need TransformerLens, which is imported on first use.
"""

from typing import TYPE_CHECKING, Any

from genlab.models.kinds import Model, count, flat_of, initial, model_of, shapes, views, with_attention
from genlab.models.lstm import LSTM
from genlab.models.normalisers import Rows, attention_weights
from genlab.models.parameters import Weight, Weights
from genlab.models.positions import Positions, position_encoding
from genlab.models.set_model import SetModel
from genlab.models.stacked import Past, StackedModel, Tap
from genlab.models.transformer import Transformer

if TYPE_CHECKING:
    from genlab.models.lens import as_hooked
    from genlab.models.lens_own import from_bridge, from_lens, to_bridge, to_lens

__all__ = [
    "LSTM",
    "Model",
    "Past",
    "Positions",
    "Rows",
    "SetModel",
    "StackedModel",
    "Tap",
    "Transformer",
    "Weight",
    "Weights",
    "as_hooked",
    "attention_weights",
    "count",
    "flat_of",
    "from_bridge",
    "from_lens",
    "initial",
    "model_of",
    "position_encoding",
    "shapes",
    "to_bridge",
    "to_lens",
    "views",
    "with_attention",
]

_LENS = ("as_hooked", "to_lens", "from_lens", "to_bridge", "from_bridge")


def __getattr__(name: str) -> Any:
    if name not in _LENS:
        raise AttributeError(f"module 'genlab.models' has no attribute {name!r}")
    from importlib.util import find_spec

    from genlab.errors import UserError

    if find_spec("transformer_lens") is None:
        raise UserError(f"{name} needs transformer-lens: pip install 'genlab[lens]'")
    from genlab.models import lens, lens_own

    return getattr(lens if name == "as_hooked" else lens_own, name)
