"""Parity: is the number of ones odd?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from genlab.spec import Split
from genlab.tasks.base import Task, hint_names, split_map
from genlab.tasks.drawing import hinted, window_shares, window_starts
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble


class Parity(Task):
    """Compute the parity of a string of bits: 1 if the number of ones is odd.

    `plain` asks for the answer directly. `running` writes the index hint of every bit and the parity so far.
    `scratchpad` only visits the ones: it starts with `+` (even), then writes the hint of each one and the sign after
    it. Hints are a random contiguous window of a hint vocabulary that covers `max_len`, so that all are trained.

    >>> from genlab.tasks import make
    >>> " ".join(make("parity", max_len=8).solve("0 1 1 1 >".split()))     # 3 ones, odd
    '1'
    >>> task = make("parity", max_len=8, format="scratchpad")
    >>> " ".join(task.solve("a 0 b 0 c 1 d 1 e 0 >".split()))              # ones at c and d
    '+ c - d +'
    >>> task = make("parity", max_len=8, format="running")
    >>> " ".join(task.solve("b 1 c 0 d 1 >".split()))
    'b 1 c 1 d 0'
    """

    name = "parity"
    family = "RASP-L"
    asks = "is the number of ones odd?"
    source = "Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028"
    length_unit = "bits"
    language_class = "regular"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "bits > parity",
            "running": "bits with hints > each hint and the parity so far",
            "scratchpad": "bits with hints > +, then hint and sign of each one",
        }
    )
    splits = split_map(
        Split(name="id", about="each bit is one with probability 1/2", shift={"p_one": 0.5}),
        Split(name="sparse", about="each bit is one with probability 0.1", shift={"p_one": 0.1}),
        Split(name="dense", about="each bit is one with probability 0.9", shift={"p_one": 0.9}),
        Split(name="uniform-count", about="the number of ones is uniform", shift={"p_one": "uniform"}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            # Fits the training lengths, unlike learned positions or one length per batch (decisions 0006 and 0141).
            "plain": {
                "train_len": 20,
                "n_layers": 3,
                "positions": "rotary",
                "curriculum": 0.7,
                "batch_size": 128,
                "lr": 0.001,
                "steps": 8000,
            },
            # Large initial weights, as in recall: each hint has to be looked up in the prompt (decision 0141).
            "running": {
                "train_len": 20,
                "n_layers": 2,
                "positions": "hard-alibi",
                "init_std": 0.15,
                "scale_residual_init": False,
                "lr": 0.003,
                "steps": 3000,
            },
            "scratchpad": {
                "train_len": 10,
                "n_layers": 2,
                "positions": "rotary",
                "lr": 0.002,
                "steps": 5000,
            },
        }
    )

    def symbols(self) -> tuple[str, ...]:
        signs = ("+", "-") if self.format == "scratchpad" else ()
        hints = () if self.format == "plain" else hint_names(self.max_len)
        return ("0", "1", *signs, *hints)

    def width(self, length: int) -> int:
        # prompt and `>`, then the answer and `<end>`
        return {"plain": length + 3, "running": 4 * length + 2, "scratchpad": 4 * length + 3}[self.format]

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        n, longest = len(lengths), int(lengths.max())
        inside = np.arange(longest) < lengths[:, None]
        p_one = split.shift["p_one"]
        chance_of_one = rng.random((n, 1)) if p_one == "uniform" else float(p_one)
        # A uniform bias makes the count of ones uniform on 0..length (beta-binomial with both parameters 1).
        bits = (rng.random((n, longest)) < chance_of_one) & inside
        odd = np.logical_xor.accumulate(bits, axis=1).astype(np.int64)
        keep = None if inside.all() else inside
        if self.format == "plain":
            answer = Part(Vocab.first + odd[:, -1:], scored=True)
            return assemble([Part(Vocab.first + bits, keep=keep), Part(Vocab.sep), answer, _END], lengths)
        return self._with_hints(rng, bits, odd, lengths, keep)

    def _with_hints(
        self, rng: np.random.Generator, bits: Bools, odd: Ints, lengths: Ints, keep: Bools | None
    ) -> Examples:
        zero, plus, first_hint = Vocab.first, Vocab.first + 2, Vocab.first + (4 if self.format == "scratchpad" else 2)
        starts = first_hint + window_starts(rng, lengths, self.max_len)
        hints = starts[:, None] + np.arange(bits.shape[1])
        prompt = [hinted(hints, zero + bits, keep=keep), Part(Vocab.sep)]
        if self.format == "running":
            return assemble([*prompt, hinted(hints, zero + odd, scored=True, keep=keep), _END], lengths)
        visits = hinted(hints, plus + odd, scored=True, keep=bits)
        return assemble([*prompt, Part(plus, scored=True), visits, _END], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        body = list(prompt[: list(prompt).index(">")])
        if self.format == "plain":
            return ("1" if body.count("1") % 2 else "0",)
        answer: list[str] = ["+"] if self.format == "scratchpad" else []
        ones = 0
        for hint, bit in zip(body[::2], body[1::2], strict=True):
            ones += bit == "1"
            if self.format == "running":
                answer += [hint, "1" if ones % 2 else "0"]
            elif bit == "1":
                answer += [hint, "-" if ones % 2 else "+"]
        return tuple(answer)

    def chance(self, length: int) -> float:
        windows = self.max_len - length + 1
        if self.format == "plain":
            return 0.5
        if self.format == "running":
            return 0.5**length / windows
        return _scratchpad_chance(length, windows)

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        p_one = split.shift["p_one"]
        ones = length * (0.5 if p_one == "uniform" else float(p_one))
        counts = {"0": length - ones, "1": ones, ">": 1.0}
        if self.format != "plain":
            hints = zip(hint_names(self.max_len), window_shares(length, self.max_len), strict=True)
            counts |= {hint: length * share for hint, share in hints}
        return {token: count / sum(counts.values()) for token, count in counts.items()}

    @property
    def judges(self) -> Mapping[str, str]:
        return {} if self.format == "plain" else {"final_answer": "the parity after the scratchpad"}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        return {} if self.format == "plain" else {"final_answer": tuple(answer[-1:]) == self.solve(prompt)[-1:]}


_END = Part(Vocab.end, scored=True)


def _scratchpad_chance(length: int, windows: int) -> float:
    """Return the probability that two answers of the sparse scratchpad are equal.

    An answer is the set of absolute hints of ones. Two windows at distance d share o = max(0, length - d) hints; the
    sets are equal if these o bits agree and all other 2 (length - o) bits are zeros.
    """
    apart = np.arange(windows)
    pairs = np.where(apart == 0, windows, 2 * (windows - apart)) / windows**2
    shared = np.maximum(0, length - apart)
    return float(np.sum(pairs * 0.5 ** (2 * length - shared)))
