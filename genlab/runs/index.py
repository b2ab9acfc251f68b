"""The index of committed runs: one small JSON record per stack, merged into few tables by `compact`.

A record is created only if its name does not exist yet: if two workers trained one stack, the first commit wins. If
records of several stacks name one run, the earliest counts, unless the run was retrained on purpose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from genlab.errors import DamagedFileError
from genlab.runs.files import (
    FileId,
    create_json,
    read_again,
    read_json,
    read_table,
    remove_if_same,
    write_json,
    write_table,
)
from genlab.spec import ModelConfig, TaskSpec, TrainConfig

Entry = dict[str, Any]
"""A committed run: run_id, stack, status, step, at, history, weights, kept (checkpoint step, as text -> its weights
file), again, law (distribution of training lengths, as text; None in old records), environment, spec."""

Commit = tuple[str, str, str]
"""One of possibly several commits of a run: run_id, stack, at."""

_PLAIN = ("run_id", "stack", "status", "step", "at", "history", "weights", "again", "law")
_NEEDED = {"stack": str, "history": str, "environment": dict, "at": str, "runs": list}
_FIELD = "field."
"""Prefix of the columns of a spec's fields in a compacted table."""


class Index:
    """Committed runs by id, cached; `refresh` reads what is new."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._records: dict[tuple[str, FileId], list[Entry]] = {}
        self._tables: dict[str, _Table] = {}
        self._runs: dict[str, Entry | tuple[_Table, int]] | None = None

    def commit(self, stack: str, runs: Iterable[Entry], shared: Mapping[str, Any], again: bool) -> bool:
        """Create the record of a stack; returns whether this commit counts."""
        record = {**shared, "stack": stack, "again": again, "runs": list(runs)}
        path = self.folder / f"{stack}.json"
        won = create_json(path, record)
        if again and not won:
            write_json(path, record)
        self.refresh()
        return won or again

    def refresh(self) -> None:
        """Re-read what other processes have committed."""
        self._runs = None

    @property
    def runs(self) -> dict[str, Entry | tuple[_Table, int]]:
        """Map each run_id to its entry, or to its table and row."""
        if self._runs is None:
            self._runs = read_again(self._read)  # `compact` may move records into a table meanwhile
        return self._runs

    def entry(self, run_id: str) -> Entry:
        """Return the entry of a committed run."""
        found = self.runs[run_id]
        return found[0].entry(found[1]) if isinstance(found, tuple) else found

    def at(self, run_id: str) -> str:
        """Return the time of commit of a run."""
        return self._value(run_id, "at")

    def status(self, run_id: str) -> str:
        """Return how a run ended."""
        return self._value(run_id, "status")

    def kept(self, run_id: str) -> dict[int, str]:
        """Map the step of each checkpoint of a run to its weights file, in increasing order of steps."""
        found = self.runs[run_id]
        kept = found[0].kept[found[1]] if isinstance(found, tuple) else found["kept"]
        return dict(sorted((int(step), name) for step, name in kept.items()))

    def law(self, run_id: str) -> str | None:
        """Return the distribution of training lengths of a run, as text; None if its record has none."""
        return self._value(run_id, "law")

    def history(self, run_id: str) -> str:
        """Return the name of the history file of a run."""
        return self._value(run_id, "history")

    def files(self, run_id: str) -> set[str]:
        """Return the files that hold a run, as paths relative to the store."""
        own = {f"{folder}/{self._value(run_id, folder)}" for folder in ("history", "weights")}
        return own | {f"steps/{name}" for name in self.kept(run_id).values()}

    def stacks(self) -> set[str]:
        """Return the names of all committed stacks."""
        return {self._value(run, "stack") for run in self.runs}

    def _value(self, run_id: str, name: str) -> Any:
        found = self.runs[run_id]
        return found[0].column(name)[found[1]] if isinstance(found, tuple) else found[name]

    def frame(self) -> pd.DataFrame:
        """Return one row per run: run_id, status, step, at, stack and all fields of its spec; oldest first."""
        loose = [run for run in self.runs.values() if not isinstance(run, tuple)]
        frames = [pd.DataFrame([{k: e[k] for k in _PLAIN} | flat_spec(e["spec"]) for e in loose])] if loose else []
        for table in self._tables.values():
            rows = [run[1] for run in self.runs.values() if isinstance(run, tuple) and run[0] is table]
            frames.append(table.fields(rows))
        if not frames:
            return pd.DataFrame(columns=list(_PLAIN))
        frame = pd.concat(frames, ignore_index=True).sort_values(["at", "run_id"], ignore_index=True)
        return _with_defaults(frame if "law" in frame else frame.assign(law=None))  # only old tables: no law

    # -- Reading

    def _read(self) -> dict[str, Entry | tuple[_Table, int]] | None:
        # List the records between two listings of the tables: `compact` writes a table before it removes records or
        # tables, so nothing was moved past this reader if the two listings agree.
        names = {name for name, _ in _listed(self.folder, ".parquet")}
        records: dict[tuple[str, FileId], list[Entry]] = {}
        for key in _listed(self.folder, ".json"):
            records[key] = self._records.get(key) or read_record(self.folder / key[0])
        if names != {name for name, _ in _listed(self.folder, ".parquet")}:
            return None
        self._records = records
        self._tables = {name: self._tables.get(name) or _Table(self.folder / name) for name in sorted(names)}
        found: dict[str, Entry | tuple[_Table, int]] = {}
        best: dict[str, tuple[bool, str]] = {}
        for table in self._tables.values():
            for row, run_id in enumerate(table.column("run_id")):
                prefer(found, best, run_id, table.column("again")[row], table.column("at")[row], (table, row))
        for entries in records.values():
            for entry in entries:
                prefer(found, best, entry["run_id"], entry["again"], entry["at"], entry)
        return found

    # -- Compaction

    def loose(self) -> int:
        """Return the number of records that are not in a table yet."""
        return sum(1 for _ in self.folder.glob("*.json"))

    def compact(self, moved: Mapping[str, str]) -> None:
        """Write one table of all records and tables, then remove those that were read.

        A record that was replaced meanwhile (by retraining) stays.

        Args:
            moved: history file -> the file that now holds its rows.
        """
        self.refresh()
        entries = [self.entry(run) for run in sorted(self.runs)]
        if not entries:
            return
        records, tables = list(self._records), list(self._tables)
        for entry in entries:
            entry["history"] = moved.get(entry["history"], entry["history"])
        name = self.restore(entries)
        for record, was in records:
            remove_if_same(self.folder / record, was)
        for table in tables:
            if table != name:
                (self.folder / table).unlink(missing_ok=True)
        self.refresh()

    def restore(self, entries: list[Entry]) -> str:
        """Write a table of entries in addition to the existing ones; returns its name."""
        name = write_table(self.folder, "table", _as_table(entries))
        self.refresh()
        return name

    def commits(self, run_ids: Iterable[str]) -> set[Commit]:
        """Return every commit of some runs, including those that do not count."""
        wanted, found = set(run_ids) & set(self.runs), set[Commit]()
        for entries in self._records.values():
            found |= {_commit(entry) for entry in entries if entry["run_id"] in wanted}
        for table in self._tables.values():
            found |= {commit for commit in table.commits() if commit[0] in wanted}
        return found

    def drop(self, commits: Collection[Commit]) -> None:
        """Remove commits from all records and tables that exist now; commits made afterwards stay."""
        self.refresh()
        for (record, was), entries in list(self._records.items() if self.runs is not None else ()):
            kept = [entry for entry in entries if _commit(entry) not in commits]
            if len(kept) < len(entries):
                if kept:
                    write_table(self.folder, "table", _as_table(kept))
                remove_if_same(self.folder / record, was)
        for name, table in self._tables.items():
            rows = [i for i, commit in enumerate(table.commits()) if commit not in commits]
            if len(rows) < len(table.column("run_id")):
                if rows:
                    write_table(self.folder, "table", _as_table([table.entry(row) for row in rows]))
                (self.folder / name).unlink()
        self.refresh()


class _Table:
    """A compacted table; specs are read on demand."""

    def __init__(self, path: Path):
        self._path = path
        table = read_table(path, [*_PLAIN, "environment"])
        self._columns: dict[str, list[Any]] = {"law": [None] * table.num_rows, **table.to_pydict()}

    def column(self, name: str) -> list[Any]:
        return self._columns[name]

    def commits(self) -> list[Commit]:
        return list(zip(*(self.column(name) for name in ("run_id", "stack", "at")), strict=True))

    def entry(self, row: int) -> Entry:
        entry = {name: values[row] for name, values in self._columns.items()}
        entry |= {"environment": json.loads(entry["environment"]), "spec": json.loads(self._specs[row])}
        return {**entry, "kept": self.kept[row]}

    @cached_property
    def _specs(self) -> list[str]:
        return read_table(self._path, ["spec"]).column("spec").to_pylist()

    @cached_property
    def kept(self) -> list[dict[str, str]]:
        table = read_table(self._path, ["run_id", "kept"])
        known = "kept" in table.column_names  # absent in tables of the first version
        return [json.loads(steps) for steps in table.column("kept").to_pylist()] if known else [{}] * table.num_rows

    def fields(self, rows: list[int]) -> pd.DataFrame:
        table = read_table(self._path)
        names = [name for name in table.column_names if name in _PLAIN or name.startswith(_FIELD)]
        table = table.select(names).rename_columns([name.removeprefix(_FIELD) for name in names])
        return (table if len(rows) == table.num_rows else table.take(rows)).to_pandas()


def _as_table(entries: list[Entry]) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [entry.get(name) for entry in entries] for name in _PLAIN}
    for name in ("environment", "kept", "spec"):
        columns[name] = [json.dumps(entry[name], sort_keys=True) for entry in entries]
    flat = [flat_spec(entry["spec"]) for entry in entries]
    for name in dict.fromkeys(name for row in flat for name in row):
        values = [row.get(name) for row in flat]
        kinds = {type(value) for value in values if value is not None}
        mixed = len(kinds) > 1 and not kinds <= {int, float}
        columns[_FIELD + name] = [None if v is None else str(v) for v in values] if mixed else values
    return pa.table(columns)


def _with_defaults(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in fields that are newer than a record with their defaults, which is what such a record means."""
    defaults = {n: c.model_fields[n].default for c in (TaskSpec, ModelConfig, TrainConfig) for n in sorted(c.later)}
    for name, default in {**defaults, "code": NO_CODE}.items():
        if name not in frame:
            frame[name] = default
        elif frame[name].isna().any():
            frame[name] = [
                default if missing else v for v, missing in zip(frame[name], frame[name].isna(), strict=True)
            ]
    return frame


NO_CODE = "none"
"""What the column `code` says of a run that needs no plugin, or whose record does not tell."""

SETTINGS = frozenset(
    {"task", "format", "max_len", "start_token", "code", *ModelConfig.model_fields, *TrainConfig.model_fields}
)
"""Columns of `Store.runs` that say what a run is, seeds included; parameters of its task are `params.NAME`."""


TAGGED = ("params.", "compiled.")
"""Beginnings of further columns that are settings: parameters of the task, and the program of compiled weights."""


def flat_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a spec (as JSON) to field -> value: task, format, max_len, params.NAME, model, training, compiled.NAME.

    >>> from genlab import plan
    >>> flat = flat_spec(plan("parity", 5, 10, seeds=[3], n_layers=2).specs[0].model_dump(mode="json"))
    >>> flat["task"], flat["train_len"], flat["n_layers"], flat["init_seed"], flat["betas"]
    ('parity', 5, 2, 3, '0.9, 0.999')
    """
    task = dict(spec["task"])
    params = {f"params.{name}": value for name, value in task.pop("params").items()}
    named = {"task": task.pop("name"), "task_version": task.pop("version"), **task, **params}
    compiled = {f"compiled.{name}": value for name, value in (spec.get("compiled") or {}).items()}
    values = {**named, **spec["model"], **spec["train"], "code": spec.get("code") or NO_CODE, **compiled}
    return {k: ", ".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in values.items()}


def _listed(folder: Path, ending: str) -> list[tuple[str, FileId]]:
    """Name and identity of each file with an ending: a record that was rewritten is a different file."""
    try:
        with os.scandir(folder) as files:
            wanted = [f for f in files if f.name.endswith(ending) and not f.name.startswith(".")]
            return sorted((f.name, (s.st_mtime_ns, s.st_ino)) for f in wanted for s in (f.stat(),))
    except FileNotFoundError:
        if folder.exists():
            raise
        return []


def read_record(path: Path) -> list[Entry]:
    """Read the record of a stack; returns one entry per run. Raises `DamagedFileError`."""
    record = read_json(path, **_NEEDED)
    for run in record["runs"]:
        if not isinstance(run, dict) or not {"run_id", "status", "step", "spec"} <= run.keys():
            raise DamagedFileError(f"{path} is damaged: one of its runs has no id, status, step or spec")
    return entries_of(record)


def entries_of(record: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of a record, one per run."""
    shared = {key: record[key] for key in _NEEDED if key != "runs"}
    # Records of the first version name no weights (the file is named after the stack alone) and has no checkpoints.
    shared |= {
        "again": record.get("again", False),
        "weights": record.get("weights", f"{record['stack']}.safetensors"),
    }
    return [{"kept": {}, "law": None, **run, **shared} for run in record["runs"]]


def _commit(entry: Entry) -> Commit:
    return entry["run_id"], entry["stack"], entry["at"]


def prefer(
    found: dict[str, Any], best: dict[str, tuple[bool, str]], run_id: str, again: bool, at: str, what: object
) -> None:
    """Prefer the first commit, or the latest retrain."""
    was_again, was_at = best.get(run_id, (None, ""))
    if was_again is None or (again and (not was_again or at > was_at)) or (not (again or was_again) and at < was_at):
        found[run_id], best[run_id] = what, (again, at)
