"""Progress of a long-running job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of one run: `doing` is training, evaluating or its final status; `exact_match` is ID accuracy."""

    run_id: str
    doing: str
    step: int
    steps: int
    loss: float = float("nan")
    exact_match: float = float("nan")


Report = Callable[[Progress], bool]
"""Called repeatedly during work; returning False stops it."""
