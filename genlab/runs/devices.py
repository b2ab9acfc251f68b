"""Cores and devices of this machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from genlab.errors import UserError


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


# -- What a run was trained with: versions, device, source commit


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions, device, threads and the commit of genlab's source (where it is a checkout)."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "genlab": version("genlab"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    """The commit of the checkout that genlab is imported from, or ''."""
    source = Path(__file__).resolve().parent
    try:
        asked = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
