"""What a task makes a model keep track of, at each place of a sequence: labels for linear probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from genlab.tasks import Vocab

__all__ = ["Labels", "latents"]

Ints = NDArray[np.int64]
Labels = Mapping[str, Ints]
"""Latent -> int[batch, pos], -1 where it is not defined."""

_MOST = 16
"""Counts and places beyond this are one class."""


def latents(task: str, form: str, tokens: Ints, vocab: Sequence[str]) -> Labels:
    """The latent states of a task on a batch of token ids; `position` and `to_end_of_prompt` for every task."""
    words = np.array(vocab)[tokens]
    found: dict[str, Ints] = {"position": np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape).copy()}
    if (tokens == Vocab.sep).any():
        end = np.where((tokens == Vocab.sep).any(1), (tokens == Vocab.sep).argmax(1), -1)
        found["to_end_of_prompt"] = np.maximum(end[:, None] - np.arange(tokens.shape[1]), -1)
    if task in _OF_TASK:
        name, of = _OF_TASK[task]
        found[name] = np.stack([of(list(row), form) for row in words])
    return {name: np.where(tokens == Vocab.pad, -1, np.minimum(values, _MOST)) for name, values in found.items()}


def _prompt(row: list[str]) -> int:
    return row.index(">") if ">" in row else len(row)


def _running_parity(row: list[str], form: str) -> Ints:
    """Parity of the ones up to each bit of the prompt."""
    del form
    found, ones = np.full(len(row), -1), 0
    for i, token in enumerate(row[: _prompt(row)]):
        if token in ("0", "1"):
            ones += token == "1"
            found[i] = ones % 2
    return found


def _depth(row: list[str], form: str) -> Ints:
    """Open brackets after each bracket, and 8 more so that it may fall below 0."""
    del form
    found, depth = np.full(len(row), -1), 0
    for i, token in enumerate(row[: _prompt(row)]):
        if token in "()[]{}⟨⟩":
            depth += 1 if token in "([{⟨" else -1
            found[i] = max(0, depth + 8)
    return found


def _carry(row: list[str], form: str) -> Ints:
    """The carry into the digit that is to be written, at the place before it."""
    found, end = np.full(len(row), -1), _prompt(row)
    if "+" not in row[:end]:
        return found
    plus = row.index("+")
    left, right = ([int(t) for t in part if t.isdecimal()][::-1] for part in (row[:plus], row[plus + 1 : end]))
    base = 2 if max([*left, *right], default=0) < 2 else 10
    carries = [0]
    for a, b in zip(left, right, strict=False):
        carries.append((a + b + carries[-1]) // base)
    places = [i for i in range(end + 1, len(row)) if row[i].isdecimal()]
    columns = range(len(places)) if form.startswith("reversed") else range(len(places) - 1, -1, -1)
    for i, column in zip(places, columns, strict=True):
        if column < len(carries):
            found[i - 1] = carries[column]
    return found


def _main_subject(row: list[str], form: str) -> Ints:
    """Whether the subject of the main verb is plural, at the place where the answer begins (read off its verb)."""
    del form
    from genlab.probes.families.auxiliaries import main_auxiliary_of

    end = _prompt(row)
    found = np.full(len(row), -1)
    if end < len(row):
        found[end] = int(main_auxiliary_of(row[: end - 2]) in ("do", "don't"))
    return found


_OF_TASK: Mapping[str, tuple[str, Callable[[list[str], str], Ints]]] = {
    "parity": ("running_parity", _running_parity),
    "addition": ("carry", _carry),
    "brackets": ("depth", _depth),
    "dyck": ("depth", _depth),
    "dyck-next": ("depth", _depth),
    "question-formation": ("main_subject_plural", _main_subject),
}
