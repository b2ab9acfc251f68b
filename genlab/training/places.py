"""A stacked batch with the places that its loss is taken at: as arrays, and on a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.models.stacked import Packing
from genlab.spec import ModelConfig
from genlab.tasks import Examples, Vocab

__all__ = ["Arrays", "Places", "arranged", "moved", "packed"]

Arrays = dict[str, np.ndarray]
"""The fields of `Places` as numpy arrays: what can be made ahead, in another process."""


@dataclass(frozen=True, slots=True)
class Places:
    """A batch on the device, with the places that the loss is taken at.

    Attributes:
        inputs: int[run, batch, pos] of tokens, or float[run, batch, pos, d_values] of real-valued items.
        offsets: position of each example's first token, or of every token.
        lengths: int[run, batch], each example's own length.
        at: int[run, place], in batch * pos; runs with fewer places repeat their first at weight 0.
        targets: int[run, place].
        weights: float[run, place]; those of a run add up to 1.
        since: the first position that any place stands at, or one before it.
        packing: the tokens that are no padding, where there is much padding.
    """

    inputs: Int[Tensor, "run batch pos"] | Float[Tensor, "run batch pos d_values"]
    offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"]
    lengths: Int[Tensor, "run batch"]
    at: Int[Tensor, "run place"]
    targets: Int[Tensor, "run place"]
    weights: Float[Tensor, "run place"]
    since: int
    packing: Packing | None = None


def arranged(batch: Examples, offsets: np.ndarray, loss: str, grain: int = 1) -> Arrays:
    """A stacked batch `[run, batch, pos]` with the places of its loss.

    Args:
        loss: `scored`, or `all` for every token that is no pad.
        grain: the number of places is rounded up, and the first position of any down, to a multiple of it: fewer
            distinct shapes, the same loss.
    """
    assert batch.trained is not None, "stack_examples fills it"
    taken = batch.targets != Vocab.pad if loss == "all" else batch.trained
    mask = taken.reshape(len(taken), -1)
    counts = mask.sum(axis=1)
    at = np.tile(mask.argmax(axis=1)[:, None], -(-int(counts.max()) // grain) * grain)
    filled = np.arange(at.shape[1]) < counts[:, None]
    at[filled] = np.nonzero(mask)[1]
    return {
        "inputs": np.ascontiguousarray(batch.inputs),
        "offsets": np.ascontiguousarray(offsets),
        "lengths": np.ascontiguousarray(batch.lengths),
        "at": at,
        "targets": np.take_along_axis(batch.targets.reshape(len(mask), -1), at, axis=1),
        "weights": filled / counts[:, None],
        "since": np.array(int(taken.any(axis=(0, 1)).argmax()) // grain * grain),
    }


_WORTH = 0.87
"""Batches of fewer tokens than this share of their places are packed: below it that pays (benchmarks/packing.py)."""


def packed(batch: Examples, cfg: ModelConfig | None) -> Arrays:
    """The fields of a `Packing` of a stacked batch, or nothing where it would save little.

    A token that a model reads is any but the padding on the right. An LSTM, a model without blocks and one whose
    loops grow with the length take no packed batch.
    """
    runs, rows, width = batch.tokens.shape
    lens = width - (batch.tokens[..., ::-1] != Vocab.pad).argmax(axis=-1)
    real = (np.arange(width) < lens[..., None]).reshape(runs, -1)
    counts = real.sum(axis=1)
    takes = cfg is not None and cfg.architecture == "transformer" and cfg.n_layers and not cfg.loop_growth
    if not takes or batch.values is not None or counts.max() > _WORTH * rows * width:
        return {}
    places = np.tile(real.argmax(axis=1)[:, None], int(counts.max()))
    places[np.arange(places.shape[1]) < counts[:, None]] = np.nonzero(real)[1]
    return {"packed_places": places, "packed_rows": np.maximum(real.cumsum(axis=1) - 1, 0)}


def moved(arrays: Arrays, like: Tensor) -> Places:
    """On the device and in the precision of `like`."""

    def there(name: str) -> Tensor:
        tensor = torch.from_numpy(arrays[name])
        if like.is_cuda:
            tensor = tensor.pin_memory()  # so that the copy does not wait for what the device does
        return tensor.to(like.device, non_blocking=True)

    whole = {name: there(name) for name in ("inputs", "offsets", "lengths", "at", "targets")}
    packing = None
    if "packed_places" in arrays:
        packing = Packing(there("packed_places"), there("packed_rows"), whole["lengths"].shape[1])
    return Places(**whole, weights=there("weights").to(like.dtype), since=int(arrays["since"]), packing=packing)
