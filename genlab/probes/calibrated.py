"""What calibration found of each signal, from the rows that the package ships.

`lab calibrate --csv` writes them (`calibration.csv`). No torch here, so that listing signals is fast.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path

from genlab.errors import UserError
from genlab.probes.mechanisms import MECHANISMS, UNCALIBRATED
from genlab.probes.signal import Signal

ROWS = Path(__file__).with_name("calibration.csv")
ALL, REFERENCE, DOSE = "all", "reference", "gap"
"""All programs that lack a mechanism; the condition without noise; the axis of a dose."""
DETECTS = 0.8
"""The least AUROC, or rank correlation with a dose, that counts as detection."""
RIGHT = 0.9
"""The least fraction of right answers of a model of which anything is said."""
IDLE = 0.99
"""The fraction of kept answers from which a head counts as idle."""
_UNDECLARED = "no mechanism is declared for it"


@dataclass(frozen=True)
class Row:
    """How well one value of a signal tells models with a mechanism from models without, under one condition.

    Attributes:
        mechanism, value: what claims to detect what.
        has, lacks: the programs of the models; `lacks` is `all` for all that lack it, and empty for a dose.
        axis, level: how the models differ from the reference.
        measure, score: AUROC, or the rank correlation (Spearman) with the gap, of the negative of signals that fall.
        n_has, n_lacks: numbers of models.
        has_low, has_high, lacks_low, lacks_high: range of the values.
        has_kept, lacks_kept: median fraction of answers that stay the same without the head that has the value.
        has_right, lacks_right: least fraction of right answers of a model.
    """

    mechanism: str
    value: str
    has: str
    lacks: str
    axis: str
    level: float
    measure: str
    score: float
    n_has: int
    n_lacks: int
    has_low: float = math.nan
    has_high: float = math.nan
    has_kept: float = math.nan
    has_right: float = math.nan
    lacks_low: float = math.nan
    lacks_high: float = math.nan
    lacks_kept: float = math.nan
    lacks_right: float = math.nan

    @property
    def sound(self) -> bool:
        """Whether all of its models still answer right."""
        return min(x for x in (self.has_right, self.lacks_right, 1.0) if not math.isnan(x)) >= RIGHT


@dataclass(frozen=True)
class Verdict:
    """What the rows say of one value and one mechanism.

    Attributes:
        mechanism, value, measure: of the rows.
        found, missed: constructions with a score of at least `DETECTS`, and the others. A score is the mean over the
            conditions without noise under which all models answer right.
        fooled: program that lacks the mechanism -> mean AUROC against it in the reference, where below `DETECTS`.
        n: number of models with and without, for one construction and condition.
        holds: the largest noise up to which all found constructions have that score.
        fails: the least noise at which one has not; NaN if there is none.
        breaks: the least noise at which some model answers wrong; NaN if there is none.
        lost: other conditions (axis and level) under which one has not, although all models answer right.
        kept: median fraction of answers that stay without the head with the largest value; NaN without a head.
    """

    mechanism: str
    value: str
    measure: str
    found: dict[str, float]
    missed: dict[str, float]
    fooled: dict[str, float]
    n: tuple[int, int]
    holds: float
    fails: float
    breaks: float
    lost: tuple[str, ...]
    kept: float

    @property
    def text(self) -> str:
        """One sentence: what it detects, up to which noise, and what it misses or takes for it."""
        scores = [*self.found.values(), *self.missed.values()]
        if not scores:
            return f"has no value in models of {self.mechanism}"
        low, high = (f"{x:.2f}" for x in (min(scores), max(scores)))
        unit = "AUROC" if self.measure == "auroc" else "rank correlation"
        known = f"{unit} {low if low == high else f'{low} to {high}'}"
        verb = "detects" if self.found else "does not detect"
        parts = [f"{verb} {self.mechanism} ({known}{self._noise if self.found else ''})"]
        if self.found and self.missed:
            parts.append(f"misses {', '.join(self.missed)}")
        if self.fooled:
            parts.append(f"fooled by {', '.join(self.fooled)}")
        if self.lost:
            parts.append(f"not with {', '.join(self.lost)}")
        if self.found and self.kept >= IDLE:
            parts.append("but the head with the largest value is idle: ablating it changes no answers")
        return "; ".join(parts)

    @property
    def _noise(self) -> str:
        if self.measure != "auroc":
            return ""
        wrong = "" if math.isnan(self.breaks) else f", where models answer wrong from {self.breaks:g} on"
        until = "at every noise up to" if math.isnan(self.fails) and self.holds else "up to noise"
        return f", {until} {self.holds:g}{wrong}"


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """One verdict per mechanism and value, in the order of the rows."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.mechanism, row.value), []).append(row)
    return [_verdict(of_claim) for of_claim in groups.values()]


def _verdict(rows: Sequence[Row]) -> Verdict:
    whole = [row for row in rows if row.lacks in (ALL, "") and not math.isnan(row.score)]
    calm = [row for row in whole if row.axis != "noise" and (row.sound or row.axis in (REFERENCE, DOSE))]
    scores = {name: _mean(row.score for row in calm if row.has == name) for name in _names(row.has for row in calm)}
    found = {program: score for program, score in scores.items() if score >= DETECTS}
    told = found or scores
    against = {
        program: _mean(row.score for row in rows if row.lacks == program and row.has in told)
        for program in _names(row.lacks for row in rows if row.lacks not in (ALL, ""))
    }
    noisy = [row for row in whole if row.axis == "noise"]
    weak = [row for row in whole if row.has in found and row.score < DETECTS]
    fails = min((row.level for row in weak if row.axis == "noise"), default=math.nan)
    lost = [f"{row.axis} {row.level:g}" for row in weak if row in calm and row.axis not in (REFERENCE, DOSE)]
    kept = sorted(row.has_kept for row in calm if row.has in told and not math.isnan(row.has_kept))
    first = next(row for row in rows if row.lacks in (ALL, ""))
    return Verdict(
        mechanism=first.mechanism,
        value=first.value,
        measure=first.measure,
        found=found,
        missed={program: score for program, score in scores.items() if program not in found},
        fooled={program: score for program, score in against.items() if score < DETECTS},
        n=(first.n_has, first.n_lacks),
        holds=max((row.level for row in noisy if not row.level >= fails), default=0.0),
        fails=fails,
        breaks=min((row.level for row in noisy if not row.sound), default=math.nan),
        lost=tuple(_names(lost)),
        kept=kept[len(kept) // 2] if kept else math.nan,
    )


def _names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _mean(scores: Iterable[float]) -> float:
    known = [score for score in scores if not math.isnan(score)]
    return sum(known) / len(known) if known else math.nan


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV, numbers with 4 digits. Rows of other mechanisms and values that the file has are kept.

    Raises:
        UserError: the file has other columns, or cannot be written.
    """
    claims = {(row.mechanism, row.value) for row in rows}
    try:
        kept = [row for row in read_rows(path) if (row.mechanism, row.value) not in claims] if path.exists() else []
        order = {m.name: i for i, m in enumerate(MECHANISMS)}
        with path.open("w", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow([f.name for f in fields(Row)])
            for row in sorted([*kept, *rows], key=lambda row: order.get(row.mechanism, -1)):
                out.writerow([f"{x:.4g}" if isinstance(x, float) else x for x in astuple(row)])
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror}") from None


def read_rows(path: Path) -> list[Row]:
    """Read rows from CSV.

    Raises:
        UserError: the file is no such table.
    """
    kinds = {f.name: {"float": float, "int": int}.get(str(f.type), str) for f in fields(Row)}
    with path.open(newline="") as file:
        try:
            return [Row(**{k: kinds[k](x) for k, x in line.items()}) for line in csv.DictReader(file)]
        except (KeyError, ValueError, TypeError):
            raise UserError(f"{str(path)!r} is no table of `lab calibrate --csv`") from None


@cache
def shipped() -> tuple[Row, ...]:
    """The rows that the package ships."""
    return tuple(read_rows(ROWS))


def calibrated(signal: Signal) -> list[str]:
    """What calibration found of a signal, a sentence per mechanism and value; or why it has none."""
    own = [v for v in verdicts(shipped()) if v.value.partition(".")[0] == signal.name]
    if own:
        return [f"{_part(v.value)}{v.text}" for v in own]
    claimed = [m.name for m in MECHANISMS if signal.name in {value.partition(".")[0] for value in m.claims}]
    if claimed:
        return [f"not measured yet: lab calibrate --mechanism {','.join(claimed)}"]
    return [f"no: {UNCALIBRATED.get(signal.name) or UNCALIBRATED.get(signal.family, 'not covered yet')}"]


def _part(value: str) -> str:
    part = value.partition(".")[2]
    return f"{part}: " if part else ""
