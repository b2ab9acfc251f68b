"""Vocabularies and batches of examples, and assembling batches from parts of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.errors import unknown

PAD, END, SEP, START = "<pad>", "<end>", ">", "<start>"

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Vocab:
    """A mapping between token strings and ids. Ids 0, 1, 2 are `<pad>`, `<end>` and `>`, followed by the symbols."""

    def __init__(self, symbols: Sequence[str]):
        self.tokens: tuple[str, ...] = (PAD, END, SEP, *symbols)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError("a vocabulary cannot contain a token twice")

    pad, end, sep = 0, 1, 2
    first = 3
    """Id of the task's first symbol."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def id(self, token: str) -> int:
        """Return the id of a token string. Raises `UserError` if there is none."""
        if token not in self._ids:
            raise unknown("token", token, self.tokens)
        return self._ids[token]

    def encode(self, text: str | Sequence[str]) -> Ints:
        """Return the ids of space-separated tokens or of a sequence of token strings."""
        tokens = text.split() if isinstance(text, str) else text
        return np.array([self.id(token) for token in tokens], dtype=np.int64)

    def decode(self, ids: Sequence[int] | Ints) -> tuple[str, ...]:
        """Return the token strings of ids."""
        return tuple(self.tokens[int(i)] for i in ids)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """A batch of n examples, padded on the right.

    Attributes:
        tokens: int[n, pos], the model's input.
        targets: int[n, pos], the next token at each position (`<pad>` after the end).
        scored: bool[n, pos], whether the target is part of the answer, including its end token.
        lengths: int[n], length in the task's own unit (bits, digits, items, grid side).
        trained: bool[n, pos], positions included in the loss if they differ from the scored positions (in-context
            tasks train on every shot and score the last), else None.
        values: float[n, pos, ...] for tasks with real-valued items, else None.
        position_ids: int[n, pos] for tasks that provide their own position ids, else None.
    """

    tokens: Ints
    targets: Ints
    scored: Bools
    lengths: Ints
    trained: Bools | None = None
    values: NDArray[np.float32] | None = None
    position_ids: Ints | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Any) -> Examples:
        """Return the examples at `rows` (a slice or an array of indices)."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})

    def columns(self, end: int | None, start: int = 0) -> Examples:
        """Return the positions from `start` to `end` (not included) of every example."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "lengths"}
        return replace(self, **{name: a[:, start:end] for name, a in columns.items() if a is not None})

    def led_by(self, start: int) -> Examples:
        """Return the examples with a token before each of them, which is neither scored nor trained."""

        def led(name: str, array: NDArray[Any]) -> NDArray[Any]:
            first = {"tokens": np.full((len(self), 1), start), "targets": self.tokens[:, :1]}
            column = first.get(name, np.zeros((len(self), 1, *array.shape[2:]), array.dtype))
            return np.concatenate([column, array], axis=1)

        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "lengths"}
        return replace(self, **{name: led(name, a) for name, a in columns.items() if a is not None})

    @property
    def inputs(self) -> Ints | NDArray[np.float32]:
        """The model's input: real-valued items if there are any, else tokens."""
        return self.tokens if self.values is None else self.values

    def prompt_len(self, row: int) -> int:
        """Return the number of prompt tokens, which are all tokens before the first scored target."""
        return int(np.argmax(self.scored[row])) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A block of columns in a batch of sequences.

    Attributes:
        ids: int[n, width], token ids; an int is short for one column of that token.
        scored: whether these tokens are part of the answer.
        keep: bool[n, width]; entries that are False are removed. None keeps all.
    """

    ids: Ints | int
    scored: bool = False
    keep: Bools | None = None


def assemble(parts: Sequence[Part], lengths: Ints, position_ids: Ints | None = None) -> Examples:
    """Concatenate the parts of each row, from left to right, into examples; targets are the next tokens.

    The end token is an ordinary part: pass it last, with `scored=True`.
    """
    ends = np.cumsum([1 if isinstance(p.ids, int) else p.ids.shape[1] for p in parts]).tolist()
    whole = np.empty((len(lengths), ends[-1]), np.int64)
    scored, keep = np.zeros(ends[-1], bool), None
    if any(p.keep is not None for p in parts):
        keep = np.ones(whole.shape, bool)
    for part, start, end in zip(parts, [0, *ends], ends, strict=False):
        whole[:, start:end], scored[start:end] = part.ids, part.scored
        if keep is not None and part.keep is not None:
            keep[:, start:end] = part.keep
    marks = np.broadcast_to(scored, whole.shape)
    if keep is not None:
        whole, marks = _close_up(whole, marks, keep)
    return Examples(whole[:, :-1], whole[:, 1:], marks[:, 1:], lengths, position_ids=position_ids)


def _close_up(whole: Ints, marks: Bools, keep: Bools) -> tuple[Ints, Bools]:
    """Shift the entries to keep to the left of each row and pad on the right."""
    counts = keep.sum(axis=1)
    filled = np.arange(int(counts.max()))[None, :] < counts[:, None]
    width = filled.shape[1]
    if np.array_equal(keep[:, :width], filled):  # already on the left
        return np.where(filled, whole[:, :width], Vocab.pad), marks[:, :width] & filled
    tokens = np.full(filled.shape, Vocab.pad, np.int64)
    scored = np.zeros(filled.shape, bool)
    tokens[filled] = whole[keep]
    scored[filled] = marks[keep]
    return tokens, scored
