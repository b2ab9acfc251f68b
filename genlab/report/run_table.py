"""Runs as one table: every field of their specs, how they ended, exact match within and beyond training lengths."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.errors import UserError, unknown
from genlab.report.tables import wilson
from genlab.runs.laws import laws_of, means_by, placed
from genlab.runs.store import Store
from genlab.tasks import fitted

__all__ = ["filtered", "run_table", "summary"]

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
    rows = placed(exact, laws_of(store, runs))
    for column, side in (("exact_match_in", "inside"), ("exact_match_out", "outside")):
        means = means_by(rows[rows[side]], ["run_id"])
        shown[column] = means.reindex(runs["run_id"]).to_numpy()
    return shown


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
