"""Batches of examples: a vocabulary, the arrays of a batch, and how parts of sequences are joined. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.errors import unknown

PAD, END, SEP = "<pad>", "<end>", ">"

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Vocab:
    """Token strings and their ids. Ids 0, 1, 2 are `<pad>`, `<end>` and `>`; the task's symbols follow."""

    def __init__(self, symbols: Sequence[str]):
        self.tokens: tuple[str, ...] = (PAD, END, SEP, *symbols)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError("a vocabulary holds each token once")

    pad, end, sep = 0, 1, 2
    first = 3
    """Id of the task's own first symbol."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def id(self, token: str) -> int:
        """The id of one token string."""
        if token not in self._ids:
            raise unknown("token", token, self.tokens)
        return self._ids[token]

    def encode(self, text: str | Sequence[str]) -> Ints:
        """Ids of a text of tokens apart by spaces, or of a sequence of token strings."""
        tokens = text.split() if isinstance(text, str) else text
        return np.array([self.id(token) for token in tokens], dtype=np.int64)

    def decode(self, ids: Sequence[int] | Ints) -> tuple[str, ...]:
        """The token strings of ids."""
        return tuple(self.tokens[int(i)] for i in ids)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """A batch. All arrays have n rows; pads stand on the right.

    Attributes:
        tokens: int[n, pos], what the model reads.
        targets: int[n, pos], the token that follows each position (`<pad>` after the end).
        scored: bool[n, pos], whether the target is part of the answer or its end token.
        lengths: int[n], the task's own length (bits, digits, items, grid side).
        trained: bool[n, pos], where the loss is taken if not at the scored positions (every shot of an
            in-context task, of which only the last is scored), else None.
        values: float[n, pos, ...] for tasks with real-valued items, else None.
        position_ids: int[n, pos] for tasks that give positions of their own, else None.
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
        """The examples at `rows` (a slice, or an array of indices)."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})

    def columns(self, width: int) -> Examples:
        """The first `width` positions."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "lengths"}
        return replace(self, **{name: a[:, :width] for name, a in columns.items() if a is not None})

    @property
    def inputs(self) -> Ints | NDArray[np.float32]:
        """What a model reads: the real-valued items where there are any, else the tokens."""
        return self.tokens if self.values is None else self.values

    def prompt_len(self, row: int) -> int:
        """How many tokens of the sequence are the prompt: all before the first scored target."""
        return int(np.argmax(self.scored[row])) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A block of columns of a batch of sequences: ids int[n, width], and which of them are there.

    Attributes:
        ids: token ids; an int stands for one column of that token.
        scored: whether these tokens are part of the answer.
        keep: bool[n, width]; cells that are False are closed up. None keeps all.
    """

    ids: Ints | int
    scored: bool = False
    keep: Bools | None = None


def assemble(parts: Sequence[Part], lengths: Ints, position_ids: Ints | None = None) -> Examples:
    """Join the parts of each row, left to right, into examples (targets are the next tokens).

    The end token is a part like any other: give it last, scored.
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
    """Move the kept cells of each row to its left; pads fill the right."""
    counts = keep.sum(axis=1)
    place = np.arange(int(counts.max()))[None, :] < counts[:, None]
    width = place.shape[1]
    if np.array_equal(keep[:, :width], place):  # nothing has to move
        return np.where(place, whole[:, :width], Vocab.pad), marks[:, :width] & place
    closed = np.full(place.shape, Vocab.pad, np.int64)
    closed_marks = np.zeros(place.shape, bool)
    closed[place] = whole[keep]
    closed_marks[place] = marks[keep]
    return closed, closed_marks
