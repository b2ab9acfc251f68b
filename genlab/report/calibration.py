"""`lab calibrate`: what signals detect, in compiled models that have a mechanism against others that lack it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from genlab.errors import UserError
from genlab.probes.calibrated import ALL, DETECTS, DOSE, REFERENCE, Row, Verdict, verdicts, write_rows
from genlab.probes.calibration import Axes, Specimen, rows_of, specimens
from genlab.probes.mechanisms import Mechanism
from genlab.probes.signal import Signal
from genlab.report.figures import save_figure
from genlab.report.output import print_lines
from genlab.text import columns_of

_TALLEST = 24.0
"""Inches of a column of the figure."""


@dataclass(frozen=True)
class Calibration:
    """Values of signals in compiled models.

    Attributes:
        mechanisms: what was compiled in.
        models: one per program, condition and seed.
        rows: how well each value tells models that have a mechanism from models that lack it.
    """

    mechanisms: Sequence[Mechanism]
    models: Sequence[Specimen]
    rows: Sequence[Row]

    @property
    def verdicts(self) -> list[Verdict]:
        """One per mechanism and value."""
        return verdicts(self.rows)

    def as_json(self) -> dict[str, Any]:
        """Return verdicts, rows and models."""
        return {
            "verdicts": [{**asdict(one), "text": one.text} for one in self.verdicts],
            "rows": [asdict(row) for row in self.rows],
            "models": [asdict(model) for model in self.models],
        }

    def print(self, console: Console) -> None:
        """Print, by mechanism, what each value detects; its ranges; and its scores by condition."""
        lines: list[str] = []
        for mechanism in self.mechanisms:
            rows = [row for row in self.rows if row.mechanism == mechanism.name]
            if rows:
                lines += [f"{mechanism.name}: {mechanism.about}", f"matched: {mechanism.matched}", *_table(rows), ""]
                lines += [f"{one.value}: {one.text}" for one in verdicts(rows)] + [""]
        least = f"at least {DETECTS:g} counts as detection"
        lines.append(f"AUROC (or rank correlation with the gap) by condition; {least}; *: models answer wrong")
        print_lines(console, lines)

    def write_csv(self, path: Path) -> None:
        """Write the rows."""
        write_rows(self.rows, path)

    def draw(self, path: Path) -> None:
        """Draw scores by condition: a panel per mechanism, a line of cells per value and construction."""
        draw(self.rows, path)


def _conditions(rows: Sequence[Row]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((row.axis, row.level) for row in rows))


def _label(axis: str, level: float) -> str:
    return axis if axis in (REFERENCE, DOSE) else f"{axis} {level:g}"


def _table(rows: Sequence[Row]) -> list[str]:
    """One line per value and construction: ranges, effect of ablation, and score by condition."""
    whole = [row for row in rows if row.lacks in (ALL, "")]
    conditions = _conditions(whole)
    by_line: dict[tuple[str, str], dict[tuple[str, float], Row]] = {}
    for row in whole:
        by_line.setdefault((row.value, row.has), {})[row.axis, row.level] = row
    table: list[tuple[str, ...]] = []
    for (value, program), of_line in by_line.items():
        first = of_line[conditions[0]]
        ranges = (_range(first.has_low, first.has_high), _range(first.lacks_low, first.lacks_high))
        kept = "-" if math.isnan(first.has_kept) else f"{first.has_kept:.2f}"
        scores = [_score(of_line.get(c)) for c in conditions]
        table.append((value, program, *ranges, kept, *scores))
    head = ("value", "has it", "values", "values without", "kept", *(_label(*c) for c in conditions))
    return columns_of(head, table)


def _score(row: Row | None) -> str:
    """A score, with a star where models answer wrong; slow signals are not read under all conditions."""
    return "-" if row is None or math.isnan(row.score) else f"{row.score:.2f}{'' if row.sound else '*'}"


def _range(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def calibration(
    mechanisms: Sequence[Mechanism],
    signals: Sequence[Signal],
    axes: Axes,
    report: Callable[[int, int], object] = lambda _done, _all: None,
) -> Calibration:
    """Compile models with and without mechanisms, and measure signals in them.

    Args:
        mechanisms: the mechanisms.
        signals: signals to measure; of each mechanism, those that claim to detect it.
        axes: conditions and seeds.
        report: called with the number of models done and in total.

    Raises:
        UserError: none of the signals claims to detect any of the mechanisms, or a level is not allowed.
    """
    names = [one.name for one in signals]
    claimed = {value.partition(".")[0] for mechanism in mechanisms for value in mechanism.claims}
    if not claimed & set(names):
        asked = ", ".join(mechanism.name for mechanism in mechanisms)
        raise UserError(f"no mechanism for signals {', '.join(names)} (of {asked}: {', '.join(sorted(claimed))})")
    models = specimens(mechanisms, names, axes, report)
    return Calibration(mechanisms, models, [row for m in mechanisms for row in rows_of(m, names, models)])


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw scores by condition as one image; cells whose models answer wrong say so.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = {name: [r for r in rows if r.mechanism == name and r.lacks in (ALL, "")] for name in _names(rows)}
    heights = {name: 0.19 * len({(r.value, r.has) for r in group}) + 0.75 for name, group in groups.items()}
    columns = _columns(heights)
    figure = Figure(
        figsize=(9.5 * len(columns), max(sum(heights[n] for n in c) for c in columns)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    for part, names in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        ratios = {"height_ratios": [heights[name] for name in names]}
        panels = part.subplots(len(names), 1, squeeze=False, gridspec_kw=ratios)[:, 0]
        for panel, name in zip(panels, names, strict=True):
            _panel(panel, name, groups[name])
        part.colorbar(
            panels[0].images[0], ax=list(panels), fraction=0.02, pad=0.02, label="AUROC or rank correlation"
        )
    save_figure(figure, path)


def _columns(heights: Mapping[str, float]) -> list[list[str]]:
    """Names in order, in as many columns of about equal height as leave none much above `_TALLEST` inches.

    >>> _columns({"a": 9.0, "b": 9.0, "c": 9.0})
    [['a', 'b'], ['c']]
    """
    count = max(1, math.ceil(sum(heights.values()) / _TALLEST))
    found: list[list[str]] = [[]]
    share = sum(heights.values()) / count
    for name, height in heights.items():
        filled = sum(heights[other] for other in found[-1])
        if found[-1] and filled + height / 2 > share and len(found) < count:
            found.append([])
        found[-1].append(name)
    return found


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.mechanism for row in rows))


def _panel(panel: Any, name: str, rows: Sequence[Row]) -> None:
    conditions, lines = _conditions(rows), list(dict.fromkeys((row.value, row.has) for row in rows))
    scores = np.full((len(lines), len(conditions)), np.nan)
    for row in rows:
        y, x = lines.index((row.value, row.has)), conditions.index((row.axis, row.level))
        scores[y, x] = row.score
        if not row.sound:
            panel.text(x, y, "wrong", ha="center", va="center", fontsize=5, color="#666666")
    panel.imshow(scores, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="nearest")
    panel.set_title(name, fontsize=8, loc="left")
    panel.set_yticks(range(len(lines)), [f"{value}, {has}" for value, has in lines], fontsize=5.5)
    panel.set_xticks(range(len(conditions)), [_label(*c) for c in conditions], fontsize=6)
