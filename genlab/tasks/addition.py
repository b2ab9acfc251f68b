"""Addition: the digits of the sum of two numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, hint_names, split_map
from genlab.tasks.drawing import hinted, window_shares, window_starts
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble

# -- Digits and carries


def draw_digits(rng: np.random.Generator, carries: str, lengths: Ints, base: int) -> tuple[Ints, Ints]:
    """Draw the digits of two numbers, int[n, place], least significant first.

    Digits are 0 beyond `lengths`, and there is one extra place for the carry.

    Args:
        carries: `any` (uniform digits), `none`, `one chain` (of uniform length, from 0 to all digits, anywhere), or
            `whole chain` (over all digits).
    """
    place = np.arange(int(lengths.max()) + 1)
    pairs, first, last = _pairs_by_sum(base)
    kind = _kinds(rng, carries, lengths, place)
    low, high = first[kind], last[kind]
    drawn = low + (rng.random((len(lengths), len(place))) * (high - low)).astype(np.int64)
    drawn *= place < lengths[:, None]  # the first pair is 0, 0
    return pairs[0, drawn], pairs[1, drawn]


def carry_chains(sums: Ints, base: int) -> Ints:
    """Return the length of the carry chain that ends at each place, int[n, place]; 0 without a carry.

    `sums` are sums of two digits, least significant first. A place generates a carry if its sum is at least `base`
    and propagates one if it is `base` - 1. The length of a chain is 1 + the number of propagating places that
    directly follow a generating one.

    >>> carry_chains(np.array([[12, 9, 9, 3, 10]]), base=10)
    array([[1, 2, 3, 0, 1]])
    """
    place = np.arange(sums.shape[1])
    # The last place that does not propagate decides. Encode its index, and in the lowest bit whether it generates.
    decides = np.maximum.accumulate(np.where(sums == base - 1, 0, 2 * place + (sums >= base)), axis=1)
    return (place - decides // 2 + 1) * (decides & 1)


def add(left: Ints, right: Ints, base: int) -> Ints:
    """Return the digits of the sum, least significant first; the operands' last place must be 0."""
    total = left + right
    total[:, 1:] += carry_chains(total, base)[:, :-1] > 0
    return np.where(total >= base, total - base, total)


_ANY, _NO_CARRY, _STOPS, _PROPAGATES, _GENERATES = range(5)


@cache
def _pairs_by_sum(base: int) -> tuple[Ints, Ints, Ints]:
    """Return all pairs of digits sorted by sum, [2, base^2], and each kind's range of pairs (start and end)."""
    left, right = np.divmod(np.arange(base**2), base)
    order = np.argsort(left + right, kind="stable")
    below = base * (base - 1) // 2  # pairs whose sum is below base - 1
    first, last = np.array(
        [(0, base**2), (0, below + base), (0, below), (below, below + base), (below + base, base**2)]
    ).T
    return np.stack([left, right])[:, order], first, last


def _kinds(rng: np.random.Generator, carries: str, lengths: Ints, place: Ints) -> Ints:
    """Draw what each place does with a carry, int[n, place] or int[1, 1]."""
    if carries in ("any", "none"):
        return np.array([[_ANY if carries == "any" else _NO_CARRY]])
    size = lengths if carries == "whole chain" else rng.integers(0, lengths + 1)
    start = rng.integers(0, lengths - size + 1)
    since, end = place - start[:, None], size[:, None]
    chain = [(since == 0) & (end > 0), (since > 0) & (since < end), (since == end) & (end > 0)]
    return np.select(chain, [_GENERATES, _PROPAGATES, _STOPS], _NO_CARRY)


class Addition(Task):
    """Add two numbers.

    The sum has as many digits as the longer operand, or one more if there is a final carry. With `leading_zero`, each
    operand starts with a zero, so that the sum is always as long as the longer operand. The sum is written forward or
    `reversed` (least significant digit first, so that each digit depends only on digits already written). With hints,
    a letter before each digit names its place, the same in both operands and in the sum. The letters are a random
    contiguous window of a hint vocabulary that covers `max_len`, so that every hint is trained.

    >>> from genlab.tasks import make
    >>> task = make("addition", max_len=8)
    >>> " ".join(task.solve("0 5 8 + 0 6 7 >".split()))                    # 58 + 67
    '1 2 5'
    >>> task = make("addition", max_len=8, format="reversed-hints")
    >>> " ".join(task.solve("a 0 b 5 + a 0 b 7 >".split()))                # 5 + 7, least significant digit first
    'b 2 a 1'
    """

    name = "addition"
    family = "RASP-L"
    asks = "what is the sum of two numbers?"
    source = "Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028"
    length_unit = "digits"
    language_class = "context-sensitive"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "forward": "digits + digits > digits",
            "reversed": "digits + digits > digits of the sum, least significant first",
            "forward-hints": "like forward, with a hint before each digit",
            "reversed-hints": "like reversed, with a hint before each digit",
        }
    )
    splits = split_map(
        Split(name="id", about="each digit is uniform", shift={"carries": "any"}),
        Split(name="balanced", about="one carry chain of uniform length", shift={"carries": "one chain"}),
        Split(name="long-carry", about="one carry chain over all digits", shift={"carries": "whole chain"}),
        Split(name="no-carry", about="no digit carries", shift={"carries": "none"}),
        Split(name="unequal", about="one operand has fewer digits", shift={"carries": "any", "unequal": True}),
    )
    id_kinds = ("abacus", "coupled")
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "*": {
                "train_len": 4,
                "n_layers": 2,
                "positions": "rotary",
                "batch_size": 128,
                "lr": 0.002,
                "steps": 6000,
            },
            "forward": {"train_len": 2, "steps": 5000},
        }
    )

    class Params(Task.Params):
        base: Literal[2, 10] = Field(10, description="base of the digits")
        leading_zero: bool = Field(True, description="start each operand with a zero")

    params: Params

    def symbols(self) -> tuple[str, ...]:
        hints = hint_names(self.max_len + 1) if self._hinted else ()
        return (*map(str, range(self.params.base)), "+", *hints)

    @property
    def _hinted(self) -> bool:
        return self.format.endswith("-hints")

    @property
    def _reversed(self) -> bool:
        return self.format.startswith("reversed")

    def width(self, length: int) -> int:
        digits = 3 * (length + 1) if self.params.leading_zero else 3 * length + 1
        return (2 if self._hinted else 1) * digits + 3

    def min_len(self, split: Split) -> int:
        return 2 if split.shift.get("unequal") else 1

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        # Arrays are int[n, place], least significant first; the last place holds the carry of the longest operand.
        place = np.arange(int(lengths.max()) + 1)
        left, right = draw_digits(rng, str(split.shift["carries"]), lengths, self.params.base)
        left_len, right_len = lengths, lengths
        if split.shift.get("unequal"):
            left_len, right_len = _shorten_one(rng, lengths)
            left, right = left * (place < left_len[:, None]), right * (place < right_len[:, None])
        total = add(left, right, self.params.base)
        zero = int(self.params.leading_zero)
        shown = [place < (count + zero)[:, None] for count in (left_len, right_len)]
        kept = (place < (lengths + zero)[:, None]) | ((place == lengths[:, None]) & (total > 0))
        hints = None
        if self._hinted:
            starts = window_starts(rng, lengths + 1, self.max_len + 1)
            hints = self._plus + 1 + (starts + lengths)[:, None] - place
        parts = [
            self._number(left, hints, shown[0]),
            Part(self._plus),
            self._number(right, hints, shown[1]),
            Part(Vocab.sep),
            self._number(total, hints, kept, answer=True),
            Part(Vocab.end, scored=True),
        ]
        return assemble(parts, lengths)

    @property
    def _plus(self) -> int:
        return Vocab.first + self.params.base

    def _number(self, digits: Ints, hints: Ints | None, shown: Bools, answer: bool = False) -> Part:
        order = slice(None) if answer and self._reversed else slice(None, None, -1)
        ids, keep = Vocab.first + digits[:, order], None if shown.all() else shown[:, order]
        if hints is None:
            return Part(ids, answer, keep)
        return hinted(hints[:, order], ids, answer, keep)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        operands = " ".join(prompt).removesuffix(" >").split(" + ")
        longer = max(operands, key=len).split()
        total = sum(int("".join(_digits_of(operand.split())), self.params.base) for operand in operands)
        written = format(total, "d" if self.params.base == 10 else "b").zfill(len(_digits_of(longer)))
        answer = [(digit,) for digit in written]
        if self._hinted:
            hints = [token for token in longer if not token.isdigit()]
            if len(hints) < len(written):
                hints = [self._hint_before(hints[0]), *hints]
            answer = list(zip(hints, written, strict=True))
        if self._reversed:
            answer.reverse()
        return tuple(token for digit in answer for token in digit)

    def _hint_before(self, hint: str) -> str:
        names = hint_names(self.max_len + 1)
        if hint == names[0]:
            raise UserError(f"there is no hint before {hint!r} for the final carry of the longer operand")
        return names[names.index(hint) - 1]

    def chance(self, length: int) -> float:
        # The sum of two uniform numbers below m has 2 m - 1 values, with weights 1, 2, ..., m, ..., 2, 1.
        m = self.params.base**length
        windows = self.max_len - length + 1 if self._hinted else 1
        return (2 * m**2 + 1) / (3 * m**3 * windows)

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the accuracy of rules that ignore carries from further away than some distance."""
        base = self.params.base
        generates, propagates = (base - 1) / (2 * base), 1 / base
        stops = 1 - generates - propagates
        free, carried = 1.0, 0.0  # probability that no carry was propagated so far, without and with a carry now
        for _ in range(length):
            free, carried = free * (stops + propagates) + carried * stops, (free + carried) * generates
        return {"no carry": (1 - generates) ** length, "carry over one place": free + carried}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        # Known only for uniform digits and operands of equal length.
        if split.name != "id":
            return {}
        zero = int(self.params.leading_zero)
        counts = {str(digit): 2 * length / self.params.base for digit in range(self.params.base)} | {"+": 1, ">": 1}
        counts["0"] += 2 * zero
        if self._hinted:
            # Without a leading zero, the first hint of the window is reserved for the carry.
            hints = [*[0.0] * (1 - zero), *window_shares(length + zero, self.max_len + zero)]
            names = hint_names(self.max_len + 1)
            counts |= {name: 2 * (length + zero) * share for name, share in zip(names, hints, strict=True)}
        return {token: count / sum(counts.values()) for token, count in counts.items()}

    def check_ids(self, kind: str) -> None:
        super().check_ids(kind)
        if not (self._reversed or self.params.leading_zero):
            raise UserError(
                f"positions {kind!r}: the place of the first digit of a forward sum depends on the answer; "
                "set leading_zero=true or use a reversed format"
            )

    def id_reach(self, kind: str, length: int) -> int:
        return length + 1 if kind == "abacus" else length + 2

    def position_ids(self, kind: str, examples: Examples, width: int) -> Ints:
        """Return ids by place value.

        `abacus`: the id of a digit is its place, starting with 1 for the ones. `coupled`: digits and hints are
        numbered from the most significant place, and `+` and `>` come one after the ones.

        >>> from genlab.tasks import make
        >>> task = make("addition", max_len=4, format="reversed")
        >>> ids = task.vocab.encode("0 5 8 + 0 6 7 > 5 2 1")[None]
        >>> batch = Examples(ids, ids, ids > 0, np.array([2]))
        >>> task.placed(batch, "abacus").position_ids[0].tolist()
        [3, 2, 1, 0, 3, 2, 1, 0, 1, 2, 3]
        >>> task.placed(batch, "coupled").position_ids[0].tolist()
        [1, 2, 3, 4, 1, 2, 3, 4, 3, 2, 1]
        """
        tokens = np.pad(examples.tokens, ((0, 0), (0, max(0, width - examples.tokens.shape[1]))))[:, :width]
        plus, sep = (np.argmax(examples.tokens == token, axis=1)[:, None] for token in (self._plus, Vocab.sep))
        column, apart = np.arange(width), 2 if self._hinted else 1  # tokens per digit
        left = np.where(column < plus, plus - 1 - column, sep - 1 - column) // apart  # places to its right
        longer = np.maximum(plus, sep - plus - 1) // apart
        full = longer + (not self.params.leading_zero)
        written = (column - sep - 1) // apart
        after = written if self._reversed else longer - 1 - written
        place = np.where(column > sep, after.clip(0, full - 1), left)
        between = (column == plus) | (column == sep)
        if kind == "coupled":
            return np.where(between, full + 1, full - place)
        answer_hint = (column > sep) & ((column - sep - 1) % apart != apart - 1)
        prompt_hint = (column < sep) & (tokens >= self._plus)
        return np.where(between | answer_hint | prompt_hint, 0, place + 1)

    def factors(self, examples: Examples) -> dict[str, Ints]:
        """Return `carry_chain`, the length of the longest carry chain (see `carry_chains`)."""
        tokens, column = examples.tokens, np.arange(examples.tokens.shape[1])
        is_digit = (tokens >= Vocab.first) & (tokens < self._plus)
        plus, sep = (np.argmax(tokens == token, axis=1)[:, None] for token in (self._plus, Vocab.sep))
        left = _ones_first(tokens, is_digit & (column < plus))
        right = _ones_first(tokens, is_digit & (column > plus) & (column < sep))
        return {"carry_chain": carry_chains(left + right, self.params.base).max(axis=1)}


def _shorten_one(rng: np.random.Generator, lengths: Ints) -> tuple[Ints, Ints]:
    """Draw the lengths of both operands: one of them, on either side, is uniform below the other."""
    shorter, left = rng.integers(1, lengths), rng.random(len(lengths)) < 0.5
    return np.where(left, shorter, lengths), np.where(left, lengths, shorter)


def _ones_first(tokens: Ints, keep: Bools) -> Ints:
    """Return the selected digit tokens of each row as digits, in reverse order."""
    rows, columns = np.nonzero(keep)
    place = keep[:, ::-1].cumsum(axis=1)[:, ::-1] - 1
    digits = np.zeros_like(tokens)
    digits[rows, place[rows, columns]] = tokens[rows, columns] - Vocab.first
    return digits


def _digits_of(tokens: Sequence[str]) -> list[str]:
    return [token for token in tokens if token.isdigit()]
