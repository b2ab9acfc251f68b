"""Weights of committed runs, and checkpoints of runs that have not ended: the tensors of a store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from genlab.models import shapes, views
from genlab.runs.tensor_files import load_tensors, read_meta, save_tensors
from genlab.spec import ModelConfig, RunSpec
from genlab.training import RunState

__all__ = ["load_checkpoints", "load_weights", "save_checkpoint", "save_weights"]

_TENSORS = ("weights", "exp_avg", "exp_avg_sq")
_KEPT = ("step", "status", "history", "loss_sum", "trace")


def save_weights(folder: Path, stack: str, states: Sequence[RunState]) -> str:
    """Write final weights, `[run, ...]` a parameter; returns the name of the file."""
    named = views(torch.stack([state.weights for state in states]), states[0].spec.model)
    run_ids = [state.spec.run_id for state in states]
    return save_tensors(folder / f"{stack}-{{}}.safetensors", named, {"run_ids": json.dumps(run_ids)})


def load_weights(files: Iterable[Path], cfg: ModelConfig, run_ids: Sequence[str]) -> Tensor:
    """Final weights, float[run, params], of runs of one shape. Raises `DamagedFileError`."""
    rows: dict[str, Tensor] = {}
    for file in files:
        tensors, meta = load_tensors(file)
        flat = torch.cat([tensors[name].flatten(1) for name in shapes(cfg)], dim=1)
        rows |= dict(zip(json.loads(meta["run_ids"]), flat, strict=True))
    return torch.stack([rows[run] for run in run_ids])


def save_checkpoint(path: Path, states: Sequence[RunState]) -> None:
    """Keep where the runs of a stack stand, in place of what was kept before."""
    tensors = {name: torch.stack([getattr(s, name) for s in states]) for name in _TENSORS}
    if any(s.average is not None for s in states):  # those that ended before the last steps have none, and need none
        tensors["average"] = torch.stack([s.weights if s.average is None else s.average for s in states])
    runs = [{"run_id": s.spec.run_id, **{name: getattr(s, name) for name in _KEPT}} for s in states]
    save_tensors(path, tensors, {"runs": json.dumps(runs)})


def load_checkpoints(files: Iterable[Path], specs: Sequence[RunSpec]) -> dict[str, RunState]:
    """run_id -> the furthest state that some files hold of it."""
    wanted = {spec.run_id: spec for spec in specs}
    found: dict[str, RunState] = {}
    for file in files:
        about = json.loads(read_meta(file).get("runs", "[]"))
        if not any(run["run_id"] in wanted for run in about):
            continue
        tensors, meta = load_tensors(file)
        for i, run in enumerate(json.loads(meta["runs"])):
            spec = wanted.get(run["run_id"])
            if spec is None or (run["run_id"] in found and found[run["run_id"]].step >= run["step"]):
                continue
            weights, exp_avg, exp_avg_sq = (tensors[name][i] for name in _TENSORS)
            average = tensors["average"][i] if "average" in tensors else None
            moments = (exp_avg, exp_avg_sq, run["history"], run["loss_sum"], run["trace"], average)
            found[run["run_id"]] = RunState(spec, run["step"], run["status"], weights, *moments)
    return found
