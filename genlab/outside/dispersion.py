"""Dispersion: how sharp attention is inside and outside, and whether a line over training lengths foretells it.

Read at the positions of the answer, after the true tokens, as the signals of `probes/families/sharpness.py`; those
see training lengths only, and extrapolate. Here the same numbers are read where runs were not trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genlab.errors import NotApplicable
from genlab.models import Model, SetModel
from genlab.probes.families.sharpness import MEASURES, row_measures, rows_of
from genlab.probes.inputs import ProbeInput, as_batch
from genlab.probes.model import Stacked, check_readable
from genlab.spec import RunSpec, Split
from genlab.tasks import Examples, Task
from genlab.training.batches import eval_offsets
from genlab.training.evaluate import eval_examples

FITTED = ("largest", "effective", "spread")
"""Measures with a line over lengths, those of the signals `*_growth` and `*_extrapolated`."""
FEWEST = 3
"""Lengths that a line needs."""
_NUMBERS_AT_ONCE = 16_000_000
"""Attention weights in memory at a time."""


@dataclass(frozen=True, eq=False)
class Sharpness:
    """Attention of one run on the examples of one split and length, means over the positions of answers.

    Attributes:
        keys: mean number of visible keys.
        values: measure -> float64[layer, head].
        right: bool[example], exact match after the true tokens.
    """

    keys: float
    values: dict[str, np.ndarray]
    right: np.ndarray


def sharpness(spec: RunSpec, model: Model, task: Task, split: Split, length: int) -> Sharpness:
    """Read the attention of one run on the fixed evaluation set of a split at a length.

    Raises:
        NotApplicable: the model has no attention.
    """
    examples = eval_examples(task, split, length)
    if isinstance(model, SetModel):
        sums, rows, keys, right = _set(spec, model, examples, length)
    else:
        offsets = eval_offsets(task, examples, split.seed, spec.model)
        sums, rows, keys, right = _sequences(spec, model, examples, length, offsets)
    values = (sums / rows).double().cpu().numpy()
    return Sharpness(keys / rows, {name: values[..., i] for i, name in enumerate(MEASURES)}, right)


_Read = tuple[Tensor, int, float, np.ndarray]
"""Sums over rows, float[layer, head, measure]; number of rows; sum of their keys; bool[example], right."""


@torch.no_grad()
def _sequences(spec: RunSpec, model: Model, examples: Examples, length: int, offsets: np.ndarray) -> _Read:
    check_readable(spec.model)
    if not spec.model.n_layers:
        raise NotApplicable("the model has no layers")
    device, given = model.flat.device, ProbeInput(Stacked(model), (), ())
    batch = as_batch(examples, length, device, torch.from_numpy(offsets).to(device))
    per_row = spec.model.n_layers * spec.model.n_heads * examples.tokens.shape[1] ** 2
    size, sums, keys = max(1, _NUMBERS_AT_ONCE // per_row), torch.zeros(()), 0.0
    right: list[np.ndarray] = []
    for start in range(0, len(examples), size):
        seen = given.look(batch.rows(slice(start, start + size)))
        layers = [rows_of(seen, layer) for layer in range(spec.model.n_layers)]
        sums = sums + torch.stack([row_measures(*rows)[0].sum(1) for rows in layers])
        keys += float(layers[0][2].sum())
        wrong = (seen.logits[0].argmax(-1) != seen.batch.targets) & seen.batch.scored
        right.append(~wrong.any(1).cpu().numpy())
    return sums, int(examples.scored.sum()), keys, np.concatenate(right)


@torch.no_grad()
def _set(spec: RunSpec, model: SetModel, examples: Examples, length: int) -> _Read:
    values = torch.from_numpy(np.ascontiguousarray(examples.inputs)).to(model.flat.device)
    size = max(1, _NUMBERS_AT_ONCE // (values.shape[1] * max(spec.model.d_model, spec.model.d_mlp)))
    sums, targets, right = torch.zeros(()), examples.targets[examples.scored], []
    for start in range(0, len(examples), size):
        kept: dict[str, Tensor] = {}

        def tap(name: str, x: Tensor, kept: dict[str, Tensor] = kept) -> Tensor:
            kept[name.rsplit(".", 1)[1]] = x
            return x

        logits = model(values[None, start : start + size], tap=tap)
        weights, scores = (kept[name][..., 0, :].transpose(1, 2) for name in ("hook_pattern", "hook_attn_scores"))
        n = torch.full((weights.shape[2],), length, device=weights.device)
        sums = sums + row_measures(weights, scores, n)[0].sum(1)[None]
        right.append(logits[0].argmax(-1).cpu().numpy() == targets[start : start + size])
    return sums, len(examples), float(length * len(examples)), np.concatenate(right)


# -- Lines


def ln(values: np.ndarray) -> np.ndarray:
    """Natural logarithm, finite at 0."""
    return np.log(np.maximum(values, 1e-12))


def line(keys: Sequence[float], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares slope and intercept of ln values over ln keys.

    Args:
        keys: number of visible keys at each length.
        values: float64[length, ...], above 0.

    Returns:
        Slope and intercept, float64[...]; NaN with fewer than three lengths, or if all have equally many keys.

    >>> slope, start = line([2, 4, 8], np.array([[1.0], [2.0], [4.0]]))
    >>> float(slope[0].round(6)), float(np.exp(start[0]).round(6))
    (1.0, 0.5)
    """
    x, y = np.log(np.asarray(keys, float)), ln(values)
    deviation = x - x.mean()
    if len(x) < FEWEST or (deviation @ deviation) < 1e-9:
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    slope = np.tensordot(deviation, y, axes=1) / (deviation @ deviation)
    return slope, y.mean(0) - slope * x.mean()


def foretold(name: str, slope: np.ndarray, start: np.ndarray, keys: float) -> np.ndarray:
    """A line's value at a number of keys; a weight is at most 1, effective keys are from 1 to all."""
    found = np.exp(start + slope * np.log(keys))
    if name == "largest":
        return np.minimum(found, 1.0)
    return np.clip(found, 1.0, keys) if name == "effective" else found
