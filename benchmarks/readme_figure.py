"""The figure of the README, from docs/brackets-small.csv: models that agree in distribution and differ outside it.

python benchmarks/readme_figure.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
ROWS, FIGURE = DOCS / "brackets-small.csv", DOCS / "figures" / "question.png"
PUBLISHED = {1: 0.0, 2: 0.873}
"""Mean of the 30 published runs of each depth out of distribution (Li et al. 2025, arXiv 2507.06445)."""
COLORS = {1: "#b5562f", 2: "#1f5f8b"}


def source() -> str:
    """What the figure was drawn from: a hash of the rows, which the image file carries."""
    return hashlib.sha256(ROWS.read_bytes()).hexdigest()


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Each run as a line from its accuracy in distribution to that out of distribution."""
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    axes = figure.subplots()
    for depth, group in rows.groupby("n_layers"):
        color, shift = COLORS[int(depth)], np.linspace(-0.02, 0.02, len(group))
        for x, (inside, outside) in zip(shift, group[["id", "matched-unnested"]].to_numpy(), strict=True):
            axes.plot([x, 1 + x], [inside, outside], "-o", color=color, alpha=0.75, lw=1.3, ms=5)
        axes.plot([1.09], [PUBLISHED[int(depth)]], "_", color=color, ms=18, mew=2.5)
    axes.text(
        -0.08,
        0.2,
        "Question: all ten models are\nright in distribution. Which\nwill be right elsewhere?",
        va="center",
    )
    axes.text(
        1.15, 0.86, "Two layers: four of five\nseeds learn nesting,\none does not", color=COLORS[2], va="center"
    )
    axes.text(1.15, 0.03, "One layer: none does,\nall five only count", color=COLORS[1], va="center")
    axes.set_xlim(-0.12, 1.8)
    axes.set_ylim(-0.05, 1.08)
    axes.set_xticks([0, 1], ["in distribution", "out of distribution:\nbalanced counts, not nested"])
    axes.set_ylabel("exact match")
    axes.set_title("Is this string of brackets nested? (horizontal bars: published means)", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Source": source()})


if __name__ == "__main__":
    draw(pd.read_csv(ROWS), FIGURE)
