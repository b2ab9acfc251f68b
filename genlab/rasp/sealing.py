"""Sealed predictions: the predictions of the rule on a given date, with the outcomes known by then.

A row with an outcome that was known on that date is a retrodiction, and is scored separately. A row without one is
not scored at all, since the program may have been written with knowledge of how models behave on the task. Only tasks
generated after the sealing (`genlab.rasp.generating`) count as predictions.
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

# -- Known outcomes
#
# Outcomes from the literature and from our own runs that were known when the rule was designed. `Outcome.source` is
# part of sealed.json: do not change these texts.


class Expectation(Protocol):
    """The part of a prediction that is scored."""

    @property
    def task(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def expected(self) -> bool: ...
    def expects(self, positions: str) -> bool | None: ...


@dataclass(frozen=True)
class Outcome:
    """An observation of whether models generalize in length.

    Attributes:
        task, format: the task and format that the models were trained on.
        generalises: whether they generalized.
        source: the paper or runs that it comes from.
        positions: their position encoding if it matters; empty if the outcome holds for the task as such.
    """

    task: str
    format: str
    generalises: bool
    source: str
    positions: str = ""

    def row(self) -> dict[str, Any]:
        """The outcome as plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        with_positions = f" with positions {self.positions}" if self.positions else ""
        did = "did" if self.generalises else "did not"
        return f"{self.task} ({self.format}){with_positions}, which {did} generalize ({self.source})"


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
    """The known outcomes of one task and format."""
    return [one for one in KNOWN if (one.task, one.format) == (task, format)]


def misses(predictions: Iterable[Expectation]) -> list[Outcome]:
    """The known outcomes that the rule gets wrong."""
    return [outcome for outcome, right in _compare(predictions) if not right]


def score(predictions: Iterable[Expectation]) -> dict[str, int]:
    """The number of known outcomes that the rule gets `right` and `wrong`."""
    right = [agrees for _, agrees in _compare(predictions)]
    return {"right": sum(right), "wrong": len(right) - sum(right)}


def _compare(predictions: Iterable[Expectation]) -> list[tuple[Outcome, bool]]:
    """Each known outcome, and whether the rule agrees with it."""
    compared: list[tuple[Outcome, bool]] = []
    for prediction in predictions:
        for outcome in outcomes_of(prediction.task, prediction.format):
            expected = prediction.expects(outcome.positions) if outcome.positions else prediction.expected
            if expected is not None:  # None: the rule makes no prediction for this encoding
                compared.append((outcome, expected == outcome.generalises))
    return compared


# -- The sealed document

_FILE = "sealed.json"


def seal(predictions: Iterable[Prediction], date: str, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Seal predictions: one row per task and format with its date and hash, and a hash of the whole document.

    Args:
        predictions: the current predictions of the rule.
        date: today's date, as ISO 8601.
        before: an earlier document; its rows keep their date if the prediction is unchanged.

    Returns:
        The document as plain data, for JSON.
    """
    rows = [_row(prediction, date) for prediction in predictions]
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


def _row(prediction: Prediction, date: str) -> dict[str, Any]:
    known = [outcome.row() for outcome in outcomes_of(prediction.task, prediction.format)]
    counts_as = "retrodiction" if known else "unscored"
    row = {**prediction.row(), "known_by_then": known, "counts_as": counts_as, "sealed": date}
    return {**row, "hash": fingerprint(row)}


def _content(row: Mapping[str, Any]) -> str:
    """A hash of a row without its date."""
    return fingerprint({key: value for key, value in row.items() if key != "sealed"})


def fingerprint(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a document or row, excluding its own `hash`."""
    content = {key: value for key, value in document.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed() -> dict[str, Any]:
    """Load the sealed predictions that ship with the package. Raises `UserError` if they were modified."""
    return check_seal(json.loads(files("genlab.rasp").joinpath(_FILE).read_text("utf-8")))


def check_seal(document: dict[str, Any]) -> dict[str, Any]:
    """Verify the hashes of a sealed document and return it.

    Raises:
        UserError: the document was modified after it was sealed.
    """
    if any(part.get("hash") != fingerprint(part) for part in (document, *document["rows"])):
        raise UserError(
            f"the predictions sealed on {document.get('date')} have been changed: the hash does not match"
        )
    return document


def changed_since(document: Mapping[str, Any], predictions: Iterable[Prediction]) -> list[tuple[str, str]]:
    """Tasks and formats whose prediction differs from the sealed one, or which were not sealed.

    Position encodings for which the sealed rule made no predictions are ignored.
    """
    judged = document["rule"].get("judged", document["rule"]["encodings"]["nowhere"])
    then = {
        (row["task"], row["format"]): (row["expected"], _among(row["encodings"], judged)) for row in document["rows"]
    }
    now = {(one.task, one.format): (one.expected, _among(one.encodings, judged)) for one in predictions}
    return sorted(key for key, prediction in now.items() if then.get(key) != prediction)
