"""Finite distributions: fast independent draws, Zipf laws, how often the most common value comes up."""

from __future__ import annotations

import numpy as np

from genlab.tasks.base import Floats, Ints

__all__ = ["Weighted", "expected_mode", "zipf"]


def zipf(count: int, shift: float = 2.7) -> Floats:
    """Probabilities that fall with rank like 1 / (rank + shift), ranks from 1.

    >>> zipf(3, shift=0).round(3).tolist()
    [0.545, 0.273, 0.182]
    """
    weights = 1 / (np.arange(1, count + 1) + shift)
    return weights / weights.sum()


class Weighted:
    """Draws i with probability `p[i]`, at a cost that does not grow with the number of values.

    Walker's alias method: the values share columns of one height, each column holding at most two of them.

    >>> draw = Weighted(np.array([0.75, 0.0, 0.25]))
    >>> np.bincount(draw(np.random.default_rng(0), (10_000,)), minlength=3).tolist()
    [7458, 0, 2542]
    """

    def __init__(self, p: Floats):
        count = len(p)
        height = np.asarray(p, np.float64) * count
        self._alias = np.arange(count)
        low = [i for i in range(count) if height[i] < 1]
        high = [i for i in range(count) if height[i] >= 1]
        self._own = np.ones(count)
        while low and high:
            small, large = low.pop(), high[-1]
            self._own[small], self._alias[small] = height[small], large
            height[large] -= 1 - height[small]
            if height[large] < 1:
                low.append(high.pop())

    def __call__(self, rng: np.random.Generator, size: tuple[int, ...]) -> Ints:
        """Independent draws, int[size]."""
        place = rng.random(size) * len(self._own)
        column = place.astype(np.int64)
        return np.where(place - column < self._own[column], column, self._alias[column])


def expected_mode(n: int, classes: int) -> float:
    """The expected count of the most common of `classes` equally likely classes among n draws.

    Counts are independent Poisson variables given that they sum to n, so P(no count is above k) is, up to a factor,
    the Poisson law cut at k, convolved with itself and taken at n.

    >>> expected_mode(2, classes=2)          # aa, ab, ba, bb
    1.5
    """
    count = np.arange(n + 1)
    log_factorial = np.append(0.0, np.cumsum(np.log(np.arange(1, n + 1))))
    poisson = np.exp(count * np.log(n / classes) - n / classes - log_factorial)
    fewest = -(-n // classes)  # the most common class comes up at least this often
    at_most: list[float] = []
    for k in range(fewest, n + 1):
        at_most.append(_power_at(poisson[: k + 1], classes, n))
        if k > fewest and at_most[-1] > 1e-6 and at_most[-1] - at_most[-2] < 1e-12 * at_most[-1]:
            break
    return round(fewest + sum(1 - share / at_most[-1] for share in at_most), 9)


def _power_at(law: Floats, times: int, place: int) -> float:
    """The value at `place` of `law` convolved with itself, `times` factors in all."""
    size = 1 << ((len(law) - 1) * times + 1).bit_length()
    return float(np.fft.irfft(np.fft.rfft(law, size) ** times, size)[place])
