"""Growing arrays, and keys that tell rows apart: what an enumeration keeps its behaviors in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


class Table:
    """A growing array: rows are appended, and indexed by all rows so far."""

    def __init__(self, width: int | None, dtype: Any):
        shape = (1024,) if width is None else (1024, width)
        self.array: Values = np.empty(shape, dtype)
        self.size = 0

    def append(self, rows: Values) -> None:
        """Add rows at the end."""
        need = self.size + len(rows)
        if need > len(self.array):
            grown: Values = np.empty((max(need, 2 * len(self.array)), *self.array.shape[1:]), self.array.dtype)
            grown[: self.size] = self.array[: self.size]
            self.array = grown
        self.array[self.size : need] = rows
        self.size = need

    @property
    def rows(self) -> Values:
        """All rows."""
        return self.array[: self.size]


class KeyTable:
    """A hash table from 64-bit keys to numbers, for whole arrays of keys at once (open addressing)."""

    def __init__(self):
        self._keys, self._ids = np.zeros(1 << 14, np.uint64), np.full(1 << 14, -1, np.int32)
        self.size = 0

    def find(self, keys: Keys) -> NDArray[np.int32]:
        """The number of each key, -1 where it is unknown."""
        mask = np.uint64(len(self._keys) - 1)
        out = np.full(len(keys), -1, np.int32)
        place, todo = (keys & mask).astype(np.int64), np.arange(len(keys))
        while len(todo):
            ids = self._ids[place[todo]]
            hit = (ids >= 0) & (self._keys[place[todo]] == keys[todo])
            out[todo[hit]] = ids[hit]
            todo = todo[(ids >= 0) & ~hit]
            place[todo] = (place[todo] + 1) & int(mask)
        return out

    def add(self, keys: Keys, ids: NDArray[np.int32]) -> None:
        """Add keys that are distinct and unknown."""
        if 3 * (self.size + len(keys)) > len(self._keys):
            old = self._ids >= 0
            old_keys, old_ids = self._keys[old], self._ids[old]
            room = 1 << int(4 * (self.size + len(keys))).bit_length()
            self._keys, self._ids = np.zeros(room, np.uint64), np.full(room, -1, np.int32)
            self._place(old_keys, old_ids)
        self._place(keys, ids)
        self.size += len(keys)

    def state(self) -> dict[str, Values]:
        """The table as arrays."""
        return {"keys": self._keys, "ids": self._ids}

    def restore(self, state: Mapping[str, Values]) -> None:
        """Take up a state."""
        self._keys, self._ids = state["keys"], state["ids"]
        self.size = int((self._ids >= 0).sum())

    def _place(self, keys: Keys, ids: NDArray[np.int32]) -> None:
        mask = len(self._keys) - 1
        place, todo = (keys & np.uint64(mask)).astype(np.int64), np.arange(len(keys))
        while len(todo):
            free = self._ids[place[todo]] < 0
            trying = todo[free]
            self._ids[place[trying]] = ids[trying]
            won = self._ids[place[trying]] == ids[trying]  # of several at one place, the last
            self._keys[place[trying[won]]] = keys[trying[won]]
            todo = np.concatenate([todo[~free], trying[~won]])
            place[todo] = (place[todo] + 1) & mask


def mixed(numbers: Any) -> Keys:
    """Well-mixed 64-bit keys of numbers (the finalizer of splitmix64)."""
    z = np.asarray(numbers).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Hasher:
    """Keys of rows of small integers: three random linear forms, exact in float64, mixed to 64 bits."""

    def __init__(self, width: int, seed: int):
        self.weights = np.random.default_rng(seed).integers(1, 1 << 24, (width, 3)).astype(np.float64)

    def __call__(self, rows: Values) -> Keys:
        sums = (rows.astype(np.float64) @ self.weights).astype(np.int64).view(np.uint64)
        return mixed(sums[:, 0]) ^ (mixed(sums[:, 1]) * np.uint64(3)) ^ (mixed(sums[:, 2]) * np.uint64(5))
