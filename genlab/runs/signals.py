"""Signals of runs: appended as immutable Parquet parts, read as one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.runs.files import read_all, read_table, write_table

__all__ = ["SIGNAL_COLUMNS", "Signals"]

_SIGNAL_SCHEMA = pa.schema(
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
        ("n", pa.int64()),
    ]
)
SIGNAL_COLUMNS: tuple[str, ...] = tuple(_SIGNAL_SCHEMA.names)
"""Columns of signals. `signal` is the declared signal that gave the value, `version` its version; `name` is the name
of the value, `signal` or `signal.part`; layer and head are -1 where the value belongs to all of them; `n` is how many
probe examples it was read on: 0 where it reads none, and in rows written before the number was kept."""
_SIGNAL_KEYS = ["run_id", "step", "name", "layer", "head"]
_READING = ["run_id", "step", "signal"]


class Signals:
    """The parts of a store's `signals`."""

    def __init__(self, store: Path):
        self.parts = store / "signals"

    def add(self, columns: Mapping[str, Sequence[Any]], stem: str) -> None:
        """Append rows, given as columns (without `n`: it is 0), as one part."""
        filled = {"n": [0] * len(columns["run_id"]), **columns}
        write_table(self.parts, stem, pa.table({name: filled[name] for name in SIGNAL_COLUMNS}, _SIGNAL_SCHEMA))

    def done(self, run_ids: Iterable[str]) -> set[tuple[str, int, str, int, int]]:
        """The (run_id, step, signal, version, n) that are there."""
        wanted = pa.array(list(run_ids), pa.string())
        found: set[tuple[str, int, str, int, int]] = set()
        for table in read_all(self.files, lambda path: _with_n(read_table(path, [*_READING, "version", "n"]))):
            table = table.filter(pc.is_in(table["run_id"], wanted))
            keys = table.group_by([*_READING, "version", "n"]).aggregate([]).to_pylist()
            found |= {(k["run_id"], k["step"], k["signal"], k["version"], k["n"]) for k in keys}
        return found

    def frame(self, run_ids: Iterable[str] | None = None, n: int | None = None) -> pd.DataFrame:
        """Signals in order, each as it was read last: by the newest version, on the most examples.

        Args:
            n: only what was read on so many examples, or on none.
        """
        frame = self._every(read_all(self.files, read_table), run_ids)
        if n is not None:
            frame = frame[frame["n"].isin([0, n])]
        for column in ("version", "n"):  # whole readings: a value that the newer one does not give is not beside it
            frame = frame[frame[column] == frame.groupby(_READING)[column].transform("max")]
        return frame.drop_duplicates(_SIGNAL_KEYS, keep="last").reset_index(drop=True)

    def run_ids(self) -> set[str]:
        """All runs of which there is a row."""
        tables = read_all(self.files, lambda path: read_table(path, ["run_id"]))
        return {run for table in tables for run in table["run_id"].unique().to_pylist()}

    def _every(self, tables: Sequence[pa.Table], run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Every reading in order, by version and number of examples, each value as it was written last."""
        found = pa.concat_tables([_SIGNAL_SCHEMA.empty_table(), *(_with_n(table) for table in tables)])
        if run_ids is not None:
            found = found.filter(pc.is_in(found["run_id"], pa.array(list(run_ids), pa.string())))
        frame = found.to_pandas().sort_values([*_SIGNAL_KEYS, "version", "n", "at"], kind="stable")
        return frame.drop_duplicates([*_SIGNAL_KEYS, "version", "n"], keep="last").reset_index(drop=True)

    def compact(self) -> None:
        """Make one part of many: every reading, each once, of no other files than those that go."""
        old = self.files()
        if len(old) < 2:
            return
        frame = self._every([read_table(path) for path in old])
        name = write_table(self.parts, "compact", pa.Table.from_pandas(frame, _SIGNAL_SCHEMA, preserve_index=False))
        for path in old:
            if path.name != name:
                path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """All parts that are there now."""
        return sorted(self.parts.glob("*.parquet"))


def _with_n(table: pa.Table) -> pa.Table:
    """A table with the column `n`, 0 where it was written before there was one."""
    if "n" in table.column_names:
        at = table.column_names.index("n")
        return table.set_column(at, "n", pc.fill_null(table["n"], 0))
    return table.append_column("n", pa.array(np.zeros(table.num_rows, np.int64)))
