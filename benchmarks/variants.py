"""What a training step of each variant of the model costs, as a ratio to softmax with learned positions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from genlab.runs.plan import plan
from genlab.training import Stack, fresh

__all__ = ["VARIANTS", "measured", "told"]

SIZES = {"n_layers": 2, "d_model": 64, "n_heads": 4, "batch_size": 64, "lengths_per_batch": 1, "warmup": 0}
LENGTHS = {"sort": (32, 50), "copy": (32, 50), "addition": (10, 20)}
"""Task -> length that is trained, and max_len: 65, 65 and 69 positions."""
FORMATS = {"addition": "reversed-hints"}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"positions {name}": ("sort", {"positions": name})
        for name in ("none", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire")
    },
    "positions coupled (copy)": ("copy", {"positions": "coupled"}),
    "positions abacus (addition)": ("addition", {"positions": "abacus"}),
    **{
        f"random positions, {name}": ("sort", {"positions": name, "random_positions": 256})
        for name in ("learned", "rotary", "alibi", "t5", "fire")
    },
    **{
        f"attention weights {name}": ("sort", {"attn_weights": name})
        for name in (
            "adaptive",
            "scalable",
            "entmax15",
            "scalable-entmax",
            "sigmoid",
            "stick-breaking",
            "selective",
        )
    },
    "adaptive in training": ("sort", {"attn_weights": "adaptive", "adaptive_training": True}),
    "temperature 0.5": ("sort", {"attn_temperature": 0.5}),
    "2 loops of 1 layer": ("sort", {"n_layers": 1, "loops": 2}),
    "loops grow with the length": ("sort", {"n_layers": 1, "loop_growth": 1 / 32}),
    "lstm": ("sort", {"architecture": "lstm"}),
}
"""Name -> the task that it is timed on, and what differs from softmax with learned positions."""


def stepper(task: str, options: dict[str, Any]) -> Callable[[], None]:
    """A function that takes one training step."""
    length, longest = LENGTHS[task]
    learned = {} if options.get("architecture") == "lstm" else {"positions": "learned"}
    given = {**SIZES, **learned, **options, "format": FORMATS.get(task), "min_len": length, "steps": 100_000}
    made = plan(task, length, length, max_len=longest, **given)
    return Stack(made.task, fresh(made.specs), torch.device("cpu")).take_step


def measured(rounds: int, steps: int) -> dict[str, float]:
    """Median over rounds of each ratio; in every round what a variant is compared to is timed before and after it."""
    torch.set_num_threads(1)
    base = {task: stepper(task, {}) for task in LENGTHS}
    own = {name: (task, stepper(task, options)) for name, (task, options) in VARIANTS.items()}
    ratios: dict[str, list[float]] = {name: [] for name in own}
    for at in range(rounds + 1):
        for name, (task, step) in own.items():
            before, with_it, after = (_seconds(partial(f), steps) for f in (base[task], step, base[task]))
            if at:  # one round to warm up
                ratios[name].append(2 * with_it / (before + after))
    return {name: statistics.median(values) for name, values in ratios.items()}


def _seconds(step: Callable[[], None], count: int) -> float:
    step()  # the caches are another one's
    start = time.process_time()
    for _ in range(count):
        step()
    return time.process_time() - start


def told(found: dict[str, float]) -> str:
    """A line a variant."""
    return "\n".join(f"{name:32}{ratio:6.2f}" for name, ratio in found.items())
