"""Tables in which the truth is planted: settings with effects of their own, shared seeds, a stated effect or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from genlab.forecast.roles import frame_of

__all__ = ["Planted", "draw"]


@dataclass(frozen=True)
class Planted:
    """A process that tables are drawn from.

    Attributes:
        settings, runs: how many settings, and runs in each.
        effect: how far apart the signal's means are between runs that generalise and runs that do not, in its own
            standard deviations; 0: it says nothing.
        metric_effect: the same for an in-distribution metric.
        setting_sd: how far settings differ, in the outcome, the metric and the signal.
        shared: the runs of all settings have the same seeds.
        seed_sd: what a seed does to the outcome, and (independently) to the metric and the signal.
        noise: how many further signals say nothing (each of them encodes the setting).
    """

    settings: int = 12
    runs: int = 20
    effect: float = 0.0
    metric_effect: float = 0.0
    setting_sd: float = 0.7
    shared: bool = False
    seed_sd: float = 0.0
    noise: int = 0

    def auroc(self, effect: float) -> float:
        """What a column with this effect scores within a setting, in truth."""
        return float(norm.cdf(effect / np.sqrt(2 * (1 + self.seed_sd**2))))

    @property
    def gain(self) -> float:
        """The true difference of the signal's score over the metric's."""
        return self.auroc(self.effect) - self.auroc(self.metric_effect)


def draw(what: Planted, rng: np.random.Generator) -> pd.DataFrame:
    """A table of the process: settings a and b, seeds, the metric `loss`, signals, and the outcome `generalises`."""
    count, k = what.settings, np.repeat(np.arange(what.settings), what.runs)
    seed = np.tile(np.arange(what.runs), count)
    seed = seed if what.shared else seed + k * what.runs
    groups = int(seed.max()) + 1

    def effects() -> np.ndarray:
        return what.setting_sd * rng.normal(size=count)[k] + what.seed_sd * rng.normal(size=groups)[seed]

    def column(effect: float) -> np.ndarray:
        return effect * y + effects() + rng.normal(size=len(k))

    y = (effects() + rng.normal(size=len(k)) > 0).astype(float)
    signals = {"head": column(what.effect)} | {f"noise {i}": column(0.0) for i in range(what.noise)}
    return frame_of(
        {
            "setting": pd.DataFrame({"a": k // 3, "b": k % 3}),
            "seed": pd.DataFrame({"init_seed": seed}),
            "metric": pd.DataFrame({"loss": column(what.metric_effect)}),
            "signal": pd.DataFrame(signals),
            "outcome": pd.DataFrame({"generalises": y}),
        }
    )
