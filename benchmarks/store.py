"""A store of many runs: how long listing and filtering take, before and after `compact`.

    python benchmarks/store.py [--runs 100000] [--store DIR]

Each run is entered through the store's own commit (stacks of 250 runs, tiny weights) with 10 rows of evaluation.
Times are processor seconds of a process that has imported everything: reading the index and the evaluations,
filtering, one row a run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

import genlab
from genlab.models import parameters
from genlab.report.tables import filtered, run_table, summary
from genlab.runs import Store
from genlab.runs.maintain import compact_store
from genlab.runs.store import now
from genlab.training import RunState

STACK, LENGTHS = 250, 10


def fill(store: Store, runs: int) -> None:
    """Commit synthetic runs: a grid over weight decay and seeds."""
    base = genlab.plan("sort", 5, 10, steps=10, n_layers=0, d_model=4, n_heads=1).specs[0]
    weights = torch.zeros(parameters.count(base.model))
    ids: list[str] = []
    for start in range(0, runs, STACK):
        train = base.train.model_copy(update={"weight_decay": 0.01 * (start // STACK % 4)})
        config = base.model_copy(update={"train": train})
        specs = [config.with_seeds(seed, seed) for seed in range(start, min(start + STACK, runs))]
        history = [{"step": 10, "loss": 0.1, "lr": 1e-3, "exact_match": 1.0, "seconds": 1.0}]
        store.commit([RunState(s, 10, "finished", weights, weights, weights, history) for s in specs], {})
        ids += [spec.run_id for spec in specs]
        shared = {"step": 10, "split": "id", "metric": "exact_match", "n": 64, "seed": 0, "at": now()}
        blobs = {"correct": bytes(8), "answers": bytes(512)}
        store.add_evals(
            [
                {"run_id": s.run_id, "length": n, "value": (s.train.init_seed + n) % 100 / 100, **shared, **blobs}
                for s in specs
                for n in range(1, LENGTHS + 1)
            ]
        )
    store.save_group("big", ids, {})


def times(path: Path) -> dict[str, float]:
    """Seconds of a list, a filter and a summary, each from a store that is opened anew."""
    found: dict[str, float] = {}
    for name, work in {
        "list": lambda store: run_table(store),
        "list a grid and filter": lambda store: filtered(run_table(store, store.find("big")), "weight_decay = 0.01"),
        "by weight_decay": lambda store: summary(run_table(store), ["weight_decay"]),
    }.items():
        start = time.process_time()  # of this process alone: a busy machine does not count
        rows = len(work(Store(path)))
        found[f"{name} ({rows:,} rows)"] = time.process_time() - start
    return found


def main() -> None:
    """Fill, time, compact, time again."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--runs", type=int, default=100_000)
    asked.add_argument("--store", type=Path)
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.store or Path(folder) / "store"
        store = Store(path)
        store.ready()
        start = time.perf_counter()
        fill(store, args.runs)
        print(f"{args.runs:,} runs, {args.runs * LENGTHS:,} rows entered in {time.perf_counter() - start:.0f} s")
        before = times(path)
        start = time.perf_counter()
        parts = compact_store(store)
        print(f"compact: {parts[0]} parts and records -> {parts[1]} in {time.perf_counter() - start:.1f} s")
        for (name, old), new in zip(before.items(), times(path).values(), strict=True):
            print(f"{name}: {old:.2f} s before, {new:.2f} s after")


if __name__ == "__main__":
    main()
