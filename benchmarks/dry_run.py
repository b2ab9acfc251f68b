"""Is what `lab grid --dry-run` says of a step true? Estimates beside what the same runs then take.

    python benchmarks/dry_run.py --steps 300 --save

Both are of one process with one thread, in processor time, so that other work on the machine does not count; the
ratio of wall-clock time to processor time says how much of that there was. Evaluation is counted apart.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import genlab
from genlab.runs import Evals, Store, grid
from genlab.runs.api import wanted_runs
from genlab.runs.devices import cores
from genlab.runs.estimate import estimate
from genlab.training import Stack

SMALL = {"n_layers": 2, "d_model": 64, "n_heads": 4, "batch_size": 64}
KINDS: dict[str, dict[str, Any]] = {
    "sort, lengths 1 to 20": {"task": "sort", "train_len": 20, **SMALL},
    "brackets to 40, rotary": {"task": "brackets", "train_len": 40, "positions": "rotary", **SMALL},
    "parity, tiny": {"task": "parity", "train_len": 10, **SMALL, "d_model": 16, "n_heads": 2, "batch_size": 8},
    "addition, bfloat16": {"task": "addition", "train_len": 10, "dtype": "bfloat16", **SMALL},
    "copy, width 128": {"task": "copy", "train_len": 20, **SMALL, "d_model": 128},
}


def compare(kind: dict[str, Any], steps: int) -> dict[str, float]:
    """Milliseconds a step as said and as taken, and how long saying took."""
    options = dict(kind)
    task, train_len = options.pop("task"), options.pop("train_len")
    plan = genlab.plan(task, train_len, train_len, seeds=[0], evals=Evals(0, n=64), steps=steps, **options)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        start = time.perf_counter()
        said = estimate(wanted_runs([plan]), store, "cpu", 0, 1)["shapes"][0]["seconds_a_step"]
        took = time.perf_counter() - start
        taken, wall = take(plan, store)
    return {"said": 1e3 * said, "taken": 1e3 * taken, "ratio": said / taken, "saying_s": took, "wall": wall / taken}


def take(plan: Any, store: Store) -> tuple[float, float]:
    """Seconds a step of a training, by the processor and by the wall, without its evaluations."""
    spent = [0.0, 0.0]
    real = Stack.take_step

    def timed(stack: Stack) -> None:
        before = time.process_time(), time.perf_counter()
        real(stack)
        spent[0] += time.process_time() - before[0]
        spent[1] += time.perf_counter() - before[1]

    Stack.take_step = timed
    try:
        (run,) = grid([plan], store=store, workers=1)
    finally:
        Stack.take_step = real
    return spent[0] / run.step, spent[1] / run.step


def main() -> None:
    """Print a row a kind of run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--save", action="store_true", help="keep the figures in results/dry_run.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, float]] = {}
    print(f"{'':26}  ms said  ms taken  ratio  wall/processor  seconds to say")
    for name, kind in KINDS.items():
        rows[name] = row = compare(kind, asked.steps)
        numbers = f"{row['said']:9.1f} {row['taken']:9.1f} {row['ratio']:6.2f}"
        print(f"{name:26}{numbers} {row['wall']:15.2f} {row['saying_s']:15.1f}")
    if asked.save:
        path = Path(__file__).parent / "results" / "dry_run.json"
        about = {"torch": torch.__version__, "machine": platform.machine(), "cores": cores(), "steps": asked.steps}
        path.write_text(json.dumps({**about, "kinds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
