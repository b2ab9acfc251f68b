"""How sharply layers transform the residual stream around an input (BLOOD), and whether that detects wrong answers.

A separate family, since its Jacobians take about twenty times as long as all scores of `confidence`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.probes.families.confidence import UNDEFINED, wrongness_of
from genlab.probes.scores import MEASURED
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.input_scores import InputScores
    from genlab.probes.inputs import ProbeInput

_JELENIC = "Jelenic et al. 2023, BLOOD, arXiv 2310.02832"
_SCORES = {
    "blood": (
        "mean over layers except the first of |J|^2, J the Jacobian of the residual after a layer with respect to "
        "that before it, both at one scored position (Frobenius norm, exact)",
        f"{_JELENIC} (BLOOD_M; there also estimated from 50 random projections)",
    ),
    "blood_last": ("|J|^2 of the last layer", f"{_JELENIC} (BLOOD_L)"),
}


def scores_of(given: ProbeInput) -> InputScores:
    """Both scores, computed once."""
    from genlab.probes.input_scores import blood_scores

    return given.once("blood", lambda: blood_scores(given))


def declare(name: str) -> None:
    """Declare the mean of a score over in-distribution examples."""
    formula, source = _SCORES[name]

    def read(given: ProbeInput) -> Tensor:
        return scores_of(given).scores[name].mean(-1)

    read.__name__ = read.__qualname__ = name
    signal(
        name,
        per="run",
        about="how sharply layers transform the residual stream, averaged over examples (higher: more suspect)",
        formula=f"{formula}; maximum over the positions of an answer",
        blind="Depends on the scale of the residual stream: in pre-LN models a large norm of late layers lowers it.",
        unit="score",
        low=0,
        high=float("inf"),
        source=source,
        slow=True,
    )(read)


def declare_measure(measure: str) -> None:
    """Declare how well both scores detect wrong in-distribution answers."""
    about, source = MEASURED[measure]

    def read(given: ProbeInput) -> dict[str, Tensor]:
        return wrongness_of(scores_of(given), measure)

    read.__name__ = read.__qualname__ = f"wrong_by_blood_{measure}"
    signal(
        f"wrong_by_blood_{measure}",
        per="run",
        about=f"is this answer wrong? {about}, for `blood` and `blood_last`",
        formula="see genlab.probes.families.confidence",
        blind=UNDEFINED,
        unit=measure,
        low=0,
        high=1,
        source=source,
        slow=True,
    )(read)


for _name in _SCORES:
    declare(_name)
for _name in MEASURED:
    declare_measure(_name)
