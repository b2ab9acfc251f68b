"""One transformer, written once for a stack of runs; position encodings; attention weights."""

from genlab.models.parameters import count, initial, shapes, views
from genlab.models.transformer import Past, Tap, Transformer

__all__ = ["Past", "Tap", "Transformer", "count", "initial", "shapes", "views"]
