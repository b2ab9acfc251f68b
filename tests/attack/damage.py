"""Damaged stores: one file of each kind flipped, cut, emptied, removed, or replaced by what is no file.

Afterwards every command that reads must give what it gave before, or fail in one line; `lab store check` must notice.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .harness import Case, Ended, call
from .template import KINDS, write_inputs

READING: list[tuple[str, ...]] = [
    ("runs", "--json"),
    ("runs", "--grid", "good", "--where", "lr > 0.001", "--csv"),
    ("compare", "first", "second", "--json", "--figure", "x.png"),
    ("probe", "first", "--signals", "weight_norm", "--probe-n", "16", "--json"),
    ("ask", "RUN", "--length", "3", "--json"),
    (
        "forecast", "evaluate", "--grid", "first", "--target", "exact_match@length=5", "--all-runs", "--by", "random",
        "--json",
    ),
    ("forecast", "score", "--json"),
    ("eval", "words", "--lengths", "3", "--eval-n", "4", "--json"),
]  # fmt: skip
"""Commands that read; what they may write beside (a figure, a reading that is not stored yet) says nothing new."""
_WRITING = [
    ("store", "compact"), ("store", "repair"), ("delete", "good", "--yes"), ("tag", "new", "first"),
    ("forecast", "seal", "--grid", "second", "--with", "old"), ("grid", "grid.toml", "--workers", "1"),
]  # fmt: skip
"""Commands that change a store: they must not end in anything but an answer or one line either."""


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    place = rng.randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def _cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(1, len(data))])


def _folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("nothing")


WAYS: dict[str, Callable[[Path, random.Random], object]] = {
    "flipped": _flip,
    "cut": _cut,
    "emptied": lambda path, rng: path.write_bytes(b""),
    "removed": lambda path, rng: path.unlink(),
    "a folder": _folder,
    "a dangling link": _dangling,
    "unreadable": lambda path, rng: path.chmod(0),
}
"""What can happen to a file."""
CASES = [
    (kind, way)
    for way in WAYS
    for kind in KINDS
    if kind != "mark of a part" or way not in ("flipped", "cut", "emptied")
]
"""Every kind in every way; a mark is an empty file."""

UNREAD = {"lease", "figure", "mark of a part", "set aside"}
"""Kinds that hold nothing which could be believed: a lease that cannot be read is none, a figure is for eyes, and
what was set aside may be there because it is damaged."""
FORGOTTEN = {
    *UNREAD, "resume state", "failure", "tag", "group", "last group", "head of the ledger", "forecaster",
    "commands of a group",
}  # fmt: skip
"""Kinds of which nothing else says that there was one: their removal is what a user may have wanted."""


def must_notice(kind: str, way: str) -> bool:
    """Whether `lab store check` has to notice."""
    return kind not in (FORGOTTEN if way == "removed" else UNREAD)


def readings(case: Case) -> dict[tuple[str, ...], Ended]:
    """What the reading commands print of the undamaged store, made once per process."""
    if not _USUAL:
        calm = case.root / "calm"
        shutil.copytree(case.store, calm / "store")
        for words in READING:
            _USUAL[words] = call(_named(words, case), case.root, calm)
            assert _USUAL[words].status == 0, _USUAL[words]
    return _USUAL


def _untimed(ended: Ended) -> str:
    """What was printed, without times and the hashes of what holds them."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+|[0-9a-f]{64}", "", ended.out)


_USUAL: dict[tuple[str, ...], Ended] = {}


def _named(words: tuple[str, ...], case: Case) -> tuple[str, ...]:
    record = sorted((case.store / "commits").glob("*.json"))
    if not _RUN:
        _RUN.append(json.loads(record[0].read_text())["runs"][0]["run_id"])
    return tuple(_RUN[0] if word == "RUN" else word for word in words)


_RUN: list[str] = []


def run(case: Case, number: int) -> None:
    """Damage one file, read, check, and change the store."""
    write_inputs(case.here)
    kind, way = CASES[number % len(CASES)]
    usual = readings(case)
    every = [
        path for path in sorted(case.store.glob(KINDS[kind])) if kind != "record" or not path.stem.startswith("table")
    ]
    path = case.rng.choice(every)
    what = f"{kind} ({path.relative_to(case.store)}) {way}"
    WAYS[way](path, case.rng)
    case.disturbed = 1
    locked = way == "unreadable"
    checked = case.call("store", "check", locked=locked)
    noticed = checked.status in (1, 2)
    if must_notice(kind, way) and not noticed:
        case.fault("unnoticed", f"{what}: lab store check says nothing")
    chosen = READING if case.rng.random() < 0.3 else case.rng.sample(READING, 3)
    for words in sorted(chosen, key=READING.index):  # those that append something come last
        ended = case.call(*_named(words, case), locked=locked)
        gone = way == "removed" and (noticed or kind in FORGOTTEN)
        if ended.status == 0 and _untimed(ended) != _untimed(usual[words]) and not gone:
            case.fault("unnoticed", f"{what}: {ended.typed} gives other numbers")
    for words in case.rng.sample(_WRITING, 2):
        case.call(*words, locked=locked)
