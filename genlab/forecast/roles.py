"""Roles of the columns of a forecast table, which determine how each may be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from genlab.errors import UserError, unknown

ROLES = {
    "setting": "a hyperparameter or a choice of task; leave-one-setting-out holds it out",
    "seed": "init_seed, data_seed: runs that share one are twins and never on both sides of a split",
    "metric": "measured in distribution: loss, exact match, steps to fit, weight norms",
    "confidence": "confidence of outputs in distribution: margin, largest probability, energy",
    "attention": "generic attention statistics: entropy, largest weight",
    "signal": "measured inside the model, on in-distribution inputs",
    "fact": "known about the task without any run: RASP analysis",
    "outcome": "out of distribution: never an input of a forecast",
    "second": "the same outcome on a second evaluation set",
    "earlier": "the same outcome at the previous evaluation during training",
    "half1": "a signal measured on the first half of the probe examples: for its reliability, never an input",
    "half2": "the same on the second half",
    "exact": "1 for a signal without sampling noise (from weights, history, all pairs)",
    "seen_at": "when an outcome was first measured (UTC, ISO 8601)",
    "weight": "relative training frequency of a length of a shifted split (maximum 1): for means over lengths",
}
"""Description of each role."""

BASELINE = ("setting", "metric", "confidence", "attention")
"""Roles that a signal has to improve on."""
KNOWN_BEFORE = (*BASELINE, "fact", "signal")
"""Roles that may be inputs of a forecast."""


def frame_of(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Build a table with columns (role, name) from one frame per role; empty ones are left out."""
    found = {role: part for role, part in parts.items() if part.shape[1]}
    return pd.concat(found, axis=1, names=["role", "name"])


def part(table: pd.DataFrame, role: str) -> pd.DataFrame:
    """Return the columns of one role by name; a frame without columns if there are none."""
    if role not in table.columns.get_level_values(0):
        return pd.DataFrame(index=table.index)
    return table[role]


def columns(table: pd.DataFrame, roles: Iterable[str]) -> list[tuple[str, str]]:
    """Return all columns with some roles, in the order of the table."""
    wanted = set(roles)
    return [column for column in table.columns if column[0] in wanted]


def varying(table: pd.DataFrame, factors: Iterable[str] | None = None) -> list[str]:
    """Return the names of settings with more than one value, or `factors`, validated.

    Raises:
        UserError: a factor that is not a setting of the table.
    """
    settings = part(table, "setting")
    if factors is None:
        found = [name for name in settings if settings[name].nunique(dropna=False) > 1]
        # Position encodings without a table have no offsets, so `offsets` is redundant given `positions`.
        if {"offsets", "positions"} <= set(found) and (settings.groupby("positions")["offsets"].nunique() <= 1).all():
            found.remove("offsets")
        # Nor does the source of plugins say more than what they brought, unless one was edited.
        brought = [name for name in ("task", "positions", "attn_weights") if name in found]
        if "code" in found and brought and (settings.groupby(brought)["code"].nunique() <= 1).all():
            found.remove("code")
        return found
    chosen = list(factors)
    for name in chosen:
        if name not in settings:
            raise unknown("setting", name, settings.columns)
    if not chosen:
        raise UserError("no setting was given")
    return chosen


# -- Tables from files

_DECLARED = tuple(role for role in ROLES if role not in ("seen_at", "weight", "half1", "half2", "exact"))


def read_table(path: str | Path, columns: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Read a forecast table from a file, one row per run.

    A column `run_id` names the runs (default: row numbers). Undeclared columns are ignored. Since it is unknown when
    the outcomes were measured, forecasts from such a table can be evaluated but not sealed.

    Args:
        path: a `.csv` or `.parquet` file.
        columns: role -> names of columns; at least one outcome and one input.

    Raises:
        UserError: a missing file or column, a column with two roles, or a non-numeric signal or outcome.
    """
    given = {role: list(names) for role, names in columns.items() if names}
    for role in given:
        if role not in _DECLARED:
            raise unknown("role", role, _DECLARED)
    if "outcome" not in given or len(given) < 2:
        raise UserError("a table needs columns declared as outcome, and at least one as setting, signal or metric")
    rows = _read(Path(path))
    names = [name for of_role in given.values() for name in of_role]
    for name in names:
        if name not in rows:
            raise unknown(f"column of {Path(path).name}:", name, map(str, rows.columns))
        if names.count(name) > 1:
            raise UserError(f"column {name!r} is declared twice; a column has one role")
    if "run_id" in rows:
        if rows["run_id"].duplicated().any():
            twice = rows.loc[rows["run_id"].duplicated(), "run_id"].iloc[0]
            raise UserError(f"{Path(path).name} holds run {twice!r} twice; each row must be one run")
        rows = rows.set_index(rows["run_id"].astype(str))
    return frame_of({role: _part(rows, role, given[role]) for role in _DECLARED if role in given})


def _read(path: Path) -> pd.DataFrame:
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise UserError(f"table {path.name!r} is not allowed (it must end in .csv or .parquet)")
    if not path.is_file():
        raise UserError(f"table {str(path)!r} is not a file")
    try:
        rows = readers[path.suffix](path)
    except (ValueError, OSError) as error:  # raised by pandas and pyarrow for unreadable files
        raise UserError(f"table {str(path)!r} cannot be read: {str(error).splitlines()[0]}") from None
    if rows.empty:
        raise UserError(f"table {str(path)!r} has no rows")
    return rows


_MISSING = ("NA", "N/A", "<NA>", "NaN", "nan", "None", "NULL", "null")
"""Spellings of a missing number. Of a setting they are names."""


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _read_parquet(path: Path) -> pd.DataFrame:
    # Not pd.read_parquet: it passes a Python file to Arrow, whose threads may release its bytes too late.
    return pq.read_table(path).to_pandas()


def _part(rows: pd.DataFrame, role: str, names: Sequence[str]) -> pd.DataFrame:
    found = rows[list(names)]
    for name in names:
        numbers = pd.to_numeric(found[name], errors="coerce")
        if np.isinf(numbers.astype(float)).any():
            raise UserError(f"column {name!r} is declared as {role} but contains inf, which is not a finite number")
    if role in ("setting", "seed"):
        return found
    found = found.replace(dict.fromkeys(_MISSING, np.nan))
    for name in names:
        numbers = pd.to_numeric(found[name], errors="coerce")
        if (numbers.isna() & found[name].notna()).any():
            wrong = found.loc[numbers.isna() & found[name].notna(), name].iloc[0]
            raise UserError(f"column {name!r} is declared as {role} but contains {wrong!r}, which is not a number")
    return found.apply(pd.to_numeric).astype(float)
