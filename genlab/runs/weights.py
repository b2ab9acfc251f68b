"""Weights of committed runs and resume states, as safetensors files with checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genlab.errors import DamagedFileError
from genlab.models import shapes, views
from genlab.runs.files import read_table, write
from genlab.spec import ModelConfig, RunSpec
from genlab.training import RunState, fresh

# -- Tensor files


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    """Write tensors atomically, with a SHA-256 over all contents and metadata of the file.

    Returns:
        The file name: `{}` in the name of `path` is replaced by the start of the SHA-256.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digest = _digest(kept, meta)
    data = save(kept, {**meta, "sha256": digest})
    name = path.name.replace("{}", digest[:16])
    write(path.with_name(name), lambda file: file.write_bytes(data))
    return name


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a file. Raises `DamagedFileError` if its checksum does not match."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            meta = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise DamagedFileError(f"{path} is missing") from None
        if isinstance(error, PermissionError):
            raise
        raise DamagedFileError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    written = meta.pop("sha256", "")
    if written != _digest(tensors, meta):
        raise DamagedFileError(f"{path} is damaged: its checksum does not hold")
    return tensors, meta


def read_meta(path: Path) -> dict[str, str]:
    """Return the metadata of a file, unchecked; {} if the file is missing or has none."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return {}


def _digest(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(meta), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def write_weights(store: Path, stack: str, states: Sequence[RunState], record: Mapping[str, Any]) -> str:
    """Write the final weights of a stack of one shape, `[run, ...]` per parameter; returns the file name.

    Args:
        store: folder of the store.
        stack: name of the stack.
        states: final states of its runs.
        record: the future commit record of the stack, repeated in the file so that it can replace a lost one.
    """
    meta = {"record": json.dumps(dict(record), sort_keys=True)}
    return _write(store / "weights", stack, [(s.spec, s.weights) for s in states], meta)


def write_kept(store: Path, stack: str, states: Sequence[RunState]) -> dict[int, str]:
    """Write the checkpoints of a stack; returns step -> name of the file with the runs that saved it."""
    return {
        step: _write(store / "steps", f"{stack}-{step}", [(s.spec, s.kept[step]) for s in states if step in s.kept])
        for step in steps_kept(states)
    }


def record_of(meta: Mapping[str, str]) -> dict[str, Any]:
    """Return the commit record repeated in the metadata of a weights file; {} if there is none."""
    return json.loads(meta.get("record", "{}"))


def runs_of(path: Path) -> list[str]:
    """Return the runs in a file of weights, histories, evaluations or signals; [] if it cannot be read."""
    if path.suffix == ".safetensors":
        return json.loads(read_meta(path).get("run_ids", "[]"))
    try:
        return read_table(path, ["run_id"])["run_id"].unique().to_pylist()
    except (FileNotFoundError, DamagedFileError, KeyError, pa.ArrowException):
        return []


def steps_kept(states: Sequence[RunState]) -> list[int]:
    """Return the steps at which any of these runs has a checkpoint."""
    return sorted({step for state in states for step in state.kept})


def _write(
    folder: Path, stem: str, runs: Sequence[tuple[RunSpec, Tensor]], more: Mapping[str, str] | None = None
) -> str:
    arrays = views(torch.stack([weights for _, weights in runs]), runs[0][0].model)
    run_ids = [spec.run_id for spec, _ in runs]
    return save_tensors(folder / f"{stem}-{{}}.safetensors", arrays, {"run_ids": json.dumps(run_ids), **(more or {})})


def initial_weights(specs: Sequence[RunSpec]) -> Tensor:
    """Return the weights of runs of one shape before the first step, float[run, params]."""
    return torch.stack([state.weights for state in fresh(specs)])


def read_weights(files: Mapping[str, Path], cfg: ModelConfig) -> Tensor:
    """Return weights of runs of one shape, float[run, params].

    Args:
        files: run_id -> file. Each run is read only from its file: others may hold it at another step.
        cfg: the model configuration of the runs.

    Raises:
        DamagedFileError: a file is missing or its checksum does not match.
    """
    rows: dict[str, Tensor] = {}
    for file in dict.fromkeys(files.values()):
        tensors, meta = load_tensors(file)
        flat = torch.cat([tensors[name].flatten(1) for name in shapes(cfg)], dim=1)
        held = zip(json.loads(meta["run_ids"]), flat, strict=True)
        rows |= {run: weights for run, weights in held if files.get(run) == file}
    return torch.stack([rows[run] for run in files])


# -- Resume states

_TENSORS = ("weights", "exp_avg", "exp_avg_sq")
_NUMBERS = ("step", "status", "history", "loss_sum", "trace", "norm_sum", "norm_max")
_NAN = float("nan")


def save_checkpoint(path: Path, states: Sequence[RunState]) -> None:
    """Save the resume state of the runs of a stack, replacing an earlier one."""
    tensors = {name: torch.stack([getattr(s, name) for s in states]) for name in _TENSORS}
    if any(s.average is not None for s in states):  # runs that ended before averaging began have none
        tensors["average"] = torch.stack([s.weights if s.average is None else s.average for s in states])
    for step in steps_kept(states):
        tensors[f"kept.{step}"] = torch.stack([s.kept[step] for s in states if step in s.kept])
    runs = [
        {"run_id": s.spec.run_id, "kept": sorted(s.kept), **{name: getattr(s, name) for name in _NUMBERS}}
        for s in states
    ]
    save_tensors(path, tensors, {"runs": json.dumps(runs)})


def load_checkpoints(files: Iterable[Path], specs: Sequence[RunSpec]) -> dict[str, RunState]:
    """Return the most advanced resume state of each run, by run_id."""
    wanted = {spec.run_id: spec for spec in specs}
    found: dict[str, RunState] = {}
    for file in files:
        about = json.loads(read_meta(file).get("runs", "[]"))
        if not any(run["run_id"] in wanted for run in about):
            continue
        tensors, meta = load_tensors(file)
        runs = json.loads(meta["runs"])
        for i, run in enumerate(runs):
            spec = wanted.get(run["run_id"])
            if spec is not None and not (spec.run_id in found and found[spec.run_id].step >= run["step"]):
                found[spec.run_id] = _state(spec, runs, i, tensors)
    return found


def _state(spec: RunSpec, runs: Sequence[Mapping[str, Any]], i: int, tensors: Mapping[str, Tensor]) -> RunState:
    """Resume state of run `i` of a checkpoint. Old ones have no gradient norms."""
    about = {"norm_sum": _NAN, "norm_max": _NAN, **{n: runs[i][n] for n in _NUMBERS if n in runs[i]}}
    kept = {
        step: tensors[f"kept.{step}"][sum(step in run["kept"] for run in runs[:i])]
        for step in runs[i].get("kept", ())
    }
    average = tensors["average"][i] if "average" in tensors else None
    weights, exp_avg, exp_avg_sq = (tensors[name][i] for name in _TENSORS)
    rest: dict[str, Any] = {**about, "average": average, "kept": kept}
    return RunState(spec, weights=weights, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, **rest)
