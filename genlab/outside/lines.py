"""Accuracy outside against accuracy inside, on probit axes: the curve that it follows, and what agreement tells.

Sources: Miller et al. 2021, arXiv 2107.04649 (accuracy on the line); Baek et al. 2022, arXiv 2206.13089 (agreement on
the line); Jiang et al. 2021, arXiv 2106.13799 (agreement as accuracy).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from scipy.stats import norm

from genlab.forecast.scores import Interval, bootstrap_interval, multiplicities

Kind = Literal["constant", "linear", "piecewise", "inverse"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Shapes that are compared: no dependence, a straight line, two joined lines, a line that does not rise."""
_KNOTS = np.linspace(0.1, 0.9, 9)
"""Quantiles of x at which the two lines of a piecewise fit may join."""
_DRAWS = 2000
FEWEST = 4
"""Runs below which nothing is fitted."""


def probit(right: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Quantile of the normal distribution at (right + 1/2) / (n + 1), which is finite for 0 and n right answers.

    >>> probit(np.array([0.0, 5.0, 10.0]), np.array([10.0, 10.0, 10.0])).round(3).tolist()
    [-1.691, 0.0, 1.691]
    """
    return norm.ppf((np.asarray(right, float) + 0.5) / (np.asarray(n, float) + 1))


@dataclass(frozen=True)
class Fit:
    """y = level + slope x + bend max(0, x - knot)."""

    kind: Kind
    level: float
    slope: float
    bend: float = 0.0
    knot: float = 0.0

    def at(self, x: np.ndarray) -> np.ndarray:
        """The fitted y."""
        return self.level + self.slope * x + self.bend * np.maximum(0, x - self.knot)


def fit(kind: Kind, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Fit:
    """Weighted least squares of one shape.

    The knot of a piecewise fit is the best of nine quantiles of x. An inverse fit is the best line whose slope is not
    above zero: the straight line, or a constant.

    Args:
        x, y: float[point]; weight: of each point.

    >>> x = np.array([0.0, 1.0, 2.0, 3.0])
    >>> line = fit("linear", x, 1 - 2 * x, np.ones(4))
    >>> round(line.level, 6), round(line.slope, 6)
    (1.0, -2.0)
    """
    if kind == "constant":
        return Fit(kind, float(np.average(y, weights=weight)), 0.0)
    straight = _least_squares(x, y, weight)
    if kind == "linear":
        return Fit(kind, *straight[:2])
    if kind == "inverse":
        return Fit(kind, *straight[:2]) if straight[1] <= 0 else Fit(kind, float(np.average(y, weights=weight)), 0.0)
    tried = [(_least_squares(x, y, weight, knot), knot) for knot in np.unique(np.quantile(x, _KNOTS))]
    best, knot = min(tried, key=lambda one: one[0][3])
    return Fit(kind, *best[:3], float(knot))


def _least_squares(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, knot: float | None = None
) -> tuple[float, float, float, float]:
    """Level, slope, bend and the weighted sum of squared errors."""
    columns = [np.ones_like(x), x] + ([] if knot is None else [np.maximum(0, x - knot)])
    design, root = np.stack(columns, axis=1), np.sqrt(weight)
    found = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
    error = float(weight @ (y - design @ found) ** 2)
    return float(found[0]), float(found[1]), float(found[2]) if knot is not None else 0.0, error


def equal_weights(runs: np.ndarray) -> np.ndarray:
    """Weight of each point, so that every run counts the same however many points it has; they sum to the runs."""
    _, code, counts = np.unique(runs, return_inverse=True, return_counts=True)
    return 1.0 / counts[code]


def left_out_errors(kind: Kind, x: np.ndarray, y: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Mean squared error of each run under the fit of all others, float[run], in the order of `np.unique(runs)`."""
    found: list[float] = []
    for run in np.unique(runs):
        out = runs == run
        own = fit(kind, x[~out], y[~out], equal_weights(runs[~out]))
        found.append(float(np.mean((y[out] - own.at(x[out])) ** 2)))
    return np.array(found)


@dataclass(frozen=True)
class Slope:
    """Slope and correlation over points, with 95 % bootstrap intervals that draw whole runs."""

    slope: Interval
    correlation: Interval


def slope_over_runs(x: np.ndarray, y: np.ndarray, runs: np.ndarray, rng: np.random.Generator) -> Slope:
    """Slope of the straight line and Pearson's correlation; points of one run are drawn together."""
    weight = equal_weights(runs)
    drawn = multiplicities(runs, _DRAWS, rng) * weight
    whole = _moments(x, y, weight[None])
    draws = _moments(x, y, drawn)
    groups = len(np.unique(runs))
    slopes, correlations = (
        bootstrap_interval(float(value[0]), of_draws, groups) for value, of_draws in zip(whole, draws, strict=True)
    )
    return Slope(slopes, correlations)


def _moments(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and correlation under each row of weights, float[draw]; NaN where x or y does not vary."""
    w = weight / weight.sum(axis=1, keepdims=True)
    mean_x, mean_y = w @ x, w @ y
    var_x, var_y = w @ x**2 - mean_x**2, w @ y**2 - mean_y**2
    both = w @ (x * y) - mean_x * mean_y
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(var_x > 1e-12, both / var_x, np.nan)
        correlation = np.where((var_x > 1e-12) & (var_y > 1e-12), both / np.sqrt(var_x * var_y), np.nan)
    return slope, correlation


# -- Agreement between runs in place of labels


@dataclass(frozen=True, eq=False)
class Answered:
    """Answers of several runs inside and at one place outside.

    Attributes:
        inside, outside: float[run], accuracy.
        agree_inside, agree_outside: float[run, run], the fraction of inputs with the same answer.
        n_inside, n_outside: number of inputs.
    """

    inside: np.ndarray
    outside: np.ndarray
    agree_inside: np.ndarray
    agree_outside: np.ndarray
    n_inside: int
    n_outside: int

    def probits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probits of accuracy inside, float[run], and of agreement inside and outside, float[pair]."""
        pairs = _pairs(len(self.inside))
        of_pairs = (
            probit(agree[pairs] * n, np.full(len(pairs[0]), n))
            for agree, n in ((self.agree_inside, self.n_inside), (self.agree_outside, self.n_outside))
        )
        agree_inside, agree_outside = of_pairs
        return (
            probit(self.inside * self.n_inside, np.full(len(self.inside), self.n_inside)),
            agree_inside,
            agree_outside,
        )


def _pairs(runs: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.array(list(combinations(range(runs), 2))).T
    return first, second


def predicted_accuracy(given: Answered) -> dict[str, np.ndarray]:
    """Accuracy outside of each run as predicted without a label from outside, float[run] each.

    - `inside`: the accuracy inside itself.
    - `agreement`: mean agreement with the other runs outside (Jiang et al. 2021).
    - `aline_s`: the line through the agreement of all pairs, inside and outside, applied to accuracy inside.
    - `aline_d`: the same slope; the mean probit of two runs' accuracies differs from that of their agreement as it
      does inside, solved for all pairs at once (Baek et al. 2022, both).
    """
    runs, pairs = len(given.inside), _pairs(len(given.inside))
    inside, agree_in, agree_out = given.probits()
    line = fit("linear", agree_in, agree_out, np.ones(len(agree_in)))
    design = np.zeros((len(pairs[0]), runs))
    rows = np.arange(len(pairs[0]))
    design[rows, pairs[0]] = design[rows, pairs[1]] = 0.5
    target = agree_out + line.slope * ((inside[pairs[0]] + inside[pairs[1]]) / 2 - agree_in)
    solved = np.linalg.lstsq(design, target, rcond=None)[0]
    others = ~np.eye(runs, dtype=bool)
    return {
        "inside": given.inside,
        "agreement": (given.agree_outside * others).sum(1) / (runs - 1),
        "aline_s": norm.cdf(line.at(inside)),
        "aline_d": norm.cdf(solved),
    }
