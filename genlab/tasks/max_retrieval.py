"""Max retrieval: what is the class of the item with the largest priority?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from genlab.errors import UserError
from genlab.spec import Scalar, Split
from genlab.tasks.base import Task, hint_names, split_map
from genlab.tasks.drawing import expected_mode
from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble

_ITEM = "*"
_CLOSE = 0.99
"""Real-valued runner-up in the split `near-tie`, as a fraction of the largest priority."""


class MaxRetrieval(Task):
    """Return the class of the item with the largest priority; each item has a priority and a class.

    Attention must put nearly all of its weight on one item among more and more items, so the task shows how softmax
    disperses with length. `tokens` writes each item as two tokens, for a decoder; priorities are integers from 0, and
    the largest is unique. `values` is the task of the paper: for each item, `Examples.values` holds a priority from
    U(0, 1) and the class as a one-hot vector, and at `>` a random number that represents the query. It is read by a
    set model, which gives a single answer, so there is no end token. The tokens only mark positions: `solve` cannot
    read the items, but `solve_example` can.

    Answering with the most common class beats chance (`baseline`).

    >>> from genlab.tasks import make
    >>> make("max-retrieval", max_len=8).solve("3 a 60 c 17 a >".split())        # 60 is the largest
    ('c',)
    >>> make("max-retrieval", max_len=8).solve("5 b 4 d 2 d >".split())          # not the most common class
    ('b',)
    """

    name = "max-retrieval"
    family = "retrieval"
    asks = "what is the class of the item with the largest priority?"
    source = "Velickovic et al. 2024, Softmax is not enough (for sharp size generalisation), arXiv 2410.01104"
    length_unit = "items"
    formats: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "tokens": "priority and class of each item > class of the item with the largest",
            "values": "real-valued items (a priority and a one-hot class) > class of the item with the largest",
        }
    )
    splits = split_map(
        Split(name="id", about="uniform priorities and classes", shift={}),
        Split(name="low", about="all priorities are in the lower half of their range", shift={"range": 0.5}),
        Split(
            name="near-tie", about="the second-largest priority is close to the largest", shift={"runner_up": True}
        ),
        Split(name="decoys", about="all other items have the same wrong class", shift={"one_wrong_class": True}),
    )
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "tokens": {
                **{"train_len": 6, "n_layers": 2, "positions": "rotary", "curriculum": 0.5},
                **{"lr": 0.002, "steps": 6000},
            },
            # The published model: 5 to 16 items, width 128, one head, AdamW.
            "values": {
                **{"train_len": 16, "min_len": 5},
                **{"d_model": 128, "d_mlp": 128, "n_heads": 1, "batch_size": 128, "steps": 3000},
                **{"weight_decay": 1e-3, "init_std": 0.1, "scale_residual_init": False},
            },
        }
    )

    class Params(Task.Params):
        """The number of priorities and of classes."""

        classes: int = Field(10, ge=2, le=26, description="different classes")
        priorities: int = Field(
            0, ge=0, le=100_000, description="number of priorities in format 'tokens'; 0: 2 max_len, at least 64"
        )

    params: Params

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        values = super().resolve(format, max_len, params)
        if format == "values" and values["priorities"]:
            raise UserError("priorities is an option of format 'tokens'; in format 'values' they are real numbers")
        if format == "tokens" and not values["priorities"]:
            values["priorities"] = max(64, 2 * max_len)
        return values

    def symbols(self) -> tuple[str, ...]:
        classes = hint_names(self.params.classes)
        if self.format == "values":
            return (*classes, _ITEM)
        if self.params.priorities < max(8, self.max_len):
            raise UserError(
                f"priorities {self.params.priorities} is too small for the largest of {self.max_len} items to be "
                f"unique often: it must be at least {max(8, self.max_len)}"
            )
        return (*classes, *map(str, range(self.params.priorities)))

    @property
    def d_values(self) -> int:
        return 1 + self.params.classes if self.format == "values" else 0

    def width(self, length: int) -> int:
        # the items, `>`, the class and, in format `tokens`, `<end>`
        return 2 * length + 3 if self.format == "tokens" else length + 2

    def min_len(self, split: Split) -> int:
        return 1 if split.name in ("id", "low") else 2

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        priorities = self._priorities(rng, split, lengths)
        while len(tied := np.flatnonzero(_tied(priorities))):
            again = self._priorities(rng, split, lengths[tied])
            priorities[tied] = -1
            priorities[tied, : again.shape[1]] = again
        rows, best = np.arange(len(lengths)), priorities.argmax(axis=1)
        if split.shift.get("runner_up"):
            behind = (best + rng.integers(1, lengths)) % lengths
            largest = priorities[rows, best]
            priorities[rows, behind] = largest - 1 if self.format == "tokens" else largest * _CLOSE
        classes = rng.integers(0, self.params.classes, size=priorities.shape)
        if split.shift.get("one_wrong_class"):
            right = classes[rows, best]
            wrong = (right + rng.integers(1, self.params.classes, size=len(rows))) % self.params.classes
            classes = np.broadcast_to(wrong[:, None], classes.shape).copy()
            classes[rows, best] = right
        return self._written(rng, priorities, classes, classes[rows, best], lengths)

    def _priorities(self, rng: np.random.Generator, split: Split, lengths: Ints) -> NDArray[Any]:
        """Draw priorities, [n, items]: integers or float32, -1 beyond the length."""
        shape, share = (len(lengths), int(lengths.max())), float(split.shift.get("range", 1.0))
        if self.format == "tokens":
            drawn = rng.integers(0, int(self.params.priorities * share), size=shape)
        else:
            drawn = rng.random(shape, dtype=np.float32) * np.float32(share)
        drawn[np.arange(shape[1]) >= lengths[:, None]] = -1
        return drawn

    def _written(
        self, rng: np.random.Generator, priorities: NDArray[Any], classes: Ints, answer: Ints, lengths: Ints
    ) -> Examples:
        inside = priorities >= 0
        ask = [Part(Vocab.sep), Part(Vocab.first + answer[:, None], scored=True)]
        if self.format == "tokens":
            items = np.stack([priorities + self.params.classes, classes], axis=2).reshape(len(lengths), -1)
            keep = None if inside.all() else np.repeat(inside, 2, axis=1)
            return assemble([Part(Vocab.first + items, keep=keep), *ask, Part(Vocab.end, scored=True)], lengths)
        places = np.full_like(classes, Vocab.first + self.params.classes)
        examples = assemble([Part(places, keep=None if inside.all() else inside), *ask], lengths)
        values = np.zeros((*examples.tokens.shape, self.d_values), np.float32)
        row, item = np.nonzero(inside)
        values[row, item, 0] = priorities[row, item]
        values[row, item, 1 + classes[row, item]] = 1
        values[np.arange(len(lengths)), lengths, 0] = rng.random(len(lengths), dtype=np.float32)
        return Examples(examples.tokens, examples.targets, examples.scored, lengths, values=values)

    def written(self, examples: Examples, row: int) -> tuple[str, str]:
        if examples.values is None:
            return super().written(examples, row)
        *items, query = examples.values[row, : int(examples.lengths[row]) + 1].tolist()
        shown = [f"{priority:.3f} {self.symbols()[one_hot.index(1.0)]}" for priority, *one_hot in items]
        return f"{', '.join(shown)} > (query {query[0]:.3f})", self.read(examples, row)[1][0]

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        if self.format == "values":
            raise UserError("the items of format 'values' are not in the prompt's tokens; use solve_example")
        items = list(prompt[: list(prompt).index(">")])
        ranked = sorted(zip(map(int, items[::2]), items[1::2], strict=True))
        return (ranked[-1][1],)

    def solve_example(self, examples: Examples, row: int) -> tuple[str, ...]:
        if self.format == "tokens" or examples.values is None:
            return super().solve_example(examples, row)
        items = examples.values[row, : int(examples.lengths[row])].tolist()
        _, *one_hot = max(items)
        return (self.symbols()[one_hot.index(1.0)],)

    def chance(self, length: int) -> float:
        del length
        return 1 / self.params.classes

    def baseline(self, length: int) -> Mapping[str, float]:
        return {"the most common class": expected_mode(length, self.params.classes) / length}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        if self.format == "values":
            return {_ITEM: length / (length + 1), ">": 1 / (length + 1)}
        top = int(self.params.priorities * float(split.shift.get("range", 1.0)))
        # The largest is m with probability proportional to m^(length - 1); the others are uniform below it.
        largest = (np.arange(top) / top) ** (length - 1)
        largest /= largest.sum()
        below = np.append(np.cumsum((largest[1:] / np.arange(1, top))[::-1])[::-1], 0.0)
        if split.shift.get("runner_up"):
            counts = largest + np.append(largest[1:], 0.0) + (length - 2) * below
        else:
            counts = largest + (length - 1) * below
        shares = {str(i): count / (2 * length + 1) for i, count in enumerate(counts.tolist())}
        classes = dict.fromkeys(hint_names(self.params.classes), length / self.params.classes / (2 * length + 1))
        return shares | classes | {">": 1 / (2 * length + 1)}


def _tied(priorities: NDArray[Any]) -> Bools:
    """Whether the largest priority occurs more than once, bool[n]."""
    return (priorities == priorities.max(axis=1, keepdims=True)).sum(axis=1) > 1
