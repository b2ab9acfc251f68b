"""How much faster `kqv` is than a Python loop over pairs, on a batch of 256 sequences of length 128.

    python benchmarks/rasp.py [--turns 9] [--save]

The loop reads lists, calls the predicate for each pair of positions and aggregates what it selects: what the
definition says, with nothing spared and nothing added. Both get the same input and both use one thread, so that
processor time tells their cost on a busy machine too. A turn is one loop and then the median of many calls of `kqv`;
the ratio is the median over turns of the ratio within each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from genlab.rasp import equals, kqv, lt
from genlab.runs.devices import environment

ROWS, LENGTH, CALLS = 256, 128, 40
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


def milliseconds(call: Callable[[], Any]) -> float:
    """The processor time of a call."""
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def measured(k: Any, q: Any, v: Any, pred: Callable[[Any, Any], Any], reduction: Any, turns: int) -> dict[str, float]:
    """Medians of both in milliseconds, and of their ratio; they are checked to agree first."""
    fast = partial(kqv, k, q, v, pred, reduction=reduction)
    slow = partial(pair_by_pair, k.tolist(), q.tolist(), v.tolist(), pred, reduction)
    assert fast().tolist() == slow()
    times = [(milliseconds(slow), statistics.median(milliseconds(fast) for _ in range(CALLS))) for _ in range(turns)]
    loop, ours = (statistics.median(each) for each in zip(*times, strict=True))
    return {"loop_ms": loop, "kqv_ms": ours, "ratio": statistics.median(a / b for a, b in times)}


def main() -> None:
    """Print the ratio for each predicate and reduction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/rasp.json")
    args = parser.parse_args()
    k, q, v = np.random.default_rng(0).integers(0, 10, (3, ROWS, LENGTH))
    print(f"kqv on {ROWS} sequences of length {LENGTH}, against a loop over pairs")
    found: dict[str, dict[str, float]] = {}
    for name, pred in (("key = query", equals), ("key < query", lt)):
        for reduction, asked in ASKED.items():
            row = found[f"{name}, {reduction}"] = measured(k, q, v, pred, reduction, args.turns)
            times = f"{row['loop_ms']:6.1f} ms / {row['kqv_ms']:5.2f} ms = {row['ratio']:4.0f} times"
            print(f"{name}, {reduction:4}  {times} (asked for: {asked})")
    if args.save:
        path = Path(__file__).parent / "results" / "rasp.json"
        kept = {
            "date": str(date.today()),
            "turns": args.turns,
            "environment": environment(torch.device("cpu")),
            "measured": found,
        }
        path.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
