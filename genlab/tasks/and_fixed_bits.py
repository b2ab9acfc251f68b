"""AND of bits, where the last few bits never vary in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble


class AndFixedBits(Task):
    """Compute the AND of bits, the last five of which are always 1 in training. Do they matter when they vary?

    Half of the training strings are all ones; the others have a single zero, never among the fixed bits. The AND of
    all bits and the AND of the free bits therefore fit the data equally well. The lowest-degree polynomial is the AND
    of the free bits. On `fixed-zero`, where the zero is a fixed bit, it is correct only for strings of ones (0.5),
    while the AND of all bits is always correct. The paper uses strings of 20 bits.

    >>> from genlab.tasks import make
    >>> task = make("and-fixed-bits", max_len=20)
    >>> task.solve("1 1 1 1 1 1 1 1 >".split())
    ('1',)
    >>> prompt = "1 1 1 1 1 1 0 1 >".split()                       # the zero is among the last five bits
    >>> task.solve(prompt), task.rules(prompt)["AND of the free bits"]
    (('0',), ('1',))
    """

    name = "and-fixed-bits"
    family = "RASP-L"
    language_class = "regular"
    asks = "are all bits one, including those that were always one in training?"
    source = "Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028"
    length_unit = "bits"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType({"plain": "bits > their AND"})
    splits = split_map(
        Split(name="id", about="no zero, or one among the free bits", shift={"zero": "free"}),
        Split(name="fixed-zero", about="no zero, or one among the fixed bits", shift={"zero": "fixed"}),
        Split(name="any-zero", about="no zero, or one anywhere", shift={"zero": "any"}),
        Split(
            name="many-zeros",
            about="no zero, or each free bit is zero with probability 1/2 (at least one)",
            shift={"zero": "free", "more": True},
        ),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 20, "min_len": 20, "n_layers": 1, "positions": "none", "steps": 1500}}
    )

    class Params(Task.Params):
        """The number of fixed bits."""

        fixed: int = Field(5, ge=1, description="number of final bits that are always 1 in training")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        if self.max_len <= self.params.fixed:
            least = self.params.fixed + 1
            raise UserError(
                f"{self.max_len} bits leave no free bits with {self.params.fixed} fixed ones (at least {least})"
            )
        return ("0", "1")

    def width(self, length: int) -> int:
        return length + 3

    def min_len(self, split: Split) -> int:
        del split
        return self.params.fixed + 1

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        n, longest = len(lengths), int(lengths.max())
        place, all_ones = np.arange(longest), rng.random(n) < 0.5
        low, high = self._zero_range(split, lengths)
        zeros = place == rng.integers(low, high)[:, None]
        if split.shift.get("more"):
            zeros = self._more(rng, zeros, place < high[:, None])
        zeros &= ~all_ones[:, None]
        inside = place < lengths[:, None]
        bits = Part(Vocab.first + ~zeros, keep=None if inside.all() else inside)
        answer = Part(Vocab.first + all_ones[:, None], scored=True)
        return assemble([bits, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def _zero_range(self, split: Split, lengths: Ints) -> tuple[Ints, Ints]:
        """Return the half-open range of positions at which a zero may occur."""
        free = lengths - self.params.fixed
        start, end = {"free": (0 * free, free), "fixed": (free, lengths), "any": (0 * free, lengths)}[
            str(split.shift["zero"])
        ]
        return start, end

    def _more(self, rng: np.random.Generator, one_zero: Bools, free: Bools) -> Bools:
        """Draw zeros among the free bits with probability 1/2 each, or a single zero if that gives none."""
        zeros = (rng.random(free.shape) < 0.5) & free
        return np.where(zeros.any(axis=1, keepdims=True), zeros, one_zero)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return ("0" if "0" in prompt else "1",)

    def rules(self, prompt: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        free = prompt[: list(prompt).index(">") - self.params.fixed]
        return {"AND of all bits": self.solve(prompt), "AND of the free bits": self.solve(free)}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        free = length - self.params.fixed
        zeros = free / 2 + 0.5**free if split.shift.get("more") else 1.0
        counts = {"0": zeros / 2, "1": length - zeros / 2, ">": 1.0}
        return {token: count / (length + 1) for token, count in counts.items()}

    def chance(self, length: int) -> float:
        del length
        return 0.5
