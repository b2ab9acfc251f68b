"""Words over a few letters: how they are drawn, and which of their places are there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Part, Vocab, assemble

WORD_SPLITS = (
    Split(name="id", about="letters are uniform and independent", shift={"letters": "uniform"}),
    Split(name="skewed", about="nine letters in ten are the first one", shift={"letters": "skewed", "p": 0.9}),
    Split(name="runs", about="nine letters in ten repeat the one before", shift={"letters": "runs", "p": 0.9}),
)


def draw_words(rng: np.random.Generator, split: Split, lengths: Ints, letters: int) -> Ints:
    """Words of 0 to `letters` - 1 as the split asks, int[n, max(lengths)]; nothing is meant beyond a length."""
    shape = (len(lengths), int(lengths.max()))
    kind = split.shift["letters"]
    if kind == "uniform":
        return rng.integers(0, letters, shape)
    rare = rng.random(shape) >= float(split.shift["p"])
    steps = rng.integers(1, letters, shape) * rare
    if kind == "skewed":
        return steps
    steps[:, 0] = rng.integers(0, letters, len(lengths))
    return np.cumsum(steps, axis=1) % letters


def letter_shares(split: Split, letters: int) -> list[float]:
    """How likely each letter is at a place of such a word.

    >>> letter_shares(WORD_SPLITS[1], letters=3)
    [0.9, 0.05, 0.05]
    """
    if split.shift["letters"] != "skewed":
        return [1 / letters] * letters
    first = float(split.shift["p"])
    return [first] + [round((1 - first) / (letters - 1), 12)] * (letters - 1)


def word_shares(split: Split, letters: str, length: int) -> dict[str, float]:
    """How likely each token is at a random place of a prompt that is such a word and `>`."""
    shares = zip(letters, letter_shares(split, len(letters)), strict=True)
    return {letter: share * length / (length + 1) for letter, share in shares} | {">": 1 / (length + 1)}


def present(lengths: Ints) -> Bools | None:
    """Which places each row has, bool[n, max(lengths)]; None where it has all."""
    width = int(lengths.max())
    return None if int(lengths.min()) == width else np.arange(width) < lengths[:, None]


# -- Distinct items in a random order


def arrangements(
    rng: np.random.Generator, below: Ints, count: int, weights: NDArray[np.float64] | None = None
) -> Ints:
    """`count` distinct items of 0 to `below - 1` for each row, in random order: int[n, count].

    Every ordered choice is equally likely; with `weights` (of all items) each next item is drawn in proportion to
    the weights of those that are left (Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir).
    In a row with `below` less than `count`, other items fill the rest.

    >>> arrangements(np.random.default_rng(0), below=np.array([3, 3]), count=3)
    array([[2, 1, 0],
           [0, 1, 2]])
    """
    items = np.arange(int(below.max()))
    shape = (len(below), len(items))
    keys = rng.random(shape) if weights is None else rng.standard_exponential(shape) / weights
    keys[items >= below[:, None]] = np.inf
    return np.argsort(keys, axis=1)[:, :count]


def check_enough(task: str, symbols: int, max_len: int) -> None:
    """Raise `UserError` where there are fewer symbols than the longest example has distinct items."""
    if symbols < max_len:
        raise UserError(
            f"task {task!r} with max_len {max_len} needs at least {max_len} symbols for its distinct items, "
            f"not {symbols}"
        )


# -- Random places in a sequence: where a pattern is pasted, where a needle is hidden


def distinct(rng: np.random.Generator, below: Ints, count: int) -> Ints:
    """`count` different integers from 0 to `below - 1` for each row, rising: int[n, count].

    Every set of that size is equally likely. `below` is int[n], at least `count`.

    >>> distinct(np.random.default_rng(0), np.array([3, 3]), 3)
    array([[0, 1, 2],
           [0, 1, 2]])
    """
    chosen = np.empty((len(below), count), np.int64)
    for i in range(count):
        drawn = rng.integers(0, below - i)
        # The drawn number counts the integers not taken yet: step over each taken one, lowest first.
        for j in range(i):
            drawn += drawn >= chosen[:, j]
        chosen[:, i] = drawn
        chosen[:, : i + 1].sort(axis=1)
    return chosen


def apart(rng: np.random.Generator, room: Ints, size: Ints, count: int, gap: int = 0) -> Ints:
    """Starts of `count` blocks of `size` in rows of `room` cells, at least `gap` cells apart: int[n, count].

    Every arrangement is equally likely.

    >>> apart(np.random.default_rng(0), np.array([7]), np.array([3]), count=2, gap=1)
    array([[0, 4]])
    """
    slots = room - count * size - (count - 1) * gap + count
    return distinct(rng, slots, count) + np.arange(count) * (size + gap - 1)[:, None]


# -- Index hints: a letter before each symbol, the same letter for the same place in prompt and answer


def window_starts(rng: np.random.Generator, lengths: Ints, names: int) -> Ints:
    """First hint of each example, int[n]: a window of `lengths` hints anywhere among `names` of them.

    Windows rather than always the first hints, so that the hints of long examples are trained on short ones.
    """
    return rng.integers(0, names - lengths + 1)


def window_shares(length: int, names: int) -> list[float]:
    """The probability of each hint at a random place of such a window.

    >>> window_shares(2, names=3)
    [0.25, 0.5, 0.25]
    """
    windows = names - length + 1
    covering = [min(hint, windows - 1) - max(0, hint - length + 1) + 1 for hint in range(names)]
    return [count / (windows * length) for count in covering]


def hinted(hints: Ints, ids: Ints, scored: bool = False, keep: Bools | None = None) -> Part:
    """A part in which each token stands after its hint."""
    both = np.stack([hints, ids], axis=2).reshape(len(ids), -1)
    return Part(both, scored, None if keep is None else np.repeat(keep, 2, axis=1))


# -- Finite distributions: fast independent draws, Zipf laws, how often the most common value comes up


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


# -- A string and `>`, then the string again, or from its last symbol to its first: what `copy` and `reverse`


def echoed(symbols: Ints, lengths: Ints, backwards: bool) -> Examples:
    """Examples of strings, int[n, max(lengths)] of symbol numbers from 0, each followed by its echo.

    >>> import numpy as np
    >>> echoed(np.array([[4, 5, 6], [7, 8, 0]]), np.array([3, 2]), backwards=True).targets[:, 3:].tolist()
    [[9, 8, 7, 1], [10, 1, 0, 0]]
    """
    ids, keep, step = Vocab.first + symbols, present(lengths), -1 if backwards else 1
    string = Part(ids, keep=keep)
    echo = Part(ids[:, ::step], scored=True, keep=None if keep is None else keep[:, ::step])
    return assemble([string, Part(Vocab.sep), echo, Part(Vocab.end, scored=True)], lengths)
