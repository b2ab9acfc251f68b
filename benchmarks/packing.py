"""What batches of mixed lengths cost: the step of a pool of brackets by like lengths, mixed, and mixed but padded.

    python benchmarks/packing.py [--steps 150] [--save]

Li et al.'s pool (2 + 2 Binomial(19, 1/2) brackets in batches of 64; 2 layers, 2 heads, d 64), one thread. They take
turns step by step, so that a machine whose speed drifts favors none; seconds are the processor's.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import mean, median

import torch

from genlab.runs.devices import environment
from genlab.runs.plan import plan
from genlab.training import fresh
from genlab.training.loop import Stack

RESULT = Path(__file__).parent / "results" / "packing.json"
WARM = 5


def stack(lengths_per_batch: int) -> Stack:
    """A stack of one run on a pool of 20,000 strings."""
    options = {"n_layers": 2, "n_heads": 2, "d_model": 64, "offsets": "zero", "optimizer": "adam", "decay": "all"}
    data = {"pool": 20_000, "batch_size": 64, "lengths_per_batch": lengths_per_batch, "steps": 10_000}
    made = plan("brackets", 40, 40, **options, **data)
    return Stack(made.task, fresh(made.specs), torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.name}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    stacks = {"like lengths": stack(1), "mixed": stack(64), "mixed, padded": stack(64)}
    taken: dict[str, list[float]] = {name: [] for name in stacks}
    for step in range(args.steps + WARM):
        for name, one in stacks.items():
            start = time.process_time()
            batch = one.batch()
            one.advance(replace(batch, packing=None) if name == "mixed, padded" else batch)
            if step >= WARM:
                taken[name].append(time.process_time() - start)
    about = {
        "date": date.today().isoformat(),
        "steps": args.steps,
        "milliseconds": {name: {"mean": 1e3 * mean(t), "median": 1e3 * median(t)} for name, t in taken.items()},
        "mixed against like lengths": mean(taken["mixed"]) / mean(taken["like lengths"]),
        "padded against packed": mean(taken["mixed, padded"]) / mean(taken["mixed"]),
        "environment": environment(torch.device("cpu")),
    }
    print(json.dumps(about, indent=1))
    if args.save:
        RESULT.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
