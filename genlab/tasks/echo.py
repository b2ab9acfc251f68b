"""A string and `>`, then the string again, or from its last symbol to its first: what `copy` and `reverse` share."""

from __future__ import annotations

from genlab.tasks.base import Examples, Ints, Part, Vocab, assemble
from genlab.tasks.letters import present

__all__ = ["echoed"]


def echoed(symbols: Ints, lengths: Ints, backwards: bool) -> Examples:
    """Examples of strings, int[n, max(lengths)] of symbol numbers from 0, each followed by its echo.

    >>> import numpy as np
    >>> echoed(np.array([[4, 5, 6], [7, 8, 0]]), np.array([3, 2]), backwards=True).targets[:, 3:].tolist()
    [[9, 8, 7, 1], [10, 1, 0, 0]]
    """
    ids, keep, step = Vocab.first + symbols, present(lengths), -1 if backwards else 1
    string = Part(ids, keep=keep)
    echo = Part(ids[:, ::step], scored=True, keep=None if keep is None else keep[:, ::step])
    return assemble([string, Part(Vocab.sep), echo, Part(Vocab.end, scored=True)], lengths)
