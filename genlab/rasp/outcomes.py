"""Known outcomes: of the literature and of our own runs, and how the rule does on them.

These were known when the rule was made, so that what it says of them is a retrodiction, scored apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

__all__ = ["KNOWN", "Outcome", "Said", "misses", "outcomes_of", "score"]


class Said(Protocol):
    """What the scoring reads of a prediction."""

    @property
    def task(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def expected(self) -> bool: ...
    def expects(self, positions: str) -> bool | None: ...


@dataclass(frozen=True)
class Outcome:
    """Whether models were seen to generalise in length.

    Attributes:
        task, format: what they were trained on.
        generalises: whether they did.
        source: who saw it.
        positions: their position encoding, where it is known to matter; empty for what holds of the task.
    """

    task: str
    format: str
    generalises: bool
    source: str
    positions: str = ""

    def row(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        with_positions = f" with positions {self.positions}" if self.positions else ""
        did = "did" if self.generalises else "did not"
        return f"{self.task} ({self.format}){with_positions}, which {did} generalise ({self.source})"


_ZHOU, _HUANG = "Zhou et al. 2023, arXiv 2310.16028", "Huang et al. 2024, arXiv 2410.02140"
_OWN = "own runs, four seeds, training lengths up to 20; see the README"

KNOWN: tuple[Outcome, ...] = (
    Outcome("addition", "forward", False, _ZHOU),
    Outcome("addition", "reversed", False, _ZHOU),
    Outcome("addition", "reversed-hints", True, _ZHOU),
    Outcome("copy", "repeats", False, _ZHOU),
    Outcome("copy", "unique", True, _ZHOU),
    Outcome("copy", "unique", False, _OWN, "rotary"),
    Outcome("count", "plain", True, _ZHOU),
    Outcome("dyck-next", "next", True, _HUANG + " (bounded Dyck)"),
    Outcome("majority", "plain", True, _HUANG),
    Outcome("mode", "by-count", False, _ZHOU),
    Outcome("mode", "plain", True, _ZHOU),
    Outcome("parity", "plain", False, _ZHOU),
    Outcome("parity", "plain", False, _OWN, "learned"),
    Outcome("sort", "plain", True, _ZHOU),
    Outcome("sort", "plain", True, _OWN, "learned"),
)


def outcomes_of(task: str, format: str) -> list[Outcome]:
    """What was known of one task and format."""
    return [one for one in KNOWN if (one.task, one.format) == (task, format)]


def misses(predictions: Iterable[Said]) -> list[Outcome]:
    """The known outcomes that the rule does not give."""
    return [outcome for outcome, right in _scored(predictions) if not right]


def score(predictions: Iterable[Said]) -> dict[str, int]:
    """How many known outcomes the rule gives, and how many it does not."""
    told = [right for _, right in _scored(predictions)]
    return {"right": sum(told), "wrong": len(told) - sum(told)}


def _scored(predictions: Iterable[Said]) -> list[tuple[Outcome, bool]]:
    told: list[tuple[Outcome, bool]] = []
    for one in predictions:
        for outcome in outcomes_of(one.task, one.format):
            said = one.expects(outcome.positions) if outcome.positions else one.expected
            if said is not None:  # of an encoding that the rule does not judge it is neither right nor wrong
                told.append((outcome, said == outcome.generalises))
    return told
