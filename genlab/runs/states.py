"""Checkpoints: where runs that have not ended stand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genlab.runs.tensor_files import load_tensors, read_meta, save_tensors
from genlab.runs.weights import steps_kept
from genlab.spec import RunSpec
from genlab.training import RunState

__all__ = ["load_checkpoints", "save_checkpoint"]

_TENSORS = ("weights", "exp_avg", "exp_avg_sq")
_NUMBERS = ("step", "status", "history", "loss_sum", "trace", "norm_sum", "norm_max")
_NAN = float("nan")


def save_checkpoint(path: Path, states: Sequence[RunState]) -> None:
    """Keep where the runs of a stack stand, in place of what was kept before."""
    tensors = {name: torch.stack([getattr(s, name) for s in states]) for name in _TENSORS}
    if any(s.average is not None for s in states):  # those that ended before the last steps have none, and need none
        tensors["average"] = torch.stack([s.weights if s.average is None else s.average for s in states])
    for step in steps_kept(states):
        tensors[f"kept.{step}"] = torch.stack([s.kept[step] for s in states if step in s.kept])
    runs = [
        {"run_id": s.spec.run_id, "kept": sorted(s.kept), **{name: getattr(s, name) for name in _NUMBERS}}
        for s in states
    ]
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
        runs = json.loads(meta["runs"])
        for i, run in enumerate(runs):
            spec = wanted.get(run["run_id"])
            if spec is not None and not (spec.run_id in found and found[spec.run_id].step >= run["step"]):
                found[spec.run_id] = _state(spec, runs, i, tensors)
    return found


def _state(spec: RunSpec, runs: Sequence[Mapping[str, Any]], i: int, tensors: Mapping[str, Tensor]) -> RunState:
    """The state of the i-th run of a checkpoint. One written before gradients were looked at knows no norms."""
    about = {"norm_sum": _NAN, "norm_max": _NAN, **{n: runs[i][n] for n in _NUMBERS if n in runs[i]}}
    kept = {
        step: tensors[f"kept.{step}"][sum(step in run["kept"] for run in runs[:i])]
        for step in runs[i].get("kept", ())
    }
    average = tensors["average"][i] if "average" in tensors else None
    weights, exp_avg, exp_avg_sq = (tensors[name][i] for name in _TENSORS)
    rest: dict[str, Any] = {**about, "average": average, "kept": kept}
    return RunState(spec, weights=weights, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, **rest)
