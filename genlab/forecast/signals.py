"""Rows of signals, as columns of a forecast table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from genlab.errors import UserError, unknown

if TYPE_CHECKING:
    from genlab.runs.store import Store

__all__ = ["SIGNAL_ROLES", "read_at_the_end", "signal_parts", "stored_signals"]

SIGNAL_ROLES = ("metric", "confidence", "attention", "signal")
"""What a row of signals may be for a forecast; `signal` unless it says."""
_NEEDED = ("run_id", "name", "value")
_FAMILY_ROLES = {"confidence": "confidence", "sharpness": "attention", "training": "metric", "weights": "metric"}
"""Families of `genlab.probes` that a head signal has to add to -> their role; all others are signals."""


def read_at_the_end(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """Rows of the signals that a store holds of the last weights of runs."""
    from genlab.runs.signals import Signals

    rows = Signals(store.path).frame(run_ids)
    last = {run: store.entry(run)["step"] for run in run_ids}
    return rows[rows["step"] == rows["run_id"].map(last)]


def stored_signals(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """The signals that a store holds of runs, at the ends of their training, as rows for `signal_parts`.

    Of a signal read a head only the maximum over heads is taken, as it was stored; its null is left out. Of each
    signal the values of one version are taken, the newest that any of the runs has: others mean something else, and
    are missing.
    """
    from genlab.probes.signal import HALVES, all_signals

    rows = read_at_the_end(store, run_ids)
    declared = {one.name: one for one in all_signals()} if len(rows) else {}
    rows = rows[rows["signal"].isin(list(declared))]
    rows = rows[~rows["name"].str.endswith((".null", ".null_sd")) & (rows["head"] < 0)]
    rows = rows[rows["version"] == rows.groupby("signal")["version"].transform("max")]
    half = rows["name"].str.extract(r"\.half([12])$", expand=False)
    role = [_FAMILY_ROLES.get(declared[name].family, "signal") for name in rows["signal"]]
    layer = rows["layer"].where(rows["layer"] >= 0)
    admissible = [declared[name].admissible for name in rows["signal"]]
    exact = [declared[name].exact for name in rows["signal"]]
    name = rows["name"].str.replace("|".join(f"\\{end}$" for end in HALVES), "", regex=True)
    about = {"name": name, "layer": layer, "role": role, "admissible": admissible, "half": half, "exact": exact}
    return rows[["run_id", "value"]].assign(**about)


def signal_parts(rows: pd.DataFrame | None, index: pd.Index, inadmissible: bool) -> dict[str, pd.DataFrame]:
    """Role -> a column a signal, a row a run of `index` (missing where a run was not measured).

    A signal read a head is given as its largest value over the heads, `max NAME`; a signal read a layer as one column
    a layer, `NAME layer 0`.

    Args:
        rows: columns run_id, name, value and, where there are, layer, head, role, admissible, half (`1` or `2`: the
            value as read on that half of the examples) and exact (it is not read on a sample).
        inadmissible: also those that say that their inputs went beyond what the run was trained on.

    Raises:
        UserError: a column that is needed is missing, or a role that there is not.
    """
    if rows is None:
        return {}
    if missing := [name for name in _NEEDED if name not in rows]:
        raise UserError(f"signals have no column {missing[0]!r}; they need {', '.join(_NEEDED)}")
    found = rows[rows["run_id"].isin(index)].copy()
    if not inadmissible and "admissible" in found:
        found = found[found["admissible"].astype(bool)]
    found["role"] = found["role"].fillna("signal") if "role" in found else "signal"
    for role in found["role"].unique():
        if role not in SIGNAL_ROLES:
            raise unknown("role of a signal:", str(role), SIGNAL_ROLES)
    found["column"] = _column_names(found)
    half = found["half"] if "half" in found else pd.Series(None, found.index, dtype=object)
    known = found[half.isna() & found["value"].notna()]
    exact = known[known["exact"].fillna(False).astype(bool)] if "exact" in found else found[:0]
    parts = {str(role): _signal_columns(of_role, index) for role, of_role in found[half.isna()].groupby("role", sort=False)}
    more = {f"half{one}": found[half == one] for one in ("1", "2")} | {"exact": exact.assign(value=1.0)}
    parts |= {role: _signal_columns(rows, index) for role, rows in more.items() if len(rows)}
    return {role: parts[role] for role in (*SIGNAL_ROLES, *more) if role in parts}


def _signal_columns(rows: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """A column a signal, a row a run of `index`."""
    wide = rows.pivot_table(index="run_id", columns="column", values="value", aggfunc="max", sort=False)
    return wide.reindex(index).rename_axis(columns=None)


def _column_names(rows: pd.DataFrame) -> pd.Series:
    names = rows["name"].astype(str)
    if "layer" in rows:
        of_layer = rows["layer"].notna()
        names = names.where(~of_layer, names + " layer " + rows["layer"].fillna(0).astype(int).astype(str))
    if "head" in rows:
        names = names.where(rows["head"].isna(), "max " + rows["name"].astype(str))
    return names
