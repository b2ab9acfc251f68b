"""Tables that grow by appending: evaluations and signals, stored as immutable Parquet parts, read as one table.

Parts of evaluations written by a worker hold numbers and, per example, one bit and a hash of the answer. Compacted
parts hold numbers only; their bits and hashes are in `answers/`, so that listing 100,000 runs does not read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.runs.files import read_again, read_all, read_table, write_table

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
        ("attn_weights", pa.string()),
        ("at", pa.string()),
        ("correct", pa.binary()),
        ("answers", pa.binary()),
    ]
)
EVAL_COLUMNS: tuple[str, ...] = tuple(_SCHEMA.names)
"""Columns of evaluations: those of `EvalRow`, the evaluation seed, the position offsets and the attention weights if
they differ from training (`Split.offsets`, `Split.attn_weights`), the time of the evaluation, and, in `exact_match`
rows, one bit per example (`correct`, packed) and a 64-bit hash of each answer (`answers`)."""
_NUMBERS, _BLOBS = list(EVAL_COLUMNS[:-2]), list(EVAL_COLUMNS[-2:])
_KEYS = ["run_id", "step", "split", "length", "metric", "n", "seed", "offsets", "attn_weights"]

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
"""Columns of signals. `signal` is the declared signal that produced the value, `version` its version; `name` is the
name of the value, `signal` or `signal.part`; layer and head are -1 for values of the whole model; `n` is the number
of probe examples: 0 for signals that use none, and in rows written before the number was recorded."""
_SIGNAL_KEYS = ["run_id", "step", "name", "layer", "head"]
_READING = ["run_id", "step", "signal"]

_COMPACT = "compact"
"""Stem of compacted parts: their rows are sorted and unique."""


# -- Which parts exist
#
# No record names a part. So an empty file in `parts/` says that a part exists: it is made after the part and removed
# before it, and a part that is deleted by anything else is noticed (`lab store check`).

MARKS = "parts"
"""Folder of a store with an empty file per part: `parts/evals/NAME` for `evals/NAME.parquet`."""


def _mark(part: Path) -> Path:
    return part.parent.parent / MARKS / part.parent.name / part.stem


def put_part(folder: Path, stem: str, table: pa.Table) -> Path:
    """Write a table as a part of a folder of a store; returns its path."""
    part = folder / write_table(folder, stem, table)
    mark_part(part)
    return part


def mark_part(part: Path) -> None:
    """Note that a part exists."""
    with suppress(OSError):  # a full disk: the part is complete, it is only not missed if somebody deletes it
        _mark(part).parent.mkdir(parents=True, exist_ok=True)
        _mark(part).touch()


def remove_part(part: Path) -> None:
    """Remove a part whose rows are no longer needed or are in other parts."""
    _mark(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def missing_parts(store: Path) -> list[Path]:
    """Return the parts that were written to a store and that something other than genlab removed."""
    marks = sorted((store / MARKS).glob("*/[!.]*"))
    found = {store / mark.parent.name / f"{mark.name}.parquet": mark for mark in marks}
    return [part for part, mark in found.items() if not part.is_file() and mark.exists()]


class Parts:
    """An append-only table in a folder: each part is one immutable Parquet file with its checksum in its name.

    Args:
        folder: the folder of the parts; it need not exist.
        schema: columns of the table, `run_id` and `at` (the time of writing) among them.
        keys: columns that identify a row; among rows with equal keys the latest counts.
        later: columns that older parts lack or leave null, and the value that stands for it.
    """

    def __init__(self, folder: Path, schema: pa.Schema, keys: Sequence[str], later: Mapping[str, Any]):
        self.folder, self.schema, self.keys, self.later = folder, schema, list(keys), later

    def add(self, columns: Mapping[str, Sequence[Any]], stem: str) -> None:
        """Append rows, given as columns, as one part whose name begins with `stem`."""
        put_part(self.folder, stem, pa.table({name: columns[name] for name in self.schema.names}, self.schema))

    def files(self) -> list[Path]:
        """All current parts."""
        return sorted(self.folder.glob("*.parquet"))

    def frame(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Rows of the given runs (default: all), sorted by the keys; of rows with equal keys the latest."""
        return self._latest(self._select(read_all(self.files, self._read), run_ids))

    def run_ids(self) -> set[str]:
        """All runs that have at least one row."""
        tables = read_all(self.files, lambda path: read_table(path, ["run_id"]))
        return {run for table in tables for run in table["run_id"].unique().to_pylist()}

    def compact(self) -> None:
        """Merge all parts into one; each row is kept once. Removes only the files that were read.

        Rows of all runs are kept, including runs without a record: the set of committed runs may change meanwhile.
        """
        old = self.files()
        if len(old) < 2:
            return
        new = self._write_compact(self._latest(self._select([self._read(path) for path in old])))
        for path in old:
            if path != new:
                remove_part(path)

    def drop(self, run_ids: Iterable[str], files: Iterable[Path] | None = None, aside: Path | None = None) -> None:
        """Delete the rows of runs. Each affected file is rewritten without them before it is removed.

        Args:
            files: the parts to change, listed before it was decided to delete the runs, so that rows appended later
                stay; default: all current ones.
            aside: move the deleted rows to a subfolder of this one, named like the folder they come from.
        """
        gone = pa.array(sorted(set(run_ids)), pa.string())
        for path in self.files() if files is None else files:
            table = read_table(path)
            wanted = pc.invert(pc.is_in(table["run_id"], gone))
            rest, stem = table.filter(wanted), path.stem.rpartition("-")[0]
            if rest.num_rows == table.num_rows:
                continue
            if aside is not None:
                write_table(aside / path.parent.name, stem, table.filter(pc.invert(wanted)))
            if rest.num_rows:
                put_part(path.parent, stem, rest)
            remove_part(path)

    def _read(self, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of the schema (default: all) of one part, with the defaults of columns that it lacks."""
        columns = self.schema.names if columns is None else columns
        table = read_table(path, columns)
        for name, default in self.later.items():
            field = self.schema.field(name)
            if name in columns and name not in table.column_names:
                table = table.append_column(field, pa.array([default] * table.num_rows, field.type))
            elif name in columns and default is not None:
                index = table.column_names.index(name)
                table = table.set_column(index, field, pc.fill_null(table[name], default))
        return table.select(columns)

    def _select(self, tables: Sequence[pa.Table], run_ids: Iterable[str] | None = None) -> pa.Table:
        table = pa.concat_tables([self.schema.empty_table(), *tables])
        return table if run_ids is None else table.filter(_of_runs(table, run_ids))

    def _latest(self, table: pa.Table) -> pd.DataFrame:
        """Rows sorted by the keys; of rows with equal keys the latest."""
        frame = table.to_pandas().sort_values([*self.keys, "at"], kind="stable")
        return frame.drop_duplicates(self.keys, keep="last").reset_index(drop=True)

    def _write_compact(self, frame: pd.DataFrame) -> Path:
        return put_part(self.folder, _COMPACT, pa.Table.from_pandas(frame, self.schema, preserve_index=False))


class Signals(Parts):
    """The signals of a store: every reading of each value, by version and number of probe examples."""

    def __init__(self, store: Path):
        super().__init__(store / "signals", _SIGNAL_SCHEMA, [*_SIGNAL_KEYS, "version", "n"], {"n": 0})

    def add(self, columns: Mapping[str, Sequence[Any]], stem: str) -> None:
        """Append rows, given as columns, as one part; `n` defaults to 0."""
        super().add({"n": [0] * len(columns["run_id"]), **columns}, stem)

    def done(self, run_ids: Iterable[str]) -> set[tuple[str, int, str, int, int]]:
        """The stored (run_id, step, signal, version, n) of runs."""
        wanted, columns = list(run_ids), [*_READING, "version", "n"]
        keys: set[tuple[str, int, str, int, int]] = set()
        for table in read_all(self.files, lambda path: self._read(path, columns)):
            rows = table.filter(_of_runs(table, wanted)).group_by(columns).aggregate([]).to_pylist()
            keys |= {(k["run_id"], k["step"], k["signal"], k["version"], k["n"]) for k in rows}
        return keys

    def frame(self, run_ids: Iterable[str] | None = None, n: int | None = None) -> pd.DataFrame:
        """Sorted signals, one row per value: the newest version, read on the most examples.

        Args:
            n: only values read on this many examples, or on none.
        """
        frame = super().frame(run_ids)
        if n is not None:
            frame = frame[frame["n"].isin([0, n])]
        for column in ("version", "n"):  # whole readings: an older reading never fills gaps of a newer one
            frame = frame[frame[column] == frame.groupby(_READING)[column].transform("max")]
        return frame.drop_duplicates(_SIGNAL_KEYS, keep="last").reset_index(drop=True)


class Evaluations(Parts):
    """The numbers of a store's evaluations (`evals`), cached, and the answers of compacted ones (`answers`)."""

    def __init__(self, store: Path):
        super().__init__(store / "evals", _columns_of(_SCHEMA, _NUMBERS), _KEYS, {"offsets": "", "attn_weights": ""})
        schema = _columns_of(_SCHEMA, [*_KEYS, "at", *_BLOBS])
        self._answers = Parts(store / "answers", schema, _KEYS, {**self.later, **dict.fromkeys(_BLOBS)})
        self._cached: set[str] = set()
        self._table = self.schema.empty_table()

    def add(self, columns: Mapping[str, Sequence[Any]], stem: str) -> None:
        """Append rows, given as the columns `EVAL_COLUMNS`, as one part: numbers and answers together."""
        put_part(self.folder, stem, pa.table({name: columns[name] for name in EVAL_COLUMNS}, _SCHEMA))

    def table(self, run_ids: Iterable[str] | None = None, metric: str | None = None) -> pa.Table:
        """Numbers as they were appended: not sorted, possibly with duplicates."""
        self._update()
        table = self._table if run_ids is None else self._table.filter(_of_runs(self._table, run_ids))
        return table if metric is None else table.filter(pc.equal(table["metric"], metric))

    def frame(
        self,
        run_ids: Iterable[str] | None = None,
        answers: bool = False,
        metric: str | None = None,
        offsets: str | None = "",
        attn_weights: str | None = "",
    ) -> pd.DataFrame:
        """Sorted evaluations, the latest of each.

        Args:
            run_ids: only these runs.
            answers: include the columns `correct` and `answers`.
            metric: only this metric.
            offsets: only evaluations at these position offsets (`Split.offsets`); '': as in training, None: all.
            attn_weights: only evaluations with these attention weights (`Split.attn_weights`); likewise.
        """
        wanted = None if run_ids is None else list(run_ids)
        table = self.table(wanted, metric)
        for column, value in (("offsets", offsets), ("attn_weights", attn_weights)):
            if value is not None:
                table = table.filter(pc.equal(table[column], value))
        compacted = len(self._cached) == 1 and next(iter(self._cached)).startswith(_COMPACT)
        frame = table.to_pandas() if compacted else self._latest(table)
        if not answers:
            return frame
        blobs = self._answers._latest(self._blobs(wanted))
        return frame.merge(blobs, how="left", on=[*_KEYS, "at"]).astype(dict.fromkeys(_BLOBS, object))

    def files(self) -> list[Path]:
        """All current parts, answers first."""
        return [*self._answers.files(), *super().files()]

    def run_ids(self) -> set[str]:
        """All runs that have at least one evaluation."""
        self._update()
        return set(self._table["run_id"].unique().to_pylist())

    def compact(self) -> None:
        """Merge all parts into one of numbers and one of answers; each row is kept once.

        As in `Parts.compact`, but a single part is also split into numbers and answers.
        """
        old = self.files()
        parts = [path for path in old if path.parent == self.folder]
        if not parts:
            return
        numbers = self._latest(self._select([self._read(path) for path in parts]))
        blobs = self._answers._latest(self._blobs(None, old))
        # Answers first: until the numbers are written, the old parts hold both.
        new = {self._answers._write_compact(blobs), self._write_compact(numbers)}
        for path in old:
            if path not in new:
                remove_part(path)

    def _update(self) -> None:
        """Read new parts; read all parts again if some have disappeared (after `compact`)."""
        self._table, self._cached = read_again(self._current)

    def _current(self) -> tuple[pa.Table, set[str]]:
        """All numbers, and the names of the parts that hold them."""
        names = {path.name for path in self.folder.glob("*.parquet")}
        if names == self._cached:
            return self._table, names
        known = self._cached if self._cached <= names else set[str]()
        tables = [self._table] if known else []
        tables += [self._read(self.folder / name) for name in sorted(names - known)]
        return self._select(tables).combine_chunks(), names

    def _blobs(self, run_ids: list[str] | None, files: Sequence[Path] | None = None) -> pa.Table:
        """Keys, `at`, bits and hashes of the rows that have them, of the given files (default: all)."""

        def read(path: Path) -> pa.Table:
            table = self._answers._read(path)
            return table.filter(pc.is_valid(table["correct"]))

        return self._answers._select(read_all(self.files if files is None else lambda: files, read), run_ids)


def _of_runs(table: pa.Table, run_ids: Iterable[str]) -> Any:
    """Boolean mask of the rows of some runs."""
    return pc.is_in(table["run_id"], pa.array(list(run_ids), pa.string()))


def _columns_of(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])
