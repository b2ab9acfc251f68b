"""What a task is: the types that every family of tasks is written with. numpy only.

A task is next-token prediction over one sequence `prompt answer <end>`. The prompt is given, the answer and its
end token are scored. A task draws examples fast (`sample`) and answers a prompt slowly and obviously (`solve`);
the two are written apart, and `genlab.tasks.check_task` holds them against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import final

import numpy as np

from genlab.errors import UserError, unknown
from genlab.spec import Split
from genlab.tasks.examples import END, PAD, SEP, Bools, Examples, Floats, Ints, Part, Vocab, assemble
from genlab.tasks.family import Family

__all__ = [
    "END",
    "PAD",
    "SEP",
    "Bools",
    "Examples",
    "Floats",
    "Ints",
    "Part",
    "Task",
    "Vocab",
    "assemble",
    "hint_names",
    "split_map",
]


def hint_names(count: int) -> tuple[str, ...]:
    """Names of index hints: a, b, ..., z, aa, ab, ...

    >>> hint_names(28)[24:]
    ('y', 'z', 'aa', 'ab')
    """
    names: list[str] = []
    for i in range(count):
        name, rest = "", i
        while True:
            name = chr(ord("a") + rest % 26) + name
            rest = rest // 26 - 1
            if rest < 0:
                break
        names.append(name)
    return tuple(names)


def split_map(*splits: Split) -> Mapping[str, Split]:
    """An immutable map of splits by name; the first must be `id`."""
    if splits[0].name != "id":
        raise ValueError("the first split of a task is 'id', its in-distribution test")
    return MappingProxyType({split.name: split for split in splits})


class Task(Family):
    """A family of examples, built from a `TaskSpec`.

    A subclass gives the class fields and `symbols`, `width`, `draw`, `solve` and `chance`; it overrides the other
    hooks of `Family` only where it differs. `genlab.tasks.check_task` states the contract as a check.
    """

    @property
    @final
    def n_ctx(self) -> int:
        """Positions a model needs: the longest input at `max_len` (the last token is never read)."""
        return self.width(self.max_len) - 1

    @final
    def split(self, split: str | Split) -> Split:
        """A split by name, checked. Raises `UserError` for an unknown one."""
        name = split if isinstance(split, str) else split.name
        if name not in self.splits:
            raise unknown(f"split of task {self.name!r}:", name, self.splits)
        return self.splits[name] if isinstance(split, str) else split

    @final
    def sample(self, rng: np.random.Generator, split: str | Split, lengths: Sequence[int] | Ints) -> Examples:
        """Draw one example for each of `lengths` (int[n]) from `split`.

        The same generator state gives the same batch; nothing else is read.

        Raises:
            UserError: unknown split, or a length that the task cannot make.
        """
        chosen = self.split(split)
        wanted = np.asarray(lengths, dtype=np.int64)
        if wanted.ndim != 1 or not len(wanted):
            raise UserError("lengths must be a sequence of at least one length")
        self.check_lengths(chosen, wanted)
        return self.draw(rng, chosen, wanted)

    def check_pool(self, split: str | Split, low: int, high: int, size: int) -> None:
        """Raise `UserError` where `draw_pool` cannot make a pool of this size from lengths `low` to `high`."""
        del size
        self.length_law(split, low, high)

    def draw_pool(
        self,
        shared: np.random.Generator,
        own: np.random.Generator,
        split: str | Split,
        low: int,
        high: int,
        size: int,
    ) -> Examples:
        """A fixed pool of training examples of lengths `low` to `high`, lengths rising.

        The lengths follow from `shared` alone, so that pools of several seeds have one shape; what stands in them
        is drawn from `own`. Examples may come twice, unless a family says otherwise.
        """
        lengths, weights = self.length_law(split, low, high)
        return self.sample(own, split, np.sort(shared.choice(lengths, size=size, p=weights)))

    @final
    def placed(self, examples: Examples, kind: str, width: int | None = None) -> Examples:
        """The examples with `position_ids` of a kind, for as many positions as they have, or for `width` of them.

        Raises:
            UserError: the task gives no such ids.
        """
        self.check_ids(kind)
        reach = width or examples.tokens.shape[1]
        return replace(examples, position_ids=self.position_ids(kind, examples, reach))

    def check_ids(self, kind: str) -> None:
        """Raise `UserError` where the task gives no position ids of a kind; formats may refuse some of them."""
        if kind not in self.id_kinds:
            gives = f"it gives those of {', '.join(self.id_kinds)}" if self.id_kinds else "it gives none"
            raise UserError(f"task {self.name!r} gives no position ids for positions {kind!r} ({gives})")

    @final
    def check_lengths(self, split: str | Split, lengths: Sequence[int] | Ints) -> None:
        """Raise `UserError` for a length outside what this task makes on this split."""
        chosen = self.split(split)
        low, high = self.min_len(chosen), self.longest(chosen)
        asked = set(np.asarray(lengths).tolist())
        for length in (min(asked), max(asked)):
            if not low <= length <= high:
                upper = "--max-len sets" if high == self.max_len else "--max-len and the task's parameters set"
                allowed = (
                    f"allowed are {low} to {high}" if low <= high else f"its shortest has {low}, its longest {high}"
                )
                raise UserError(
                    f"task {self.name!r} cannot make length {length} on split {chosen.name!r}: {allowed} "
                    f"{self.length_unit} ({upper} the upper end)"
                )
        for length in asked:
            if not self.makes(chosen, length):
                near = sorted(self.lengths_between(chosen, low, high), key=lambda other: abs(other - length))[:2]
                raise UserError(
                    f"task {self.name!r} has no example of {length} {self.length_unit} on split {chosen.name!r}; "
                    f"nearest it has: {', '.join(map(str, sorted(near))) or 'none'}"
                )

    @final
    def lengths_between(self, split: str | Split, low: int, high: int) -> Ints:
        """The lengths from `low` to `high`, both included, that a split makes, rising; maybe none."""
        chosen = self.split(split)
        span = range(max(low, self.min_len(chosen)), min(high, self.longest(chosen)) + 1)
        return np.array([length for length in span if self.makes(chosen, length)], dtype=np.int64)

    @final
    def length_law(self, split: str | Split, low: int, high: int) -> tuple[Ints, Floats]:
        """The lengths that a split makes from `low` to `high`, and how likely each is when the task draws them.

        Raises:
            UserError: the split makes none of these lengths.
        """
        chosen = self.split(split)
        lengths = self.lengths_between(chosen, low, high)
        if not len(lengths):
            raise UserError(
                f"task {self.name!r} has no example of {low} to {high} {self.length_unit} on split {chosen.name!r}: "
                f"its lengths lie between {self.min_len(chosen)} and {self.longest(chosen)}"
            )
        weights = self.length_weights(chosen, lengths)
        return lengths, weights / weights.sum()

    @final
    def rule_followed(self, prompt: Sequence[str], answer: Sequence[str]) -> str:
        """The names of the rules that give this answer, joined by ` + `, or `none`."""
        given = tuple(answer)
        return " + ".join(name for name, said in self.rules(prompt).items() if said == given) or "none"
