"""Columns of a forecast table: each has a role, which says what it may be used for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from genlab.errors import UserError, unknown

ROLES = {
    "setting": "a hyper-parameter or a choice of task: what leave-one-setting-out leaves out",
    "seed": "init_seed, data_seed: runs that share one are twins, and never on both sides of a split",
    "metric": "measured in distribution: loss, exact match, time to fit, weight norms",
    "confidence": "how sure the outputs are in distribution: margin, largest probability, energy",
    "attention": "generic statistics of attention: entropy, largest weight",
    "signal": "read inside the model, on in-distribution inputs",
    "fact": "known of the task without any run: what RASP says",
    "outcome": "out of distribution: never an input of a forecast",
    "second": "the same outcome on a second evaluation set",
    "earlier": "the same outcome at the checkpoint before",
    "half1": "a signal as it was read on the first half of the probe examples: how well it is known, never an input",
    "half2": "the same on the second half",
    "exact": "1 for a signal that is not read on a sample (weights, history, all pairs): it has no reading noise",
    "seen_at": "when an outcome was first measured (UTC, ISO 8601)",
    "weight": "how often training draws a length of a shifted split, the likeliest being 1: for means over lengths",
}
"""Role -> what it means."""

BASELINE = ("setting", "metric", "confidence", "attention")
"""What a signal has to add to."""
KNOWN_BEFORE = (*BASELINE, "fact", "signal")
"""What may enter a forecast."""


def frame_of(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One table of role -> columns, with columns (role, name); empty parts are left out."""
    found = {role: part for role, part in parts.items() if part.shape[1]}
    return pd.concat(found, axis=1, names=["role", "name"])


def part(table: pd.DataFrame, role: str) -> pd.DataFrame:
    """The columns of one role by their names; a frame without columns if there are none."""
    if role not in table.columns.get_level_values(0):
        return pd.DataFrame(index=table.index)
    return table[role]


def columns(table: pd.DataFrame, roles: Iterable[str]) -> list[tuple[str, str]]:
    """All columns of some roles, in the order of the table."""
    wanted = set(roles)
    return [column for column in table.columns if column[0] in wanted]


def varying(table: pd.DataFrame, factors: Iterable[str] | None = None) -> list[str]:
    """Names of the settings that take more than one value, or `factors`, checked.

    Raises:
        UserError: a factor that is no setting of the table.
    """
    settings = part(table, "setting")
    if factors is None:
        found = [name for name in settings if settings[name].nunique(dropna=False) > 1]
        # Encodings without a table have no offsets: with `positions` at hand the field says nothing of its own.
        if {"offsets", "positions"} <= set(found) and (settings.groupby("positions")["offsets"].nunique() <= 1).all():
            found.remove("offsets")
        return found
    chosen = list(factors)
    for name in chosen:
        if name not in settings:
            raise unknown("setting", name, settings.columns)
    if not chosen:
        raise UserError("no setting was named")
    return chosen


# -- A user's own table as a forecast table: a CSV or Parquet file, its columns declared

_DECLARED = tuple(role for role in ROLES if role not in ("seen_at", "weight", "half1", "half2", "exact"))


def read_table(path: str | Path, columns: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A forecast table from a file, a row a run.

    A column `run_id` names the runs (else their row numbers do). Columns that are not declared are left out. When
    the outcomes were measured is not known of such a table: it can be judged, but nothing of it can be locked.

    Args:
        path: a `.csv` or `.parquet` file.
        columns: role -> names of columns; at least an outcome and one thing to forecast it from.

    Raises:
        UserError: no such file or column, a column under two roles, a signal or an outcome that is no number.
    """
    given = {role: list(names) for role, names in columns.items() if names}
    for role in given:
        if role not in _DECLARED:
            raise unknown("role", role, _DECLARED)
    if "outcome" not in given or len(given) < 2:
        raise UserError("a table needs columns declared as outcome, and as setting, signal or metric")
    rows = _read(Path(path))
    names = [name for of_role in given.values() for name in of_role]
    for name in names:
        if name not in rows:
            raise unknown(f"column of {Path(path).name}:", name, map(str, rows.columns))
        if names.count(name) > 1:
            raise UserError(f"column {name!r} is declared twice; each has one role")
    if "run_id" in rows:
        if rows["run_id"].duplicated().any():
            twice = rows.loc[rows["run_id"].duplicated(), "run_id"].iloc[0]
            raise UserError(f"{Path(path).name} holds run {twice!r} twice; a row is a run")
        rows = rows.set_index(rows["run_id"].astype(str))
    return frame_of({role: _part(rows, role, given[role]) for role in _DECLARED if role in given})


def _read(path: Path) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise UserError(f"table {path.name!r} is not allowed (a file that ends in .csv or .parquet)")
    if not path.is_file():
        raise UserError(f"table {str(path)!r} is not a file")
    try:
        rows = readers[path.suffix](path)
    except (ValueError, OSError) as error:  # pandas and pyarrow raise these for what they cannot read
        raise UserError(f"table {str(path)!r} cannot be read: {str(error).splitlines()[0]}") from None
    if rows.empty:
        raise UserError(f"table {str(path)!r} has no rows")
    return rows


def _read_parquet(path: Path) -> pd.DataFrame:
    # Not pd.read_parquet: it hands Arrow a Python file, whose bytes one of Arrow's threads may let go of too late.
    return pq.read_table(path).to_pandas()


def _part(rows: pd.DataFrame, role: str, names: Sequence[str]) -> pd.DataFrame:
    found = rows[list(names)]
    if role in ("setting", "seed"):
        return found
    for name in names:
        numbers = pd.to_numeric(found[name], errors="coerce")
        if (numbers.isna() & found[name].notna()).any():
            wrong = found.loc[numbers.isna() & found[name].notna(), name].iloc[0]
            raise UserError(f"column {name!r} is declared as {role}, and holds {wrong!r}, which is no number")
    return found.apply(pd.to_numeric).astype(float)
