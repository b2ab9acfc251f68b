"""Figures of evaluations. matplotlib is imported on first use, without its global state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.report.tables import per_seed
from genlab.tasks import Task, TrainingLaw, split_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _SEED, _SHADE, _CHANCE = "#1b4965", "#7fb2d1", "#eef3f6", "#b3541e"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, creating its folder.

    Raises:
        UserError: a format that matplotlib does not write, or a file that cannot be written.
    """
    formats = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in formats:
        raise UserError(f"figure {str(path)!r} is not allowed (allowed: names that end in {', '.join(formats)})")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UserError(f"figure {str(path)!r} cannot be written: {error.strerror}") from None


def exact_match_by_length(evals: pd.DataFrame, task: Task | None, law: TrainingLaw, title: str, path: Path) -> None:
    """Plot exact match against length, one panel per split: a thin line per seed, the median bold, training shaded.

    The shaded range extends half a length beyond the shortest and the longest training length. Chance is a dashed
    line (omitted without the task). The length axis is logarithmic if lengths exceed 100 and span a factor of 16.
    The suffix of `path` determines the format (png, svg, pdf).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = per_seed(evals)
    splits = list(dict.fromkeys(table.index.get_level_values("split")))
    figure = Figure(figsize=(1.2 + 5.6 * len(splits), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for panel, split in zip(panels, splits, strict=True):
        _panel(panel, table.loc[split], task, law)
        name = f"split: {split_in_words(str(split), [law])}"
        panel.set_title(title if len(splits) == 1 else name, fontsize=11, loc="left")
    if len(splits) > 1:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    panels[0].set_ylabel("exact match")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    save_figure(figure, path)


def _panel(panel: Axes, lines: pd.DataFrame, task: Task | None, law: TrainingLaw) -> None:
    lengths = lines.index.to_numpy()
    ends = (law.min_len - 0.5, law.train_len + 0.5)
    panel.axvspan(*ends, color=_SHADE, zorder=0, label="training lengths")
    for i, run in enumerate(lines.columns):
        seed = lines[run].dropna()
        panel.plot(seed.index, seed, color=_SEED, lw=0.9, zorder=2, label="one seed" if i == 0 else None)
    median = lines.median(axis=1)
    label = f"median of {lines.shape[1]} seeds" if lines.shape[1] > 1 else "the only seed"
    panel.plot(lengths, median, color=_INK, lw=2.4, marker="o", ms=3.5, zorder=3, label=label)
    if task is not None:
        chance = [task.chance(int(length)) for length in lengths]
        panel.plot(lengths, chance, color=_CHANCE, lw=1.2, ls="--", zorder=1, label="chance")
    low, high = min(lengths.min(), law.min_len) - 0.5, max(lengths.max(), law.train_len) + 0.5
    _length_axis(panel, lengths.min(), lengths.max())
    panel.set_xlim(max(low, 0.5) if panel.get_xscale() == "log" else low, high)
    panel.set_xlabel(f"length ({task.length_unit})" if task else "length")


def logarithmic(shortest: int, longest: int) -> bool:
    """Whether lengths are shown on a logarithmic axis: if they exceed 100 and span a factor of 16."""
    return longest > 100 and longest >= 16 * shortest


def _length_axis(panel: Axes, shortest: int, longest: int) -> None:
    """Scale the axes: lengths horizontally, exact match vertically."""
    from matplotlib.ticker import MaxNLocator

    if logarithmic(shortest, longest):
        panel.set_xscale("log")
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylim(-0.03, 1.03)
    panel.set_yticks(np.linspace(0, 1, 6))
    panel.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True)
class Curves:
    """Exact match by length of several configurations.

    Attributes:
        title: title of the panel.
        x_label: label of the length axis.
        lines: name -> one row per length, one column per run.
        trained: shortest and longest training length of each training distribution.
    """

    title: str
    x_label: str
    lines: dict[str, pd.DataFrame]
    trained: list[tuple[int, int]]


COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c6d31")
"""Distinguishable with any color vision (Okabe and Ito 2008), without yellow; with more curves, a color scale."""


def draw_curves(curves: Curves, path: Path) -> None:
    """Plot all curves in one panel: a thin line per run, the median bold, training lengths shaded.

    If training lengths differ, dotted lines mark the longest of each.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panel, count = figure.subplots(), len(curves.lines)
    scale = [colormaps["viridis"](i / max(1, count - 1)) for i in range(count)]
    colors = COLORS if count <= len(COLORS) else scale
    for (name, lines), color in zip(curves.lines.items(), colors, strict=False):
        for run in lines.columns:
            own = lines[run].dropna()
            panel.plot(own.index, own, color=color, lw=0.8, alpha=0.35)
        median = lines.median(axis=1)
        panel.plot(median.index, median, color=color, lw=2.4, marker="o", ms=3.5, zorder=3, label=name)
    lengths = np.concatenate([lines.index.to_numpy() for lines in curves.lines.values()])
    if len(curves.trained) == 1:
        low, high = curves.trained[0]
        panel.axvspan(low - 0.5, high + 0.5, color=_SHADE, zorder=0, label="training lengths")
    else:
        for _, high in curves.trained:
            panel.axvline(high + 0.5, color=_CHANCE, lw=1, ls=":", zorder=0)
    _length_axis(panel, lengths.min(), lengths.max())
    panel.set_xlim(max(0.5, min([lengths.min(), *(low for low, _ in curves.trained)]) - 0.5), lengths.max() + 0.5)
    panel.set_xlabel(curves.x_label)
    panel.set_ylabel("exact match")
    panel.set_title(f"{curves.title}: each run, and the median", fontsize=11, loc="left")
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    save_figure(figure, path)
