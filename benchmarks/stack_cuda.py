"""Stacks on a GPU against one run after another: time, share of the card's matrix peak, memory, where time goes.

Called by `stack.py --device cuda`. Every step is timed as `lab grid` takes it, with batches made ahead; the plain
loop makes its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from contenders import GPT, Loop, Size, carry_over, gpt_names

from genlab.runs.devices import cores
from genlab.training import Stack, fresh
from genlab.training.loop import precision

CUDA = torch.device("cuda")
SIZES = {
    "2 layers, d 64, length 32": Size(length=16),
    "2 layers, d 128, length 64": Size(length=32, d_model=128),
    "6 layers, d 512, length 256": Size(length=128, n_layers=6, d_model=512, n_heads=8),
}
DTYPES = ("float32", "tf32", "bfloat16")
STACKS = (1, 8, 32, 128, 512)
_WARM, _BLOCKS = 40, 5
"""Steps until processes that make batches are at work; blocks that a median is taken of."""
_KINDS = {
    "matrix products": ("gemm", "cutlass", "cublas", "sgemm"),
    "attention": ("flash", "fmha", "attention", "softmax"),
    "copies to the device": ("Memcpy HtoD",),
}
"""Kind of work -> parts of the names of its kernels; the rest is element-wise work, norms and the optimiser."""


def measure(steps: int, device: torch.device = CUDA, sizes: dict[str, Size] = SIZES) -> dict[str, Any]:
    """Everything, by size and precision."""
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu", "sizes": {}}
    for name, size in sizes.items():
        for dtype in DTYPES if device.type == "cuda" else DTYPES[:1]:
            found["sizes"][f"{name}, {dtype}"] = _one(Size(**{**vars(size), "dtype": dtype}), steps, device)
    return found


def _one(size: Size, steps: int, device: torch.device) -> dict[str, Any]:
    peak = matrix_peak(size.dtype, device)
    plain = milliseconds(plain_step(size, device), steps, device)
    rows = []
    for runs in STACKS:
        try:
            row = stacked(size, runs, steps, device)
        except torch.OutOfMemoryError:
            break
        row["times_as_fast_as_plain"] = plain / row["ms_per_run_step"]
        row["share_of_matrix_peak"] = size.flops() / (row["ms_per_run_step"] / 1000) / peak
        rows.append(row)
        print(size, row)
    return {"plain_ms": plain, "matrix_peak_tflops": peak / 1e12, "stacks": rows}


def stacked(size: Size, runs: int, steps: int, device: torch.device) -> dict[str, Any]:
    """A stack of so many runs: milliseconds a step of one, memory, where the time of a step goes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    makers = cores() - 1 if device.type == "cuda" else 0
    stack = Stack(size.task, fresh([size.spec(seed) for seed in range(runs)]), device, makers=makers)
    try:
        for _ in range(_WARM if makers else 1):
            stack.take_step()
        whole = milliseconds(stack.take_step, steps, device)
        batch = stack.batch()
        alone = milliseconds(lambda: stack.advance(batch), steps, device)
        row = {"runs": runs, "ms_per_run_step": whole / runs, "waiting_for_batches": 1 - min(1.0, alone / whole)}
        if device.type == "cuda":
            row["memory_mb_a_run"] = torch.cuda.max_memory_allocated() / runs / 2**20
            row["time_goes_to"] = where_it_goes(lambda: stack.advance(batch))
        return row
    finally:
        stack.close()


def plain_step(size: Size, device: torch.device) -> Callable[[], Any]:
    """A step of the plain loop on the device."""
    spec = size.spec()
    gpt = GPT(spec.model)
    carry_over(spec, gpt, gpt_names(spec.model))
    return Loop(spec, gpt.to(device), gpt, device).step


def milliseconds(step: Callable[[], Any], steps: int, device: torch.device) -> float:
    """A step, in blocks of `steps`: the median block."""
    blocks = []
    for _ in range(_BLOCKS + 1):
        _wait(device)
        start = time.perf_counter()
        for _ in range(steps):
            step()
        _wait(device)
        blocks.append(1000 * (time.perf_counter() - start) / steps)
    return statistics.median(blocks[1:])  # the first one warms up


def matrix_peak(dtype: str, device: torch.device) -> float:
    """The best rate of a large matrix product at a precision, measured here, in operations a second."""
    n = 8192 if device.type == "cuda" else 1024
    x = torch.randn(n, n, device=device, dtype=torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    with precision(dtype, device):
        return 2 * n**3 / (milliseconds(lambda: x @ x, 5, device) / 1000)


def where_it_goes(step: Callable[[], Any]) -> dict[str, float]:
    """Shares of the device's busy time by kind of work, and the share of the step in which it is idle."""
    from torch.profiler import ProfilerActivity, profile

    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(5):
            step()
        _wait(CUDA)
    wall = 1e6 * (time.perf_counter() - start)
    return shares(((event.key, event.self_device_time_total) for event in profiler.key_averages()), wall)


def shares(kernels: Iterable[tuple[str, float]], wall: float) -> dict[str, float]:
    """Microseconds by kernel as shares of what took `wall` microseconds.

    >>> shares([("sgemm_128", 50.0), ("flash_fwd", 20.0), ("elementwise", 10.0)], wall=100.0)
    {'matrix products': 0.5, 'attention': 0.2, 'copies to the device': 0.0, 'the rest': 0.1, 'idle': 0.2}
    """
    found = {**dict.fromkeys(_KINDS, 0.0), "the rest": 0.0}
    for name, time_taken in kernels:
        kind = next((k for k, parts in _KINDS.items() if any(part in name for part in parts)), "the rest")
        found[kind] += time_taken / wall
    found["idle"] = 1 - sum(found.values())
    return {kind: round(share, 4) for kind, share in found.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
