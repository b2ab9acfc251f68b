"""Evaluations as tables: exact match by length over all seeds, never the best seed alone."""

from __future__ import annotations

import pandas as pd

__all__ = ["FIT", "by_factor", "by_length", "by_rule", "fit_share", "per_seed", "wilson"]

FIT = 0.99
"""Exact match from which a run counts as right."""

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


def by_length(evals: pd.DataFrame, train_len: int, metric: str = "exact_match") -> pd.DataFrame:
    """A row a (split, length): median, low and high over runs, share of runs at 0.99 or more with its interval.

    Columns: split, length, trained (a training length), runs, median, low, high, share, share_low, share_high.
    """
    rows: list[dict[str, object]] = []
    for place, values in per_seed(evals, metric).iterrows():
        split, length = place  # pyright: ignore[reportGeneralTypeIssues]
        values = values.dropna()
        hits = int((values >= FIT).sum())
        low, high = wilson(hits, len(values))
        rows.append(
            {
                "split": split,
                "length": int(length),
                "trained": int(length) <= train_len,
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


def fit_share(evals: pd.DataFrame, split: str, train_len: int) -> dict[str, float]:
    """How many runs learned what they were trained on: mean exact match 0.99 or more within the training lengths.

    Returns `runs`, `share` of them, and `low` and `high` of its interval.
    """
    inside = per_seed(evals).loc[split]
    means = inside[inside.index <= train_len].mean()
    hits = int((means >= FIT).sum())
    low, high = wilson(hits, len(means))
    return {"runs": len(means), "share": hits / len(means), "low": low, "high": high}


def by_factor(evals: pd.DataFrame, train_len: int) -> pd.DataFrame:
    """Exact match by a property of the example (longest carry chain), within and beyond the training lengths.

    Columns: factor, value, within, beyond (medians over runs), n_within, n_beyond (examples a run).
    """
    chosen = evals[evals["metric"].str.startswith("exact_match|")].copy()
    if chosen.empty:
        return pd.DataFrame(columns=["factor", "value", "within", "n_within", "beyond", "n_beyond"])
    named = chosen["metric"].str.extract(r"\|(?P<factor>[^=]+)=(?P<level>.+)")
    chosen = chosen.assign(factor=named["factor"], level=named["level"].astype(int))
    chosen["hits"] = chosen["value"] * chosen["n"]
    rows: list[dict[str, object]] = []
    for (factor, level), group in chosen.groupby(["factor", "level"]):
        row: dict[str, object] = {"factor": factor, "value": int(level)}
        for name, part in (
            ("within", group[group["length"] <= train_len]),
            ("beyond", group[group["length"] > train_len]),
        ):
            sums = part.groupby("run_id")[["hits", "n"]].sum()
            row[name] = float((sums["hits"] / sums["n"]).median()) if len(sums) else None
            row[f"n_{name}"] = int(sums["n"].max()) if len(sums) else 0
        rows.append(row)
    return pd.DataFrame(rows)


def by_rule(evals: pd.DataFrame, train_len: int) -> pd.DataFrame:
    """The share of answers that each rule gives, a row a (split, rule), within and beyond the training lengths.

    Columns: split, rule, and for `within` and `beyond` the median, lowest and highest run (`within`, `within_low`,
    `within_high`; None where there are no such lengths).
    """
    chosen = evals[evals["metric"].str.startswith(_RULE)].copy()
    if chosen.empty:
        return pd.DataFrame(columns=["split", "rule", "within", "beyond"])
    chosen["rule"] = chosen["metric"].str.removeprefix(_RULE)
    chosen["hits"] = chosen["value"] * chosen["n"]
    rows: list[dict[str, object]] = []
    for place, group in chosen.groupby(["split", "rule"], sort=False):
        split, rule = place  # pyright: ignore[reportGeneralTypeIssues]
        row: dict[str, object] = {"split": split, "rule": rule}
        for name, part in (
            ("within", group[group["length"] <= train_len]),
            ("beyond", group[group["length"] > train_len]),
        ):
            sums = part.groupby("run_id")[["hits", "n"]].sum()
            shares = sums["hits"] / sums["n"]
            kinds = {name: shares.median(), f"{name}_low": shares.min(), f"{name}_high": shares.max()}
            row |= {kind: float(value) if len(shares) else None for kind, value in kinds.items()}
        rows.append(row)
    return pd.DataFrame(rows)
