"""Signals of a stack as rows: one a run, layer or head, maxima over heads with their nulls, and halves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genlab.probes.inputs import ProbeInput
from genlab.probes.signal import HALVES, NotApplicable, Signal

__all__ = ["Null", "Reading", "Row", "cross_fitted", "null_maxima", "read"]

Null = Mapping[str, np.ndarray]
"""Name of a value a head -> its maximum over the heads of each untrained model, float64[model]."""
_Pair = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]

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


def read(given: ProbeInput, signals: Iterable[Signal], nulls: Mapping[str, Null] | None = None) -> Reading:
    """Read signals, each also on both halves of the examples where its value is read on a sample.

    Args:
        nulls: signal name -> `null_maxima` of it; what is not there is left out.
    """
    rows: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    for one in signals:
        try:
            named = values_of(one, given)
        except NotApplicable as why:
            skipped[one.name] = str(why)
            continue
        halves = _on_halves(one, given)
        found = [row for name, values in named.items() for row in _rows(name, values)]
        for name, values in named.items():
            pair = _pair(name, halves)
            if one.per == "head":
                found += _maxima(f"{name}.max", _largest(one, values, pair))
                found += _null_rows(name, (nulls or {}).get(one.name, {}).get(name), given.model.n_runs)
            elif pair is not None:
                found += [row for half, of in zip(HALVES, pair, strict=True) for row in _rows(name + half, of)]
        said = {row.run for row in found}
        found += [Row(run, one.name, ALL, ALL, float("nan")) for run in range(given.model.n_runs) if run not in said]
        rows[one.name] = found
    return Reading(rows, skipped)


def null_maxima(untrained: ProbeInput, one: Signal) -> Null:
    """The maxima of a signal over the heads of untrained models; empty where it has none, or does not apply."""
    if not one.null:
        return {}
    try:
        named, halves = values_of(one, untrained), _on_halves(one, untrained)
    except NotApplicable:
        return {}
    return {name: _largest(one, values, _pair(name, halves))[0] for name, values in named.items()}


def cross_fitted(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is largest along the last axis: chosen in one half, read in the other, both ways; NaN where none is known.

    The largest of noisy values is too large, the more so the more there are; a value read on examples that had no
    part in the choice is not.

    >>> cross_fitted(np.array([0.2, 0.9]), np.array([0.5, 0.4]))
    (array(0.2), array(0.4))

    Args:
        first, second: float[..., choice], the same values read on two halves.

    Returns:
        float[...]: the first half's value of the choice of the second, and the second's of that of the first.
    """
    known = np.isfinite(first) & np.isfinite(second)
    chosen = [np.where(known, half, -np.inf).argmax(-1)[..., None] for half in (first, second)]
    pair = [
        np.take_along_axis(half, of_other, -1)[..., 0]
        for half, of_other in zip((first, second), reversed(chosen), strict=True)
    ]
    return np.where(known.any(-1), pair[0], np.nan), np.where(known.any(-1), pair[1], np.nan)


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


def _on_halves(one: Signal, given: ProbeInput) -> _Pair | None:
    """The values on both halves of the examples; None where there is nothing to it, or a half is too small."""
    if not one.halved:
        return None
    try:
        first, second = (values_of(one, half) for half in given.halves)
    except NotApplicable:
        return None
    return first, second


def _pair(name: str, halves: _Pair | None) -> tuple[np.ndarray, np.ndarray] | None:
    return (halves[0][name], halves[1][name]) if halves is not None and all(name in h for h in halves) else None


def _rows(name: str, values: np.ndarray) -> list[Row]:
    """Rows of the values that are numbers."""
    index = np.argwhere(np.isfinite(values))
    padded = np.full((len(index), 3), ALL)
    padded[:, : index.shape[1]] = index
    return [
        Row(run, name, layer, head, value)
        for (run, layer, head), value in zip(padded.tolist(), values[tuple(index.T)].tolist(), strict=True)
    ]


def _largest(one: Signal, values: np.ndarray, pair: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, ...]:
    """The maximum over all heads, float64[run]; where it is read on a sample, also its two halves.

    NaN where no head has a value, and where a sample is too small to be halved.
    """
    flat = values.reshape(len(values), -1)
    if one.exact:
        return (np.where(np.isfinite(flat), flat, -np.inf).max(-1, initial=-np.inf),)
    if pair is None:
        return (np.full(len(values), np.nan),)
    first, second = cross_fitted(*(half.reshape(len(half), -1) for half in pair))
    return (first + second) / 2, first, second


def _maxima(name: str, largest: tuple[np.ndarray, ...]) -> list[Row]:
    """The maximum, and its two halves."""
    names = (name, *(name + half for half in HALVES))
    return [
        Row(run, named, ALL, ALL, float(value))
        for named, values in zip(names, largest, strict=False)
        for run, value in enumerate(values)
        if np.isfinite(value)
    ]


def _null_rows(name: str, of_null: np.ndarray | None, runs: int) -> list[Row]:
    """Mean and standard deviation of the maximum over untrained models of the shape, beside each run's own."""
    known = np.empty(0) if of_null is None else of_null[np.isfinite(of_null)]
    if not len(known):
        return []
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    pairs = ((".null", float(known.mean())), (".null_sd", spread))
    return [Row(run, name + end, ALL, ALL, value) for end, value in pairs for run in range(runs)]
