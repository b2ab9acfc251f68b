"""One transformer, written once for a stack of runs; a set model; position encodings; attention weights."""

from genlab.models.kinds import Model, model_of
from genlab.models.lstm import LSTM
from genlab.models.parameters import count, initial, shapes, views
from genlab.models.set_model import SetModel
from genlab.models.stacked import Past, StackedModel, Tap
from genlab.models.transformer import Transformer

__all__ = [
    "LSTM",
    "Model",
    "Past",
    "SetModel",
    "StackedModel",
    "Tap",
    "Transformer",
    "count",
    "initial",
    "model_of",
    "shapes",
    "views",
]
