"""The store: a directory of committed stacks, evaluations, signals, checkpoints and groups.

    store.json                          marks the directory as a store, with its format
    commits/STACK.json                  the record of a stack, written last: every file it names exists, complete
    commits/table-SHA.parquet           many records in one table (`lab store compact`)
    weights/STACK-SHA.safetensors       final weights, `[run, ...]` per parameter
    steps/STACK-STEP-SHA.safetensors    checkpoints: weights after an earlier step, of the runs that saved it
    history/STACK-SHA.parquet           loss and ID accuracy over training
    evals/STACK-SHA.parquet             evaluations, append-only: one file per commit, its checksum in its name
    answers/compact-SHA.parquet         bits and hashes of the answers of compacted evaluations
    signals/STACK-SHA.parquet           signals, append-only
    checkpoints/STACK.safetensors       resume state of unfinished runs
    leases/STACK.json                   who works on a stack now
    failures/STACK.json                 why a stack failed, until its runs are done
    parts/FOLDER/...                    which parts of evaluations, answers and signals exist: an empty file per part
    lost/FOLDER/...                     files of runs without a record, set aside (`lab store repair`)
    groups/NAME/group.json              what one command requested; tags/NAME.json
    groups/last, last-train, last-grid  name the latest group, and that of each command

Every file appears by an atomic rename or link and never changes afterwards. Readers see only committed files, so many
processes, on many machines with a shared file system, can write without a server.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from genlab.errors import DamagedFileError, UserError, nearest
from genlab.runs.files import StoreWriteError, file_id, read_json, read_table, remove_if_same, write_json, write_table
from genlab.runs.gridfile import LAST, is_group_name
from genlab.runs.index import Index
from genlab.runs.laws import law_of, means_by, placed
from genlab.runs.parts import EVAL_COLUMNS, Evaluations, Signals
from genlab.spec import RunSpec, stored_spec
from genlab.tasks import TrainingLaw

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.training import RunState


_log = logging.getLogger(__name__)

_SHOWN = 8
"""Maximum number of steps listed in an error about a missing step."""


# -- Groups and tags

_GROUP: dict[str, type] = {"name": str, "run_ids": list, "request": dict}
_TAG: dict[str, type] = {"run_ids": list}
"""What their files must hold."""


class Groups:
    """Named sets of runs in a store: groups (what one command or grid file requested) and tags (chosen by a user)."""

    def __init__(self, store: Path):
        self._store = store
        self._groups, self._tags = store / "groups", store / "tags"

    def save(self, name: str, run_ids: Sequence[str], request: Mapping[str, Any], command: str = "") -> Path:
        """Save a group and mark it as `last`, and as the last of its command; returns its folder.

        Args:
            name: letters, digits, `.`, `_` and `-`.
            run_ids: its runs.
            request: stored with it.
            command: `train`, `grid`, or '' for another caller.

        Raises:
            UserError: the name is not allowed.
        """
        if not is_group_name(name):
            raise UserError(f"group {name!r} is not allowed (letters, digits, . _ -; not {', '.join(LAST)})")
        folder = self.folder(name)
        write_json(folder / "group.json", {"name": name, "run_ids": list(run_ids), "request": dict(request)})
        for last in ("last", *([f"last-{command}"] if command else [])):
            write_json(self._groups / last, {"name": name, "command": command})
        return folder

    def folder(self, name: str) -> Path:
        """Folder of a group, also for its figures."""
        return self._groups / name

    def read(self, name: str) -> dict[str, Any]:
        """Return `name`, `run_ids` and `request` of a group."""
        return read_json(self.folder(name) / "group.json", **_GROUP)

    def names(self) -> list[str]:
        """Return the names of all groups."""
        return sorted(file.parent.name for file in self._groups.glob("*/group.json"))

    def last(self, which: str = "last") -> str:
        """Return the name of the latest group, or of the latest of a command (`last-train`, `last-grid`).

        It is logged which one that is: between two commands, another one may have made a group.

        Raises:
            UserError: there is none.
        """
        file = self._groups / which
        if not file.exists():
            made = {"last": "`lab train` creates one", "last-grid": "`lab grid` creates one"}
            none = "no groups" if which == "last" else f"no group of `lab {which.removeprefix('last-')}`"
            raise UserError(f"store {str(self._store)!r} has {none} yet; {made.get(which, made['last'])}")
        content = read_json(file, name=str)
        name, command = content["name"], content.get("command")
        _log.info("%s: group %s%s", which, name, f" of lab {command}" if command else "")
        return name

    def resolve(self, name: str) -> str:
        """Return the group that `last` or the like names now; any other name as it is.

        A command that looks a name up more than once does this first: another group may become the last meanwhile.
        """
        return self.last(name) if name in LAST else name

    def runs(self, name: str) -> list[str] | None:
        """Return the runs of `last`, a group or a tag, committed or not; None if the name is unknown."""
        name = self.resolve(name)
        if (self.folder(name) / "group.json").is_file():
            return list(self.read(name)["run_ids"])
        return self.tags().get(name)

    def tags(self) -> dict[str, list[str]]:
        """Return the runs of each tag."""
        return {file.stem: read_json(file, **_TAG)["run_ids"] for file in sorted(self._tags.glob("*.json"))}

    def damage(self) -> dict[Path, str]:
        """Return what is wrong with groups and tags, by file. Files whose checksum does not hold are not included."""
        found: dict[Path, str] = {}
        files = dict.fromkeys(self._groups.glob("*/group.json"), _GROUP)
        files |= dict.fromkeys(self._tags.glob("*.json"), _TAG)
        for file, needed in files.items():
            with suppress(FileNotFoundError):  # removed meanwhile
                try:
                    content = read_json(file, **needed)
                except DamagedFileError as error:
                    found[file] = str(error).removeprefix(f"{file} ")
                    continue
                if needed is _GROUP and content["name"] != file.parent.name:
                    found[file] = f"it is named {content['name']!r} inside"
        for last in (self._groups / name for name in LAST):
            if last.exists() and last not in found:
                try:
                    name = read_json(last, name=str)["name"]
                except DamagedFileError as error:
                    found[last] = str(error).removeprefix(f"{last} ")
                else:
                    if not (self.folder(name) / "group.json").exists():
                        found[last] = f"it names the group {name!r}, which does not exist"
        return found

    def tag(self, name: str, run_ids: Iterable[str], remove: bool = False) -> list[str]:
        """Add runs to a tag, or remove them; returns the runs it has now.

        Raises:
            UserError: the name is invalid or is that of a group.
        """
        if not is_group_name(name) or name in self.names():
            raise UserError(f"tag {name!r} is not allowed (letters, digits, . _ -; not a group's name)")
        before = self.tags().get(name, [])
        gone = set(run_ids) if remove else set[str]()
        kept = [run for run in dict.fromkeys([*before, *(() if remove else run_ids)]) if run not in gone]
        if kept:
            write_json(self._tags / f"{name}.json", {"run_ids": kept})
        else:
            (self._tags / f"{name}.json").unlink(missing_ok=True)
        return kept


_FORMAT = 1


def default_store() -> Path:
    """Return `GENLAB_STORE`, or `runs` in the working directory."""
    return Path(os.environ.get("GENLAB_STORE") or "runs")


_TRACE = ["split", "length", "metric", "value", "n"]
_HISTORY = pa.schema(
    [("run_id", pa.string()), ("step", pa.int64())]
    + [(name, pa.float64()) for name in ("loss", "lr", "exact_match", "seconds", "grad_norm", "grad_norm_max")]
    + [("split", pa.string()), ("length", pa.int64()), ("metric", pa.string()), ("value", pa.float64())]
    + [("n", pa.int64())]
)
"""One row per measurement (`split` is null) or per number of an evaluation made during training."""


def no_history() -> pa.Table:
    """Return an empty history."""
    return _HISTORY.empty_table()


class Store:
    """A directory of runs. Opening one writes nothing; the first commit creates it."""

    def __init__(self, path: str | Path | None = None):
        """Raises `UserError` if the path is a file, or a directory that is not a store."""
        self.path = Path(path) if path is not None else default_store()
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"store {str(self.path)!r} is a file; --store takes a directory")
        marker = self.path / "store.json"
        if marker.exists():
            found = read_json(marker, genlab_store=int)["genlab_store"]
            if found != _FORMAT:
                raise UserError(f"store {str(self.path)!r} has format {found}; this genlab reads format {_FORMAT}")
        elif self._has_content() and not marker.exists():  # another process may have just created it
            raise UserError(f"{str(self.path)!r} is a directory but not a genlab store (it has no store.json)")
        self.index = Index(self.path / "commits")
        self.evaluations = Evaluations(self.path)
        self.signals = Signals(self.path)
        self.named = Groups(self.path)

    def _has_content(self) -> bool:
        """Whether there is more than what may precede the first commit: temporary files and the cache of mazes."""
        return self.path.is_dir() and any(
            not file.match(".*.tmp") and file.name != "cache" for file in self.path.iterdir()
        )

    def must_exist(self) -> None:
        """Raise `UserError` if there is no store yet."""
        if not (self.path / "store.json").is_file():
            raise UserError(f"there is no store at {str(self.path)!r}; `lab train` and `lab grid` make one")

    def ready(self) -> None:
        """Create the directory if needed. Raises `UserError` if it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(30 if _read_only(self.path) else 13))
            if not (self.path / "store.json").exists():
                write_json(self.path / "store.json", {"genlab_store": _FORMAT})
        except StoreWriteError as error:
            raise UserError(f"store {str(self.path)!r} cannot be written: {error}") from None
        except OSError as error:
            raise UserError(f"store {str(self.path)!r} cannot be written: {error.strerror}") from None

    # -- Committed stacks

    def commit(self, states: Sequence[RunState], environment: Mapping[str, Any], again: bool = False) -> bool:
        """Commit trained runs of one shape: checkpoints, history, final weights, then the record.

        The file of final weights repeats the record, so that a lost record can be rebuilt from it.

        Args:
            states: final states of the runs.
            environment: versions, device and commit (`genlab.runs.devices.environment`).
            again: replace what the store holds of these runs.

        Returns:
            Whether this commit counts. If another worker was first, the files written here are removed.
        """
        from genlab.runs.weights import write_kept, write_weights

        stack = stack_id(state.spec.run_id for state in states)
        steps = write_kept(self.path, stack, states)
        rows = [{"run_id": s.spec.run_id, **row} for s in states for row in [*s.history, *s.trace]]
        history = write_table(self.path / "history", stack, pa.Table.from_pylist(rows, schema=_HISTORY))
        runs = [
            {
                "run_id": s.spec.run_id,
                "status": s.status,
                "step": s.step,
                "spec": s.spec.model_dump(mode="json"),
                "kept": {str(step): name for step, name in steps.items() if step in s.kept},
                "law": law_of(s.spec).as_text(),
            }
            for s in states
        ]
        shared = {"history": history, "environment": dict(environment), "at": now()}
        weights = write_weights(self.path, stack, states, {**shared, "stack": stack, "again": again, "runs": runs})
        names = [f"weights/{weights}", f"history/{history}", *(f"steps/{name}" for name in steps.values())]
        written = {name: file_id(self.path / name) for name in names}
        won = self.index.commit(stack, runs, {**shared, "weights": weights}, again)
        if not won:
            counted = {name for s in states for name in self.index.files(s.spec.run_id)}
            for name in written.keys() - counted:
                remove_if_same(self.path / name, written[name])
        self.checkpoint(stack).unlink(missing_ok=True)
        return won

    def refresh(self) -> None:
        """Re-read what other processes have committed."""
        self.index.refresh()

    def __contains__(self, run_id: object) -> bool:
        return run_id in self.index.runs

    def run_ids(self) -> list[str]:
        """Return all committed runs, oldest first."""
        return sorted(self.index.runs, key=lambda run: (self.index.at(run), run))

    def entry(self, run_id: str) -> dict[str, Any]:
        """Return `run_id`, `spec`, `status`, `step`, `kept`, `stack`, `history`, `environment`, `at` of a run."""
        if run_id not in self:
            raise UserError(f"no run {run_id!r} in store {str(self.path)!r}")
        return self.index.entry(run_id)

    def spec(self, run_id: str) -> RunSpec:
        """Return the spec of a committed run. Raises `DamagedFileError` if it is the spec of another run."""
        try:
            spec = stored_spec(self.entry(run_id)["spec"])
        except ValidationError as error:
            raise DamagedFileError(f"the record of run {run_id} is damaged: {error.errors()[0]['msg']}") from None
        if spec.run_id != run_id:
            raise DamagedFileError(f"the record of run {run_id} is damaged: its spec is that of run {spec.run_id}")
        return spec

    def law(self, run_id: str) -> TrainingLaw:
        """Return the distribution of training lengths of a committed run."""
        text = self.index.law(run_id)
        return law_of(self.spec(run_id)) if text is None else TrainingLaw.from_text(text)

    def runs(self) -> pd.DataFrame:
        """Return one row per committed run: run_id, status, step, at and every field of its spec; oldest first."""
        return self.index.frame()

    def steps(self, run_id: str) -> list[int]:
        """Return the steps at which weights of a run are available: 0, its checkpoints, the last."""
        last = int(self.entry(run_id)["step"])
        return sorted({0, *self.index.kept(run_id), last})

    def weights(self, run_ids: Sequence[str], step: int | None = None) -> Tensor:
        """Return the weights of runs of one shape, float[run, params].

        Args:
            step: a checkpoint, or 0 for the initial weights; None: the final ones.

        Raises:
            UserError: a run has no checkpoint at this step.
            DamagedFileError: a file is missing or its checksum does not match.
        """
        from genlab.runs.weights import initial_weights, read_weights

        if step is not None:
            self.check_step(run_ids, step)
        if step == 0 and any(self.entry(run)["step"] for run in run_ids):
            return initial_weights([self.spec(run) for run in run_ids])
        files = {run: self._weight_file(run, step) for run in run_ids}
        return read_weights(files, self.spec(run_ids[0]).model)

    def check_step(self, run_ids: Sequence[str], step: int) -> None:
        """Raise `UserError` if a run has no weights at a step."""
        for run in run_ids:
            if step not in (kept := self.steps(run)):
                raise UserError(no_checkpoint_message(run, step, kept))

    def _weight_file(self, run: str, step: int | None) -> Path:
        entry = self.entry(run)
        if step is None or step == entry["step"]:
            return self.path / "weights" / entry["weights"]
        return self.path / "steps" / self.index.kept(run)[step]

    def history(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Return loss, learning rate, ID accuracy and gradient norms over training, one row per measurement.

        Columns: run_id, step, loss, lr, exact_match, seconds, grad_norm, grad_norm_max. Exact match is ID accuracy,
        lengths weighted as training draws them, whatever `until` used. Gradient norms are before clipping, and NaN
        where they were not recorded.
        """
        found = self._history(run_ids)
        measured = found[found["split"].isna()].drop(columns=_TRACE).reset_index(drop=True)
        return measured.assign(exact_match=self._weighted(measured, found[found["metric"] == "exact_match"]))

    def _weighted(self, measured: pd.DataFrame, traced: pd.DataFrame) -> pd.Series:
        """Exact match of each measurement, recomputed where training does not draw all lengths equally often."""
        laws = {run: self.law(run) for run in measured["run_id"].unique()}
        traced = traced[traced["run_id"].map({run: not law.uniform for run, law in laws.items()}).astype(bool)]
        rows = placed(traced, laws)
        means = means_by(rows[rows["inside"]], ["run_id", "step"])
        again = means.reindex(pd.MultiIndex.from_frame(measured[["run_id", "step"]])).to_numpy()
        return measured["exact_match"].where(np.isnan(again), again)

    def trace(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Return evaluations made during training: rows of (run_id, step, split, length, metric, value, n)."""
        found = self._history(run_ids)
        columns = ["run_id", "step", *_TRACE]
        return found.loc[found["split"].notna(), columns].astype({"length": int, "n": int}).reset_index(drop=True)

    def _history(self, run_ids: Sequence[str]) -> pd.DataFrame:
        while True:
            files: dict[str, list[str]] = {}
            for run in run_ids:
                files.setdefault(self.index.history(run), []).append(run)
            try:  # only from the file its record names: others may hold an earlier training of the run
                tables = [histories(self.path / "history" / file, files[file]) for file in sorted(files)]
            except FileNotFoundError as error:  # `compact` may have moved it meanwhile
                self.refresh()
                if all(self.index.history(run) == file for file, runs in files.items() for run in runs):
                    raise DamagedFileError(f"{error.filename or 'a history'} is missing") from None
                continue
            # The first version recorded no gradient norms: they are null in its files.
            return pa.concat_tables([_HISTORY.empty_table(), *tables], promote_options="permissive").to_pandas()

    # -- Evaluations

    def add_evals(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append evaluations (rows of `EVAL_COLUMNS`; absent columns are null) as one file."""
        columns = {name: [row.get(name) for row in rows] for name in EVAL_COLUMNS}
        self.evaluations.add(columns, stack_id({str(row["run_id"]) for row in rows}))

    def evals(
        self,
        run_ids: Iterable[str] | None = None,
        answers: bool = False,
        metric: str | None = None,
        offsets: str | None = "",
        attn_weights: str | None = "",
    ) -> pd.DataFrame:
        """Return all evaluations of runs (all runs by default), one row per number.

        Args:
            run_ids: only these runs.
            answers: include the columns `correct` and `answers`.
            metric: only this metric.
            offsets: only evaluations at these position offsets (`Split.offsets`); '': as in training, None: all.
            attn_weights: only evaluations with these attention weights (`Split.attn_weights`); likewise.
        """
        return self.evaluations.frame(run_ids, answers, metric, offsets, attn_weights)

    # -- Checkpoints

    def checkpoint(self, stack: str) -> Path:
        """Path of the resume state of a stack; the file need not exist."""
        return self.path / f"checkpoints/{stack}.safetensors"

    def save_checkpoint(self, states: Sequence[RunState]) -> None:
        """Save the resume state of unfinished runs of one shape, replacing an earlier one."""
        from genlab.runs.weights import save_checkpoint

        save_checkpoint(self.checkpoint(stack_id(s.spec.run_id for s in states)), states)

    def load_checkpoints(self, specs: Sequence[RunSpec]) -> dict[str, RunState]:
        """Return the most advanced resume state of each run that has one, by run_id."""
        from genlab.runs.weights import load_checkpoints

        return load_checkpoints(sorted((self.path / "checkpoints").glob("*.safetensors")), specs)

    # -- Groups

    def save_group(self, name: str, run_ids: Sequence[str], request: Mapping[str, Any], command: str = "") -> Path:
        """Save what a command requested and mark it as `last`; returns the folder of the group (`Groups.save`)."""
        return self.named.save(name, run_ids, request, command)

    def group(self, name: str) -> dict[str, Any]:
        """Return `name`, `run_ids` and `request` of a group."""
        return self.named.read(name)

    def last_folder(self) -> Path:
        """Return the folder of the latest group. Raises `UserError` if there is none."""
        return self.named.folder(self.named.last())

    def groups(self) -> list[str]:
        """Return the names of all groups."""
        return self.named.names()

    def find(self, text: str) -> list[str]:
        """Resolve `last`, a group, a grid, a tag, a run id, or a unique prefix of one, to committed runs.

        Raises:
            UserError: no run matches, or several do.
        """
        if (named := self.named.runs(text)) is not None:
            return [run for run in named if run in self]
        matches = [run for run in self.run_ids() if run.startswith(text)]
        if len(matches) == 1:
            return matches
        if matches:
            shown = ", ".join(matches[:4]) + (", ..." if len(matches) > 4 else "")
            raise UserError(f"{text!r} is a prefix of {len(matches)} runs ({shown}); give more of the id")
        near = nearest(text, [*self.groups(), *self.named.tags(), *self.run_ids()[-10_000:]])
        hint = f"did you mean {near!r}?" if near else "`lab runs` lists all runs"
        raise UserError(f"no run or group {text!r} in store {str(self.path)!r}; {hint}")


def histories(path: Path, run_ids: Iterable[str]) -> pa.Table:
    """Return the rows of some runs of a history file."""
    table = read_table(path)
    return table.filter(pc.is_in(table["run_id"], pa.array(list(run_ids), pa.string())))


def _read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):
        return False


def stack_id(run_ids: Iterable[str]) -> str:
    """Return the name of a stack of runs; their order does not matter."""
    return hashlib.sha256(" ".join(sorted(run_ids)).encode()).hexdigest()[:16]


def now() -> str:
    """Return the current time in UTC, as ISO text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def no_checkpoint_message(run: str, step: int, kept: Sequence[int]) -> str:
    """Error message for a step without weights.

    >>> print(no_checkpoint_message("ab12", 120, [0, 100, 200, 500]))
    run ab12 has no checkpoint at step 120; available, nearest first: 100, 200, 0 (initial), 500 (final)
    """
    notes = {kept[0]: " (initial)", kept[-1]: " (final)"}
    near = [f"{known}{notes.get(known, '')}" for known in sorted(kept, key=lambda known: abs(known - step))]
    shown = ", ".join([*near[:_SHOWN], *(["..."] if len(near) > _SHOWN else [])])
    return f"run {run} has no checkpoint at step {step}; available, nearest first: {shown}"
