"""Evaluations as tables: exact match by length over all seeds, never the best seed alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.errors import UserError, unknown
from genlab.runs.laws import laws_of, means_by, placed
from genlab.runs.store import Store
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import TrainingLaw, fitted, mean_over_lengths

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


# -- Runs as one table: every field of their specs, how they ended, exact match within and beyond training len

_OPERATORS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*")
_FEW = 10_000
"""Runs below which evaluations are picked out rather than all taken."""
_HIDDEN = ("history", "weights", "again", "law")


def run_table(store: Store, run_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """A row a run, oldest first. The first column is `run_id`; `exact_match_in` is the mean of exact match in
    distribution, lengths weighed as training draws them; `exact_match_out` that of all that was tested out of it."""
    runs = store.runs()
    if run_ids is not None:
        wanted = pc.is_in(pa.array(runs["run_id"]), pa.array(list(run_ids), pa.string()))
        runs = runs[wanted.to_numpy(zero_copy_only=False)].reset_index(drop=True)
    shown = runs.drop(columns=list(_HIDDEN))
    if runs.empty:
        return shown.assign(exact_match_in=[], exact_match_out=[])
    few = run_ids is not None and len(runs) < _FEW
    exact = store.evals(runs["run_id"] if few else None, metric="exact_match")
    if not few:
        exact = exact[exact["run_id"].isin(set(runs["run_id"]))]
    rows = placed(exact, laws_of(runs, store.spec))
    for column, side in (("exact_match_in", "inside"), ("exact_match_out", "outside")):
        means = means_by(rows[rows[side]], ["run_id"])
        shown[column] = means.reindex(runs["run_id"]).to_numpy()
    return shown


_DERIVED = ("d_vocab", "n_ctx", "d_values", "task_version")
"""Fields that follow from others: no settings."""


def settings_of(runs: pd.DataFrame) -> list[str]:
    """The columns of a run table that are settings: neither seeds, nor derived, nor results."""
    fields = {"task", "format", "max_len", *ModelConfig.model_fields, *TrainConfig.model_fields}
    fields -= {"init_seed", "data_seed", *_DERIVED}
    return [name for name in runs.columns if name in fields or str(name).startswith("params.")]


def filtered(runs: pd.DataFrame, where: str | None) -> pd.DataFrame:
    """The rows for which `field op value and field op value ...` holds; op is = != < <= > >=.

    >>> runs = pd.DataFrame({"run_id": ["a", "b"], "lr": [0.1, 0.2], "positions": ["none", "rotary"]})
    >>> list(filtered(runs, "lr >= 0.2 and positions = rotary")["run_id"])
    ['b']

    Raises:
        UserError: a condition that is none, a field that is not there, a value of another kind.
    """
    for part in re.split(r"\s+and\s+", where.strip()) if where else ():
        found = _CONDITION.fullmatch(part)
        if not found:
            raise UserError(f"--where {part!r} is no condition; write FIELD OP VALUE, joined by `and`")
        name, operator, text = found.groups()
        if name not in runs:
            raise unknown("field", name, runs.columns)
        runs = runs[_OPERATORS[operator](runs[name], _value(text.strip("'\""), runs[name], operator))]
    return runs


def _value(text: str, column: pd.Series, operator: str) -> object:
    if pd.api.types.is_bool_dtype(column):
        if text.lower() in ("true", "false") and operator in ("=", "!="):
            return text.lower() == "true"
        raise UserError(f"--where: {column.name} is true or false, not {operator} {text}")
    if pd.api.types.is_numeric_dtype(column):
        try:
            return float(text)
        except ValueError:
            raise UserError(f"--where: {column.name} is a number, {text!r} is none") from None
    return text


def summary(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """A row a cell of the fields `by`: runs, the share that fit in distribution (95 % interval), the spread beyond.

    Runs that diverged are counted, and left out of the rest (`genlab.runs.diverged`).

    Columns: the fields, runs, diverged, fit, fit_low, fit_high, out_median, out_low, out_high.

    Raises:
        UserError: a field that is not there.
    """
    for name in by:
        if name not in runs:
            raise unknown("field", name, runs.columns)
    rows: list[dict[str, object]] = []
    for values, cell in runs.groupby(list(by), dropna=False):
        counted = cell[cell["status"] != "diverged"]
        inside, beyond = counted["exact_match_in"].dropna(), counted["exact_match_out"].dropna()
        hits = int(fitted(inside).sum())
        low, high = wilson(hits, len(inside)) if len(inside) else (None, None)
        row: dict[str, object] = dict(zip(by, values if isinstance(values, tuple) else (values,), strict=True))
        row |= {"runs": len(cell), "diverged": int((cell["status"] == "diverged").sum())}
        row |= {"fit": hits / len(inside) if len(inside) else None, "fit_low": low, "fit_high": high}
        spread = (beyond.median(), beyond.min(), beyond.max()) if len(beyond) else (None, None, None)
        rows.append(row | dict(zip(("out_median", "out_low", "out_high"), spread, strict=True)))
    return pd.DataFrame(rows)
