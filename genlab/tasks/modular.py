"""One operation modulo p on pairs of numbers: all pairs exist, some are trained, the rest are held out."""

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
    """A binary operation modulo p, the task of grokking: the pairs (a, b) are a finite set, divided once.

    The parameter `op` is one of `a+b`, `a-b`, `a*b`, `a/b` (b is not 0, p is prime), `a^2+b^2`, `a^3+ab`, or
    `table`, where `table` holds the results: rows (a) apart by `;`, entries (b) by spaces. `train_fraction` of the
    pairs, chosen by `division_seed`, is for training; `id` draws from the others. All examples have the one length 1.
    Each draw of n examples holds every pair of its split equally often, as far as n allows: `--pool` of as many
    examples as there are training pairs is the full set, and an evaluation of that many is exhaustive.

    >>> from genlab.tasks import make
    >>> make("modular", max_len=1, params={"p": 7, "op": "a/b"}).solve("3 / 5 >".split())     # 5 * 2 = 10 = 3
    ('2',)
    >>> make("modular", max_len=1, format="bare", params={"p": 5, "op": "a^2+b^2"}).solve("3 4 >".split())
    ('0',)
    """

    name = "modular"
    family = "modular arithmetic"
    asks = "what is a op b modulo p, for pairs never seen?"
    source = "Power et al. 2022, Grokking, arXiv 2201.02177 (plain); Nanda et al. 2023, arXiv 2301.05217 (bare)"
    length_unit = "pairs"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"plain": "a, a sign for the operation, b > result", "bare": "a b > result"}
    )
    splits = split_map(
        Split(name="id", about="pairs held out from training", shift={"pairs": "held-out"}),
        Split(name="train", about="the training pairs", shift={"pairs": "train"}),
        Split(name="mirror-trained", about="held out, but (b, a) is trained", shift={"pairs": "mirror-trained"}),
        Split(name="mirror-held-out", about="held out, and (b, a) too", shift={"pairs": "mirror-held-out"}),
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
        """What is computed, and which of the pairs are for training."""

        p: int = Field(97, ge=2, le=1000, description="the modulus: numbers are 0 to p - 1")
        op: Literal["a+b", "a-b", "a*b", "a/b", "a^2+b^2", "a^3+ab", "table"] = Field(
            "a+b", description="the operation"
        )
        table: str = Field("", description="results for op 'table': rows apart by ';', entries by spaces")
        train_fraction: float = Field(0.5, gt=0, lt=1, description="share of the pairs that training draws from")
        division_seed: int = Field(0, ge=0, description="decides which pairs those are")

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
        """The numbers a, b and a op b of every pair, int[pair]."""
        self.is_train = divided(len(self.results), self.params.train_fraction, self.params.division_seed)
        """Which pairs are for training, bool[pair]."""
        self._pairs = self._kinds()
        self._examples = self._written()

    def _results(self) -> Ints:
        """Results of all pairs, int[a, b]; those of a division by 0 are never read."""
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
        # Reduced before the last product, so that no intermediate number leaves 64 bits.
        powers = {"a+b": a + b, "a-b": a - b, "a*b": a * b, "a^2+b^2": a * a + b * b, "a^3+ab": (a * a + b) % p * a}
        return powers[op] % p

    def _kinds(self) -> dict[str, Ints]:
        """The pairs of each kind that splits name."""
        held_out, mirrored = ~self.is_train, self._trained_results()[self.right, self.left] >= 0
        kinds = {
            "train": self.is_train,
            "held-out": held_out,
            "mirror-trained": held_out & mirrored,
            "mirror-held-out": held_out & ~mirrored,
        }
        return {kind: np.flatnonzero(among) for kind, among in kinds.items()}

    def _trained_results(self) -> Ints:
        """Results of the training pairs, -1 elsewhere, int[a, b]."""
        results = np.full((self.params.p, self.params.p), -1)
        results[self.left[self.is_train], self.right[self.is_train]] = self.results[self.is_train]
        return results

    def _written(self) -> Examples:
        """Every pair as an example, in the order of `left`."""
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
        """The pairs of a split, as indices into `left`, `right` and `results`.

        Raises:
            UserError: this division has no such pair.
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
        """The most frequent answer; and the answer of (b, a) where that pair is trained."""
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
    """Which of `count` pairs are for training: a random choice of that share of them, bool[count].

    Raises:
        UserError: the share leaves no pair for training, or none held out.
    """
    train = round(train_fraction * count)
    if not 0 < train < count:
        raise UserError(
            f"train_fraction {train_fraction} of {count} pairs is {train} pairs: allowed are 1 to {count - 1}, "
            "for some must be trained and some held out"
        )
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[:train]] = True
    return chosen


def equally_often(rng: np.random.Generator, items: int, n: int) -> Ints:
    """n of `range(items)` in random order, each equally often as far as n allows, int[n].

    >>> sorted(np.bincount(equally_often(np.random.default_rng(0), items=3, n=7)).tolist())
    [2, 2, 3]
    """
    if n <= items:
        return rng.choice(items, n, replace=False)
    passes, rest = divmod(n, items)
    whole = rng.permuted(np.tile(np.arange(items), (passes, 1)), axis=1).ravel()
    return np.concatenate([whole, rng.choice(items, rest, replace=False)])


def is_prime(n: int) -> bool:
    """Whether n has no divisor but 1 and itself.

    >>> [n for n in range(12) if is_prime(n)]
    [2, 3, 5, 7, 11]
    """
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


def check_prime(p: int, what: str) -> None:
    """Raise `UserError` where p is not prime: `what` divides modulo p."""
    if not is_prime(p):
        near = next(m for apart in range(p) for m in (p - apart, p + apart) if is_prime(m))
        raise UserError(f"{what} needs a prime p, not {p}; nearest prime: {near}")


def _parsed(text: str, p: int) -> Ints:
    rows = [row.split() for row in text.split(";")]
    if len(rows) != p or any(len(row) != p for row in rows):
        raise UserError(
            f"table has rows of {sorted({len(r) for r in rows})} entries in {len(rows)} rows; p {p} asks for {p}"
        )
    if any(not entry.isdigit() or int(entry) >= p for row in rows for entry in row):
        raise UserError(f"table has entries that are no number from 0 to {p - 1}")
    return np.array(rows, dtype=np.int64)
