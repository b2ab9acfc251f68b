"""Weights of committed runs: those that they ended with, and those of steps on the way that were asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import Tensor

from genlab.errors import DamagedFileError, UserError
from genlab.models import shapes, views
from genlab.runs.files import read_table
from genlab.runs.tensor_files import load_tensors, read_meta, save_tensors
from genlab.spec import ModelConfig, RunSpec
from genlab.training import RunState, fresh

if TYPE_CHECKING:
    from genlab.runs.store import Store

__all__ = ["check_step", "read_weights", "record_of", "runs_of", "steps_kept", "write_kept", "write_weights"]

_SHOWN = 8
"""Steps that are named, at most, where one was asked for that is not there."""


def write_weights(store: Path, stack: str, states: Sequence[RunState], record: Mapping[str, Any]) -> str:
    """Write the final weights of a stack of one shape, `[run, ...]` a parameter; returns the name of the file.

    Args:
        record: what the commit record of the stack will say. The file says it too, so that it can replace a lost one.
    """
    meta = {"record": json.dumps(dict(record), sort_keys=True)}
    return _write(store / "weights", stack, [(s.spec, s.weights) for s in states], meta)


def write_kept(store: Path, stack: str, states: Sequence[RunState]) -> dict[int, str]:
    """Write the weights of steps on the way: step -> the name of the file of those of the runs that kept it."""
    return {
        step: _write(store / "steps", f"{stack}-{step}", [(s.spec, s.kept[step]) for s in states if step in s.kept])
        for step in steps_kept(states)
    }


def record_of(meta: Mapping[str, str]) -> dict[str, Any]:
    """What the commit record of a weights file said, from its metadata; {} for one that does not say it."""
    return json.loads(meta.get("record", "{}"))


def runs_of(path: Path) -> list[str]:
    """The runs that a file of weights, histories, evaluations or signals holds; [] where it cannot be read."""
    if path.suffix == ".safetensors":
        return json.loads(read_meta(path).get("run_ids", "[]"))
    try:
        return read_table(path, ["run_id"])["run_id"].unique().to_pylist()
    except (FileNotFoundError, DamagedFileError, KeyError, pa.ArrowException):
        return []


def steps_kept(states: Sequence[RunState]) -> list[int]:
    """The steps whose weights any of these runs has kept."""
    return sorted({step for state in states for step in state.kept})


def _write(
    folder: Path, stem: str, runs: Sequence[tuple[RunSpec, Tensor]], more: Mapping[str, str] | None = None
) -> str:
    named = views(torch.stack([weights for _, weights in runs]), runs[0][0].model)
    run_ids = [spec.run_id for spec, _ in runs]
    return save_tensors(folder / f"{stem}-{{}}.safetensors", named, {"run_ids": json.dumps(run_ids), **(more or {})})


def read_weights(store: Store, run_ids: Sequence[str], step: int | None) -> Tensor:
    """Weights of committed runs of one shape, float[run, params]: see `Store.weights`."""
    if step is not None:
        check_step(store, run_ids, step)
    if step == 0:
        return torch.stack([state.weights for state in fresh([store.spec(run) for run in run_ids])])
    return _read({run: _file(store, run, step) for run in run_ids}, store.spec(run_ids[0]).model)


def check_step(store: Store, run_ids: Sequence[str], step: int) -> None:
    """Raises `UserError` if a run has not kept a step."""
    for run in run_ids:
        if step not in (kept := store.steps(run)):
            raise UserError(not_kept(run, step, kept))


def _file(store: Store, run: str, step: int | None) -> Path:
    entry = store.entry(run)
    if step is None or step == entry["step"]:
        return store.path / "weights" / entry["weights"]
    return store.path / "steps" / store.index.kept(run)[step]


def _read(files: Mapping[str, Path], cfg: ModelConfig) -> Tensor:
    """Each run from its own file: one that holds it at another step too must not speak for it."""
    rows: dict[str, Tensor] = {}
    for file in dict.fromkeys(files.values()):
        tensors, meta = load_tensors(file)
        flat = torch.cat([tensors[name].flatten(1) for name in shapes(cfg)], dim=1)
        held = zip(json.loads(meta["run_ids"]), flat, strict=True)
        rows |= {run: weights for run, weights in held if files.get(run) == file}
    return torch.stack([rows[run] for run in files])


def not_kept(run: str, step: int, kept: Sequence[int]) -> str:
    """What to tell whoever asks for a step of which there are no weights.

    >>> print(not_kept("ab12", 120, [0, 100, 200, 500]))
    step 120 of run ab12 was not kept; kept are, nearest first: 100, 200, 0 (the initial weights), 500 (the end)
    """
    said = {kept[0]: " (the initial weights)", kept[-1]: " (the end)"}
    near = [f"{known}{said.get(known, '')}" for known in sorted(kept, key=lambda known: abs(known - step))]
    shown = ", ".join([*near[:_SHOWN], *(["..."] if len(near) > _SHOWN else [])])
    return f"step {step} of run {run} was not kept; kept are, nearest first: {shown}"
