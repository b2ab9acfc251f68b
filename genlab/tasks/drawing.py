"""Building blocks for sampling: random words, distinct items, positions, index hints and finite distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Part, Vocab, assemble

WORD_SPLITS = (
    Split(name="id", about="letters are uniform and independent", shift={"letters": "uniform"}),
    Split(name="skewed", about="nine letters in ten are the first letter", shift={"letters": "skewed", "p": 0.9}),
    Split(name="runs", about="nine letters in ten repeat the previous letter", shift={"letters": "runs", "p": 0.9}),
)


def draw_words(rng: np.random.Generator, split: Split, lengths: Ints, letters: int) -> Ints:
    """Draw words over 0 to `letters` - 1 as the split specifies, int[n, max(lengths)].

    Entries beyond the length of a word are arbitrary.
    """
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
    """Return the probability of each letter at any position of such a word.

    >>> letter_shares(WORD_SPLITS[1], letters=3)
    [0.9, 0.05, 0.05]
    """
    if split.shift["letters"] != "skewed":
        return [1 / letters] * letters
    first = float(split.shift["p"])
    return [first] + [round((1 - first) / (letters - 1), 12)] * (letters - 1)


def word_shares(split: Split, letters: str, length: int) -> dict[str, float]:
    """Return the probability of each token at a random position of a prompt: such a word, then `>`."""
    shares = zip(letters, letter_shares(split, len(letters)), strict=True)
    return {letter: share * length / (length + 1) for letter, share in shares} | {">": 1 / (length + 1)}


def present(lengths: Ints) -> Bools | None:
    """Return a mask of the positions within each length, bool[n, max(lengths)]; None if all lengths are equal."""
    width = int(lengths.max())
    return None if int(lengths.min()) == width else np.arange(width) < lengths[:, None]


# -- Distinct items in a random order


def arrangements(
    rng: np.random.Generator, below: Ints, count: int, weights: NDArray[np.float64] | None = None
) -> Ints:
    """Draw `count` distinct items from 0 to `below - 1` for each row, in random order: int[n, count].

    All ordered choices are equally likely. With `weights` (one per item), items are drawn one after the other in
    proportion to the weights of those left (Efraimidis and Spirakis 2006, Weighted random sampling with a
    reservoir). Rows with `below` less than `count` are filled up with other items.

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
    """Raise `UserError` if there are fewer symbols than distinct items in the longest example."""
    if symbols < max_len:
        raise UserError(
            f"task {task!r} with max_len {max_len} needs at least {max_len} symbols for its distinct items, "
            f"not {symbols}"
        )


# -- Random positions in a sequence


def distinct(rng: np.random.Generator, below: Ints, count: int) -> Ints:
    """Draw `count` distinct integers from 0 to `below - 1` for each row, ascending: int[n, count].

    All sets of that size are equally likely. `below` is int[n], at least `count`.

    >>> distinct(np.random.default_rng(0), np.array([3, 3]), 3)
    array([[0, 1, 2],
           [0, 1, 2]])
    """
    chosen = np.empty((len(below), count), np.int64)
    for i in range(count):
        drawn = rng.integers(0, below - i)
        # The number drawn indexes the unused integers: skip each used one, lowest first.
        for j in range(i):
            drawn += drawn >= chosen[:, j]
        chosen[:, i] = drawn
        chosen[:, : i + 1].sort(axis=1)
    return chosen


def apart(rng: np.random.Generator, room: Ints, size: Ints, count: int, gap: int = 0) -> Ints:
    """Draw the starts of `count` blocks of `size` in rows of `room` slots, at least `gap` slots apart: int[n, count].

    All arrangements are equally likely.

    >>> apart(np.random.default_rng(0), np.array([7]), np.array([3]), count=2, gap=1)
    array([[0, 4]])
    """
    slots = room - count * size - (count - 1) * gap + count
    return distinct(rng, slots, count) + np.arange(count) * (size + gap - 1)[:, None]


# -- Index hints
# A hint is a letter before each symbol; a position has the same letter in prompt and answer.


def window_starts(rng: np.random.Generator, lengths: Ints, names: int) -> Ints:
    """Draw the first hint of each example, int[n]: a window of `lengths` consecutive hints among `names`.

    Windows start anywhere, so that hints which only long examples need are also trained on short ones.
    """
    return rng.integers(0, names - lengths + 1)


def window_shares(length: int, names: int) -> list[float]:
    """Return the probability of each hint at a random position of such a window.

    >>> window_shares(2, names=3)
    [0.25, 0.5, 0.25]
    """
    windows = names - length + 1
    covering = [min(hint, windows - 1) - max(0, hint - length + 1) + 1 for hint in range(names)]
    return [count / (windows * length) for count in covering]


def hinted(hints: Ints, ids: Ints, scored: bool = False, keep: Bools | None = None) -> Part:
    """Return a part in which each token follows its hint."""
    both = np.stack([hints, ids], axis=2).reshape(len(ids), -1)
    return Part(both, scored, None if keep is None else np.repeat(keep, 2, axis=1))


# -- Finite distributions


def zipf(count: int, shift: float = 2.7) -> Floats:
    """Return probabilities proportional to 1 / (rank + shift), with ranks starting at 1.

    >>> zipf(3, shift=0).round(3).tolist()
    [0.545, 0.273, 0.182]
    """
    weights = 1 / (np.arange(1, count + 1) + shift)
    return weights / weights.sum()


class Weighted:
    """A sampler that draws i with probability `p[i]` in constant time.

    Uses Walker's alias method: the distribution is a set of columns of equal height, each shared by at most two
    values.

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
        """Return independent draws, int[size]."""
        point = rng.random(size) * len(self._own)
        column = point.astype(np.int64)
        return np.where(point - column < self._own[column], column, self._alias[column])


def expected_mode(n: int, classes: int) -> float:
    """Return the expected count of the most common of `classes` equally likely classes in n draws.

    Counts are independent Poisson variables conditioned on their sum n, so P(no count exceeds k) is proportional to
    the Poisson distribution truncated at k, convolved with itself and evaluated at n.

    >>> expected_mode(2, classes=2)          # aa, ab, ba, bb
    1.5
    """
    count = np.arange(n + 1)
    log_factorial = np.append(0.0, np.cumsum(np.log(np.arange(1, n + 1))))
    poisson = np.exp(count * np.log(n / classes) - n / classes - log_factorial)
    fewest = -(-n // classes)  # the most common class occurs at least this many times
    at_most: list[float] = []
    for k in range(fewest, n + 1):
        at_most.append(_power_at(poisson[: k + 1], classes, n))
        if k > fewest and at_most[-1] > 1e-6 and at_most[-1] - at_most[-2] < 1e-12 * at_most[-1]:
            break
    return round(fewest + sum(1 - p / at_most[-1] for p in at_most), 9)


def _power_at(law: Floats, times: int, index: int) -> float:
    """Return entry `index` of the convolution of `times` copies of `law`."""
    size = 1 << ((len(law) - 1) * times + 1).bit_length()
    return float(np.fft.irfft(np.fft.rfft(law, size) ** times, size)[index])


# -- Copied or reversed strings


def echoed(symbols: Ints, lengths: Ints, backwards: bool) -> Examples:
    """Build examples in which each string is followed by `>` and itself, or its reversal.

    `symbols` is int[n, max(lengths)], with symbol numbers from 0.

    >>> import numpy as np
    >>> echoed(np.array([[4, 5, 6], [7, 8, 0]]), np.array([3, 2]), backwards=True).targets[:, 3:].tolist()
    [[9, 8, 7, 1], [10, 1, 0, 0]]
    """
    ids, keep, step = Vocab.first + symbols, present(lengths), -1 if backwards else 1
    string = Part(ids, keep=keep)
    echo = Part(ids[:, ::step], scored=True, keep=None if keep is None else keep[:, ::step])
    return assemble([string, Part(Vocab.sep), echo, Part(Vocab.end, scored=True)], lengths)
