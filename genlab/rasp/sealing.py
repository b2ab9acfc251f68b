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
from genlab.rasp.outcomes import outcomes_of
from genlab.rasp.prediction import DEEPEST, ENCODINGS, JUDGED, LONGEST, Prediction

__all__ = ["changed_since", "check_seal", "fingerprint", "seal", "sealed"]

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
