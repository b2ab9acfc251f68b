"""Predictions under seal: what the rule said on a day, with what was known by then.

An outcome that was known on that day makes a row a retrodiction, scored apart. A row without one is not scored
either: the program may have been written with the task's behaviour in mind. Only tasks that are generated after
the sealing (`genlab.rasp.generating`) count as predictions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Protocol

from genlab.errors import UserError
from genlab.rasp.prediction import DEEPEST, ENCODINGS, JUDGED, LONGEST, Prediction

# -- Known outcomes: of the literature and of our own runs, and how the rule does on them
#
# These were known when the rule was made, so that what it says of them is a retrodiction, scored apart.


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


_FILE = "sealed.json"


def seal(predictions: Iterable[Prediction], date: str, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Predictions under seal: a row a task and format, each with its date and hash, and a hash over all of them.

    Args:
        predictions: what the rule says now.
        date: today's, as ISO 8601.
        before: an earlier document; what it says, it said then: rows that are as they were keep their date.
    """
    rows = [_row(one, date) for one in predictions]
    then = {_content(row): row for row in (before or {"rows": []})["rows"]}
    document: dict[str, Any] = {
        "date": date,
        "rule": {
            "longest": LONGEST,
            "deepest": DEEPEST,
            "encodings": {k: list(v) for k, v in ENCODINGS.items()},
            "judged": list(JUDGED),
        },
        "rows": [then.get(_content(row), row) for row in rows],
    }
    return {**document, "hash": fingerprint(document)}


def _among(encodings: Iterable[str], judged: Iterable[str]) -> list[str]:
    known = set(judged)
    return [one for one in encodings if one in known]


def _row(one: Prediction, date: str) -> dict[str, Any]:
    known = [outcome.row() for outcome in outcomes_of(one.task, one.format)]
    counts_as = "retrodiction" if known else "unscored"
    row = {**one.row(), "known_by_then": known, "counts_as": counts_as, "sealed": date}
    return {**row, "hash": fingerprint(row)}


def _content(row: Mapping[str, Any]) -> str:
    """All that a row says, its date left out."""
    return fingerprint({key: value for key, value in row.items() if key != "sealed"})


def fingerprint(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a document or a row, its own hash left out."""
    content = {key: value for key, value in document.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed() -> dict[str, Any]:
    """The document that comes with the package."""
    return check_seal(json.loads(files("genlab.rasp").joinpath(_FILE).read_text("utf-8")))


def check_seal(document: dict[str, Any]) -> dict[str, Any]:
    """The document, if it is what was sealed. Raises `UserError` if it has been changed since."""
    if any(part.get("hash") != fingerprint(part) for part in (document, *document["rows"])):
        raise UserError(
            f"the predictions sealed on {document.get('date')} have been changed: their hash is not theirs"
        )
    return document


def changed_since(document: Mapping[str, Any], predictions: Iterable[Prediction]) -> list[tuple[str, str]]:
    """Tasks and formats of which the rule says something else now, or which were not there.

    Of a position encoding that the sealed rule did not judge, nothing was sealed: what is said of it since is new.
    """
    judged = document["rule"].get("judged", document["rule"]["encodings"]["nowhere"])
    then = {
        (row["task"], row["format"]): (row["expected"], _among(row["encodings"], judged)) for row in document["rows"]
    }
    now = {(one.task, one.format): (one.expected, _among(one.encodings, judged)) for one in predictions}
    return sorted(key for key, said in now.items() if then.get(key) != said)
