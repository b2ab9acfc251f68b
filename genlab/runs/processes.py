"""Processes by name: which machine this is, and whether a process of it is still the one that was meant."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["born", "host"]


def host() -> str:
    """This machine, and its name space of processes, with neither dots nor spaces in it."""
    name = socket.gethostname().replace(".", "-")
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # no Linux
        return name
    return f"{name}-{space}"


def born(pid: int) -> str:
    """When a process of this machine was started; '' if there is none. A number used again has another birth.

    >>> born(os.getpid()) == born(os.getpid()) != ""
    True
    """
    try:
        state, *_, started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:20]
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _asked(pid)
    return "" if state in "ZX" else started  # a zombie does nothing any more


def _asked(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "there"
