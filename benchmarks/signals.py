"""What it costs to read signals: 200 runs as stacks, against a loop that loads each run and probes it alone.

    python benchmarks/signals.py [--runs 200] [--alone 10] [--save]

Runs have 2 layers and d_model 64 on `sort` to length 20, with initial weights: what is read costs the same whatever
the weights are. Signals are all of the families in `FAMILIES` that are not slow. The loop is timed on a few runs, in
turns with stacks of eight times as many, so that a machine whose speed drifts favours neither; it reads the same
signals, with and without the untrained models that nulls are made of.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

import genlab
from genlab.models import Transformer, initial
from genlab.probes import chosen, probe, probe_batches, probe_input
from genlab.probes.probing import read
from genlab.runs import Store
from genlab.runs.devices import environment
from genlab.runs.parts import Signals
from genlab.spec import RunSpec
from genlab.training import fresh

FAMILIES = {
    "heads": ("heads", "induction", "copying", "selects"),
    "sharpness": ("sharpness", "interventions"),
    "confidence": ("confidence",),
}
WANTED = chosen([family for group in FAMILIES.values() for family in group])


def committed(runs: int, store: Store) -> list[str]:
    """Runs with initial weights, each committed as a stack of its own, as a CPU trains them."""
    specs = genlab.plan("sort", 20, 20, seeds=range(runs), steps=0).specs
    about = environment(torch.device("cpu"))
    store.ready()
    for state in fresh(specs):
        store.commit([dataclasses.replace(state, status="finished")], about)
    return [spec.run_id for spec in specs]


def forget(store: Store, runs: list[str]) -> None:
    """Take the signals of runs out of the store."""
    Signals(store.path).drop(runs)


def timed(store: Store, runs: list[str], together: bool, null: bool = True) -> float:
    """Seconds a run."""
    forget(store, runs)
    start = time.perf_counter()
    for some in [runs] if together else [[run] for run in runs]:
        probe(store, some, WANTED, null=null)
    return (time.perf_counter() - start) / len(runs)


def shares(spec: RunSpec, runs: int = 16) -> dict[str, float]:
    """Share of each family in the time of a stack, forward passes apart."""
    specs = [spec.with_seeds(seed, seed) for seed in range(runs)]
    weights = initial(spec.model, [s.train.init_seed for s in specs])
    given = probe_input(specs, Transformer(spec.model, weights), probe_batches(spec, weights.device))
    start = time.perf_counter()
    given.seen  # noqa: B018 (computed when it is asked for)
    seconds = {"forward passes": time.perf_counter() - start}
    for name, families in FAMILIES.items():
        start = time.perf_counter()
        read(given, chosen(families))
        seconds[name] = time.perf_counter() - start
    return {name: round(s / sum(seconds.values()), 3) for name, s in seconds.items()}


def measured(runs: int, alone: int, rounds: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        ids = committed(runs, store)
        timed(store, ids[:1], together=True)  # imports, caches
        load, start, spent = os.getloadavg()[0], time.perf_counter(), time.process_time()
        probe(store, ids, WANTED)
        whole, spent = time.perf_counter() - start, time.process_time() - spent
        found: dict[str, list[float]] = {"with nulls": [], "without nulls": []}
        for i in range(rounds):
            some = ids[i * alone : (i + 1) * alone]
            for name, null in (("with nulls", True), ("without nulls", False)):
                one_by_one = timed(store, some, together=False, null=null)
                stacked = timed(store, ids[: 8 * alone], together=True, null=null)
                found[name].append(one_by_one / stacked)
        spec = store.spec(ids[0])
    return {
        "date": date.today().isoformat(),
        "environment": environment(torch.device("cpu")),
        "runs": runs,
        "signals": len(WANTED),
        "seconds": round(whole, 1),
        "processor seconds": round(spent, 1),
        "load before": round(load, 2),
        "threads": torch.get_num_threads(),
        "times a loop over runs": {name: round(statistics.median(ratios), 2) for name, ratios in found.items()},
        "shares": shares(spec),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--alone", type=int, default=5, help="runs that the loop probes in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/signals.json")
    asked = parser.parse_args()
    figures = measured(asked.runs, asked.alone, asked.rounds)
    print(json.dumps(figures, indent=1))
    if asked.save:
        place = Path(__file__).parent / "results" / "signals.json"
        place.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
