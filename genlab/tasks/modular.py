"""Modular arithmetic: one operation on pairs of numbers, with some pairs held out from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Scalar, Split, TaskSpec
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble

_SIGNS = {"a+b": "+", "a-b": "-", "a*b": "*", "a/b": "/"}


class Modular(Task):
    """Compute a binary operation modulo p, the task of grokking, on a finite set of pairs (a, b), divided once.

    The parameter `op` is one of `a+b`, `a-b`, `a*b`, `a/b` (b is not 0, p is prime), `a^2+b^2`, `a^3+ab` or `table`.
    In the last case, the parameter `table` holds the results, with rows (a) separated by `;` and entries (b) by
    spaces. A fraction `train_fraction` of the pairs, chosen with `division_seed`, is used for training; `id` draws
    from the others. All examples have length 1. A draw of n examples contains all pairs of its split equally often,
    as far as n allows: a `--pool` as large as the number of training pairs is the full training set, and an
    evaluation of that size is exhaustive.

    >>> from genlab.tasks import make
    >>> make("modular", max_len=1, params={"p": 7, "op": "a/b"}).solve("3 / 5 >".split())     # 5 * 2 = 10 = 3
    ('2',)
    >>> make("modular", max_len=1, format="bare", params={"p": 5, "op": "a^2+b^2"}).solve("3 4 >".split())
    ('0',)
    """

    name = "modular"
    family = "modular arithmetic"
    asks = "what is a op b modulo p, for unseen pairs?"
    leads = False  # as published
    source = "Power et al. 2022, Grokking, arXiv 2201.02177 (plain); Nanda et al. 2023, arXiv 2301.05217 (bare)"
    length_unit = "pairs"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "a, the operator, b > result", "bare": "a b > result"}
    )
    splits = split_map(
        Split(name="id", about="pairs held out from training", shift={"pairs": "held-out"}),
        Split(name="train", about="the training pairs", shift={"pairs": "train"}),
        Split(
            name="mirror-trained",
            about="held-out pairs (a, b) with (b, a) in training",
            shift={"pairs": "mirror-trained"},
        ),
        Split(
            name="mirror-held-out",
            about="held-out pairs (a, b) with (b, a) held out too",
            shift={"pairs": "mirror-held-out"},
        ),
    )
    train_split = "train"
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 1,
                "test_len": 1,
                "n_layers": 1,
                "d_model": 128,
                "batch_size": 512,
                "weight_decay": 1.0,
                "warmup": 10,
                "steps": 5000,
            }
        }
    )

    class Params(Task.Params):
        """The operation and the division into training and held-out pairs."""

        p: int = Field(97, ge=2, le=1000, description="the modulus: numbers are 0 to p - 1")
        op: Literal["a+b", "a-b", "a*b", "a/b", "a^2+b^2", "a^3+ab", "table"] = Field(
            "a+b", description="the operation"
        )
        table: str = Field("", description="results for op 'table': rows separated by ';', entries by spaces")
        train_fraction: float = Field(0.5, gt=0, lt=1, description="fraction of pairs used for training")
        division_seed: int = Field(0, ge=0, description="seed of the division into training and held-out pairs")

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        given = dict(params)
        if given.get("op") == "table" and "p" not in given:
            given["p"] = max(2, len(str(given.get("table", "")).split(";")))
        return super().resolve(format, max_len, given)

    def __init__(self, spec: TaskSpec):
        super().__init__(spec)
        table = self._results()
        left, right = np.divmod(np.arange(table.size), self.params.p)
        exists = right > 0 if self.params.op == "a/b" else np.ones(table.size, bool)
        self.left, self.right, self.results = left[exists], right[exists], table.ravel()[exists]
        """a, b and a op b of every pair, int[pair]."""
        self.is_train = divided(len(self.results), self.params.train_fraction, self.params.division_seed)
        """Whether each pair is used for training, bool[pair]."""
        self._pairs = self._kinds()
        self._examples = self._written()

    def _results(self) -> Ints:
        """Return the results of all pairs, int[a, b]; those of a division by 0 are never used."""
        p, op = self.params.p, self.params.op
        if (op == "table") != bool(self.params.table):
            given = f"table {self.params.table[:20]!r}" if self.params.table else "no table"
            raise UserError(f"op {op!r} was given {given}: op 'table' needs one, and no other op takes one")
        if op == "table":
            return _parsed(self.params.table, p)
        a, b = np.arange(p)[:, None], np.arange(p)[None, :]
        if op == "a/b":
            check_prime(p, "op 'a/b'")
            return a * np.array([pow(d, p - 2, p) for d in range(p)]) % p
        # Reduce before the last product, so that intermediate numbers fit into 64 bits.
        powers = {"a+b": a + b, "a-b": a - b, "a*b": a * b, "a^2+b^2": a * a + b * b, "a^3+ab": (a * a + b) % p * a}
        return powers[op] % p

    def _kinds(self) -> dict[str, Ints]:
        """Return a mask of the pairs of each kind used in splits."""
        held_out, mirrored = ~self.is_train, self._trained_results()[self.right, self.left] >= 0
        kinds = {
            "train": self.is_train,
            "held-out": held_out,
            "mirror-trained": held_out & mirrored,
            "mirror-held-out": held_out & ~mirrored,
        }
        return {kind: np.flatnonzero(among) for kind, among in kinds.items()}

    def _trained_results(self) -> Ints:
        """Return the results of training pairs, int[a, b]; -1 elsewhere."""
        results = np.full((self.params.p, self.params.p), -1)
        results[self.left[self.is_train], self.right[self.is_train]] = self.results[self.is_train]
        return results

    def _written(self) -> Examples:
        """All pairs as examples, in the order of `left`."""
        zero = Vocab.first
        a, b = Part(zero + self.left[:, None]), Part(zero + self.right[:, None])
        prompt = [a, Part(zero + self.params.p), b] if self.format == "plain" else [a, b]
        answer = [Part(zero + self.results[:, None], scored=True), Part(Vocab.end, scored=True)]
        return assemble([*prompt, Part(Vocab.sep), *answer], np.ones_like(self.left))

    def symbols(self) -> tuple[str, ...]:
        numbers = tuple(map(str, range(self.params.p)))
        return (*numbers, _SIGNS.get(self.params.op, "o")) if self.format == "plain" else numbers

    def width(self, length: int) -> int:
        del length
        return 6 if self.format == "plain" else 5

    def longest(self, split: Split) -> int:
        del split
        return 1

    def pairs(self, split: str | Split) -> Ints:
        """Return the pairs of a split, as indices into `left`, `right` and `results`.

        Raises:
            UserError: If there are none.
        """
        kind = str(self.split(split).shift["pairs"])
        if not len(self._pairs[kind]):
            raise UserError(f"no pair is {kind} at p {self.params.p} and train_fraction {self.params.train_fraction}")
        return self._pairs[kind]

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        pairs = self.pairs(split)
        return replace(self._examples[pairs[equally_often(rng, len(pairs), len(lengths))]], lengths=lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        p, op = self.params.p, self.params.op
        a, b = (int(token) for token in prompt if token.isdigit())
        if op == "table":
            return (self.params.table.split(";")[a].split()[b],)
        if op == "a/b":
            return (next(str(c) for c in range(p) if c * b % p == a),)
        result = {"a+b": a + b, "a-b": a - b, "a*b": a * b, "a^2+b^2": a**2 + b**2, "a^3+ab": a**3 + a * b}[op]
        return (str(result % p),)

    def chance(self, length: int) -> float:
        del length
        return float(np.sum(self._answer_shares() ** 2))

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the accuracy of the most frequent answer, and of the answer of (b, a) if that pair is trained."""
        held_out = self.pairs("id")
        of_mirror = self._trained_results()[self.right, self.left]
        scores = {
            "most frequent answer": float(self._answer_shares().max()),
            "trained mirror pair": float(np.mean((of_mirror == self.results)[held_out])),
        }
        return {name: score for name, score in scores.items() if score > self.chance(length) + 1e-12}

    def _answer_shares(self) -> np.ndarray:
        held_out = self.results[self.pairs("id")]
        return np.bincount(held_out, minlength=self.params.p) / len(held_out)

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        del length
        prompts = self._examples.tokens[self.pairs(split), :-1]
        counts = np.bincount(prompts.ravel(), minlength=len(self.vocab)) / prompts.size
        return {token: float(share) for token, share in zip(self.vocab.tokens, counts, strict=True) if share}


def divided(count: int, train_fraction: float, seed: int) -> Bools:
    """Choose a random fraction of `count` pairs for training, bool[count].

    Raises:
        UserError: If there would be no training pair or no held-out pair.
    """
    train = round(train_fraction * count)
    if not 0 < train < count:
        raise UserError(
            f"train_fraction {train_fraction} of {count} pairs is {train} pairs: allowed are 1 to {count - 1}, "
            "so that there are both training and held-out pairs"
        )
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[:train]] = True
    return chosen


def equally_often(rng: np.random.Generator, items: int, n: int) -> Ints:
    """Draw n elements of `range(items)` in random order, each equally often as far as n allows: int[n].

    >>> sorted(np.bincount(equally_often(np.random.default_rng(0), items=3, n=7)).tolist())
    [2, 2, 3]
    """
    if n <= items:
        return rng.choice(items, n, replace=False)
    passes, rest = divmod(n, items)
    whole = rng.permuted(np.tile(np.arange(items), (passes, 1)), axis=1).ravel()
    return np.concatenate([whole, rng.choice(items, rest, replace=False)])


def is_prime(n: int) -> bool:
    """Whether n is prime.

    >>> [n for n in range(12) if is_prime(n)]
    [2, 3, 5, 7, 11]
    """
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


def check_prime(p: int, what: str) -> None:
    """Raise `UserError` if p is not prime; `what` names what needs it."""
    if not is_prime(p):
        near = next(m for apart in range(p) for m in (p - apart, p + apart) if is_prime(m))
        raise UserError(f"{what} needs a prime p, not {p}; nearest prime: {near}")


def _parsed(text: str, p: int) -> Ints:
    rows = [row.split() for row in text.split(";")]
    if len(rows) != p or any(len(row) != p for row in rows):
        raise UserError(
            f"table has rows of {sorted({len(r) for r in rows})} entries in {len(rows)} rows; p {p} needs {p} of each"
        )
    if any(not entry.isdigit() or int(entry) >= p for row in rows for entry in row):
        raise UserError(f"table has entries that are not numbers from 0 to {p - 1}")
    return np.array(rows, dtype=np.int64)
