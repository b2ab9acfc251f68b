"""Aggregation over a selection that is written out, 64 pairs to a machine word.

A sum over selected values is a sum over their binary digits: how many selected keys have each digit set, which is one
`and` and one count of bits for 64 keys. A maximum is found digit by digit, from the highest down. Intermediate arrays
are written into scratch space, since fresh memory costs more than the arithmetic. Words stand on the first axis, so
that the long axes are the inner ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.grouped import Reduction, truncated_mean

__all__ = ["WORD", "Words", "pack", "reduce_packed"]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


WORD = 64
"""Keys in a word."""


def pack(chosen: NDArray[np.bool_]) -> Words:
    """Booleans [n, query, key], of at most 64 keys, as words [n, query], the first key in the lowest bit."""
    bits = np.packbits(chosen, axis=-1, bitorder="little")
    if spare := WORD // 8 - bits.shape[-1]:
        bits = np.concatenate([bits, np.zeros((*bits.shape[:-1], spare), np.uint8)], axis=-1)
    return bits.view(np.uint64)[..., 0]


def reduce_packed(selected: Words, v: Ints, default: int, reduction: Reduction) -> Ints:
    """Aggregate `v` [n, key] over a selection [word, n, query]: int64[n, query].

    >>> chosen = np.array([[[True, False], [True, True]]])
    >>> reduce_packed(pack(chosen)[None], np.array([[4, 9]]), 0, "max").tolist()
    [[4, 9]]
    """
    scratch = _Scratch(selected)
    if reduction == "width":
        return scratch.count(selected).astype(np.int64)
    if reduction == "mean":
        return _mean(scratch, selected, v, default)
    if reduction == "min":
        return -_largest(scratch, selected, -v, -default)
    return _largest(scratch, selected, v, default)


def _mean(scratch: _Scratch, selected: Words, v: Ints, default: int) -> Ints:
    low, counts = int(v.min()), scratch.count(selected).astype(np.int64)
    sums = low * counts
    for digit, has in _digits(v - low):
        np.bitwise_and(selected, has, out=scratch.words)
        sums += np.left_shift(scratch.count(scratch.words), digit, dtype=np.int64)
    return truncated_mean(sums, counts, default)


def _largest(scratch: _Scratch, selected: Words, v: Ints, default: int) -> Ints:
    low, some = int(v.min()), scratch.count(selected) > 0
    best, left = np.full(some.shape, low, np.int64), selected.copy()
    for digit, has in reversed(_digits(v - low)):
        np.bitwise_and(left, has, out=scratch.words)
        found = scratch.count(scratch.words) > 0
        best += np.left_shift(found, digit, dtype=np.int64)
        np.copyto(left, scratch.words, where=found)
    return np.where(some, best, default)


def _digits(values: Ints) -> list[tuple[int, Words]]:
    """For each binary digit of non-negative values [n, key], the keys that have it, words [key / 64, n, 1]."""
    keys = values.shape[1]
    out: list[tuple[int, Words]] = []
    for digit in range(int(values.max()).bit_length()):
        has = (values >> digit & 1).astype(np.bool_)[:, None]
        out.append((digit, np.stack([pack(has[..., first : first + WORD]) for first in range(0, keys, WORD)])))
    return out


class _Scratch:
    """Space for the words of a selection and for counts of their bits."""

    def __init__(self, like: Words):
        self.words = np.empty_like(like)
        self._bits = np.empty(like.shape, np.uint8)
        self._total = np.empty(like.shape[1:], np.uint32)

    def count(self, words: Words) -> NDArray[Any]:
        """How many bits are set in the words of each query; valid until the next call."""
        np.bitwise_count(words, out=self._bits)
        return np.add.reduce(self._bits, axis=0, dtype=np.uint32, out=self._total)
