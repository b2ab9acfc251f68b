"""The store: a directory of committed stacks, evaluations, checkpoints and groups.

    store.json                          what this directory is
    commits/STACK.json                  the record of a stack, written last: what it lists is there, whole
    commits/table-SHA.parquet           many records in one table (`lab store compact`)
    weights/STACK-SHA.safetensors       final weights, `[run, ...]` a parameter
    steps/STACK-STEP-SHA.safetensors    weights of a step on the way, of the runs that kept it
    history/STACK-SHA.parquet           loss and in-distribution exact match over training
    evals/STACK-SHA.parquet             evaluations, appended: one file is one commit, its checksum in its name
    answers/compact-SHA.parquet         bits and hashes of answers, of compacted evaluations
    checkpoints/STACK.safetensors       where unfinished runs stand, for a resume
    leases/STACK.json                   who works on a stack now
    failures/STACK.json                 why a stack failed, until its runs are done
    lost/FOLDER/...                     files of runs that no record names, put aside (`lab store repair`)
    groups/NAME/group.json              what one command asked for; groups/last names the latest; tags/NAME.json

Every file appears by an atomic rename or link and never changes after. Readers see committed files only, so that many
processes, on many machines with a shared file system, can write without a server.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genlab.errors import DamagedFileError, UserError, nearest
from genlab.runs.files import StoreWriteError, read_json, read_table, remove_seen, seen, write_json, write_table
from genlab.runs.index import Index
from genlab.runs.laws import law_of, means_by, placed
from genlab.runs.parts import Evaluations
from genlab.spec import RunSpec, stored_spec
from genlab.tasks import TrainingLaw

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.training import RunState


_SHOWN = 8
"""Steps that are named, at most, where one was asked for that is not there."""


# -- Names for sets of runs: a group is what one command or grid file asked for, a tag is what a user calls so


class Groups:
    """The groups and tags of a store."""

    def __init__(self, store: Path):
        self._store = store
        self._groups, self._tags = store / "groups", store / "tags"

    def save(self, name: str, run_ids: Sequence[str], request: Mapping[str, Any]) -> Path:
        """Keep a group, and make it the `last`; returns its folder."""
        folder = self.folder(name)
        write_json(folder / "group.json", {"name": name, "run_ids": list(run_ids), "request": dict(request)})
        write_json(self._groups / "last", {"name": name})
        return folder

    def folder(self, name: str) -> Path:
        """The folder of a group, for its figures."""
        return self._groups / name

    def read(self, name: str) -> dict[str, Any]:
        """`name`, `run_ids` and `request` of a group."""
        return read_json(self.folder(name) / "group.json")

    def names(self) -> list[str]:
        """Names of all groups."""
        return sorted(file.parent.name for file in self._groups.glob("*/group.json"))

    def last(self) -> Path:
        """The folder of the latest group. Raises `UserError` if there is none."""
        last = self._groups / "last"
        if not last.exists():
            raise UserError(f"store {str(self._store)!r} has no last group yet; `lab train` makes one")
        return self.folder(str(read_json(last)["name"]))

    def runs(self, name: str) -> list[str] | None:
        """The runs under a name (`last`, a group, a tag), committed or not; None if it names nothing."""
        if name == "last":
            name = self.last().name
        if (self.folder(name) / "group.json").is_file():
            return list(self.read(name)["run_ids"])
        return self.tags().get(name)

    def tags(self) -> dict[str, list[str]]:
        """Tag -> its runs."""
        return {file.stem: list(read_json(file)["run_ids"]) for file in sorted(self._tags.glob("*.json"))}

    def tag(self, name: str, run_ids: Iterable[str], remove: bool = False) -> list[str]:
        """Add runs to a tag, or take them out of it; returns those under it now.

        Raises:
            UserError: a name that cannot be one, or is that of a group.
        """
        if not re.fullmatch(r"\w[\w.-]*", name) or name == "last" or name in self.names():
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
    """`GENLAB_STORE`, or `runs` in the working directory."""
    return Path(os.environ.get("GENLAB_STORE") or "runs")


_TRACE = ["split", "length", "metric", "value", "n"]
_HISTORY = pa.schema(
    [("run_id", pa.string()), ("step", pa.int64())]
    + [(name, pa.float64()) for name in ("loss", "lr", "exact_match", "seconds", "grad_norm", "grad_norm_max")]
    + [("split", pa.string()), ("length", pa.int64()), ("metric", pa.string()), ("value", pa.float64())]
    + [("n", pa.int64())]
)
"""A row is a measurement (`split` is null) or one number of an evaluation made while training."""


def no_history() -> pa.Table:
    """A history of no rows."""
    return _HISTORY.empty_table()


class Store:
    """A directory of runs. Opening one writes nothing; the first commit makes it."""

    def __init__(self, path: str | Path | None = None):
        """Raises `UserError` if the path is a file, or a directory of something else."""
        self.path = Path(path) if path is not None else default_store()
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"store {str(self.path)!r} is a file; --store takes a directory")
        marker = self.path / "store.json"
        if marker.exists():
            found = read_json(marker).get("genlab_store")
            if found != _FORMAT:
                raise UserError(f"store {str(self.path)!r} has format {found}; this genlab reads format {_FORMAT}")
        elif self._holds_something() and not marker.exists():  # another process may just have made it a store
            raise UserError(f"{str(self.path)!r} is a directory, but no genlab store (no store.json in it)")
        self.index = Index(self.path / "commits")
        self.evaluations = Evaluations(self.path)
        self.named = Groups(self.path)

    def _holds_something(self) -> bool:
        """Beside what may be there before the first commit: files half made, and pools of mazes."""
        return self.path.is_dir() and any(
            not file.match(".*.tmp") and file.name != "cache" for file in self.path.iterdir()
        )

    def ready(self) -> None:
        """Make the directory if need be. Raises `UserError` where it cannot be written."""
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

    # -- committed stacks --------------------------------------------------------------------------------------

    def commit(self, states: Sequence[RunState], environment: Mapping[str, Any], again: bool = False) -> bool:
        """Commit trained runs of one shape: weights of steps that they kept, history, final weights, then the record.

        The final weights say what the record says, so that a record that is lost can be made anew.

        Args:
            again: in place of what is there.

        Returns:
            Whether this commit counts: another worker may have been first, and what was written here is gone then.
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
        written = {name: seen(self.path / name) for name in names}
        won = self.index.commit(stack, runs, {**shared, "weights": weights}, again)
        if not won:
            counted = {name for s in states for name in self.index.files(s.spec.run_id)}
            for name in written.keys() - counted:
                remove_seen(self.path / name, written[name])
        self.checkpoint(stack).unlink(missing_ok=True)
        return won

    def refresh(self) -> None:
        """Look again at what has been committed (by other processes)."""
        self.index.refresh()

    def __contains__(self, run_id: object) -> bool:
        return run_id in self.index.runs

    def run_ids(self) -> list[str]:
        """All committed runs, oldest first."""
        return sorted(self.index.runs, key=lambda run: (self.index.at(run), run))

    def entry(self, run_id: str) -> dict[str, Any]:
        """`run_id`, `spec`, `status`, `step`, `kept`, `stack`, `history`, `environment`, `at` of a committed run."""
        if run_id not in self:
            raise UserError(f"no run {run_id!r} in store {str(self.path)!r}")
        return self.index.entry(run_id)

    def spec(self, run_id: str) -> RunSpec:
        """The spec of a committed run."""
        return stored_spec(self.entry(run_id)["spec"])

    def law(self, run_id: str) -> TrainingLaw:
        """The law of the training lengths of a committed run."""
        text = self.index.law(run_id)
        return law_of(self.spec(run_id)) if text is None else TrainingLaw.from_text(text)

    def runs(self) -> pd.DataFrame:
        """A row a committed run: run_id, status, step, at and every field of its spec; oldest first."""
        return self.index.frame()

    def steps(self, run_id: str) -> list[int]:
        """The steps whose weights are known of a committed run: 0, those kept on the way, the last."""
        last = int(self.entry(run_id)["step"])
        return sorted({0, *self.index.kept(run_id), last})

    def weights(self, run_ids: Sequence[str], step: int | None = None) -> Tensor:
        """Weights, float[run, params], of runs of one shape.

        Args:
            step: those after a training step that was kept, or the initial ones (0); None: the final ones.

        Raises:
            UserError: a step that a run has not kept.
            DamagedFileError: a file is missing, or not as it was written.
        """
        from genlab.runs.weights import initial_weights, read_weights

        if step is not None:
            self.check_step(run_ids, step)
        if step == 0:
            return initial_weights([self.spec(run) for run in run_ids])
        files = {run: self._weight_file(run, step) for run in run_ids}
        return read_weights(files, self.spec(run_ids[0]).model)

    def check_step(self, run_ids: Sequence[str], step: int) -> None:
        """Raise `UserError` if a run has not kept a step."""
        for run in run_ids:
            if step not in (kept := self.steps(run)):
                raise UserError(not_kept(run, step, kept))

    def _weight_file(self, run: str, step: int | None) -> Path:
        entry = self.entry(run)
        if step is None or step == entry["step"]:
            return self.path / "weights" / entry["weights"]
        return self.path / "steps" / self.index.kept(run)[step]

    def history(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Rows of (run_id, step, loss, lr, exact_match, seconds, grad_norm, grad_norm_max), one a measurement.

        Exact match is in distribution, lengths weighed as training draws them, whatever `until` went by; gradient
        norms, which are before clipping, are NaN where they were not kept.
        """
        found = self._history(run_ids)
        measured = found[found["split"].isna()].drop(columns=_TRACE).reset_index(drop=True)
        return measured.assign(exact_match=self._weighed(measured, found[found["metric"] == "exact_match"]))

    def _weighed(self, measured: pd.DataFrame, traced: pd.DataFrame) -> pd.Series:
        """Exact match of each measurement, weighed anew from its lengths where all of them did not count alike."""
        laws = {run: self.law(run) for run in measured["run_id"].unique()}
        traced = traced[traced["run_id"].map({run: not law.uniform for run, law in laws.items()}).astype(bool)]
        rows = placed(traced, laws)
        means = means_by(rows[rows["inside"]], ["run_id", "step"])
        again = means.reindex(pd.MultiIndex.from_frame(measured[["run_id", "step"]])).to_numpy()
        return measured["exact_match"].where(np.isnan(again), again)

    def trace(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Evaluations made while training: rows of (run_id, step, split, length, metric, value, n)."""
        found = self._history(run_ids)
        columns = ["run_id", "step", *_TRACE]
        return found.loc[found["split"].notna(), columns].astype({"length": int, "n": int}).reset_index(drop=True)

    def _history(self, run_ids: Sequence[str]) -> pd.DataFrame:
        while True:
            files: dict[str, list[str]] = {}
            for run in run_ids:
                files.setdefault(self.index.history(run), []).append(run)
            try:  # each run from its own file: another may hold it as it was before it was trained again
                tables = [histories(self.path / "history" / file, files[file]) for file in sorted(files)]
            except FileNotFoundError as error:  # `compact` may have moved it meanwhile
                self.refresh()
                if all(self.index.history(run) == file for file, runs in files.items() for run in runs):
                    raise DamagedFileError(f"{error.filename or 'a history'} is missing") from None
                continue
            # The first version kept no norms of gradients: they are null in the rows of its files.
            return pa.concat_tables([_HISTORY.empty_table(), *tables], promote_options="permissive").to_pandas()

    # -- evaluations -------------------------------------------------------------------------------------------

    def add_evals(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append evaluations (rows of `EVAL_COLUMNS`) as one file."""
        self.evaluations.add(rows, stack_id({str(row["run_id"]) for row in rows}))

    def evals(
        self,
        run_ids: Iterable[str] | None = None,
        answers: bool = False,
        metric: str | None = None,
        offsets: str | None = "",
    ) -> pd.DataFrame:
        """All evaluations of runs (all runs by default), one row a number.

        Args:
            answers: also the columns `correct` and `answers`.
            metric: only this one.
            offsets: only those whose examples stood so in the context (`Split.offsets`); '': as in training,
                None: all.
        """
        return self.evaluations.frame(run_ids, answers, metric, offsets)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def checkpoint(self, stack: str) -> Path:
        """Where the checkpoint of a stack is, if there is one."""
        return self.path / f"checkpoints/{stack}.safetensors"

    def save_checkpoint(self, states: Sequence[RunState]) -> None:
        """Keep where unfinished runs of one shape stand, in place of their last checkpoint."""
        from genlab.runs.weights import save_checkpoint

        save_checkpoint(self.checkpoint(stack_id(s.spec.run_id for s in states)), states)

    def load_checkpoints(self, specs: Sequence[RunSpec]) -> dict[str, RunState]:
        """run_id -> the furthest state kept of it, for those that have one."""
        from genlab.runs.weights import load_checkpoints

        return load_checkpoints(sorted((self.path / "checkpoints").glob("*.safetensors")), specs)

    # -- groups ------------------------------------------------------------------------------------------------

    def save_group(self, name: str, run_ids: Sequence[str], request: Mapping[str, Any]) -> Path:
        """Keep what a command asked for, and make it the `last`; returns the group's folder, for its figures."""
        return self.named.save(name, run_ids, request)

    def group(self, name: str) -> dict[str, Any]:
        """`name`, `run_ids` and `request` of a group."""
        return self.named.read(name)

    def last_folder(self) -> Path:
        """The folder of the latest group. Raises `UserError` if there is none."""
        return self.named.last()

    def groups(self) -> list[str]:
        """Names of all groups."""
        return self.named.names()

    def find(self, text: str) -> list[str]:
        """The runs that a user means: `last`, a group, a grid, a tag, a run id, or a unique prefix of one.

        Raises:
            UserError: nothing or several runs match.
        """
        if (named := self.named.runs(text)) is not None:
            return [run for run in named if run in self]
        matches = [run for run in self.run_ids() if run.startswith(text)]
        if len(matches) == 1:
            return matches
        if matches:
            shown = ", ".join(matches[:4]) + (", ..." if len(matches) > 4 else "")
            raise UserError(f"{text!r} is the start of {len(matches)} runs ({shown}); give more of the id")
        near = nearest(text, [*self.groups(), *self.named.tags(), *self.run_ids()[-10_000:]])
        hint = f"did you mean {near!r}?" if near else "`lab runs` lists what is there"
        raise UserError(f"no run or group {text!r} in store {str(self.path)!r}; {hint}")


def histories(path: Path, run_ids: Iterable[str]) -> pa.Table:
    """The rows of some runs of a file of histories."""
    table = read_table(path)
    return table.filter(pc.is_in(table["run_id"], pa.array(list(run_ids), pa.string())))


def _read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):
        return False


def stack_id(run_ids: Iterable[str]) -> str:
    """Name of the stack of some runs; their order does not matter."""
    return hashlib.sha256(" ".join(sorted(run_ids)).encode()).hexdigest()[:16]


def now() -> str:
    """This moment in UTC, as ISO text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def not_kept(run: str, step: int, kept: Sequence[int]) -> str:
    """What to tell whoever asks for a step of which there are no weights.

    >>> print(not_kept("ab12", 120, [0, 100, 200, 500]))
    step 120 of run ab12 was not kept; kept are, nearest first: 100, 200, 0 (the initial weights), 500 (the end)
    """
    said = {kept[0]: " (the initial weights)", kept[-1]: " (the end)"}
    near = [f"{known}{said.get(known, '')}" for known in sorted(kept, key=lambda known: abs(known - step))]
    shown = ", ".join([*near[:_SHOWN], *(["..."] if len(near) > _SHOWN else [])])
    return f"step {step} of run {run} was not kept; kept are, nearest first: {shown}"
