"""Signals of runs: appended as immutable Parquet parts, read as one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.runs.files import read_all, read_table, write_table

__all__ = ["SIGNAL_COLUMNS", "Signals"]

_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("step", pa.int64()),
        ("signal", pa.string()),
        ("version", pa.int64()),
        ("name", pa.string()),
        ("layer", pa.int64()),
        ("head", pa.int64()),
        ("value", pa.float64()),
        ("unit", pa.string()),
        ("at", pa.string()),
    ]
)
SIGNAL_COLUMNS: tuple[str, ...] = tuple(_SCHEMA.names)
"""Columns of signals. `signal` is the declared signal that gave the value, `version` its version; `name` is the name
of the value, `signal` or `signal.part`; layer and head are -1 where the value belongs to all of them."""
_KEYS = ["run_id", "step", "name", "layer", "head"]


class Signals:
    """The parts of a store's `signals`."""

    def __init__(self, store: Path):
        self.parts = store / "signals"

    def add(self, columns: Mapping[str, Sequence[Any]], stem: str) -> None:
        """Append rows, given as columns, as one part."""
        write_table(self.parts, stem, pa.table({name: columns[name] for name in SIGNAL_COLUMNS}, _SCHEMA))

    def done(self, run_ids: Iterable[str]) -> set[tuple[str, int, str, int]]:
        """The (run_id, step, signal, version) that are there."""
        wanted = pa.array(list(run_ids), pa.string())
        found: set[tuple[str, int, str, int]] = set()
        for table in read_all(self.files, lambda path: read_table(path, ["run_id", "step", "signal", "version"])):
            table = table.filter(pc.is_in(table["run_id"], wanted))
            keys = table.group_by(["run_id", "step", "signal", "version"]).aggregate([]).to_pylist()
            found |= {(k["run_id"], k["step"], k["signal"], k["version"]) for k in keys}
        return found

    def frame(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Signals in order, the latest of each."""
        return self._frame(read_all(self.files, read_table), run_ids)

    def run_ids(self) -> set[str]:
        """All runs of which there is a row."""
        tables = read_all(self.files, lambda path: read_table(path, ["run_id"]))
        return {run for table in tables for run in table["run_id"].unique().to_pylist()}

    def _frame(self, tables: Sequence[pa.Table], run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        found = pa.concat_tables([_SCHEMA.empty_table(), *tables])
        if run_ids is not None:
            found = found.filter(pc.is_in(found["run_id"], pa.array(list(run_ids), pa.string())))
        frame = found.to_pandas().sort_values([*_KEYS, "version", "at"], kind="stable")
        return frame.drop_duplicates(_KEYS, keep="last").reset_index(drop=True)

    def compact(self) -> None:
        """Make one part of many, each row once. Rows of all runs, and of no other files than those that go."""
        old = self.files()
        if len(old) < 2:
            return
        frame = self._frame([read_table(path) for path in old])
        name = write_table(self.parts, "compact", pa.Table.from_pandas(frame, _SCHEMA, preserve_index=False))
        for path in old:
            if path.name != name:
                path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """All parts that are there now."""
        return sorted(self.parts.glob("*.parquet"))
