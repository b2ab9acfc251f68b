"""Signals of a stack as rows: one a run, layer or head, and the maximum over heads beside its null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genlab.probes.inputs import ProbeInput
from genlab.probes.signal import NotApplicable, Signal

__all__ = ["Reading", "Row", "read"]

ALL = -1
"""The layer or head of a value that belongs to all of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One value of one run (`run` is its place in the stack)."""

    run: int
    name: str
    layer: int
    head: int
    value: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What signals gave for a stack.

    Attributes:
        rows: signal name -> its rows. A run of which a signal says nothing has one row of NaN.
        skipped: signal name -> why it does not apply.
    """

    rows: Mapping[str, list[Row]]
    skipped: Mapping[str, str]


def read(given: ProbeInput, signals: Iterable[Signal], untrained: ProbeInput | None = None) -> Reading:
    """Read signals.

    Args:
        untrained: `given.untrained()`, if it is at hand (made once for many stacks); None leaves the nulls out.
    """
    rows: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    for one in signals:
        try:
            named = values_of(one, given)
        except NotApplicable as why:
            skipped[one.name] = str(why)
            continue
        found = [row for name, values in named.items() for row in _rows(name, values)]
        if one.per == "head":
            nulls = _null_values(one, untrained)
            for name, values in named.items():
                found += _maxima(name, values, nulls.get(name))
        said = {row.run for row in found}
        found += [Row(run, one.name, ALL, ALL, float("nan")) for run in range(given.model.n_runs) if run not in said]
        rows[one.name] = found
    return Reading(rows, skipped)


@torch.no_grad()
def values_of(one: Signal, given: ProbeInput) -> dict[str, np.ndarray]:
    """A signal's values by their full names, float64[run], [run, layer] or [run, layer, head].

    Of a run whose weights or logits are no numbers all values are NaN, and the others are read without it.

    Raises:
        NotApplicable: the signal has no meaning for these runs.
        ValueError: values of another shape than the signal declares, or outside its range.
    """
    sound = given.sound
    if bool(sound.all()):
        return _values(one, given)
    rows = sound.nonzero()[:, 0]
    if not len(rows):
        shape = (len(sound), given.cfg.n_layers, getattr(given.cfg, "n_heads", 0))
        return {one.name: np.full(shape[: _axes(one)], np.nan)}
    some = given.once("sound runs", lambda: given.of_runs(rows))
    found: dict[str, np.ndarray] = {}
    for name, values in _values(one, some).items():
        found[name] = np.full((len(sound), *values.shape[1:]), np.nan)
        found[name][rows.cpu().numpy()] = values
    return found


def _axes(one: Signal) -> int:
    return 1 + ("run", "layer", "head").index(one.per)


def _values(one: Signal, given: ProbeInput) -> dict[str, np.ndarray]:
    found: Any = one.read(given)
    named = {one.name: found}
    if isinstance(found, Mapping):
        named = {f"{one.name}.{part}": values for part, values in found.items()}
    arrays = {name: torch.as_tensor(values).double().cpu().numpy() for name, values in named.items()}
    slack = 1e-4 * max(1.0, *(abs(end) for end in (one.low, one.high) if np.isfinite(end)), 1.0)
    for name, values in arrays.items():
        if values.ndim != _axes(one) or len(values) != given.model.n_runs:
            raise ValueError(f"signal {name!r} gave values of shape {values.shape}, declared one a {one.per}")
        finite = values[np.isfinite(values)]
        if ((finite < one.low - slack) | (finite > one.high + slack)).any():
            raise ValueError(
                f"signal {name!r} gave {finite.min()} to {finite.max()}, declared {one.low} to {one.high}"
            )
    return arrays


def _null_values(one: Signal, untrained: ProbeInput | None) -> Mapping[str, np.ndarray]:
    if untrained is None or not one.null:
        return {}
    try:
        return untrained.once(f"null {one.name}", lambda: values_of(one, untrained))
    except NotApplicable:
        return {}


def _rows(name: str, values: np.ndarray) -> list[Row]:
    """Rows of the values that are numbers."""
    index = np.argwhere(np.isfinite(values))
    padded = np.full((len(index), 3), ALL)
    padded[:, : index.shape[1]] = index
    return [
        Row(run, name, layer, head, value)
        for (run, layer, head), value in zip(padded.tolist(), values[tuple(index.T)].tolist(), strict=True)
    ]


def _maxima(name: str, values: np.ndarray, null: np.ndarray | None) -> list[Row]:
    """The largest value over all heads; mean and standard deviation of that over untrained models of the shape."""
    found = [Row(run, f"{name}.max", ALL, ALL, best) for run, best in _best(values)]
    if null is None:
        return found
    of_null = [best for _, best in _best(null)]
    if of_null:
        mean, spread = float(np.mean(of_null)), float(np.std(of_null, ddof=1)) if len(of_null) > 1 else 0.0
        for run, _ in _best(values):
            found += [Row(run, f"{name}.null", ALL, ALL, mean), Row(run, f"{name}.null_sd", ALL, ALL, spread)]
    return found


def _best(values: np.ndarray) -> Sequence[tuple[int, float]]:
    flat = values.reshape(len(values), -1)
    return [(run, float(np.nanmax(row))) for run, row in enumerate(flat) if np.isfinite(row).any()]
