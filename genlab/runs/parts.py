"""Evaluations: appended as immutable Parquet parts, read as one table.

A part written by a worker holds numbers and, an example, a bit and a hash of the answer. `compact` parts hold numbers
alone; their bits and hashes stand in `answers/`, so that a list of 100,000 runs need not read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.runs.files import read_all, read_table, write_table

_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("length", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("seed", pa.int64()),
        ("offsets", pa.string()),
        ("at", pa.string()),
        ("correct", pa.binary()),
        ("answers", pa.binary()),
    ]
)
EVAL_COLUMNS: tuple[str, ...] = tuple(_SCHEMA.names)
"""Columns of evaluations: those of `EvalRow`, the evaluation seed, where examples stood in the context if not as in
training (`Split.offsets`), when it was made, and, in the row of
`exact_match`, a bit an example (`correct`, packed) and a 64-bit hash of each answer (`answers`)."""
_NUMBERS, _BLOBS = list(EVAL_COLUMNS[:-2]), list(EVAL_COLUMNS[-2:])
_KEYS = ["run_id", "step", "split", "length", "metric", "n", "seed", "offsets"]
_SORTED = "compact"
"""How the name of a part begins whose rows are in order and stand there once."""


class Evaluations:
    """The parts of a store's `evals` and `answers`. Numbers that it has read it keeps."""

    def __init__(self, store: Path):
        self.parts, self.answers = store / "evals", store / "answers"
        self._read: set[str] = set()
        self._table = _SCHEMA.empty_table().select(_NUMBERS)

    def add(self, rows: Sequence[Mapping[str, Any]], stem: str) -> None:
        """Append rows of `EVAL_COLUMNS` as one part."""
        write_table(self.parts, stem, pa.Table.from_pylist([dict(row) for row in rows], schema=_SCHEMA))

    def table(self, run_ids: Iterable[str] | None = None, metric: str | None = None) -> pa.Table:
        """Numbers as they were appended, in no order; a row may stand there twice."""
        self._catch_up()
        found = self._table
        if run_ids is not None:
            found = found.filter(pc.is_in(found["run_id"], pa.array(list(run_ids), pa.string())))
        return found if metric is None else found.filter(pc.equal(found["metric"], metric))

    def frame(
        self,
        run_ids: Iterable[str] | None = None,
        answers: bool = False,
        metric: str | None = None,
        offsets: str | None = "",
    ) -> pd.DataFrame:
        """Evaluations in order, the latest of each; with the columns `correct` and `answers` if asked for.

        Args:
            offsets: only those where examples stood so; '': as in training, None: all.
        """
        wanted = None if run_ids is None else list(run_ids)
        table = self.table(wanted, metric)
        if offsets is not None:
            table = table.filter(pc.equal(table["offsets"], offsets))
        found = table.to_pandas()
        if len(self._read) != 1 or not next(iter(self._read)).startswith(_SORTED):
            found = _latest(found)
        if not answers:
            return found
        blobs = _latest(self._blobs(wanted).to_pandas())
        return found.merge(blobs, how="left", on=[*_KEYS, "at"]).astype(dict.fromkeys(_BLOBS, object))

    def files(self) -> list[Path]:
        """All parts that are there now, answers first."""
        return [path for folder in (self.answers, self.parts) for path in sorted(folder.glob("*.parquet"))]

    def run_ids(self) -> set[str]:
        """All runs of which there is a row."""
        self._catch_up()
        return set(self._table["run_id"].unique().to_pylist())

    def compact(self) -> None:
        """Make few parts of many: each row once and in order; their answers apart.

        Rows of all runs, also of those that no record names: which runs there are changes while this goes on. What is
        removed are the files that were read, no others.
        """
        old = self.files()
        parts = [path for path in old if path.parent == self.parts]
        if not parts:
            return
        read = pa.concat_tables([read_table(path, _NUMBERS) for path in parts])
        numbers, blobs = (_latest(table.to_pandas()) for table in (read, self._blobs(None, old)))
        new: set[Path] = set()
        # Answers first: until the numbers are there, the old parts hold both.
        for folder, frame in ((self.answers, blobs), (self.parts, numbers)):
            schema = pa.schema([_SCHEMA.field(name) for name in frame.columns])
            table = pa.Table.from_pandas(frame, schema, preserve_index=False)
            new.add(folder / write_table(folder, _SORTED, table))
        for path in old:
            if path not in new:
                path.unlink(missing_ok=True)

    # -- inside ------------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Read the parts that are new; all of them anew if some have gone (`compact` has been here)."""
        while True:
            names = {path.name for path in self.parts.glob("*.parquet")}
            if names == self._read:
                return
            known = self._read if self._read <= names else set[str]()
            tables = [self._table] if known else []
            try:
                tables += [self._numbers(name) for name in sorted(names - known)]
            except FileNotFoundError:
                continue
            empty = _SCHEMA.empty_table().select(_NUMBERS)
            self._table, self._read = pa.concat_tables([empty, *tables]).combine_chunks(), names

    def _numbers(self, name: str) -> pa.Table:
        return _with_offsets(read_table(self.parts / name, _NUMBERS)).select(_NUMBERS)

    def _blobs(self, run_ids: list[str] | None, files: Sequence[Path] | None = None) -> pa.Table:
        """Keys, `at`, bits and hashes of the rows that have them, of some files or of all."""
        columns = [*_KEYS, "at", *_BLOBS]
        empty = pa.schema([_SCHEMA.field(name) for name in columns]).empty_table()

        def read(path: Path) -> pa.Table:
            table = read_table(path, columns)
            if "correct" not in table.column_names:
                return empty
            table = _with_offsets(table).select(columns)
            wanted = pc.is_valid(table["correct"])
            if run_ids is not None:
                wanted = pc.and_(wanted, pc.is_in(table["run_id"], pa.array(run_ids, pa.string())))
            return table.filter(wanted)

        return pa.concat_tables([empty, *read_all(self.files if files is None else lambda: files, read)])


def drop_rows(run_ids: Iterable[str], files: Iterable[Path], aside: Path | None = None) -> None:
    """Take the rows of runs out of files; a file is written anew without them before it goes.

    Args:
        files: those that were listed before it was decided that the runs go. What is appended later stays.
        aside: keep the rows that are taken out in a folder of this one, named like the file's.
    """
    gone = pa.array(sorted(set(run_ids)), pa.string())
    for path in files:
        table = read_table(path)
        wanted = pc.invert(pc.is_in(table["run_id"], gone))
        kept, stem = table.filter(wanted), path.stem.rpartition("-")[0]
        if kept.num_rows == table.num_rows:
            continue
        if aside is not None:
            write_table(aside / path.parent.name, stem, table.filter(pc.invert(wanted)))
        if kept.num_rows:
            write_table(path.parent, stem, kept)
        path.unlink()


def _with_offsets(table: pa.Table) -> pa.Table:
    """Rows from before the column `offsets`, and those that leave it empty, are of the law of training."""
    if "offsets" not in table.column_names:
        return table.append_column(_SCHEMA.field("offsets"), pa.array([""] * table.num_rows, pa.string()))
    index = table.column_names.index("offsets")
    return table.set_column(index, _SCHEMA.field("offsets"), pc.fill_null(table["offsets"], ""))


def _latest(found: pd.DataFrame) -> pd.DataFrame:
    """Rows in order; of those with one key the latest."""
    found = found.sort_values([*_KEYS, "at"], kind="stable")
    return found.drop_duplicates(_KEYS, keep="last").reset_index(drop=True)


# -- Signals of runs: appended as immutable Parquet parts, read as one table

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
