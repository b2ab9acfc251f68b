"""What long work says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one run is: `doing` is training, evaluating or how it ended; `exact_match` is in distribution."""

    run_id: str
    doing: str
    step: int
    steps: int
    loss: float = float("nan")
    exact_match: float = float("nan")


Report = Callable[[Progress], bool]
"""Called again and again while work goes on; False asks to stop."""
