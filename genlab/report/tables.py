"""Evaluations as tables: exact match by length over all seeds, never the best seed alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from genlab.tasks import TrainingLaw, fitted, mean_over_lengths

__all__ = ["by_factor", "by_length", "by_rule", "fit_share", "per_seed", "wilson"]

_RULE = "rule|"
"""How the name of a metric begins that is the share of answers a rule gives."""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of runs (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def per_seed(evals: pd.DataFrame, metric: str = "exact_match") -> pd.DataFrame:
    """One column a run, one row a (split, length): the metric's value."""
    chosen = evals[evals["metric"] == metric]
    return chosen.pivot_table(index=["split", "length"], columns="run_id", values="value", aggfunc="last")


def by_length(evals: pd.DataFrame, law: TrainingLaw, metric: str = "exact_match") -> pd.DataFrame:
    """A row a (split, length): median, low and high over runs, share of runs at 0.99 or more with its interval.

    Columns: split, length, trained (a training length), in_distribution, runs, median, low, high, share, share_low,
    share_high.
    """
    rows: list[dict[str, object]] = []
    for place, values in per_seed(evals, metric).iterrows():
        split, length = place  # pyright: ignore[reportGeneralTypeIssues]
        values = values.dropna()
        hits = int(fitted(values).sum())
        low, high = wilson(hits, len(values))
        rows.append(
            {
                "split": split,
                "length": int(length),
                "trained": bool(law.trains(int(length))),
                "in_distribution": not law.outside(split, int(length)),
                "runs": len(values),
                "median": float(values.median()),
                "low": float(values.min()),
                "high": float(values.max()),
                "share": hits / len(values),
                "share_low": low,
                "share_high": high,
            }
        )
    return pd.DataFrame(rows)


def fit_share(evals: pd.DataFrame, law: TrainingLaw) -> dict[str, float] | None:
    """How many runs learned what they were trained on: mean exact match in distribution is 0.99 or more.

    Training lengths are weighed as training draws them.

    Returns:
        `runs`, `share` of them, and `low` and `high` of its interval; None where none was evaluated in distribution.
    """
    table = per_seed(evals)
    places = table.index.to_frame()
    inside = table[law.inside(places["split"], places["length"])]
    if inside.empty:
        return None
    lengths = inside.index.get_level_values("length").to_numpy(np.int64)
    means = mean_over_lengths(inside.to_numpy(float).T, law.relative(lengths))
    hits, runs = int(fitted(means).sum()), int((~np.isnan(means)).sum())
    low, high = wilson(hits, runs)
    return {"runs": runs, "share": hits / runs, "low": low, "high": high}


def by_factor(evals: pd.DataFrame, law: TrainingLaw) -> pd.DataFrame:
    """Exact match by a property of the example (longest carry chain), within and beyond the training lengths.

    Examples of a training length count as often as training draws it; beyond, all count alike.

    Columns: split, factor, value, within, beyond (medians over runs), n_within, n_beyond (examples a run).
    """
    chosen = evals[evals["metric"].str.startswith("exact_match|")]
    if chosen.empty:
        return pd.DataFrame(columns=["split", "factor", "value", "within", "n_within", "beyond", "n_beyond"])
    named = chosen["metric"].str.extract(r"\|(?P<factor>[^=]+)=(?P<level>.+)")
    chosen = chosen.assign(factor=named["factor"], level=named["level"].astype(int))
    rows: list[dict[str, object]] = []
    for place, group in chosen.groupby(["split", "factor", "level"], sort=False):
        split, factor, level = place  # pyright: ignore[reportGeneralTypeIssues]
        row: dict[str, object] = {"split": split, "factor": factor, "value": int(level)}
        for name, part in _within_and_beyond(group, law):
            shares = _shares(part, law)
            row[name] = float(shares.median()) if len(shares) else None
            row[f"n_{name}"] = int(part.groupby("run_id")["n"].sum().max()) if len(part) else 0
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["split", "factor", "value"], ignore_index=True)


def by_rule(evals: pd.DataFrame, law: TrainingLaw) -> pd.DataFrame:
    """The share of answers that each rule gives, a row a (split, rule), within and beyond the training lengths.

    Answers at a training length count as often as training draws it; beyond, all count alike.

    Columns: split, rule, and for `within` and `beyond` the median, lowest and highest run (`within`, `within_low`,
    `within_high`; None where there are no such lengths).
    """
    chosen = evals[evals["metric"].str.startswith(_RULE)]
    if chosen.empty:
        return pd.DataFrame(columns=["split", "rule", "within", "beyond"])
    chosen = chosen.assign(rule=chosen["metric"].str.removeprefix(_RULE))
    rows: list[dict[str, object]] = []
    for place, group in chosen.groupby(["split", "rule"], sort=False):
        split, rule = place  # pyright: ignore[reportGeneralTypeIssues]
        row: dict[str, object] = {"split": split, "rule": rule}
        for name, part in _within_and_beyond(group, law):
            shares = _shares(part, law)
            kinds = {name: shares.median(), f"{name}_low": shares.min(), f"{name}_high": shares.max()}
            row |= {kind: float(value) if len(shares) else None for kind, value in kinds.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _within_and_beyond(rows: pd.DataFrame, law: TrainingLaw) -> list[tuple[str, pd.DataFrame]]:
    trained = law.trains(rows["length"].to_numpy(np.int64))
    return [("within", rows[trained]), ("beyond", rows[~trained])]


def _shares(rows: pd.DataFrame, law: TrainingLaw) -> pd.Series:
    """The value of each run over all of its examples, those of a training length as often as training draws it."""
    relative = law.relative(rows["length"].to_numpy(np.int64))
    n = rows["n"] * np.where(np.isnan(relative), 1.0, relative)
    sums = pd.DataFrame({"run_id": rows["run_id"], "hits": rows["value"] * n, "n": n}).groupby("run_id").sum()
    return sums["hits"] / sums["n"]
