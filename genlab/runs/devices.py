"""Cores and devices of this machine."""

from __future__ import annotations

import os

import torch

from genlab.errors import UserError

__all__ = ["check_dtype", "cores", "pick_device"]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda[:i]` as a device. Raises `UserError` where there is none of the kind."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:N)") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:N)")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} was asked for, but torch {torch.__version__} finds no CUDA device here")
    return device


def check_dtype(dtype: str, device_type: str) -> None:
    """Raise `UserError` for a precision that a device does not have."""
    if dtype == "tf32" and device_type != "cuda":
        raise UserError("dtype 'tf32' needs a CUDA device (allowed on the CPU: float32, float64, bfloat16)")
