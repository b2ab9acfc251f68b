"""In-context linear maps modulo p: z = a x + b y, where (a, b) must be inferred from the examples in the prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split, TaskSpec
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Vocab
from genlab.tasks.modular import check_prime, divided, equally_often

# -- Training tasks


def random_vectors(rng: np.random.Generator, p: int, count: int) -> Bools:
    """Choose `count` of the p^2 task vectors (a, b) uniformly, bool[a, b]."""
    chosen = np.zeros(p * p, bool)
    chosen[rng.permutation(p * p)[:count]] = True
    return chosen.reshape(p, p)


def rectangular_vectors(rng: np.random.Generator, p: int, count: int) -> Bools:
    """Choose the corners of rectangles in the plane of task vectors, bool[a, b].

    A base vector (a, b) comes with (a, y), (x, b) and (x, y), where x and y differ from a, b and each other, and no
    corner has been chosen before. Each coordinate of a chosen vector is thus shared with another chosen vector.

    >>> chosen = rectangular_vectors(np.random.default_rng(0), p=7, count=8)
    >>> int(chosen.sum()), 1 in chosen.sum(axis=0), 1 in chosen.sum(axis=1)
    (8, False, False)

    Raises:
        UserError: If no more rectangles fit, or `count` is not a multiple of 4.
    """
    if count % 4:
        near = max(4, round(count / 4) * 4)
        raise UserError(f"the rectangular rule needs a multiple of 4 tasks, not {count}; nearest: {near}")
    chosen = np.zeros((p, p), bool)
    x, y = np.indices((p, p))
    for a, b in np.stack(np.divmod(rng.permutation(p * p), p), axis=1):
        if chosen.sum() == count:
            return chosen
        taken = chosen[a, b] | chosen[a, y] | chosen[x, b] | chosen[x, y]
        opposite = np.argwhere(~taken & (x != a) & (x != b) & (y != a) & (y != b) & (y != x))
        if len(opposite):
            c, d = opposite[rng.integers(len(opposite))]
            chosen[[a, a, c, c], [b, d, b, d]] = True
    if chosen.sum() < count:
        raise UserError(
            f"the rectangular rule could only fit {chosen.sum()} tasks modulo {p}, not {count}; "
            "use fewer tasks or task_rule 'random'"
        )
    return chosen


# -- Accuracy of solvers
#
# Each function returns the probability of a correct answer to the query after `shots` triples. Their pairs and the
# query are drawn uniformly from `pairs`, int[pair, 2]. A solver that does not know the answer guesses uniformly.


def copying(pairs: Ints, p: int, shots: int) -> float:
    """Return the accuracy of a solver that knows the answer if the query is among the shots.

    >>> copying(np.array([[1, 0], [0, 1]]), p=5, shots=1)                 # 1/2 + 1/2 * 1/5
    0.6
    """
    return _guessing(1 - (1 - 1 / len(pairs)) ** shots, p)


def ratio_matching(pairs: Ints, p: int, shots: int) -> float:
    """Return the accuracy of a solver that knows the answer if the query is a multiple of a shot.

    >>> ratio_matching(np.array([[1, 0], [2, 0], [0, 1]]), p=5, shots=1)  # 2/3 * 2/3 + 1/3 * 1/3, or a guess
    0.6444444444444444
    """
    lines, zero = _lines(pairs, p)
    on_line = lines / len(pairs)
    # The zero vector is 0 times any pair, and its answer is 0 in every task.
    return _guessing(zero / len(pairs) + float(np.sum(on_line * (1 - (1 - on_line) ** shots))), p)


def regression(pairs: Ints, p: int, shots: int) -> float:
    """Return the accuracy of a solver that knows the answer if it follows from the shots.

    It does if two shots span the plane, or if the query is on their line.

    >>> regression(np.array([[1, 0], [0, 1]]), p=5, shots=1) == copying(np.array([[1, 0], [0, 1]]), p=5, shots=1)
    True
    """
    lines, zero = _lines(pairs, p)
    on_line, at_zero = lines / len(pairs), zero / len(pairs)
    # It does not follow if all shots are on one line (or zero) and the query is not, or if only the query is nonzero.
    stuck_on_line = ((on_line + at_zero) ** shots - at_zero**shots) * (1 - on_line - at_zero)
    unknown = float(np.sum(stuck_on_line)) + at_zero**shots * (1 - at_zero)
    return _guessing(1 - unknown, p)


def _guessing(known: float, p: int) -> float:
    return known + (1 - known) / p


def _lines(pairs: Ints, p: int) -> tuple[Ints, int]:
    """Count the pairs on each line through zero, excluding zero itself, int[line], and the pairs that are zero."""
    x, y = pairs[:, 0], pairs[:, 1]
    inverse = np.array([pow(d, p - 2, p) for d in range(p)])
    slope = np.where(x > 0, y * inverse[x] % p, p)
    nonzero = (x > 0) | (y > 0)
    return np.bincount(slope[nonzero], minlength=p + 1), int(np.sum(~nonzero))


def looking_up(vectors: Ints, pairs: Ints, p: int, most_shots: int) -> Floats:
    """Return the accuracy of a solver that knows the possible tasks, int[task, 2]: float[shots].

    It answers what most tasks that fit the shots give. The accuracy is simulated with a fixed seed. Its standard
    error is at most 0.01 if there are 1,000 contexts or more (their number decreases with that of tasks).
    """
    rng = np.random.default_rng(0)
    n = max(100, min(4000, 1_000_000 // len(vectors)))
    true = rng.integers(0, len(vectors), n)
    fits = np.ones((n, len(vectors)), bool)
    scores: list[float] = []
    for _ in range(most_shots + 1):
        # The next pair serves as the query after the shots so far, and then as the next shot; both are uniform draws.
        x, y = pairs[rng.integers(0, len(pairs), n)].T
        z = (np.outer(x, vectors[:, 0]) + np.outer(y, vectors[:, 1])) % p
        votes = np.bincount((np.arange(n)[:, None] * p + z)[fits], minlength=n * p).reshape(n, p)
        scores.append(float(np.mean(votes.max(axis=1) / votes.sum(axis=1))))
        fits &= z == z[np.arange(n), true][:, None]
        if fits.sum() == n:  # every context has identified its task
            break
    return np.append(scores, np.ones(most_shots + 1 - len(scores)))


def simplest_solver(shots: Ints, shown: Bools, query: Ints, p: int) -> Ints:
    """Return the simplest solver that knows each answer, int[n]: 1 copying, 2 ratio matching, 3 regression, 0 none.

    Args:
        shots: pairs, int[n, shot, 2].
        shown: bool[n, shot], which of them are present.
        query: int[n, 2].
    """
    x, y = shots[..., 0], shots[..., 1]
    nonzero = shown & ((x > 0) | (y > 0))
    copied = (shown & (shots == query[:, None]).all(axis=2)).any(axis=1)
    on_line = (x * query[:, 1:] - y * query[:, :1]) % p == 0
    multiple = (nonzero & on_line).any(axis=1) | ~query.any(axis=1)
    # Two shots span the plane if some shot is not on the line of the first nonzero one.
    first = np.take_along_axis(shots, np.argmax(nonzero, axis=1)[:, None, None], axis=1)
    spans = (shown & ((x * first[..., 1] - y * first[..., 0]) % p != 0)).any(axis=1)
    return np.select([copied, multiple, spans], [1, 2, 3], 0)


class ModularIcl(Task):
    """Answer a query x y, given triples x y z of one task z = a x + b y mod p. Length counts triples (shots).

    There are no separators and no end token, and (a, b) is never shown. The loss includes every z, and the last one
    is scored, so that evaluating at lengths 0 to k scores every shot. Task vectors (a, b) for training are chosen by
    `task_rule`: `rectangular` chooses corners of rectangles in the plane of (a, b), so that each coordinate occurs in
    more than one task; `random` chooses uniformly. Pairs (x, y) are divided into training and held-out pairs as well,
    in the same way for all tasks; the pairs of an example all come from one side, with replacement. A batch contains
    all tasks of its split equally often, as far as its size allows.

    A few shots do not identify the task. `solve` gives the answer of most task vectors that fit the shots, and
    `baseline` gives the accuracy of several solvers at each shot. Results are also broken down by the simplest
    `solver` that knows the answer: 1 the query is among the shots, 2 it is a multiple of a shot, 3 two shots span the
    plane, 0 none.

    >>> from genlab.tasks import make
    >>> task = make("modular-icl", 4, params={"p": 5, "tasks": 8})
    >>> task.solve("1 0 2  0 1 3  1 1".split())                                              # a = 2, b = 3
    ('0',)
    >>> task.solve("1 2 3  2 4".split())                                                     # twice the shot: 6 = 1
    ('1',)
    """

    name = "modular-icl"
    family = "modular arithmetic"
    asks = "what is a x + b y modulo p, given triples x y z of the same a and b?"
    leads = False  # as published
    source = "He et al. 2024, Learning to grok, arXiv 2406.02550"
    length_unit = "shots"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "x y z of each shot, then x y of the query > z"}
    )
    splits = split_map(
        Split(name="id", about="training tasks, held-out pairs", shift={"tasks": "train", "pairs": "held-out"}),
        Split(name="train", about="training tasks and pairs", shift={"tasks": "train", "pairs": "train"}),
        Split(name="new-tasks", about="unseen tasks, training pairs", shift={"tasks": "unseen", "pairs": "train"}),
        Split(name="new-both", about="unseen tasks, held-out pairs", shift={"tasks": "unseen", "pairs": "held-out"}),
    )
    train_split = "train"
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 12,
                "min_len": 8,
                "n_layers": 2,
                "d_model": 128,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 3000,
            }
        }
    )
    needs_gpu = True
    every_length = True

    class Params(Task.Params):
        """The modulus, and the tasks and pairs used for training."""

        p: int = Field(29, ge=3, le=199, description="the modulus, a prime: numbers are 0 to p - 1")
        tasks: int = Field(256, ge=1, description="task vectors (a, b) for training")
        task_rule: Literal["rectangular", "random"] = Field(
            "rectangular", description="how training tasks are chosen"
        )
        train_fraction: float = Field(0.7, gt=0, lt=1, description="fraction of pairs (x, y) used for training")
        division_seed: int = Field(0, ge=0, description="seed of the choice of tasks and pairs")

    params: Params

    def __init__(self, spec: TaskSpec):
        super().__init__(spec)
        p, tasks, seed = self.params.p, self.params.tasks, self.params.division_seed
        check_prime(p, f"task {self.name!r}")
        if tasks >= p * p:
            raise UserError(f"{tasks} training tasks modulo {p} leave no unseen task: allowed are 1 to {p * p - 1}")
        choose = rectangular_vectors if self.params.task_rule == "rectangular" else random_vectors
        trained = choose(np.random.default_rng([seed, 1]), p, tasks)
        self.vectors = {"train": np.argwhere(trained), "unseen": np.argwhere(~trained)}
        """Task vectors (a, b), int[task, 2]."""
        given = divided(p * p, self.params.train_fraction, seed).reshape(p, p)
        self.pairs = {"train": np.argwhere(given), "held-out": np.argwhere(~given)}
        """Pairs (x, y), int[pair, 2]."""

    def symbols(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.params.p)))

    def width(self, length: int) -> int:
        return 3 * (length + 1)

    def min_len(self, split: Split) -> int:
        del split
        return 0

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        n, triples = len(lengths), int(lengths.max()) + 1
        vectors, pairs = self.vectors[str(split.shift["tasks"])], self.pairs[str(split.shift["pairs"])]
        a, b = vectors[equally_often(rng, len(vectors), n)].T[..., None]
        whole = np.empty((n, triples, 3), np.int64)
        whole[..., :2] = pairs[rng.integers(0, len(pairs), (n, triples))]
        whole[..., 2] = (a * whole[..., 0] + b * whole[..., 1]) % self.params.p
        whole += Vocab.first
        there = np.arange(triples) <= lengths[:, None]
        whole[~there] = Vocab.pad
        flat = whole.reshape(n, -1)
        trained = np.zeros((n, 3 * triples - 1), bool)
        trained[:, 1::3] = there
        scored = np.zeros_like(trained)
        scored[np.arange(n), 3 * lengths + 1] = True
        return Examples(flat[:, :-1], flat[:, 1:], scored, lengths, trained=trained)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        votes = self._votes(prompt)
        return (str(max(sorted(votes), key=lambda z: votes[z])),)

    def solve_example(self, examples: Examples, row: int) -> tuple[str, ...]:
        """Return the answer that the shots imply; if they allow several, the sampled one if it is among them."""
        prompt, answer = self.read(examples, row)
        return answer if int(answer[0]) in self._votes(prompt) else self.solve(prompt)

    def _votes(self, prompt: Sequence[str]) -> Counter[int]:
        """Count the task vectors that fit the shots by their answer to the query, trying all of them."""
        p, numbers = self.params.p, [int(token) for token in prompt]
        shots = list(zip(numbers[:-2:3], numbers[1:-2:3], numbers[2:-2:3], strict=True))
        x, y = numbers[-2:]
        return Counter(
            (a * x + b * y) % p
            for a in range(p)
            for b in range(p)
            if all((a * u + b * v) % p == w for u, v, w in shots)
        )

    def factors(self, examples: Examples) -> dict[str, Ints]:
        numbers = examples.tokens[:, : 3 * int(examples.lengths.max()) + 2] - Vocab.first
        numbers = np.pad(numbers, ((0, 0), (0, 1))).reshape(len(numbers), -1, 3)[..., :2]
        query = numbers[np.arange(len(numbers)), examples.lengths]
        shown = np.arange(numbers.shape[1]) < examples.lengths[:, None]
        return {"solver": simplest_solver(numbers, shown, query, self.params.p)}

    def chance(self, length: int) -> float:
        del length
        return float(np.sum(self._answer_shares("train", "held-out") ** 2))

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the accuracy of solvers on `id` after this many shots, weakest first; the last knows the tasks."""
        return self.baseline_on(self.splits["id"], length)

    def baseline_on(self, split: Split, length: int) -> Mapping[str, float]:
        """Return `baseline` for any split; knowing the training tasks does not help with unseen ones."""
        which, p = str(split.shift["pairs"]), self.params.p
        pairs = self.pairs[which]
        solvers = {
            "query already shown": copying(pairs, p, length),
            "ratio matching": ratio_matching(pairs, p, length),
            "full regression": regression(pairs, p, length),
        }
        if split.shift["tasks"] != "train":
            return solvers
        return solvers | {"lookup of the training tasks": float(self._lookup[which][length])}

    @cached_property
    def _lookup(self) -> dict[str, Floats]:
        tasks, p = self.vectors["train"], self.params.p
        return {which: looking_up(tasks, pairs, p, self.max_len) for which, pairs in self.pairs.items()}

    def _answer_shares(self, tasks: str, pairs: str) -> Floats:
        """Return the distribution of z over all tasks and pairs of a split, float[z]."""
        a, b = self.vectors[tasks].T[..., None]
        x, y = self.pairs[pairs].T
        return np.bincount(((a * x + b * y) % self.params.p).ravel(), minlength=self.params.p) / (a.size * x.size)

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        tasks, pairs = str(split.shift["tasks"]), str(split.shift["pairs"])
        numbers = np.bincount(self.pairs[pairs].ravel(), minlength=self.params.p) / len(self.pairs[pairs])
        counts = (length + 1) * numbers + length * self._answer_shares(tasks, pairs)
        return {str(i): float(count) / (3 * length + 2) for i, count in enumerate(counts)}
