"""A training step of genlab, of a plain GPT loop and of a TransformerLens bridge, timed side by side.

    python benchmarks/step.py [--rounds 15] [--steps 10] [--save]
    python benchmarks/step.py --variants [--rounds 15] [--steps 10] [--save]     # each variant of our model

The plain loop is what a good engineer writes by hand: fused attention, fused AdamW, logits at the scored places alone
(`contenders.py`). Each contender is timed in three settings: one process with one thread, one process with two, and
two processes with one thread each (their milliseconds a step are halved). Rounds interleave everything, so that a
machine whose speed drifts favours nobody; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from contenders import CONTENDERS
from variants import measured, told

from genlab.runs.devices import environment

SETTINGS = {"1 thread": (1, 1), "2 threads": (1, 2), "2 processes": (2, 1)}
"""Name -> processes, threads of each."""


def worker(pipe: Connection, seed: int) -> None:
    """Times blocks of steps as it is told: (contender, threads, steps) -> seconds; the first step's losses first."""
    steps = {name: build(seed) for name, build in CONTENDERS.items()}
    pipe.send({name: step() for name, step in steps.items()})
    while (job := pipe.recv()) is not None:
        name, threads, count = job
        torch.set_num_threads(threads)
        steps[name]()  # the caches are another contender's
        start = time.perf_counter()
        for _ in range(count):
            steps[name]()
        pipe.send(time.perf_counter() - start)


def one_round(pipes: list[Connection], steps: int, first: int) -> dict[str, dict[str, float]]:
    """Milliseconds a step, by setting and contender."""
    found: dict[str, dict[str, float]] = {}
    order = list(CONTENDERS)[first:] + list(CONTENDERS)[:first]
    for setting, (processes, threads) in SETTINGS.items():
        for name in order:
            for pipe in pipes[:processes]:
                pipe.send((name, threads, steps))
            slowest = max(pipe.recv() for pipe in pipes[:processes])
            found.setdefault(setting, {})[name] = 1000 * slowest / (steps * processes)
    return found


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Medians by setting, and ratios to the plain loop: setting by setting, and best setting to best setting."""
    medians = {s: {name: statistics.median(r[s][name] for r in rounds) for name in CONTENDERS} for s in SETTINGS}
    ratios = {
        s: {name: statistics.median(r[s][name] / r[s]["plain"] for r in rounds) for name in ("genlab", "bridge")}
        for s in SETTINGS
    }
    best = {name: min(SETTINGS, key=lambda s: medians[s][name]) for name in ("genlab", "plain", "bridge")}
    ratios["best"] = {
        name: statistics.median(r[best[name]][name] / r[best["plain"]]["plain"] for r in rounds)
        for name in ("genlab", "bridge")
    }
    share = {s: statistics.median(r[s]["batches"] / r[s]["genlab"] for r in rounds) for s in SETTINGS}
    return {"ms_per_step": medians, "ratio_to_plain": ratios, "best_setting": best, "share_of_batches": share}


def report(found: dict[str, Any]) -> None:
    names = "".join(f"{name:>10}" for name in CONTENDERS)
    print(f"{'ms a step':14}{names}   genlab/plain  bridge/plain  batches")
    for s, row in found["ms_per_step"].items():
        ratio, share = found["ratio_to_plain"][s], found["share_of_batches"][s]
        cells = "".join(f"{row[name]:10.2f}" for name in CONTENDERS)
        print(f"{s:14}{cells}{ratio['genlab']:15.2f}{ratio['bridge']:14.2f}{share:9.1%}")
    best = ", ".join(f"{name} {setting}" for name, setting in found["best_setting"].items())
    ratio = found["ratio_to_plain"]["best"]
    print(f"best settings ({best}): genlab/plain {ratio['genlab']:.2f}, bridge/plain {ratio['bridge']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="steps of a block")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/step.json (or variants.json)")
    parser.add_argument("--variants", action="store_true", help="each variant against softmax with learned positions")
    args = parser.parse_args()
    if args.variants:
        found = measured(args.rounds, args.steps)
        print(told(found))
        if args.save:
            keep("variants", args, {"ratio_to_softmax_and_learned_positions": found})
        return
    context, pipes = multiprocessing.get_context("spawn"), list[Connection]()
    for seed in range(2):
        ours, theirs = context.Pipe()
        context.Process(target=worker, args=(theirs, seed), daemon=True).start()
        theirs.close()  # so that a worker that fails ends the wait for it
        pipes.append(ours)
    for pipe in pipes:
        losses = pipe.recv()
        same = [losses[name] for name in ("genlab", "plain", "bridge")]
        assert max(same) - min(same) < 1e-4, f"the contenders do not compute the same loss: {losses}"
    rounds = [one_round(pipes, args.steps, i % len(CONTENDERS)) for i in range(args.rounds + 1)][1:]  # one to warm up
    for pipe in pipes:
        pipe.send(None)
    found = summary(rounds)
    report(found)
    if args.save:
        keep("step", args, found)


def keep(name: str, args: argparse.Namespace, found: dict[str, Any]) -> None:
    where = environment(torch.device("cpu"))
    kept = {"date": str(date.today()), "rounds": args.rounds, "steps": args.steps, "environment": where, **found}
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept, indent=2) + "\n")
    print(f"kept in {path}")


if __name__ == "__main__":
    main()
