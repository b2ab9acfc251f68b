"""How much faster `kqv` is than a Python loop over pairs, on a batch of 256 sequences of length 128.

    python benchmarks/rasp.py

The loop reads lists, calls the predicate for each pair of positions and aggregates what it selects: what the
definition says, with nothing spared and nothing added. Both get the same input; their turns alternate, so that a slow
phase of the machine meets both, and the best turn of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from genlab.rasp import equals, kqv, lt

ROWS, LENGTH, TURNS = 256, 128, 5
ASKED: dict[Literal["mean", "max"], int] = {"mean": 100, "max": 50}


def pair_by_pair(k: Any, q: Any, v: Any, pred: Callable[[Any, Any], Any], reduction: str) -> list[list[int]]:
    """The definition, over lists."""
    out: list[list[int]] = []
    for keys, queries, values in zip(k, q, v, strict=True):
        row: list[int] = []
        for i, query in enumerate(queries):
            chosen = [values[j] for j in range(i + 1) if pred(keys[j], query)]
            if not chosen:
                row.append(0)
            else:
                row.append(max(chosen) if reduction == "max" else int(sum(chosen) / len(chosen)))
        out.append(row)
    return out


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio for each predicate and reduction."""
    k, q, v = np.random.default_rng(0).integers(0, 10, (3, ROWS, LENGTH))
    lists = [a.tolist() for a in (k, q, v)]
    print(f"kqv on {ROWS} sequences of length {LENGTH}, against a loop over pairs")
    for name, pred in (("key = query", equals), ("key < query", lt)):
        for reduction, asked in ASKED.items():
            fast = partial(kqv, k, q, v, pred, reduction=reduction)
            slow = partial(pair_by_pair, *lists, pred, reduction)
            assert fast().tolist() == slow()
            turns = [(seconds(slow), min(seconds(fast) for _ in range(40))) for _ in range(TURNS)]
            loop, ours = (min(times) for times in zip(*turns, strict=True))
            print(
                f"{name}, {reduction:4}  {loop * 1e3:6.1f} ms / {ours * 1e3:5.2f} ms = {loop / ours:4.0f} times "
                f"(asked for: {asked})"
            )


if __name__ == "__main__":
    main()
