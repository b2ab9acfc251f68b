"""What a run was trained with: versions, device, source commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["environment"]


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
