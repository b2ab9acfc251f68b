"""Bracket matching: is a string nested, or does it merely have as many closing as opening brackets?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from math import comb, expm1
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks.base import Task, split_map
from genlab.tasks.examples import Bools, Examples, Floats, Ints, Part, Vocab, assemble
from genlab.tasks.words import arranged, different, is_nested, nested, redrawn, unequal, wrapped

# -- Pools of strings without duplicates
#
# Half of the strings in a pool are uniform nested words, the other half independent brackets with unequal counts.
# Lengths are drawn as shortest + 2 Binomial((longest - shortest) / 2, 1/2). A string that is already in the pool is
# replaced by a new one of a newly drawn length, until each half has `pool` / 2 different strings; `pool` 0 keeps
# duplicates. If a negative has equal counts, it is redrawn in one of two ways (`Redraw`):
#
# - `same-length`: with the same length, as in the published generator. The distribution of lengths is unaffected.
# - `any-length`: with a new length. Short strings have equal counts more often, so they become rarer among negatives.
#   Older runs, recorded before this option existed, use this.

Redraw = Literal["any-length", "same-length"]
"""How a negative with equal counts is redrawn."""


def nested_fraction(pool: int, longest: int, length: int, redraw: Redraw) -> float:
    """Return the probability that a string in the pool is nested, given its length.

    Beyond `longest`, the probability is that of a draw with so many strings that duplicates do not occur.

    >>> [round(nested_fraction(200_000, 40, length, "same-length"), 2) for length in (4, 8, 20, 40, 60)]
    [0.38, 0.1, 0.44, 0.63, 0.63]
    """
    nested, others = distinct_per_draw(pool, longest, length, redraw)
    return nested / (nested + others)


def pool_words(
    rng: np.random.Generator, pool: int, longest: int, redraw: Redraw, shortest: int = 2
) -> tuple[Bools, Bools, Ints]:
    """Draw a pool, sorted by length: its strings, bool[pool, longest], whether each is nested, and their lengths."""
    counts = pool_counts(pool, longest, redraw, shortest)
    opens, is_nested = np.zeros((pool, longest), bool), np.zeros(pool, bool)
    lengths = np.repeat(np.arange(shortest, longest + 1, 2), counts.sum(axis=0))
    end = 0
    for length, (words, others) in zip(range(shortest, longest + 1, 2), counts.T.tolist(), strict=True):
        for count, draw in ((words, nested), (others, unequal)):
            start, end = end, end + count
            opens[start:end, :length] = different(partial(draw, rng), length, count)
            is_nested[start:end] = draw is nested
    return opens, is_nested, lengths


def pool_counts(pool: int, longest: int, redraw: Redraw, shortest: int = 2) -> Ints:
    """Return the number of nested and other strings of each length in the pool, int[2, length]: rounded expectations.

    >>> pool_counts(30, longest=8, redraw="same-length")               # of 2, 4, 6 and 8 brackets
    array([[1, 2, 5, 7],
           [1, 5, 7, 2]])

    Raises:
        UserError: If there are too few strings of these lengths.
    """
    lengths = range(shortest, longest + 1, 2)
    probabilities = np.array([_binomial(longest, length, shortest) for length in lengths])
    counts = probabilities[:, None] * np.array(
        [distinct_per_draw(pool, longest, length, redraw, shortest) for length in lengths]
    )
    return np.stack(
        [_rounded(half, count) for half, count in zip(counts.T, (pool // 2, pool - pool // 2), strict=True)]
    )


def _rounded(expected: Floats, total: int) -> Ints:
    """Round expected counts to integers with a given sum, rounding up the largest remainders."""
    floor = np.floor(expected * total / expected.sum()).astype(np.int64)
    floor[np.argsort(floor - expected, kind="stable")[: total - int(floor.sum())]] += 1
    return floor


@cache
def distinct_per_draw(pool: int, longest: int, length: int, redraw: Redraw, shortest: int = 2) -> tuple[float, float]:
    """Return the expected number of nested and other strings of a length in the pool, per draw of that length."""
    law = (longest, shortest, redraw)
    drawn = _draws(pool, *law)
    return _distinct_per_draw(drawn[0], *law, length, nested=True), _distinct_per_draw(
        drawn[1], *law, length, nested=False
    )


def _distinct_per_draw(draws: float, longest: int, shortest: int, redraw: Redraw, length: int, nested: bool) -> float:
    """Return the expected number of different strings in so many draws, divided by the probability of the length."""
    refused = 0.0 if nested or redraw == "same-length" else _equal_by_chance(length)
    rate = draws * (1 - refused)
    if not nested and redraw == "any-length":
        rate /= _accepted(longest, shortest)
    if draws <= 1 or length > longest:
        return rate
    often = rate * _binomial(longest, length, shortest) / _strings(length, nested)  # draws of each string
    return rate * -expm1(-often) / often


def _strings(length: int, nested: bool) -> int:
    """Count the nested words of this length, or the words with unequal counts."""
    equal = comb(length, length // 2)
    return equal // (length // 2 + 1) if nested else 2**length - equal


@cache
def _draws(pool: int, longest: int, shortest: int, redraw: Redraw) -> tuple[float, float]:
    """Return how many nested and how many other strings must be drawn to fill half of the pool each."""
    law = (longest, shortest, redraw)
    return (_until(pool, *law, nested=True), _until(pool, *law, nested=False)) if pool else (1.0, 1.0)


def _until(pool: int, longest: int, shortest: int, redraw: Redraw, nested: bool) -> float:
    lengths = range(shortest, longest + 1, 2)

    def different(draws: float) -> float:
        each = (_distinct_per_draw(draws, longest, shortest, redraw, length, nested) for length in lengths)
        return sum(_binomial(longest, n, shortest) * count for n, count in zip(lengths, each, strict=True))

    low, high = pool / 2, pool / 2 * 1e6
    if different(high) < pool / 2:
        half = "nested" if nested else "other"
        raise UserError(
            f"a pool of {pool} different strings of {shortest} to {longest} brackets cannot be drawn: for its {half} "
            f"half there are only {sum(_strings(length, nested) for length in lengths)}"
        )
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if different(middle) < pool / 2 else (low, middle)
    return high


def _binomial(longest: int, length: int, shortest: int) -> float:
    trials = (longest - shortest) // 2
    return comb(trials, (length - shortest) // 2) / 2**trials


def _equal_by_chance(length: int) -> float:
    """Return the probability that independent brackets have equal counts."""
    return comb(length, length // 2) / 2**length


def _accepted(longest: int, shortest: int) -> float:
    lengths = range(shortest, longest + 1, 2)
    return sum(_binomial(longest, length, shortest) * (1 - _equal_by_chance(length)) for length in lengths)


_START, _OPEN, _CLOSE, _TRUE, _FALSE = range(Vocab.first, Vocab.first + 5)


class Brackets(Task):
    """Decide whether a string of brackets is nested: every prefix has at least as many opening as closing brackets,
    and the whole string as many of each.

    The label is predicted at `>`, which takes the place of the end token in the published strings. On all training
    strings two rules agree: NESTED, and EQUAL-COUNT (as many opening as closing brackets). Positives are uniform
    nested words; negatives are independent brackets with unequal counts. `matched-unnested` tells the rules apart.
    The published models have two logits. Here the label is a token, and the end token after it is scored too. The
    format `published` omits the end token, so that the loss is that of the label alone. One difference remains: the
    softmax is over the vocabulary rather than over two classes.

    `id` imitates the published pool: 200,000 strings of 2 + 2 Binomial(19, 1/2) brackets, half of them nested. A
    duplicate is replaced by a string of a new length; a negative with equal counts is redrawn at the *same* length.
    There are few short nested words, so most short strings are not nested and most long ones are: length alone
    predicts the label of 64 % of them. `iid` keeps duplicates, which makes length uninformative. Training on a pool
    of `id` (`pool`) draws a pool of that size in the published way, without duplicates. With `redraw` `any-length`,
    which runs recorded before this parameter existed use, a negative with equal counts is redrawn at a new length.
    Length is then slightly informative on `iid` too and predicts the label of 63 % on `id`. In `length-matched`,
    length is never informative.

    Labels follow NESTED unless the parameter `rule` selects EQUAL-COUNT, under which strings with equal counts are
    True even if they are not nested. On `id`, both settings give identical examples; mixing a fraction of
    `matched-unnested` into the training data (`mix`) instills one rule or the other.

    >>> from genlab.tasks import make
    >>> task = make("brackets", max_len=40)
    >>> " ".join(task.solve("<start> ( ( ) ( ) ) >".split()))
    'True'
    >>> " ".join(task.solve("<start> ( ) ) ( >".split()))
    'False'
    >>> [name for name, answer in task.rules("<start> ( ) ) ( >".split()).items() if answer == ("True",)]
    ['EQUAL-COUNT', 'FIRST-SYMBOL']
    """

    name = "brackets"
    family = "hierarchy"
    asks = "are the brackets nested?"
    source = "Li et al. 2025, Can Interpretation Predict Behavior on Unseen Data?, arXiv 2507.06445"
    length_unit = "brackets"
    language_class = "context-free"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "plain": "<start> brackets > True if nested, else False",
            "published": "like plain, without an end token",
        }
    )
    splits = split_map(
        Split(
            name="id",
            about="half nested, half with unequal counts, as in a pool without duplicates (--pool has none)",
            shift={"pool": 200_000, "longest": 40, "others": "unequal"},
        ),
        Split(name="iid", about="like id, with duplicates", shift={"pool": 0, "longest": 40, "others": "unequal"}),
        Split(
            name="length-matched", about="half are nested at every length", shift={"nested": 0.5, "others": "unequal"}
        ),
        Split(
            name="matched-unnested",
            about="equal counts, not nested: all False",
            shift={"nested": 0.0, "others": "equal"},
        ),
        Split(
            name="first-symbol",
            about="equal counts, not nested, the first bracket opens: all False",
            shift={"nested": 0.0, "others": "equal", "opens": True},
        ),
        Split(
            name="longer",
            about="like length-matched, but longer than any published string",
            shift={"nested": 0.5, "others": "unequal", "min_len": 42},
        ),
        Split(
            name="deeper",
            about="nested words inside 8 more pairs; the other half has one bracket flipped",
            shift={"nested": 0.5, "others": "turned", "wrap": 8},
        ),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"*": {"train_len": 40, "min_len": 2, "n_layers": 2, "n_heads": 2, "steps": 3000}}
    )

    class Params(Task.Params):
        """The rule that determines labels if NESTED and EQUAL-COUNT differ, and how negatives are drawn."""

        rule: Literal["nested", "equal-count"] = Field("nested", description="rule that determines the labels")
        redraw: Redraw = Field(
            "any-length",
            description="length at which a negative with equal counts is redrawn on `id` and `iid` (published: same)",
            json_schema_extra={"planned": "same-length"},
        )

        later: ClassVar[frozenset[str]] = frozenset({"rule", "redraw"})

    params: Params

    def symbols(self) -> tuple[str, ...]:
        return ("<start>", "(", ")", "True", "False")

    def width(self, length: int) -> int:
        return length + (3 if self._ends_at_label else 4)

    def min_len(self, split: Split) -> int:
        shift = split.shift
        return max(4 if shift.get("opens") else 2, int(shift.get("min_len", 2)), 2 + 2 * int(shift.get("wrap", 0)))

    def makes(self, split: Split, length: int) -> bool:
        del split
        return length % 2 == 0

    def length_weights(self, split: Split, lengths: Ints) -> Floats:
        pairs = len(lengths) - 1
        weights = np.array([comb(pairs, i) / 2**pairs for i in range(pairs + 1)])
        if "pool" in split.shift:
            weights *= [
                sum(distinct_per_draw(*_pool(split), length, self.params.redraw)) for length in lengths.tolist()
            ]
        return weights

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        fraction = {length: self._nested_fraction(split, length) for length in set(lengths.tolist())}
        nested = rng.random(len(lengths)) < np.array([fraction[length] for length in lengths.tolist()])
        others = str(split.shift["others"])
        label = nested | (self._by_count and others == "equal")
        opens = np.zeros((len(lengths), int(lengths.max())), bool)
        for rows, draw in ((nested, _nested), (~nested, _OTHERS[others])):
            if rows.any():
                words = draw(rng, split, lengths[rows])
                opens[rows, : words.shape[1]] = words
        return self._written(opens, label, lengths)

    def check_pool(self, split: str | Split, low: int, high: int, size: int) -> None:
        super().check_pool(split, low, high, size)
        if self.split(split).shift.get("pool"):
            longest, shortest = self._ends(split, low, high)
            pool_counts(size, longest, self.params.redraw, shortest)

    def draw_pool(
        self,
        shared: np.random.Generator,
        own: np.random.Generator,
        split: Split,
        low: int,
        high: int,
        size: int,
    ) -> Examples:
        """Draw a pool; on `id` it has no duplicates, half are nested, and lengths are as in the published pool."""
        if not split.shift.get("pool"):
            return super().draw_pool(shared, own, split, low, high, size)
        longest, shortest = self._ends(split, low, high)
        return self._written(*pool_words(own, size, longest, self.params.redraw, shortest))

    def _written(self, opens: Bools, label: Bools, lengths: Ints) -> Examples:
        inside = np.arange(opens.shape[1]) < lengths[:, None]
        string = Part(np.where(opens, _OPEN, _CLOSE), keep=None if inside.all() else inside)
        answer = Part(np.where(label, _TRUE, _FALSE)[:, None], scored=True)
        end = [] if self._ends_at_label else [Part(Vocab.end, scored=True)]
        return assemble([Part(_START), string, Part(Vocab.sep), answer, *end], lengths)

    @property
    def _ends_at_label(self) -> bool:
        return self.format == "published"

    def _ends(self, split: str | Split, low: int, high: int) -> tuple[int, int]:
        """Return the longest and the shortest length in a pool."""
        lengths, _ = self.length_law(split, low, high)
        return int(lengths[-1]), int(lengths[0])

    @property
    def _by_count(self) -> bool:
        return self.params.rule == "equal-count"

    def _nested_fraction(self, split: Split, length: int) -> float:
        if "nested" in split.shift:
            return float(split.shift["nested"])
        return nested_fraction(*_pool(split), length, self.params.redraw)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return self.rules(prompt)["EQUAL-COUNT" if self._by_count else "NESTED"]

    def rules(self, prompt: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        brackets = [token for token in prompt if token in "()"]
        equal = brackets.count("(") == brackets.count(")")
        return {
            "NESTED": (str(_balanced(brackets)),),
            "EQUAL-COUNT": (str(equal),),
            "FIRST-SYMBOL": (str(brackets[0] == "("),),
        }

    def chance(self, length: int) -> float:
        fraction = self._nested_fraction(self.splits["id"], length)
        return fraction**2 + (1 - fraction) ** 2

    def baseline(self, length: int) -> Mapping[str, float]:
        fraction = self._nested_fraction(self.splits["id"], length)
        # Under unequal counts, both first brackets are equally likely.
        return {
            "length alone": max(fraction, 1 - fraction),
            "EQUAL-COUNT": 1.0,
            "FIRST-SYMBOL": fraction + (1 - fraction) / 2,
        }

    def baseline_on(self, split: Split, length: int) -> Mapping[str, float]:
        if split.name == "id":
            return self.baseline(length)
        fraction = self._nested_fraction(split, length)
        return {"length alone": max(fraction, 1 - fraction)} if 0 < fraction < 1 else {}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        del split  # in every split, half of the brackets are opening ones
        one = 1 / (length + 2)
        return {"<start>": one, "(": length / 2 * one, ")": length / 2 * one, ">": one}

    def factors(self, examples: Examples) -> dict[str, Ints]:
        depth = np.cumsum((examples.tokens == _OPEN).astype(int) - (examples.tokens == _CLOSE), axis=1)
        return {"nested": ((depth.min(axis=1) >= 0) & (depth[:, -1] == 0)).astype(np.int64)}


def _balanced(brackets: Sequence[str]) -> bool:
    height = 0
    for bracket in brackets:
        height += 1 if bracket == "(" else -1
        if height < 0:
            return False
    return height == 0


def _pool(split: Split) -> tuple[int, int]:
    return int(split.shift["pool"]), int(split.shift["longest"])


def _nested(rng: np.random.Generator, split: Split, lengths: Ints) -> Bools:
    return wrapped(rng, lengths, int(split.shift.get("wrap", 0)))


def _unequal(rng: np.random.Generator, split: Split, lengths: Ints) -> Bools:
    """Draw independent brackets, conditioned on unequal counts."""
    del split
    return unequal(rng, lengths)


def _equal(rng: np.random.Generator, split: Split, lengths: Ints) -> Bools:
    """Draw shuffled brackets with equal counts (starting with an opening one if `opens`) that are not nested."""
    first = int(bool(split.shift.get("opens", False)))

    def shuffled(lengths: Ints) -> Bools:
        rest = arranged(rng, lengths - first, lengths // 2 - first)
        return np.concatenate([np.ones((len(rest), first), bool), rest], axis=1)

    return redrawn(shuffled, is_nested, lengths)


def _turned(rng: np.random.Generator, split: Split, lengths: Ints) -> Bools:
    """Draw a nested word and flip one random bracket."""
    opens = _nested(rng, split, lengths)
    opens[np.arange(len(lengths)), rng.integers(0, lengths)] ^= True
    return opens


_OTHERS = MappingProxyType({"unequal": _unequal, "equal": _equal, "turned": _turned})
"""Functions that draw negatives."""
