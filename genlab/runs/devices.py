"""Cores, devices and the software environment of this machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from genlab.errors import UserError
from genlab.tasks import plugin_sources


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda[:i]`. Raises `UserError` if unavailable."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:N)") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:N)")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} is unavailable: torch {torch.__version__} finds no CUDA device")
    return device


def check_dtype(dtype: str, device_type: str) -> None:
    """Raise `UserError` if a device does not support a precision."""
    if dtype == "tf32" and device_type != "cuda":
        raise UserError("dtype 'tf32' requires a CUDA device (allowed on the CPU: float32, float64, bfloat16)")


# -- Software environment


def environment(device: torch.device) -> dict[str, str | int | dict[str, str]]:
    """Return versions, device, threads, the git commit of genlab (if it is a checkout), plugins with their hashes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "genlab": version("genlab"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
        "plugins": plugin_sources(),
    }


def _git_commit() -> str:
    """The commit of genlab's checkout, or ''."""
    source = Path(__file__).resolve().parent
    try:
        result = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
