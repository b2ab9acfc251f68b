"""How fast tasks draw examples, in tokens a second on one core, beside the training step that consumes them.

    python benchmarks/sampling.py [--rounds 15] [--task NAME] [--save]

Tokens are those of whole sequences, pads left out. Each format is drawn in batches of 64 and of 1,024 examples of one
length (`LENGTHS`), and in batches as training draws them: 64 examples of a few lengths. Beside the last stands a step
of the task's default model on that batch, and which share of it drawing takes. Rounds go through all formats in turn;
of each measurement the fastest round counts. Seconds are those of the processor, so that other work on the machine
tells less. Mazes come from a pool that is drawn before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlab.runs.devices import environment
from genlab.runs.plan import plan
from genlab.spec import RunSpec
from genlab.tasks import Examples, Task, Vocab, names, task_class
from genlab.tasks.maze_making import use_cache
from genlab.training import Stack, Stream, fresh

LENGTHS = {
    **{"maze": 6, "modular": 1, "modular-icl": 31, "repeats": 25, "needle": 64},
    **{"question-formation": 16, "tense-reinflection": 13},
}
USUAL = 40
MAZES = {"train_blocks": 4, "test_blocks": 1}
"""The pool: its size says how long it is drawn, not how fast it is read."""
BLOCK_SECONDS = 0.02


class Format:
    """One format of a task: its batches, and the fastest time of each so far."""

    def __init__(self, name: str, format: str):
        length = LENGTHS.get(name, USUAL)
        params = MAZES if name == "maze" else {}
        made = plan(name, length, length, format=format, params=params, steps=1)
        self.task, self.spec = made.task, made.specs[0]
        self._rng, self._step = np.random.default_rng(0), 0
        self._stream = Stream(self.task, self.spec.train, self.spec.model)
        self._length = int(self.task.lengths_between(self.task.train_split, 0, length)[-1])
        self.batches: dict[str, Callable[[], Examples]] = {
            "64": lambda: self._sample(64),
            "1024": lambda: self._sample(1024),
            "training": self._training,
        }
        self.tokens = {kind: tokens_of(draw()) for kind, draw in self.batches.items()}
        self.seconds = dict.fromkeys(self.batches, float("inf"))
        self.step_seconds = float("inf")

    def _sample(self, n: int) -> Examples:
        return self.task.sample(self._rng, self.task.train_split, np.full(n, self._length))

    def _training(self) -> Examples:
        self._step += 1
        return self._stream.batch(self._step)

    def round(self) -> None:
        """Time each kind of batch once more, and a training step."""
        for kind, draw in self.batches.items():
            self.seconds[kind] = min(self.seconds[kind], seconds_of(draw))
        self.step_seconds = min(self.step_seconds, seconds_a_step(self.task, self.spec))

    def row(self) -> dict[str, Any]:
        rates = {kind: self.tokens[kind] / self.seconds[kind] / 1e6 for kind in ("64", "1024")}
        return {
            "task": self.task.name,
            "format": self.task.format,
            "length": self._length,
            "million_tokens_a_second": rates,
            "batch_ms": 1000 * self.seconds["training"],
            "step_ms": 1000 * self.step_seconds,
            "share_of_step": self.seconds["training"] / self.step_seconds,
        }


def tokens_of(batch: Examples) -> int:
    """Tokens of a batch: those that are read, and the last target of each example."""
    return int((batch.targets != Vocab.pad).sum()) + len(batch)


def seconds_of(draw: Callable[[], Examples]) -> float:
    """Processor seconds a call, over a block of calls."""
    start = time.process_time()
    draw()
    calls = max(1, int(BLOCK_SECONDS / max(time.process_time() - start, 1e-5)))
    start = time.process_time()
    for _ in range(calls):
        draw()
    return (time.process_time() - start) / calls


def seconds_a_step(task: Task, spec: RunSpec) -> float:
    """Processor seconds of a training step, its batch included: the faster of two, after one to warm up."""
    stack = Stack(task, fresh([spec]), torch.device("cpu"))
    seconds: list[float] = []
    for _ in range(3):
        start = time.process_time()
        stack.advance(stack.batch())
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--task", choices=names(), help="one task alone")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/sampling.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        use_cache(Path(cache))
        formats = [Format(n, f) for n in ([args.task] if args.task else names()) for f in task_class(n).formats]
        for _ in range(args.rounds):
            for format in formats:
                format.round()
    rows = [format.row() for format in formats]
    print(f"{'':36}{'M tokens/s':>20}{'a training batch':>22}{'step':>10}")
    print(f"{'task, format':36}{'64':>10}{'1,024':>10}{'ms':>22}{'ms':>10}{'share':>9}")
    for row in rows:
        rates = row["million_tokens_a_second"]
        times = f"{row['batch_ms']:22.2f}{row['step_ms']:10.1f}{row['share_of_step']:9.1%}"
        print(f"{row['task'] + ', ' + row['format']:36}{rates['64']:10.1f}{rates['1024']:10.1f}{times}")
    if args.save:
        where = environment(torch.device("cpu"))
        kept = {"date": str(date.today()), "rounds": args.rounds, "environment": where, "formats": rows}
        path = Path(__file__).parent / "results" / "sampling.json"
        path.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"kept in {path}")


if __name__ == "__main__":
    main()
