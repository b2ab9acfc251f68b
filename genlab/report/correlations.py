"""Does a number go with accuracy outside: over the places of one run, and over runs?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from genlab.report.compare import bootstrap_interval

FEWEST_PLACES = 4
"""Places outside below which nothing is correlated within a run."""
_FEWEST_RUNS = 3


def with_accuracy(outside: pd.DataFrame, column: str, inside: pd.Series) -> dict[str, Any]:
    """Spearman's correlations of a number with accuracy outside.

    Args:
        outside: a row per run (`run_id`) and place outside, with `accuracy` and the number.
        column: the number.
        inside: of each run, a number that is read inside.

    Returns:
        `within`, over the places of a run, mean over the `correlated` runs with at least four places and in which
        neither is constant, with bounds `within_low` and `within_high` (None below 5 runs); `between`, that over runs
        of the number inside and mean accuracy outside, with its p value `between_p`; NaN where there is none.
    """
    from scipy.stats import spearmanr

    within: list[float] = []
    for _, run in outside.groupby("run_id"):
        if len(run) >= FEWEST_PLACES and run["accuracy"].nunique() > 1 and run[column].nunique() > 1:
            within.append(float(spearmanr(run[column], run["accuracy"]).statistic))
    low, high = bootstrap_interval(np.array(within))
    both = pd.concat([inside.rename("x"), outside.groupby("run_id")["accuracy"].mean().rename("y")], axis=1).dropna()
    varied = len(both) >= _FEWEST_RUNS and bool((both.nunique() > 1).all())
    found = spearmanr(both["x"], both["y"]) if varied else None
    return {
        "correlated": len(within),
        "within": float(np.mean(within)) if within else float("nan"),
        "within_low": low,
        "within_high": high,
        "between": float("nan") if found is None else float(found.statistic),
        "between_p": float("nan") if found is None else float(found.pvalue),
    }


def ends(row: dict[str, Any], name: str) -> str:
    """The bounds of an interval in brackets, or nothing."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None or pd.isna(low) else f" ({low:+.2f} to {high:+.2f})"


def told(row: dict[str, Any], within: str, between: str) -> list[str]:
    """Say the correlations that there are, after these words."""
    lines: list[str] = []
    if row["correlated"]:
        lines.append(f"{within}: Spearman {row['within']:+.2f}{ends(row, 'within')}, {row['correlated']} runs")
    if not pd.isna(row["between"]):
        lines.append(f"{between}: Spearman {row['between']:+.2f}, p = {row['between_p']:.2g}")
    return lines
