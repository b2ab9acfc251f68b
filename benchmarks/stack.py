"""Seeds an hour of genlab's engine, of a plain GPT loop, of a TransformerLens bridge and of `jax.vmap`, side by side.

Engine and plain loop are timed with bfloat16 products too, each against the other's.

    python benchmarks/stack.py [--rounds 7] [--steps 6] [--save]            # two cores of a CPU
    python benchmarks/stack.py --device cuda [--save]                       # stacks of 1 to 512 runs on a GPU

On a CPU the engine of `lab grid` is one process a core with one thread each, one run a stack; the plain loop trains
one run after another with two threads (and, shown beside it, in two processes). Rounds interleave everything, so that
a machine whose speed drifts favours nobody; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from contenders import Size, bridge_step, genlab_step, plain_step

from genlab.runs.devices import environment
from genlab.runs.execute import MALLOC

RESULTS = Path(__file__).parent / "results"
SIZES = {f"d {d}, 33 positions": Size(length=16, d_model=d) for d in (32, 64, 128)}
SIZES |= {"d 64, 65 positions": Size(length=32)}
MAIN = "d 64, 33 positions"
STACKS = (1, 4, 16, 64)
SEED_STEPS = 2500
"""Steps of a run, for seeds an hour."""
WAYS = {
    "genlab": ("genlab", 2, 1),
    "genlab, bfloat16": ("genlab bfloat16", 2, 1),
    "genlab, one run": ("genlab", 1, 2),
    "plain": ("plain", 1, 2),
    "plain, two processes": ("plain", 2, 1),
    "plain, bfloat16": ("plain bfloat16", 1, 2),
    "plain, bfloat16, two processes": ("plain bfloat16", 2, 1),
    "bridge": ("bridge", 1, 2),
    "bridge, two processes": ("bridge", 2, 1),
    "vmap": ("vmap", 1, 2),
}
"""Way of training -> contender, processes, threads of each (`jax` takes all cores whatever it is told)."""
VMAP_RUNS = 16


def build(name: str, seed: int, size: Size) -> Callable[[], float]:
    """A function that takes one step."""
    if name.endswith(" bfloat16"):
        return build(name.removesuffix(" bfloat16"), seed, replace(size, dtype="bfloat16"))
    if name == "vmap":
        from vmap import vmap_step

        return vmap_step(seed, size, VMAP_RUNS)
    if name.startswith("stack "):
        return genlab_step(seed, size, int(name.removeprefix("stack ")))
    return {"genlab": genlab_step, "plain": plain_step, "bridge": bridge_step}[name](seed, size)


def runs_of(name: str) -> int:
    """Runs that a step of a contender trains."""
    return VMAP_RUNS if name == "vmap" else int(name.removeprefix("stack ")) if name.startswith("stack ") else 1


def best_rate(seconds: float = 0.2) -> float:
    """The best float32 rate of a matrix product here and now, in operations a second."""
    x = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        x @ x
        best = max(best, 2 * 1024**3 / (time.perf_counter() - start))
    return best


def worker(pipe: Connection, seed: int) -> None:
    """Times blocks of steps as it is told: (contender, size, threads, steps) -> seconds, loss of the first step."""
    built: dict[tuple[str, Size], Callable[[], float]] = {}
    while (job := pipe.recv()) is not None:
        name, size, threads, count = job
        torch.set_num_threads(threads)
        if name == "rate":
            pipe.send((best_rate(), 0.0))
            continue
        loss = float("nan")
        if (name, size) not in built:
            built[name, size] = build(name, seed, size)
            loss = built[name, size]()
        step = built[name, size]
        step()  # the caches are another contender's
        start = time.perf_counter()
        for _ in range(count):
            step()
        pipe.send((time.perf_counter() - start, loss))


def started(variables: Mapping[str, str]) -> list[Connection]:
    """Two workers with these environment variables beside our own."""
    context, pipes = multiprocessing.get_context("spawn"), list[Connection]()
    os.environ.update(variables)
    for seed in range(2):
        ours, theirs = context.Pipe()
        context.Process(target=worker, args=(theirs, 100 * seed), daemon=True).start()
        theirs.close()  # so that a worker that fails ends the wait for it
        pipes.append(ours)
    for name in variables:
        del os.environ[name]
    return pipes


class Workers:
    """Two processes that time what they are asked to, and two in the environment that `lab grid` gives its own."""

    def __init__(self) -> None:
        self.theirs, self.ours = started({}), started(MALLOC)

    def ask(self, name: str, size: Size, processes: int, threads: int, steps: int) -> tuple[float, float]:
        """The longest time of all processes, and the first loss (NaN if it was told before)."""
        pipes = self.ours if name.startswith(("genlab", "stack ")) else self.theirs
        for pipe in pipes[:processes]:
            pipe.send((name, size, threads, steps))
        told = [pipe.recv() for pipe in pipes[:processes]]
        return max(seconds for seconds, _ in told), told[0][1]

    def leave(self) -> None:
        for pipe in [*self.theirs, *self.ours]:
            pipe.send(None)

    def milliseconds(self, name: str, size: Size, processes: int, threads: int, steps: int) -> float:
        """Milliseconds a step of one run."""
        seconds, _ = self.ask(name, size, processes, threads, steps)
        return 1000 * seconds / (steps * processes * runs_of(name))


def one_round(workers: Workers, steps: int, ways: dict[str, tuple[str, int, int]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, size in SIZES.items():
        found[label] = {way: workers.milliseconds(name, size, p, t, steps) for way, (name, p, t) in ways.items()}
        found[label]["rate"], _ = workers.ask("rate", size, 1, 1, 0)
    found["stacks"] = {
        str(runs): workers.milliseconds(f"stack {runs}", SIZES[MAIN], 1, 1, max(1, steps // runs)) for runs in STACKS
    }
    return found


def summary(rounds: list[dict[str, Any]], ways: dict[str, tuple[str, int, int]]) -> dict[str, Any]:
    """Medians, and ratios to the engine within a round."""

    def median(pick: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(pick(r) for r in rounds)

    sizes: dict[str, Any] = {}
    for d, size in SIZES.items():
        flops = size.flops()
        sizes[d] = {
            "ms_per_run_step": {way: median(lambda r, w=way, d=d: r[d][w]) for way in ways},
            "times_as_fast_as": {way: median(lambda r, w=way, d=d: r[d][w] / r[d]["genlab"]) for way in ways},
            "bfloat16_times_as_fast_as": {
                way: median(lambda r, w=way, d=d: r[d][w] / r[d]["genlab, bfloat16"]) for way in ways
            },
            "one_run_times_as_fast_as_plain": median(lambda r, d=d: r[d]["plain"] / r[d]["genlab, one run"]),
            "best_matrix_gflops": median(lambda r, d=d: r[d]["rate"]) / 1e9,
            "share_of_best_rate": {
                way: median(lambda r, w=way, d=d, f=flops: f / (r[d][w] / 1000) / (2 * r[d]["rate"])) for way in ways
            },
        }
    plain = "plain"
    stacks = {runs: median(lambda r, n=runs: r[MAIN][plain] / r["stacks"][n]) for runs in map(str, STACKS)}
    return {"sizes": sizes, "one_process_stack_times_as_fast_as_plain": stacks}


def report(found: dict[str, Any]) -> None:
    """The last two columns: how many times as fast the engine is, in float32 and in bfloat16."""
    for label, row in found["sizes"].items():
        print(f"{label} (best matrix rate of a core {row['best_matrix_gflops']:.0f} GFLOP/s)")
        for way, ms in row["ms_per_run_step"].items():
            hourly, share = 3.6e6 / (ms * SEED_STEPS), row["share_of_best_rate"][way]
            ratios = row["times_as_fast_as"][way], row["bfloat16_times_as_fast_as"][way]
            told = f"{ms:8.2f} ms a step{hourly:8.1f} seeds an hour{share:7.0%} of best"
            print(f"  {way:32}{told}{ratios[0]:7.2f}{ratios[1]:7.2f}")
        print(f"  one run alone, two threads: {row['one_run_times_as_fast_as_plain']:.2f} times the plain loop")
    print("stacks in one process, one thread, against the plain loop with two:")
    print("  " + ", ".join(f"{n} runs {r:.2f}" for n, r in found["one_process_stack_times_as_fast_as_plain"].items()))


def check_losses(workers: Workers, ways: dict[str, tuple[str, int, int]]) -> None:
    """All contenders compute the same loss at the first step, those that round to bfloat16 about the same."""
    losses = {name: workers.ask(name, SIZES[MAIN], 1, 1, 1)[1] for name in sorted({w[0] for w in ways.values()})}
    for name, loss in losses.items():
        nearly = 0.02 if name.endswith("bfloat16") else 1e-4
        assert abs(loss - losses["genlab"]) < nearly, f"the contenders differ: {losses}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="steps of a block")
    parser.add_argument("--save", action="store_true", help="keep the figures under benchmarks/results/")
    args = parser.parse_args()
    if args.device == "cuda":
        from stack_cuda import measure

        found, name = measure(args.steps), f"cuda-{date.today()}.json"
    else:
        ways = {way: how for way, how in WAYS.items() if how[0] != "vmap" or find_spec("jax")}
        workers = Workers()
        check_losses(workers, ways)
        rounds = [one_round(workers, args.steps, ways) for _ in range(args.rounds + 1)][1:]  # one to warm up
        workers.leave()
        found, name = summary(rounds, ways), "stack.json"
        report(found)
    if args.save:
        about = {"date": str(date.today()), "rounds": args.rounds, "steps": args.steps}
        where = environment(torch.device(args.device))
        (RESULTS / name).write_text(json.dumps({**about, "environment": where, **found}, indent=2) + "\n")
        print(f"kept in {RESULTS / name}")


if __name__ == "__main__":
    main()
