"""The page of reproductions: verdicts, numbers beside published ones, and a figure per claim, from committed rows.

Everything is derived from the claim files and `reproductions/NAME.csv` only, so that the page is reproducible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genlab.claims.claim import Claim, selects
from genlab.claims.judging import Judgment, judge, runs_of
from genlab.claims.measuring import RunValues
from genlab.claims.rows import Rows, read_rows
from genlab.claims.rules import Where, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE, FOLDER = "reproductions.md", "reproductions"

_INK, _SEED, _PRINT = "#1b4965", "#7fb2d1", "#b3541e"
_LINES = ("#7fb2d1", "#c9a66b", "#8fb996", "#b48ead", "#a3a3a3")

_INTRO = """# Reproductions

What papers found, run here. Written by `lab reproduce`; do not edit it by hand.

A claim is a file in `recipes/claims/`: the paper, the sentence that is claimed, the runs that should show it, and a
rule that says what counts as showing it. The file is committed before its runs start, and a rule that is changed
afterwards is listed with its claim. Seeds are 100 and above: those below were looked at when training recipes were
chosen.

- **pass**: every rule of the claim holds.
- **fail**: at least one does not.
- **undecided**: none fails, but at least one cannot be judged: runs are missing or diverged, too few learned the task
  in distribution (80 % of a rule's runs, unless the claim asks for more), or the standard error is too large for the
  rule to have failed. Undecided is never counted as a pass.

The unit is the run: medians, means and standard errors are over seeds, and all seeds are in the figures and in the
CSV files. Runs that did not learn the task are counted and shown (open circles, dashed lines).
`reproductions/NAME.bits.parquet` says of each example of each evaluation whether it was right. Verdicts are computed
anew from rows and rules whenever this page is written. The scale of a claim says how its runs differ from the
published ones; where it is smaller, a pass says that the effect is there at this scale, and a fail that it is not,
not that the paper is wrong.
"""


@dataclass(frozen=True)
class State:
    """A claim with its rows and verdict.

    Attributes:
        claim: the claim.
        rows: its committed rows, if any.
        judgment: the judgment of these rows.
    """

    claim: Claim
    rows: Rows | None
    judgment: Judgment | None

    @property
    def verdict(self) -> str:
        """The verdict, or `open`: no rows."""
        return self.judgment.verdict if self.judgment else "open"

    @property
    def notes(self) -> list[str]:
        """Notes on rows that do not match the current claim file."""
        if self.rows is None:
            return []
        notes: list[str] = []
        if self.rows.rule != self.claim.rule_hash:
            notes.append("The rule was changed after these rows were made; the verdict is by the current rule.")
        if self.rows.grid != self.claim.grid_hash:
            notes.append("The runs were changed after these rows were made; the rows are of the former runs.")
        return notes

    @property
    def current(self) -> bool:
        """Whether there are rows of the current claim file."""
        return self.rows is not None and not self.notes


def state_of(claim: Claim, out: Path | None) -> State:
    """Return a claim with its rows in a folder, judged by its rules."""
    rows = read_rows(out / FOLDER / f"{claim.name}.csv", claim) if out else None
    return State(claim, rows, judge(claim, rows.table) if rows else None)


# -- Numbers


@dataclass(frozen=True)
class Number:
    """A measure over a group of runs, and its published value.

    Attributes:
        measure, where: the measure, and the settings of the runs.
        length: a length, or None for one number per run.
        values: float[run], values of the judged runs.
        printed: the published value as text, or ''.
    """

    measure: str
    where: Where
    length: int | None
    values: np.ndarray
    printed: str

    def cells(self) -> list[str]:
        """Measure, runs, median, lowest, highest, mean, published."""
        place = self.measure if self.length is None else f"{self.measure} at {self.length}"
        v = self.values
        ours = [_shown(x) for x in (np.median(v), v.min(), v.max(), v.mean())] if len(v) else ["-"] * 4
        return [place, listed(self.where), str(len(v)), *ours, self.printed or "-"]


NUMBER_HEAD = ("measure", "runs of", "runs", "median", "lowest", "highest", "mean", "published")


def _shown(value: float) -> str:
    if not np.isfinite(value):
        return "never" if value == float("inf") else "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _groups(claim: Claim) -> list[tuple[str, Where, bool]]:
    """(measure, settings, only fitted runs) of all rules and published numbers."""
    groups: list[tuple[str, Where, bool]] = []
    for rule in claim.rules:
        groups += [(rule.measure, where, rule.runs == "fitted") for where in rule.groups()]
    known = {(measure, listed(where)) for measure, where, _ in groups}
    groups += [
        (one.measure, one.where, True) for one in claim.published if (one.measure, listed(one.where)) not in known
    ]
    distinct = {(measure, listed(where), fitted): (measure, where, fitted) for measure, where, fitted in groups}
    return list(distinct.values())


def numbers(state: State) -> list[Number]:
    """Return every number that the rules of a claim use, with the published one."""
    if state.rows is None:
        return []
    claim, all_numbers = state.claim, list[Number]()
    runs = runs_of(claim, state.rows.table)
    for measure, where, fitted in _groups(claim):
        own = [
            run for run in runs if selects(where, run.settings) and not run.diverged and (run.fitted or not fitted)
        ]
        printed = {one.length: one for one in claim.in_print(measure, where)}
        lengths = {n for run in own for n in run.curve(measure)} | set(printed)
        for length in sorted(lengths, key=lambda n: -1 if n is None else n):
            values = np.array([curve[length] for run in own if length in (curve := run.curve(measure))])
            all_numbers.append(Number(measure, where, length, values, _printed(claim, measure, where, length)))
    return all_numbers


def _printed(claim: Claim, measure: str, where: Where, length: int | None) -> str:
    texts = []
    for one in claim.in_print(measure, where):
        if one.length == length and one.value is not None:
            texts.append(f"{one.value:g}" + (f" ± {one.se:g}" if one.se is not None else ""))
        if one.length == length and one.count is not None:
            texts.append(f"{one.count} of {one.of}")
    return "; ".join(texts)


# -- The page


def page(states: Sequence[State]) -> str:
    """Return the page of all claims as Markdown."""
    judged = [state for state in states if state.judgment]
    waiting = [state for state in states if not state.judgment]
    counts = {verdict: sum(state.verdict == verdict for state in judged) for verdict in ("pass", "fail", "undecided")}
    line = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    rows = [
        [
            f"[{state.claim.name}](#{state.claim.name})",
            state.claim.claim,
            state.claim.paper,
            f"**{state.verdict}**",
            f"{state.judgment.fitted} of {state.judgment.planned}",
        ]
        for state in judged
        if state.judgment
    ]
    head = [
        f"{len(judged)} claims judged: {line}.",
        "",
        *_markdown(("claim", "what it says", "paper", "verdict", "runs that fitted"), rows),
    ]
    parts = [_INTRO, *head, *(line for state in judged for line in _section(state))]
    if waiting:
        listing = [[s.claim.name, s.claim.claim, s.claim.paper, _cost(s.claim)] for s in waiting]
        parts += ["", "## Not run yet", "", *_markdown(("claim", "what it says", "paper", "estimated cost"), listing)]
    return "\n".join(parts) + "\n"


def _cost(claim: Claim) -> str:
    return f"{hours(claim.cost)}{' on a GPU' if claim.gpu else ''}"


def hours(seconds: float) -> str:
    """Format a duration in a suitable unit.

    >>> hours(50), hours(900), hours(9000)
    ('50 s', '15 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def _section(state: State) -> list[str]:
    claim, judgment, rows = state.claim, state.judgment, state.rows
    assert judgment is not None
    assert rows is not None
    fit = f"{judgment.fitted} of {judgment.planned} runs fitted ({claim.fitted.measure} {claim.fitted.in_words()})"
    lines = [
        *("", f"## {claim.name}", "", f"{claim.paper}, {claim.place}: {claim.claim}", ""),
        f"**{judgment.verdict}**, rows of {rows.date}. Scale: {claim.scale}.",
        f"{fit}; {hours(rows.seconds)} of training by the clock.",
        *("", *state.notes),
        *([""] if state.notes else []),
        *(f"- Rule changed {change.date}: {change.text}" for change in claim.changes),
        *([""] if claim.changes else []),
    ]
    lines += _markdown(("rule", "verdict", "numbers"), [[f.rule, f.verdict, f.why] for f in judgment.findings])
    lines += ["", *_markdown(NUMBER_HEAD, [one.cells() for one in numbers(state)])]
    if claim.remarks:
        lines += ["", claim.remarks]
    files = f"[rows]({FOLDER}/{claim.name}.csv), [correct answers]({FOLDER}/{claim.name}.bits.parquet)"
    return [
        *lines,
        "",
        f"![{claim.name}]({FOLDER}/{claim.name}.png)",
        "",
        f"Claim file `{claim.name}.toml`; {files}.",
    ]


# -- The figure


def draw(state: State, path: Path) -> None:
    """Plot every run of a claim, one panel per measure: points by group of runs, or lines over length.

    Open circles and dashed lines are runs that did not fit; horizontal lines are published values; triangles at the
    upper edge are values that were never reached.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert state.rows is not None
    claim, runs = state.claim, runs_of(state.claim, state.rows.table)
    places: dict[str, list[Where]] = {}
    for measure, where, _ in _groups(claim):
        if where not in places.setdefault(measure, []):
            places[measure].append(where)
    widths = [max(3.4, 1.2 + 0.9 * len(wheres)) if not claim.is_curve(m) else 5.0 for m, wheres in places.items()]
    figure = Figure(figsize=(0.8 + sum(widths), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(places), squeeze=False, width_ratios=widths)[0]
    for panel, (measure, wheres) in zip(panels, places.items(), strict=True):
        drawing = _draw_curves if claim.is_curve(measure) else _draw_points
        drawing(panel, claim, runs, measure, wheres)
        panel.set_title(measure.replace("_", " "), fontsize=10, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{claim.name}: {state.verdict}", fontsize=11, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": "genlab"})


def _draw_points(panel: Axes, claim: Claim, runs: Sequence[RunValues], measure: str, wheres: Sequence[Where]) -> None:
    drawn = False
    for x, where in enumerate(wheres):
        own = [run for run in runs if selects(where, run.settings) and None in run.curve(measure)]
        spread = np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else np.zeros(len(own))
        for dx, run in zip(spread, own, strict=True):
            face = _SEED if run.fitted else "none"
            value = run.curve(measure)[None]
            marker: dict[str, Any] = {"ms": 5, "mec": _INK, "mew": 0.7, "mfc": face, "zorder": 3, "clip_on": False}
            if np.isfinite(value):
                panel.plot(x + dx, value, "o", **marker)
            else:  # never reached: at the upper edge
                panel.plot(x + dx, 1.0, "^", transform=panel.get_xaxis_transform(), **marker)
        for one in claim.in_print(measure, where):
            if one.value is not None:
                panel.plot([x - 0.35, x + 0.35], [one.value] * 2, color=_PRINT, lw=1.8, zorder=2, label="published")
                drawn = True
    panel.set_xticks(range(len(wheres)), [listed(where).replace(", ", "\n") for where in wheres], fontsize=7)
    panel.set_xlim(-0.6, len(wheres) - 0.4)
    if drawn:
        handles, labels = panel.get_legend_handles_labels()
        panel.legend(handles[:1], labels[:1], frameon=False, fontsize=7)
    _scale(panel, [run.curve(measure).get(None, np.nan) for run in runs])


def _draw_curves(panel: Axes, claim: Claim, runs: Sequence[RunValues], measure: str, wheres: Sequence[Where]) -> None:
    from matplotlib.ticker import MaxNLocator

    lengths: set[int] = set()
    for color, where in zip(cycle(_LINES), wheres):
        own = [run for run in runs if selects(where, run.settings) and run.curve(measure)]
        for i, run in enumerate(own):
            curve = {int(n): value for n, value in run.curve(measure).items() if n is not None}
            lengths |= set(curve)
            label = listed(where) if i == 0 else None
            style: dict[str, Any] = {"color": color, "lw": 0.9, "ls": "-" if run.fitted else "--", "label": label}
            panel.plot(list(curve), list(curve.values()), **style)
        printed = [(one.length, one.value) for one in claim.in_print(measure, where) if one.value is not None]
        if printed:
            panel.plot(*zip(*printed, strict=True), color=_PRINT, lw=1.6, marker="o", ms=3, label="published")
    if lengths and max(lengths) > 16 * min(lengths):
        panel.set_xscale("log", base=2)
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("length")
    panel.legend(frameon=False, fontsize=7)
    _scale(panel, [value for run in runs for value in run.curve(measure).values()])


def _scale(panel: Axes, values: Sequence[float]) -> None:
    """Scale the y axis: fractions from 0 to 1, wide ranges of positive numbers (such as steps) logarithmically."""
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) and known.min() >= 0 and known.max() <= 1:
        panel.set_ylim(-0.04, 1.04)
    elif len(known) and known.min() > 0 and known.max() > 20 * known.min():
        panel.set_yscale("log")


def table_of(states: Sequence[State]) -> pd.DataFrame:
    """Return one row per claim: name, paper, claim, scale, core_hours, gpu, verdict, runs, date."""
    rows = [
        {
            "claim": state.claim.name,
            "paper": state.claim.paper,
            "says": state.claim.claim,
            "scale": state.claim.scale,
            "core_hours": round(state.claim.cost / 3600, 3),
            "gpu": state.claim.gpu,
            "verdict": state.verdict,
            "runs": len(state.claim.runs),
            "date": state.rows.date if state.rows else "",
        }
        for state in states
    ]
    return pd.DataFrame(rows)
