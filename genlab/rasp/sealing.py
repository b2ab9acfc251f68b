"""Predictions under seal: what the rule said on a day, with what was known by then.

An outcome that was known on that day makes a row a retrodiction, scored apart. A row without one is not scored
either: the program may have been written with the task's behaviour in mind. Only tasks that are generated after
the sealing (`genlab.rasp.generating`) count as predictions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from genlab.errors import UserError
from genlab.rasp.prediction import DEEPEST, ENCODINGS, KNOWN, LONGEST, Prediction

__all__ = ["changed_since", "check_seal", "fingerprint", "seal", "sealed"]

_FILE = "sealed.json"


def seal(predictions: Iterable[Prediction], date: str) -> dict[str, Any]:
    """The predictions of a day as one document with its own hash. `date` is written as given (ISO 8601)."""
    document: dict[str, Any] = {
        "date": date,
        "rule": {"longest": LONGEST, "deepest": DEEPEST, "encodings": {k: list(v) for k, v in ENCODINGS.items()}},
        "rows": [_row(one) for one in predictions],
    }
    return {**document, "hash": fingerprint(document)}


def _row(one: Prediction) -> dict[str, Any]:
    known = KNOWN.get((one.task, one.format))
    outcome = None if known is None else {"generalises": known[0], "source": known[1]}
    return {**one.row(), "known_by_then": outcome, "counts_as": "unscored" if known is None else "retrodiction"}


def fingerprint(document: Mapping[str, Any]) -> str:
    """SHA-256 of a document's canonical JSON, its own hash left out."""
    content = {key: value for key, value in document.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed() -> dict[str, Any]:
    """The document that comes with the package."""
    return check_seal(json.loads(files("genlab.rasp").joinpath(_FILE).read_text()))


def check_seal(document: dict[str, Any]) -> dict[str, Any]:
    """The document, if it is what was sealed. Raises `UserError` if it has been changed since."""
    if document.get("hash") != fingerprint(document):
        raise UserError(
            f"the predictions sealed on {document.get('date')} have been changed: their hash is not theirs"
        )
    return document


def changed_since(document: Mapping[str, Any], predictions: Iterable[Prediction]) -> list[tuple[str, str]]:
    """Tasks and formats of which the rule says something else now, or which were not there."""
    then = {(row["task"], row["format"]): (row["expected"], row["encodings"]) for row in document["rows"]}
    now = {(one.task, one.format): (one.expected, list(one.encodings)) for one in predictions}
    return sorted(key for key, said in now.items() if then.get(key) != said)
