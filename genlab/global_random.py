"""Protect the global random state from libraries that seed it or draw from it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def kept_global_random() -> Iterator[None]:
    """Restore the global random state of Python, NumPy and torch (if imported) on exit."""
    torch = sys.modules.get("torch")
    plain, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    tensors = None if torch is None else torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)  # noqa: NPY002
        if torch is not None and tensors is not None:
            torch.set_rng_state(tensors)
            torch.cuda.set_rng_state_all(devices)
