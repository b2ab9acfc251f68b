"""Reliability of signals: the correlation of two half-sample measurements over runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from genlab.forecast.roles import part

NOISE = 0.5
"""A signal of lower reliability is called noise: most of its variance between runs is then reading noise, and its
correlation with anything is at most sqrt(0.5) = .71 of that of exact values."""
_FEWEST = 3


@dataclass(frozen=True)
class Reliability:
    """Reliability of one signal over runs.

    Attributes:
        kind: `halves` (measured on two disjoint halves of the probe examples), `exact` (from weights, history or all
            pairs, without sampling) or `unknown` (never measured on halves, or on too few runs).
        value: the fraction of the variance between runs of a setting that is not reading noise: the correlation r of
            the halves over runs, corrected to 2r / (1 + r) (Spearman and Brown), 0 where r < 0; NaN unless it was
            measured.
        low, high: its 95 % interval (Fisher), None with too few runs.
        noise: reading noise, the standard error of the mean of the two halves: the root mean square over runs of half
            their difference.
        runs: number of runs with both halves.
    """

    kind: str
    value: float = float("nan")
    low: float | None = None
    high: float | None = None
    noise: float = float("nan")
    runs: int = 0

    @property
    def is_noise(self) -> bool:
        """Whether it was measured and is below `NOISE`."""
        return bool(self.value < NOISE)

    def row(self) -> dict[str, Any]:
        """Return plain data, with None for NaN."""
        plain = {name: None if value != value else value for name, value in asdict(self).items()}
        return plain | {"is_noise": self.is_noise}


def split_half(first: np.ndarray, second: np.ndarray, setting: np.ndarray | None = None) -> Reliability:
    """Return the reliability of a signal from its two halves, float[run] each, NaN where missing.

    With settings, halves are centered by setting: forecasts rank the runs of a setting, and differences between
    settings would make a signal look more reliable than it is there.

    >>> split_half(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 3.0])).value
    1.0
    """
    known = np.isfinite(first) & np.isfinite(second)
    runs = int(known.sum())
    if not runs:
        return Reliability("unknown")
    a, b = first[known].astype(float), second[known].astype(float)
    noise = float(np.sqrt(np.mean((a - b) ** 2) / 4))
    names = np.zeros(runs, int) if setting is None else np.unique(setting[known], return_inverse=True)[1]
    settings = int(names.max()) + 1
    a, b = (x - (np.bincount(names, x) / np.bincount(names))[names] for x in (a, b))
    spread = float(np.sqrt((a**2).sum() * (b**2).sum()))
    # Rounding errors of equal values are not variance.
    if runs - settings < _FEWEST - 1 or spread <= 1e-12 * runs * max(1e-300, float(np.mean(first[known] ** 2))):
        return Reliability("unknown", noise=noise, runs=runs)
    r = float(np.clip((a * b).sum() / spread, -1, 1))
    degrees = runs - settings - 2
    low = high = None
    if degrees > 0:
        middle, width = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), 1.96 / np.sqrt(degrees)
        low, high = (_corrected(float(np.tanh(middle + sign * width))) for sign in (-1, 1))
    return Reliability("halves", _corrected(r), low, high, noise, runs)


def _corrected(r: float) -> float:
    """Spearman-Brown: reliability of the whole from that of its halves; 0 if they are negatively correlated."""
    return 2 * r / (1 + r) if r > 0 else 0.0


def reliability_of(table: pd.DataFrame, name: str, setting: np.ndarray | None = None) -> Reliability:
    """Return the reliability of a column of a forecast table, in any role."""
    if name in part(table, "exact"):
        return Reliability("exact", runs=int(part(table, "exact")[name].notna().sum()))
    halves = part(table, "half1"), part(table, "half2")
    if any(name not in half for half in halves):
        return Reliability("unknown")
    first, second = (half[name].to_numpy(float) for half in halves)
    return split_half(first, second, setting)


def reliability_words(found: Reliability, name: str) -> str:
    """Describe the reliability of a signal in one line.

    >>> reliability_words(Reliability("halves", 0.17, 0.0, 0.88, 0.02, 6), "bracket_ambi.max").partition(":")[0]
    'bracket_ambi.max is mostly noise'
    >>> reliability_words(Reliability("exact", runs=6), "weight_norm")
    'weight_norm has no reading noise: it does not depend on probe examples'
    """
    if found.kind == "exact":
        return f"{name} has no reading noise: it does not depend on probe examples"
    if found.kind == "unknown" and not found.runs:
        return f"the reliability of {name} is unknown: it was not measured on two halves (run lab probe)"
    if found.kind == "unknown":
        return (
            f"the reliability of {name} cannot be estimated from {found.runs} runs (too few, or all equal); "
            f"reading noise {found.noise:.3g}"
        )
    ends = "" if found.low is None or found.high is None else f" ({found.low:.2f} to {found.high:.2f})"
    summary = f"reliability {found.value:.2f}{ends} over {found.runs} runs"
    if not found.is_noise:
        return f"{name} is measured with {summary}; reading noise {found.noise:.3g}"
    return (
        f"{name} is mostly noise: {summary}, below {NOISE:g}; reading noise {found.noise:.3g}; use more "
        "probe examples (lab probe --probe-n)"
    )
