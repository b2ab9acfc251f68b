"""Figures of the first study, drawn from its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["draw_arms", "draw_sealed", "draw_tasks"]

_INK, _SOFT, _WARM = "#1b4965", "#7fb2d1", "#b3541e"
_ARMS = {"equal-count": "EQUAL-COUNT\nimplanted", "ambiguous": "ambiguous", "nested": "NESTED\nimplanted"}


def draw_arms(rows: pd.DataFrame, signal: str, path: Path) -> None:
    """Behaviour and signal of the three arms, a dot a run."""
    figure, panels = _figure(2, (8.4, 3.8))
    for panel, column, name in (
        (panels[0], "follows_nested", "share of answers that NESTED gives"),
        (panels[1], signal, f"{signal} (in distribution)"),
    ):
        for at, arm in enumerate(_ARMS):
            _dots(panel, at, rows.loc[rows["arm"] == arm, column].to_numpy(float))
        panel.set_xticks(range(len(_ARMS)), list(_ARMS.values()))
        panel.set_ylabel(name)
        panel.set_ylim(-0.03, 1.03)
    panels[0].set_title("what runs do on matched-unnested", loc="left", fontsize=10)
    panels[1].set_title("the sealed signal", loc="left", fontsize=10)
    figure.savefig(path, dpi=150)


def draw_sealed(rows: pd.DataFrame, known: np.ndarray, path: Path) -> None:
    """What was forecast against what came out, and the same outcome measured twice."""
    figure, panels = _figure(3, (11.4, 3.8))
    low = min(float(rows[["outcome", "again", "forecast", "baselines"]].min().min()), float(known.min())) - 0.02
    for panel, column, title in (
        (panels[0], "baselines", "forecast of the baselines"),
        (panels[1], "forecast", "baselines + signal"),
        (panels[2], "again", "the outcome measured again"),
    ):
        panel.plot([low, 1], [low, 1], color="#999999", linewidth=0.8)
        panel.plot(rows[column], rows["outcome"], "o", color=_INK, alpha=0.6, markersize=4, markeredgewidth=0)
        panel.set_title(title, loc="left", fontsize=10)
        panel.set_xlabel(title)
        panel.set_xlim(low, 1.02)
        panel.set_ylim(low, 1.02)
    panels[0].set_ylabel("exact match on matched-unnested")
    figure.savefig(path, dpi=150)


def draw_tasks(rows: pd.DataFrame, path: Path) -> None:
    """Exact match beyond the training lengths, a dot a run, a panel a task; those that RASP expects are filled."""
    names = list(dict.fromkeys(zip(rows["task"], rows["format"], strict=True)))
    figure, panels = _figure(len(names), (2.3 * len(names), 3.6))
    encodings = list(dict.fromkeys(rows["positions"]))
    for panel, (task, form) in zip(panels, names, strict=True):
        of = rows[(rows["task"] == task) & (rows["format"] == form)]
        for at, encoding in enumerate(encodings):
            some = of[of["positions"] == encoding]
            expected = bool((some["rasp_expected"] == 1).any())
            fits = some["fits"].to_numpy(bool)
            _dots(panel, at, some["beyond"].to_numpy(float)[fits], filled=expected)
            _dots(panel, at, some["beyond"].to_numpy(float)[~fits], filled=False, color="#999999", marker="x")
        panel.set_title(f"{task}\n{form}", fontsize=9)
        panel.set_xticks(range(len(encodings)), encodings, rotation=60, fontsize=8)
        panel.set_ylim(-0.04, 1.04)
    panels[0].set_ylabel("exact match beyond\nthe training lengths")
    figure.savefig(path, dpi=150)


def _figure(panels: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    made: Any = figure.subplots(1, panels, squeeze=False)[0]
    for panel in made:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        panel.set_axisbelow(True)
    return figure, list(made)


def _dots(
    panel: Axes, at: float, values: np.ndarray, filled: bool = True, color: str = _INK, marker: str = "o"
) -> None:
    """Values as dots side by side, so that none hides another."""
    aside = (np.argsort(np.argsort(values)) % 5 - 2) * 0.07 if len(values) > 1 else np.zeros(len(values))
    face = color if filled else "none"
    panel.scatter(
        at + aside, values, s=16, marker=marker, facecolors=face if marker == "o" else color,
        edgecolors=color if marker == "o" else None, linewidths=0.8, alpha=0.75,
    )  # fmt: skip
    if len(values) > 5:
        panel.hlines(float(np.median(values)), at - 0.25, at + 0.25, color=_WARM, linewidth=1.6)
