"""The store: a directory of committed stacks, evaluations, checkpoints and groups.

    store.json                       what this directory is
    commits/STACK.json               the commit record of a stack, written last: what it lists is there, whole
    weights/STACK.safetensors        final weights, `[run, ...]` a parameter
    history/STACK-SHA.parquet        loss and in-distribution exact match over training
    evals/STACK-SHA.parquet          evaluations, appended: one file is one commit, its checksum in its name
    checkpoints/STACK.safetensors    where unfinished runs stand, for a resume
    groups/NAME/group.json           what one command asked for; groups/last names the latest

Every file appears by an atomic rename and never changes after. Readers see committed files only, so that many
processes, on many machines with a shared file system, can write without a server.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from genlab.errors import UserError, nearest
from genlab.models import shapes, views
from genlab.runs.files import load_tensors, read_json, read_parquet, save_tensors, write_json, write_parquet
from genlab.spec import RunSpec
from genlab.training import RunState

__all__ = ["EVAL_COLUMNS", "Store", "default_store"]

_FORMAT = 1
EVAL_COLUMNS: tuple[str, ...] = (
    "run_id",
    "step",
    "split",
    "length",
    "metric",
    "value",
    "n",
    "seed",
    "at",
    "correct",
    "answers",
)
"""Columns of evaluations: those of `EvalRow`, the evaluation seed, when it was made, and, in the row of
`exact_match`, a bit an example (`correct`, packed) and a 64-bit hash of each answer (`answers`)."""


def default_store() -> Path:
    """`GENLAB_STORE`, or `runs` in the working directory."""
    return Path(os.environ.get("GENLAB_STORE") or "runs")


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
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(f"{str(self.path)!r} is a directory, but no genlab store (no store.json in it)")

    def ready(self) -> None:
        """Make the directory if need be. Raises `UserError` where it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
            if not (self.path / "store.json").exists():
                write_json(self.path / "store.json", {"genlab_store": _FORMAT})
        except OSError as error:
            raise UserError(f"store {str(self.path)!r} cannot be written: {error.strerror}") from None

    # -- committed stacks --------------------------------------------------------------------------------------

    def commit(self, states: Sequence[RunState], environment: Mapping[str, Any]) -> None:
        """Commit trained runs of one shape: weights and history first, the commit record last."""
        stack = stack_id(state.spec.run_id for state in states)
        run_ids = [state.spec.run_id for state in states]
        weights = views(torch.stack([state.weights for state in states]), states[0].spec.model)
        save_tensors(self.path / f"weights/{stack}.safetensors", weights, {"run_ids": json.dumps(run_ids)})
        rows = [{"run_id": s.spec.run_id, **row} for s in states for row in s.history]
        history = write_parquet(self.path / "history", stack, pa.Table.from_pylist(rows))
        runs = [
            {"run_id": s.spec.run_id, "status": s.status, "step": s.step, "spec": s.spec.model_dump(mode="json")}
            for s in states
        ]
        record = {"stack": stack, "runs": runs, "history": history, "environment": dict(environment), "at": now()}
        write_json(self.path / f"commits/{stack}.json", record)
        self.__dict__.pop("_commits", None)
        (self.path / f"checkpoints/{stack}.safetensors").unlink(missing_ok=True)

    @cached_property
    def _commits(self) -> dict[str, dict[str, Any]]:
        """run_id -> its entry in the commit records, with `stack`, `history`, `environment` and `at`."""
        found: dict[str, dict[str, Any]] = {}
        for file in sorted((self.path / "commits").glob("*.json")):
            record = cast("dict[str, Any]", read_json(file))
            shared = {key: record[key] for key in ("stack", "history", "environment", "at")}
            found |= {run["run_id"]: {**run, **shared} for run in record["runs"]}
        return found

    def refresh(self) -> None:
        """Look again at what has been committed (by other processes)."""
        self.__dict__.pop("_commits", None)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._commits

    def run_ids(self) -> list[str]:
        """All committed runs, oldest first."""
        return sorted(self._commits, key=lambda run: (self._commits[run]["at"], run))

    def entry(self, run_id: str) -> dict[str, Any]:
        """`run_id`, `spec`, `status`, `step`, `stack`, `history`, `environment` and `at` of a committed run."""
        if run_id not in self._commits:
            raise UserError(f"no run {run_id!r} in store {str(self.path)!r}")
        return self._commits[run_id]

    def spec(self, run_id: str) -> RunSpec:
        """The spec of a committed run."""
        return RunSpec.model_validate(self.entry(run_id)["spec"])

    def weights(self, run_ids: Sequence[str]) -> Tensor:
        """Final weights, float[run, params], of runs of one shape. Raises `DamagedFileError`."""
        rows: dict[str, Tensor] = {}
        cfg = self.spec(run_ids[0]).model
        for stack in {self.entry(run)["stack"] for run in run_ids}:
            tensors, meta = load_tensors(self.path / f"weights/{stack}.safetensors")
            flat = torch.cat([tensors[name].flatten(1) for name in shapes(cfg)], dim=1)
            rows |= dict(zip(json.loads(meta["run_ids"]), flat, strict=True))
        return torch.stack([rows[run] for run in run_ids])

    def history(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Rows of (run_id, step, loss, lr, exact_match, seconds)."""
        files = sorted({self.entry(run)["history"] for run in run_ids})
        found = pd.concat([read_parquet(self.path / "history" / file) for file in files])
        return found[found["run_id"].isin(list(run_ids))].reset_index(drop=True)

    # -- evaluations -------------------------------------------------------------------------------------------

    def add_evals(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append evaluations (rows of `EVAL_COLUMNS`) as one file."""
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=_EVAL_SCHEMA)
        runs = stack_id({str(row["run_id"]) for row in rows})
        write_parquet(self.path / "evals", runs, table)

    def evals(self, run_ids: Iterable[str] | None = None, answers: bool = False) -> pd.DataFrame:
        """All evaluations of runs (all runs by default), one row a number.

        Args:
            answers: also the columns `correct` and `answers`.
        """
        columns = list(EVAL_COLUMNS if answers else EVAL_COLUMNS[:-2])
        parts = sorted((self.path / "evals").glob("*.parquet"))
        frames = [read_parquet(part, columns) for part in parts]
        if not frames:
            return _EVAL_SCHEMA.empty_table().select(columns).to_pandas()
        found = pd.concat(frames, ignore_index=True)
        if run_ids is not None:
            found = found[found["run_id"].isin(list(run_ids))]
        keys = ["run_id", "step", "split", "length", "metric", "n", "seed"]
        return found.drop_duplicates(keys).sort_values(keys).reset_index(drop=True)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save_checkpoint(self, states: Sequence[RunState]) -> None:
        """Keep where unfinished runs of one shape stand, in place of their last checkpoint."""
        tensors = {
            name: torch.stack([getattr(s, name) for s in states]) for name in ("weights", "exp_avg", "exp_avg_sq")
        }
        kept = ("step", "status", "history", "loss_sum")
        runs = [{"run_id": s.spec.run_id, **{name: getattr(s, name) for name in kept}} for s in states]
        stack = stack_id(s.spec.run_id for s in states)
        save_tensors(self.path / f"checkpoints/{stack}.safetensors", tensors, {"runs": json.dumps(runs)})

    def load_checkpoints(self, specs: Sequence[RunSpec]) -> dict[str, RunState]:
        """run_id -> the furthest state kept of it, for those that have one."""
        wanted = {spec.run_id: spec for spec in specs}
        found: dict[str, RunState] = {}
        for file in sorted((self.path / "checkpoints").glob("*.safetensors")):
            tensors, meta = load_tensors(file)
            for i, run in enumerate(json.loads(meta["runs"])):
                spec = wanted.get(run["run_id"])
                if spec is None or (run["run_id"] in found and found[run["run_id"]].step >= run["step"]):
                    continue
                rows = (tensors[name][i] for name in ("weights", "exp_avg", "exp_avg_sq"))
                found[run["run_id"]] = RunState(
                    spec, run["step"], run["status"], *rows, history=run["history"], loss_sum=run["loss_sum"]
                )
        return found

    # -- groups ------------------------------------------------------------------------------------------------

    def save_group(self, name: str, run_ids: Sequence[str], request: Mapping[str, Any]) -> Path:
        """Keep what a command asked for, and make it the `last`; returns the group's folder, for its figures."""
        folder = self.path / "groups" / name
        write_json(folder / "group.json", {"name": name, "run_ids": list(run_ids), "request": dict(request)})
        write_json(self.path / "groups" / "last", {"name": name})
        return folder

    def group(self, name: str) -> dict[str, Any]:
        """`name`, `run_ids` and `request` of a group."""
        return cast("dict[str, Any]", read_json(self.path / "groups" / name / "group.json"))

    def last_folder(self) -> Path:
        """The folder of the latest group. Raises `UserError` if there is none."""
        last = self.path / "groups" / "last"
        if not last.exists():
            raise UserError(f"store {str(self.path)!r} has no last group yet; `lab train` makes one")
        return last.parent / str(read_json(last)["name"])

    def groups(self) -> list[str]:
        """Names of all groups."""
        return sorted(file.parent.name for file in (self.path / "groups").glob("*/group.json"))

    def find(self, text: str) -> list[str]:
        """The runs that a user means: `last`, a group, a run id, or a unique prefix of one.

        Raises:
            UserError: nothing or several runs match.
        """
        if text == "last":
            text = self.last_folder().name
        if text in self.groups():
            return [run for run in self.group(text)["run_ids"] if run in self]
        matches = [run for run in self.run_ids() if run.startswith(text)]
        if len(matches) == 1:
            return matches
        if matches:
            shown = ", ".join(matches[:4]) + (", ..." if len(matches) > 4 else "")
            raise UserError(f"{text!r} is the start of {len(matches)} runs ({shown}); give more of the id")
        near = nearest(text, [*self.run_ids(), *self.groups()])
        hint = f"did you mean {near!r}?" if near else "`lab runs` lists what is there"
        raise UserError(f"no run or group {text!r} in store {str(self.path)!r}; {hint}")


_EVAL_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("length", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("seed", pa.int64()),
        ("at", pa.string()),
        ("correct", pa.binary()),
        ("answers", pa.binary()),
    ]
)


def stack_id(run_ids: Iterable[str]) -> str:
    """Name of the stack of some runs; their order does not matter."""
    return hashlib.sha256(" ".join(sorted(run_ids)).encode()).hexdigest()[:16]


def now() -> str:
    """This moment in UTC, as ISO text."""
    return datetime.now(UTC).isoformat(timespec="seconds")
