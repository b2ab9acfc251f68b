"""What a grid will cost, from a few measured steps of each shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from genlab.models import parameters
from genlab.runs.devices import cores, pick_device
from genlab.runs.plan import Evals
from genlab.runs.stack_size import measured_size, seconds_a_step
from genlab.runs.stacks import alike
from genlab.runs.store import Store
from genlab.spec import RunSpec
from genlab.tasks import make

__all__ = ["estimate", "memory_bytes"]


def estimate(
    wanted: Sequence[tuple[RunSpec, Evals]], store: Store, device_name: str, workers: int, stack: int
) -> dict[str, Any]:
    """Runs, stacks, and for each shape its parameters, memory, batch and hours; nothing is trained or written.

    Runs that the store holds are not counted in the hours, which are those of cores that do nothing else. Evaluation
    comes on top: a few per cent.
    """
    device = pick_device(device_name)
    processes = 1 if device.type == "cuda" else workers or cores()
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // processes))
    try:
        shapes = [_shape(specs, store, device, stack) for specs, _ in alike(wanted)]
    finally:
        torch.set_num_threads(threads)
    return {
        "runs": len(wanted),
        "done": sum(spec.run_id in store for spec, _ in wanted),
        "stacks": sum(shape["stacks"] for shape in shapes),
        "workers": processes,
        "device": str(device),
        "hours": sum(shape["hours"] for shape in shapes) / processes,
        "shapes": shapes,
    }


def _shape(specs: list[RunSpec], store: Store, device: torch.device, asked: int) -> dict[str, Any]:
    left = [spec for spec in specs if spec.run_id not in store]
    size = min(asked or (1 if device.type == "cpu" else measured_size(specs, device)), len(specs))
    seconds = seconds_a_step(specs[:size], device)
    widest = max(specs, key=lambda spec: spec.train.train_len)
    train = widest.train
    steps = sum(max(s.train.steps for s in left[i : i + size]) for i in range(0, len(left), size))
    width = make(specs[0].task).width(train.train_len)
    return {
        "runs": len(specs),
        "stack": size,
        "stacks": -(-len(specs) // size),
        "parameters": parameters.count(specs[0].model),
        "memory_mb": memory_bytes(widest, size) / 2**20,
        "batch": f"{train.batch_size} x {width} tokens",
        "seconds_a_step": seconds,
        "seconds_a_step_in_bfloat16": _in_bfloat16(specs[:size], device),
        "hours": seconds * steps / 3600,
    }


def _in_bfloat16(specs: list[RunSpec], device: torch.device) -> float | None:
    """Seconds that a step would take with bfloat16 products, where those are the other choice: float32 on a CPU."""
    if device.type != "cpu" or specs[0].train.dtype != "float32":
        return None
    rounded = [s.model_copy(update={"train": s.train.model_copy(update={"dtype": "bfloat16"})}) for s in specs]
    return seconds_a_step(rounded, device)


def memory_bytes(spec: RunSpec, size: int) -> int:
    """Memory of a stack while it trains: weights, gradients and two moments, and what the backward pass keeps.

    Kept a token and block: the residual stream and what the sublayers read and write (about 8 d_model + 2 d_mlp
    numbers) and the attention weights.
    """
    model, train = spec.model, spec.train
    width = make(spec.task).width(train.train_len)
    a_token = 8 * model.d_model + 2 * model.d_mlp + model.n_heads * width
    kept = train.batch_size * width * (model.n_layers * a_token + model.d_vocab)
    number = 8 if train.dtype == "float64" else 4
    return size * number * (4 * parameters.count(model) + kept)
