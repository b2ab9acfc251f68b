"""Judge a claim: apply its rules to the rows that its runs gave. The unit is the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact

from genlab.claims.claim import Claim, selects, setting_of
from genlab.claims.measuring import RunValues, Values, fits
from genlab.claims.rules import (
    All,
    AnyRule,
    Auroc,
    Bounded,
    Fisher,
    Interval,
    Median,
    Monotone,
    Ordering,
    Published,
    Where,
    listed,
)
from genlab.errors import UserError

Verdict = Literal["pass", "fail", "undecided"]

_ROUNDING = 1e-9
_Z = 1.96


@dataclass(frozen=True)
class Finding:
    """What one rule says of the rows.

    Attributes:
        rule: the rule in words; verdict: what came out; why: the numbers that decide, in words.
    """

    rule: str
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Judgment:
    """The verdict on a claim: `fail` if a rule fails, else `undecided` if one is, else `pass`.

    Attributes:
        planned, ended, fitted: numbers of runs: of the claim, with rows, and of those that fitted.
        findings: one per rule.
    """

    verdict: Verdict
    planned: int
    ended: int
    fitted: int
    findings: tuple[Finding, ...]


def judge(claim: Claim, rows: pd.DataFrame) -> Judgment:
    """Apply the rules of a claim to its rows (`measured_rows`, or those of a CSV file)."""
    runs = runs_of(claim, rows)
    findings = tuple(_judged(claim, rule, runs) for rule in claim.rules)
    verdicts = {finding.verdict for finding in findings}
    verdict: Verdict = "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    return Judgment(verdict, len(claim.runs), len(runs), sum(run.fitted for run in runs), findings)


def runs_of(claim: Claim, rows: pd.DataFrame) -> list[RunValues]:
    """The runs of rows. Whether a run fitted follows from its value and the claim, not from the column."""
    found: list[RunValues] = []
    for _, own in rows.groupby("run_id", sort=False):
        first = own.iloc[0]
        values: Values = {
            (str(name), None if pd.isna(length) else int(length)): float(value)
            for name, length, value in zip(own["measure"], own["length"], own["value"], strict=True)
        }
        diverged = first["status"] == "diverged"
        fitted = not diverged and fits(claim, values.get((claim.fitted.measure, None), float("nan")))
        settings = {name: first[name] for name in claim.settings}
        seeds = {name: int(first[name]) for name in ("init_seed", "data_seed")}
        found.append(RunValues(settings, seeds, diverged, fitted, values))
    return found


class _Undecided(Exception):
    """A rule cannot be decided; the message says why."""


def _judged(claim: Claim, rule: AnyRule, runs: Sequence[RunValues]) -> Finding:
    apply: Callable[[Claim, Any, Sequence[RunValues]], tuple[bool, str]] = _APPLY[type(rule)]
    try:
        kept, why = apply(claim, rule, runs)
    except _Undecided as reason:
        return Finding(in_words(rule), "undecided", str(reason))
    return Finding(in_words(rule), "pass" if kept else "fail", why)


def _group(claim: Claim, rule: AnyRule, runs: Sequence[RunValues], where: Where) -> list[RunValues]:
    """The runs of a group that a rule judges.

    Raises:
        _Undecided: runs are missing, or too few fitted.
    """
    planned = sum(selects(where, {name: setting_of(spec, name) for name in claim.settings}) for spec in claim.runs)
    there = [run for run in runs if selects(where, run.settings)]
    place = f" ({listed(where)})" if where else ""
    if len(there) < planned:
        raise _Undecided(f"{len(there)} of {planned} runs have ended{place}")
    fitted = [run for run in there if run.fitted]
    judged = there if rule.runs == "all" else fitted
    if rule.runs == "fitted" and len(fitted) < claim.fitted.share * planned - _ROUNDING:
        raise _Undecided(f"{len(fitted)} of {planned} runs fitted{place}, {claim.fitted.share:.0%} are needed")
    if len(judged) < rule.least_runs:
        raise _Undecided(f"{len(judged)} runs{place}, {rule.least_runs} are needed")
    if diverged := [run for run in judged if run.diverged]:
        raise _Undecided(f"{len(diverged)} of {planned} runs diverged{place}")
    for name in rule.reads():
        if lacking := [run for run in judged if not run.curve(name)]:
            raise _Undecided(f"{len(lacking)} of {planned} runs have no {name}{place}")
    return judged


def _table(runs: Sequence[RunValues], measure: str) -> dict[int | None, np.ndarray]:
    """Length (None: the only value) -> float[run]."""
    curves = [run.curve(measure) for run in runs]
    lengths = sorted({n for curve in curves for n in curve}, key=lambda n: -1 if n is None else n)
    if any(n not in curve for n in lengths for curve in curves):
        raise _Undecided(f"not every run has {measure} at every length")
    return {n: np.array([curve[n] for curve in curves]) for n in lengths}


def _at(length: int | None) -> str:
    return "" if length is None else f" at {length}"


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "never" if value > 0 else str(value)
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:,.0f}"


def _kept(rule: Bounded, values: Any) -> Any:
    low, high = rule.bounds()
    return (values >= low - _ROUNDING) & (values <= high + _ROUNDING)


def _room(rule: Bounded, values: np.ndarray) -> np.ndarray:
    """How far each value is from breaking a bound; negative if it breaks one. Values may be infinite."""
    low, high = rule.bounds()
    above = np.full(values.shape, np.inf) if low == -np.inf else values - low
    below = np.full(values.shape, np.inf) if high == np.inf else high - values
    return np.minimum(above, below)


def _all(claim: Claim, rule: All, runs: Sequence[RunValues]) -> tuple[bool, str]:
    table = _table(_group(claim, rule, runs, rule.where), rule.measure)
    kept = {n: _kept(rule, values) for n, values in table.items()}
    worst = min(table, key=lambda n: (kept[n].mean(), _room(rule, table[n]).min()))
    count, of = int(kept[worst].sum()), len(kept[worst])
    farthest = float(table[worst][np.argmin(_room(rule, table[worst]))])
    why = f"{count} of {of} runs{_at(worst)}; the farthest has {_number(farthest)}"
    return bool(count >= rule.share * of - _ROUNDING), why


def _median(claim: Claim, rule: Median, runs: Sequence[RunValues]) -> tuple[bool, str]:
    table = _table(_group(claim, rule, runs, rule.where), rule.measure)
    medians = {n: np.array([np.median(values)]) for n, values in table.items()}
    worst = min(medians, key=lambda n: _room(rule, medians[n])[0])
    values = table[worst]
    why = (
        f"median {_number(float(medians[worst][0]))}{_at(worst)} ({_number(values.min())} to {_number(values.max())})"
    )
    return bool(_kept(rule, medians[worst])[0]), f"{why}, {len(values)} runs"


def _ordering(claim: Claim, rule: Ordering, runs: Sequence[RunValues]) -> tuple[bool, str]:
    above, below = (_table(_group(claim, rule, runs, where), rule.measure)[None] for where in rule.groups())
    if rule.by == "runs":
        why = f"lowest {_number(above.min())} ({listed(rule.above)})"
        why += f", highest {_number(below.max())} ({listed(rule.below)})"
        return bool(above.min() > below.max()), why
    error = float(np.hypot(_se(above), _se(below)))
    why = f"means {_number(above.mean())} and {_number(below.mean())}, standard error of the difference {error:.3f}"
    assert rule.largest_se is not None
    if error > rule.largest_se:
        raise _Undecided(f"{why}, above {rule.largest_se:g}")
    return bool(above.mean() > below.mean()), why


def _se(values: np.ndarray) -> float:
    """Standard error of a mean over runs; infinite for one run."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")


def _monotone(claim: Claim, rule: Monotone, runs: Sequence[RunValues]) -> tuple[bool, str]:
    table = _table(_group(claim, rule, runs, rule.where), rule.measure)
    lengths, means = list(table), [float(values.mean()) for values in table.values()]
    if len(lengths) < 2:
        raise _Undecided(f"{rule.measure} has {len(lengths)} length")
    change = np.diff(means) * (-1 if rule.direction == "falling" else 1)
    i = int(np.argmin(change))
    pair = f"{_number(means[i])} at {lengths[i]}, {_number(means[i + 1])} at {lengths[i + 1]}"
    return bool(change[i] > 0), f"smallest change of the mean: {pair}"


def _interval(claim: Claim, rule: Interval, runs: Sequence[RunValues]) -> tuple[bool, str]:
    table = _table(_group(claim, rule, runs, rule.where), rule.measure)
    printed = {one.length: one for one in claim.in_print(rule.measure, rule.where) if one.value is not None}
    if lacking := [n for n in printed if n not in table]:
        raise _Undecided(f"{rule.measure} was not measured{_at(lacking[0])}")
    worst, reasons = float("inf"), ""
    for length, one in printed.items():
        ours, error, allowed = _distance(rule, table[length], one)
        if error > rule.largest_se:
            raise _Undecided(f"standard error {error:.3f} of our mean{_at(length)}, above {rule.largest_se:g}")
        room = allowed - abs(ours - float(one.value or 0.0))
        if room < worst:
            worst = room
            reasons = f"mean {ours:.3f}{_at(length)}, published {one.value:.3f}, allowed distance {allowed:.3f}"
    return worst >= -_ROUNDING, reasons


def _distance(rule: Interval, values: np.ndarray, one: Published) -> tuple[float, float, float]:
    """Our mean, its standard error, and the distance to the published value that is allowed."""
    error = _se(values)
    allowed = rule.within if rule.within is not None else _Z * float(np.hypot(error, one.se or 0.0))
    return float(values.mean()), error, allowed


def _fisher(claim: Claim, rule: Fisher, runs: Sequence[RunValues]) -> tuple[bool, str]:
    values = _table(_group(claim, rule, runs, rule.where), rule.measure)[None]
    one = next(p for p in claim.in_print(rule.measure, rule.where) if p.count is not None and p.of is not None)
    count, of = int((values >= rule.at_least - _ROUNDING).sum()), len(values)
    p = fisher_p(count, of, one.count or 0, one.of or 1)
    return p >= rule.alpha, f"{count} of {of} runs, published {one.count} of {one.of}, p {p:.3g}"


def fisher_p(count: int, of: int, other: int, of_other: int) -> float:
    """Two-sided p of Fisher's exact test that two fractions are equal.

    >>> round(fisher_p(3, 10, 27, 30), 4)
    0.0006
    """
    return float(fisher_exact([[count, of - count], [other, of_other - other]])[1])


def _auroc(claim: Claim, rule: Auroc, runs: Sequence[RunValues]) -> tuple[bool, str]:
    from genlab.claims.forecasting import auroc_of  # brings scikit-learn

    judged = _group(claim, rule, runs, rule.where)
    try:
        found = auroc_of(rule, judged)
    except UserError as error:
        raise _Undecided(str(error)) from None
    if found.low is None or found.high is None:
        raise _Undecided(f"AUROC {found.value:.3f}, {found.how}")
    why = f"AUROC {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), published {rule.printed:g}; {found.how}"
    if found.high - found.low > rule.widest:
        raise _Undecided(f"{why}; the interval is wider than {rule.widest:g}")
    return found.low - _ROUNDING <= rule.printed <= found.high + _ROUNDING, why


_APPLY: dict[type, Any] = {
    All: _all,
    Median: _median,
    Ordering: _ordering,
    Monotone: _monotone,
    Interval: _interval,
    Fisher: _fisher,
    Auroc: _auroc,
}


def in_words(rule: AnyRule) -> str:
    """A rule as text."""
    where = f" ({listed(rule.where)})" if rule.where else ""
    if isinstance(rule, All):
        share = "every run" if rule.share == 1 else f"{rule.share:.0%} of runs"
        text = f"{rule.measure} of {share} is {rule.in_words()}{where}"
    elif isinstance(rule, Median):
        text = f"median {rule.measure} is {rule.in_words()}{where}"
    elif isinstance(rule, Ordering):
        what = "every run of" if rule.by == "runs" else "the mean of"
        text = f"{rule.measure}: {what} {listed(rule.above)} is above {listed(rule.below)}{where}"
    elif isinstance(rule, Monotone):
        text = f"mean {rule.measure} is {rule.direction} with length{where}"
    elif isinstance(rule, Interval):
        near = f"within {rule.within:g} of" if rule.within is not None else "within 1.96 joint standard errors of"
        text = f"mean {rule.measure} is {near} the published value{where}"
    elif isinstance(rule, Auroc):
        inputs = ", ".join(rule.by) or "settings"
        text = f"AUROC of {inputs} ({rule.model}) for {rule.measure} at least {rule.at_least:g} on {rule.held_out} "
        text += f"held out is as published{where}"
    else:
        count = f"count of runs with {rule.measure} at least {rule.at_least:g}"
        text = f"{count} is as published, p >= {rule.alpha:.2g}{where}"
    return text + ("" if rule.runs == "fitted" else ", fitted or not")
