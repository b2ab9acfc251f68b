"""One transformer, written once for a stack of runs; a set model; position encodings; attention weights."""

from genlab.models.kinds import Model, model_of
from genlab.models.parameters import count, initial, shapes, views
from genlab.models.set_model import SetModel
from genlab.models.transformer import Past, Tap, Transformer

__all__ = ["Model", "Past", "SetModel", "Tap", "Transformer", "count", "initial", "model_of", "shapes", "views"]
