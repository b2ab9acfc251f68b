"""A user's own table as a forecast table: a CSV or Parquet file, its columns declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from genlab.errors import UserError, unknown
from genlab.forecast.roles import ROLES, frame_of

__all__ = ["read_table"]

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
