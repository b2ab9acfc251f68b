"""Evaluations as tables: exact match by length over all seeds, never the best seed alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.errors import UserError, unknown
from genlab.forecast.tables import read_at_the_end, stored_signals
from genlab.probes.signal import AUXILIARY, HALVES, all_signals
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.index import SETTINGS, TAGGED
from genlab.runs.laws import laws_of, means_by, placed
from genlab.runs.store import Store
from genlab.tasks import TrainingLaw, fitted, mean_over_lengths

_RULE = "rule|"
"""Prefix of metrics that are the fraction of answers that agree with a rule."""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a fraction of runs (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def per_seed(evals: pd.DataFrame, metric: str = "exact_match") -> pd.DataFrame:
    """Return values of a metric, one column per run and one row per (split, length)."""
    chosen = evals[evals["metric"] == metric]
    return chosen.pivot_table(index=["split", "length"], columns="run_id", values="value", aggfunc="last")


def by_length(evals: pd.DataFrame, law: TrainingLaw, metric: str = "exact_match") -> pd.DataFrame:
    """Return one row per (split, length): median, low and high over runs, fraction of runs at 0.99 or more.

    Columns: split, length, trained (a training length), in_distribution, runs, median, low, high,
    fraction, fraction_low, fraction_high (its 95 % interval).
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
                "fraction": hits / len(values),
                "fraction_low": low,
                "fraction_high": high,
            }
        )
    return pd.DataFrame(rows)


def fit_fraction(evals: pd.DataFrame, law: TrainingLaw) -> dict[str, float] | None:
    """Return the fraction of runs that learned their task: mean ID exact match of 0.99 or more.

    Training lengths are weighted as training draws them.

    Returns:
        `runs`, `fraction`, and its interval `low`, `high`; None if no run was evaluated in distribution.
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
    return {"runs": runs, "fraction": hits / runs, "low": low, "high": high}


def by_factor(evals: pd.DataFrame, law: TrainingLaw) -> pd.DataFrame:
    """Return exact match by a property of the example (such as carry chain), within and beyond the training lengths.

    Training lengths are weighted as training draws them, longer ones equally.

    Columns: split, factor, value, within, beyond (medians over runs), n_within, n_beyond (examples per run).
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
            values = _weighted(part, law)
            row[name] = float(values.median()) if len(values) else None
            row[f"n_{name}"] = int(part.groupby("run_id")["n"].sum().max()) if len(part) else 0
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["split", "factor", "value"], ignore_index=True)


def by_rule(evals: pd.DataFrame, law: TrainingLaw) -> pd.DataFrame:
    """Return the fraction of answers that agree with each rule, within and beyond the training lengths.

    Training lengths are weighted as training draws them, longer ones equally.

    Columns: split, rule, and for `within` and `beyond` the median, lowest and highest run (`within`, `within_low`,
    `within_high`; None if there are no such lengths).
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
            values = _weighted(part, law)
            kinds = {name: values.median(), f"{name}_low": values.min(), f"{name}_high": values.max()}
            row |= {kind: float(value) if len(values) else None for kind, value in kinds.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _within_and_beyond(rows: pd.DataFrame, law: TrainingLaw) -> list[tuple[str, pd.DataFrame]]:
    trained = law.trains(rows["length"].to_numpy(np.int64))
    return [("within", rows[trained]), ("beyond", rows[~trained])]


def _weighted(rows: pd.DataFrame, law: TrainingLaw) -> pd.Series:
    """The mean of each run over its examples, with training lengths weighted as training draws them."""
    relative = law.relative(rows["length"].to_numpy(np.int64))
    n = rows["n"] * np.where(np.isnan(relative), 1.0, relative)
    sums = pd.DataFrame({"run_id": rows["run_id"], "hits": rows["value"] * n, "n": n}).groupby("run_id").sum()
    return sums["hits"] / sums["n"]


# -- Runs as one table: fields of their specs, status, ID and OOD accuracy

_OPERATORS = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|!=|==|=|<|>)\s*(.+?)\s*")
_FEW = 10_000
"""With fewer runs, only their evaluations are read, not all of the store."""
_HIDDEN = ("history", "weights", "again", "law")


def run_table(store: Store, run_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row per run, oldest first.

    The first column is `run_id`; `exact_match_in` is the mean ID exact match, with lengths weighted as training draws
    them, and `exact_match_out` the mean over all OOD evaluations.
    """
    runs = store.runs()
    if run_ids is not None:
        wanted = pc.is_in(pa.array(runs["run_id"], pa.string()), pa.array(list(run_ids), pa.string()))
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


DERIVED = ("d_vocab", "n_ctx", "d_values", "task_version")
"""Fields that follow from others, which are not settings."""


def settings_of(runs: pd.DataFrame) -> list[str]:
    """Return the columns of a run table that are settings, as opposed to seeds, derived fields and results."""
    fields = SETTINGS - {"init_seed", "data_seed", *DERIVED}
    return [name for name in runs.columns if name in fields or str(name).startswith(TAGGED)]


# -- Signals by run


def signal_table(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """Return one row per run and signal of the final weights, with one value per model or layer.

    Columns: run_id, signal, name, unit, layer (-1: whole model), value; for a maximum over heads also `at_layer` and
    `at_head` (the head with the largest value on all examples), and the mean and standard deviation of the maximum
    over untrained models (`null`, `null_sd`); `noise`, the standard error of the value from its two halves (0 without
    sampling, NaN without halves); n, the number of probe examples.
    """
    return of_signals(read_at_the_end(store, list(run_ids)))


def of_signals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the `signal_table` of stored rows of one step per run (`genlab.runs.parts.SIGNAL_COLUMNS`)."""
    rows = with_units(rows)
    own = rows[~rows["name"].str.endswith(AUXILIARY)]
    heads, found = own[own["head"] >= 0], own[own["head"] < 0].copy()
    place = ["run_id", "name", "layer"]
    top = heads.loc[heads.groupby(["run_id", "name"])["value"].idxmax().dropna()].set_index(["run_id", "name"])
    base = found["name"].str.removesuffix(".max")
    index = pd.MultiIndex.from_arrays([found["run_id"], base])
    values = rows.drop_duplicates(place).set_index(place)["value"]

    def beside(names: pd.Series, layer: pd.Series | int) -> np.ndarray:
        wanted = pd.DataFrame({"run_id": found["run_id"], "name": names, "layer": layer})
        return values.reindex(pd.MultiIndex.from_frame(wanted)).to_numpy(float)

    for column in ("layer", "head"):
        found[f"at_{column}"] = top[column].reindex(index).astype("Int64").to_numpy()
    found["null"], found["null_sd"] = beside(base + ".null", ALL_LAYERS), beside(base + ".null_sd", ALL_LAYERS)
    first, second = (beside(found["name"] + half, found["layer"]) for half in HALVES)
    exact = {one.name for one in all_signals() if one.exact} if len(found) else set()
    found["noise"] = np.where(found["signal"].isin(list(exact)), 0.0, np.abs(first - second) / 2)
    return found[list(_OF_SIGNAL)].reset_index(drop=True)


def with_units(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of stored signals with the current units of signals; stored ones may be worded differently."""
    units = {one.name: one.unit for one in all_signals()} if len(rows) else {}
    return rows.assign(unit=rows["signal"].map(units).fillna(rows["unit"]))


ALL_LAYERS = -1
_OF_SIGNAL = (
    *("run_id", "signal", "name", "unit", "layer", "value"),
    *("at_layer", "at_head", "null", "null_sd", "noise", "n"),
)


def signal_columns(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """Return one row per run and one column per stored signal: `NAME`, `NAME.max` (heads) or `NAME.layer0` (layers).

    These are the signals that forecasts use: of the final weights, in their newest version.
    """
    rows = stored_signals(store, run_ids)
    rows = rows[rows["half"].isna()]
    names = rows["name"].where(
        rows["layer"].isna(), rows["name"] + ".layer" + rows["layer"].astype("Int64").astype(str)
    )
    wide = rows.assign(name=names).pivot_table(index="run_id", columns="name", values="value", aggfunc="last")
    return wide.reindex(list(run_ids)).rename_axis(columns=None)


def with_signals(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """Return a run table with the stored signals of its runs as additional columns."""
    read = signal_columns(store, runs["run_id"].tolist())
    return pd.concat([runs.reset_index(drop=True), read.reset_index(drop=True)], axis=1)


# -- Tidy tables for Python: `genlab.results`, `genlab.signals`


def results(which: str | Sequence[str], store: Store | str | Path | None = None) -> pd.DataFrame:
    """Return evaluations of runs as a tidy table: one row per run, split, length and metric, with all options.

    Args:
        which: a run, group, grid or tag, `last`, or several of them.
        store: the store, or its directory (default: `GENLAB_STORE`, or `runs`).

    Returns:
        Columns run_id, status, the options, init_seed, data_seed, split, length, metric, value, n, and
        `in_distribution`: whether the run was trained on this split and length.

    Raises:
        UserError: no such runs.
    """
    kept, ids = named_runs(which, store)
    about = _options(kept, ids)
    rows = placed(kept.evals(ids), {run: kept.law(run) for run in ids})
    rows = rows.assign(in_distribution=rows["inside"])
    columns = ["run_id", "split", "length", "metric", "value", "n", "in_distribution"]
    return about.merge(rows[columns], on="run_id").reset_index(drop=True)


def signals(which: str | Sequence[str], store: Store | str | Path | None = None) -> pd.DataFrame:
    """Return stored signals of the final weights of runs: `signal_table`, with all options of each run.

    `lab probe` measures signals. Arguments and errors are those of `results`.
    """
    kept, ids = named_runs(which, store)
    return _options(kept, ids).merge(signal_table(kept, ids), on="run_id").reset_index(drop=True)


def named_runs(which: str | Sequence[str], store: Store | str | Path | None) -> tuple[Store, list[str]]:
    """The store, and the runs that are named, each once. Raises `UserError` if there are none of a name."""
    kept = store if isinstance(store, Store) else Store(store)
    return kept, list(dict.fromkeys(run for text in named(which) for run in kept.find(text)))


def named(which: str | Sequence[str]) -> list[str]:
    """The names of runs, groups, grids and tags that were given, as a list."""
    return [which] if isinstance(which, str) else list(which)


def counted_runs(which: str | Sequence[str], store: Store | str | Path | None) -> tuple[Store, list[str], str]:
    """The store, the named runs that did not diverge, and a note on the others ('' if there are none).

    Raises `UserError` if there are no runs of a name.
    """
    kept, ids = named_runs(which, store)
    runs, diverged = set_aside(kept, ids)
    return kept, runs, left_out(diverged, len(ids))


def _options(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """One row per run: run_id, status, the settings that any of the runs has, and the seeds."""
    runs = store.runs().set_index("run_id").loc[list(run_ids)].reset_index()
    return runs[["run_id", "status", *settings_of(runs), "init_seed", "data_seed"]].dropna(axis=1, how="all")


# -- Conditions, order and groups


def ordered(runs: pd.DataFrame, by: str | None, limit: int | None) -> pd.DataFrame:
    """Sort runs by a field, ascending (`-FIELD`: descending), and return the first `limit`.

    Without a field, the order is kept and the last `limit` are returned: the latest runs.

    Raises:
        UserError: an unknown field, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} is not allowed: the minimum is 1")
    if by is None or runs.empty:
        return runs if limit is None else runs.tail(limit)
    name = by.removeprefix("-")
    if name not in runs:
        raise unknown("field", name, runs.columns, "lab runs --csv")
    sorted_runs = runs.sort_values(name, ascending=not by.startswith("-"), kind="stable", na_position="last")
    return sorted_runs if limit is None else sorted_runs.head(limit)


def fields_of(where: str | None) -> list[str]:
    """Return the fields that a condition names; invalid parts are skipped.

    >>> fields_of("lr >= 0.2 and induction_prefix.max > 0.5")
    ['lr', 'induction_prefix.max']
    """
    parts = re.split(r"\s+and\s+", where.strip()) if where else []
    return [found.group(1) for part in parts if (found := _CONDITION.fullmatch(part))]


def filtered(runs: pd.DataFrame, where: str | None) -> pd.DataFrame:
    """Return the rows that satisfy `field op value and field op value ...`; op is = == != < <= > >=.

    >>> runs = pd.DataFrame({"run_id": ["a", "b"], "lr": [0.1, 0.2], "positions": ["none", "rotary"]})
    >>> list(filtered(runs, "lr >= 0.2 and positions = rotary")["run_id"])
    ['b']

    Raises:
        UserError: an invalid condition, an unknown field, or a value of the wrong type.
    """
    for part in re.split(r"\s+and\s+", where.strip()) if where else ():
        found = _CONDITION.fullmatch(part)
        if not found:
            raise UserError(f"--where {part!r} is not a condition; write FIELD OP VALUE, joined by `and`")
        name, operator, text = found.groups()
        if runs.empty:
            return runs
        if name not in runs:
            raise unknown("field", name, runs.columns, "lab runs --csv")
        runs = runs[_OPERATORS[operator](runs[name], _value(text.strip("'\""), runs[name], operator))]
    return runs


def _value(text: str, column: pd.Series, operator: str) -> object:
    if pd.api.types.is_bool_dtype(column):
        if text.lower() in ("true", "false") and operator in ("=", "==", "!="):
            return text.lower() == "true"
        raise UserError(f"--where: {column.name} is true or false, not {operator} {text}")
    if pd.api.types.is_numeric_dtype(column):
        try:
            return float(text)
        except ValueError:
            raise UserError(f"--where: {column.name} is a number, but {text!r} is not") from None
    return text


def summary(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return one row per configuration of the fields `by`: runs, fraction that fit, range of OOD accuracy.

    Diverged runs are counted, and left out of everything else (`genlab.runs.diverged`).

    Columns: the fields, runs, diverged, fit, fit_low, fit_high, out_median, out_low, out_high.

    Raises:
        UserError: a field that is not there.
    """
    if runs.empty:  # without runs there are no fields
        return pd.DataFrame()
    for name in by:
        if name not in runs:
            raise unknown("field", name, runs.columns, "lab runs --csv")
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
