"""Many signals tried: is the best of them better than the best of as many that say nothing?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from genlab.forecast.scores import known_order
from genlab.forecast.targets import Kind

__all__ = ["Tried", "try_all"]


@dataclass(frozen=True)
class Tried:
    """A signal that was tried.

    Attributes:
        p: two-sided, of this signal alone.
        p_all: the same, with the maximum over all signals tried taken in every permutation.
    """

    name: str
    z: float
    p: float
    p_all: float


def try_all(
    names: list[str],
    signals: np.ndarray,
    kind: Kind,
    value: np.ndarray,
    censored: np.ndarray,
    setting: np.ndarray,
    twins: np.ndarray,
    rng: np.random.Generator,
    draws: int = 2000,
) -> list[Tried]:
    """Permute outcomes within settings; the statistic is a rank sum within settings, as large as the AUROC is.

    A shuffle over all runs would call a signal that only tells the settings apart a good one. Runs that share seeds
    are moved together in all settings, so that what they share is kept; the maximum is Westfall and Young's (1993).

    Args:
        signals: float[run, signal]; a missing value ranks in the middle.
        value, censored, setting, twins: one a run.

    Returns:
        One a signal, in the order of `names`; a signal that is constant within every setting has z 0 and p 1.
    """
    gain, ranks = np.zeros(len(value)), np.zeros_like(signals)
    rows_of = [np.flatnonzero(setting == name) for name in dict.fromkeys(setting.tolist())]
    for rows in rows_of:
        gain[rows] = _gain(kind, value[rows], censored[rows])
        ranks[rows] = _middle_ranks(signals[rows])
    observed = gain @ ranks
    permuted = _permuted(gain, rows_of, twins, rng, draws) @ ranks
    spread = np.sqrt(np.mean(permuted**2, axis=0))
    told = spread > 1e-9
    z = np.abs(np.divide(observed, spread, out=np.zeros_like(observed), where=told))
    null = np.abs(np.divide(permuted, spread, out=np.zeros_like(permuted), where=told))
    best = null.max(axis=1)
    signs = np.sign(observed)
    return [
        Tried(name, float(z[i] * signs[i]), *((1 + int((n >= z[i]).sum())) / (1 + draws) for n in (null[:, i], best)))
        if told[i]
        else Tried(name, 0.0, 1.0, 1.0)
        for i, name in enumerate(names)
    ]


def _gain(kind: Kind, value: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """How many runs are known to be below each, less those above (Gehan 1965): sums to 0 within a setting."""
    if kind == "number":
        return rankdata(value) - (len(value) + 1) / 2
    better = known_order(value, censored)
    return (better.sum(axis=1) - better.sum(axis=0)) / max(len(value), 1)


def _middle_ranks(signals: np.ndarray) -> np.ndarray:
    """Ranks within a setting about 0, scaled to the runs there; what is missing is 0."""
    ranks = rankdata(signals, axis=0, nan_policy="omit")
    counts = (~np.isnan(signals)).sum(axis=0)
    return np.nan_to_num((ranks - (counts + 1) / 2) / max(len(signals), 1))


def _permuted(
    gain: np.ndarray, rows_of: list[np.ndarray], twins: np.ndarray, rng: np.random.Generator, draws: int
) -> np.ndarray:
    """float[draw, run]: outcomes permuted within settings, by one permutation of the seeds for all settings."""
    codes = np.unique(twins, return_inverse=True)[1].reshape(-1)
    count = int(codes.max()) + 1
    keys = rng.random((draws, count))
    found = np.empty((draws, len(gain)))
    for rows in rows_of:
        # The run whose seed comes r-th in the drawn order gets the outcome of the r-th run in the order of seeds.
        # Runs of one setting that share their seeds are told apart by noise of their own.
        own = keys[:, codes[rows]]
        if len(np.unique(codes[rows])) < len(rows):
            own = own + rng.random((draws, len(rows))) * 1e-9
        home = np.argsort(codes[rows], kind="stable")
        place = np.argsort(np.argsort(own, axis=1), axis=1)
        found[:, rows] = gain[rows][home][place]
    return found
