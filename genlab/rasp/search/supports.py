"""Supports: sets of operations that compute a node, and the unions of two of them that have a given size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.search.arrays import Ints, Keys, Values, mixed


@dataclass
class Supports:
    """The supports of one size of one type of node.

    Attributes:
        nodes: the node of each, int32[support].
        sets: its nodes in ascending order, int32[support, size].
    """

    nodes: NDArray[np.int32]
    sets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.nodes)


class Gathered:
    """The supports found at one level, in parts."""

    def __init__(self):
        self.parts: list[tuple[Values, Values]] = []

    def add(self, nodes: Values, sets: Values) -> None:
        """Add supports: the nodes, and what is computed before them."""
        if len(nodes):
            self.parts.append((nodes, sets))

    def supports(self, selects: Values, is_select: bool, size: int) -> Supports:
        """All supports of one type, each once, ordered by node; `selects`: bool[node], whether it is a selection."""
        chosen = [(n[rows], s[rows]) for n, s in self.parts if (rows := selects[n] == is_select).any()]
        if not chosen:
            return Supports(np.empty(0, np.int32), np.empty((0, size), np.int32))
        nodes = np.concatenate([n for n, _ in chosen])
        sets = np.sort(np.column_stack([np.concatenate([s for _, s in chosen]), nodes]), axis=1)
        keys = mixed(nodes) ^ np.bitwise_xor.reduce(mixed(sets.astype(np.int64) + (1 << 40)), axis=1)
        _, first = np.unique(keys, return_index=True)
        first = first[np.argsort(nodes[first], kind="stable")]
        return Supports(nodes[first].astype(np.int32), sets[first].astype(np.int32))


def no_sets(count: int) -> NDArray[np.int32]:
    return np.empty((count, 0), np.int32)


_PAIRS = 1 << 18


def _joined(
    one: Supports, two: Supports, rows: Values, others: Values, size: int
) -> Iterator[tuple[Values, Values, Values]]:
    """The pairs whose joint support has exactly `size` nodes."""
    merged = np.sort(np.concatenate([one.sets[rows], two.sets[others]], axis=1), axis=1)
    fresh = np.ones(merged.shape, np.bool_)
    fresh[:, 1:] = merged[:, 1:] != merged[:, :-1]
    exact = fresh.sum(axis=1) == size
    yield one.nodes[rows][exact], two.nodes[others][exact], merged[exact][fresh[exact]].reshape(-1, size)


def crossed(one: Supports, two: Supports, size: int) -> Iterator[tuple[Values, Values, Values]]:
    """Pairs of disjoint supports."""
    same = one is two
    step = max(1, _PAIRS // max(1, len(two)))
    for start in range(0, len(one) if len(two) else 0, step):
        rows = np.repeat(np.arange(start, min(start + step, len(one))), len(two))
        others = np.tile(np.arange(len(two)), len(rows) // len(two))
        if same:
            rows, others = rows[rows < others], others[rows < others]
        yield from _joined(one, two, rows, others, size)


def overlapping(
    one: Supports, two: Supports, overlap: int, size: int, same: bool = False
) -> Iterator[tuple[Values, Values, Values]]:
    """Pairs of supports that share exactly `overlap` nodes, neither of which is the end of one of them."""
    keys, rows = _subsets(one, overlap)
    other_keys, other_rows = _subsets(two, overlap)
    order = np.argsort(other_keys, kind="stable")
    other_keys, other_rows = other_keys[order], other_rows[order]
    start = np.searchsorted(other_keys, keys)
    counts = np.searchsorted(other_keys, keys, side="right") - start
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(keys):
        end = max(begin + 1, int(np.searchsorted(ends, (ends[begin - 1] if begin else 0) + _PAIRS)))
        part = counts[begin:end]
        left = np.repeat(rows[begin:end], part)
        shift = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part) + np.repeat(start[begin:end], part)
        right = other_rows[shift]
        if same:
            left, right = left[left < right], right[left < right]
        yield from _joined(one, two, left, right, size)
        begin = end


def _subsets(supports: Supports, count: int) -> tuple[Keys, Ints]:
    """A key for each set of `count` nodes before the end of each support, and the support."""
    size = supports.sets.shape[1]
    if not len(supports) or count >= size:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    before = supports.sets[supports.sets != supports.nodes[:, None]].reshape(-1, size - 1)
    hashed = mixed(before)
    keys = [
        np.bitwise_xor.reduce(hashed[:, list(columns)], axis=1) for columns in combinations(range(size - 1), count)
    ]
    return np.concatenate(keys), np.tile(np.arange(len(supports)), len(keys))
