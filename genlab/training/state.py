"""The state of a run in training, and which runs can be stacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from genlab.models import flat_of, initial
from genlab.rasp.compiler.runs import compiled_weights
from genlab.spec import RunSpec

Status = Literal["training", "finished", "reached", "diverged", "compiled"]
"""`reached`: stopped early by `until`; `diverged`: frozen when its loss or gradient was no longer finite; `compiled`:
its weights are those of a program, and it is not trained."""


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run: everything needed to resume it.

    Attributes:
        step: optimizer steps taken.
        weights, exp_avg, exp_avg_sq: float[params], on the CPU.
        history: one row per measurement: step, loss, grad_norm, grad_norm_max, lr, exact_match, seconds.
        trace: evaluations during training, rows of (step, split, length, metric, value, n).
        loss_sum: sum of the losses since the last measurement; not finite once the run has diverged.
        average: float[params], running mean of the weights over the last steps, if `average_steps` is set.
        norm_sum, norm_max: sum and maximum of the gradient norms (before clipping) since the last measurement.
        kept: step -> float[params], the weights at checkpoints.
    """

    spec: RunSpec
    step: int
    status: Status
    weights: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    history: list[dict[str, int | float]] = field(default_factory=list)
    loss_sum: float = 0.0
    trace: list[dict[str, int | float | str]] = field(default_factory=list)
    average: Tensor | None = None
    norm_sum: float = 0.0
    norm_max: float = 0.0
    kept: Mapping[int, Tensor] = field(default_factory=dict)


def fresh(specs: Sequence[RunSpec]) -> list[RunState]:
    """The initial states of runs of one shape, at step 0."""
    dtype = torch.float64 if specs[0].train.dtype == "float64" else torch.float32
    weights = torch.cat([first_weights(spec) for spec in specs]).to(dtype)
    zeros = torch.zeros_like(weights)
    rows = zip(specs, weights, zeros, zeros.clone(), strict=True)
    return [RunState(spec, 0, _first_status(spec), w, m, v) for spec, w, m, v in rows]


def _first_status(spec: RunSpec) -> Status:
    return "compiled" if spec.compiled is not None and not spec.train.steps else "training"


def first_weights(spec: RunSpec) -> Tensor:
    """The weights before the first step, float32[1, params]: random, or those of a program."""
    if spec.compiled is None:
        return initial(spec.model, [spec.train.init_seed])
    return flat_of(spec.model, compiled_weights(spec))


def stack_key(spec: RunSpec) -> RunSpec:
    """The spec without the fields that may differ within a stack; runs with equal keys can be stacked.

    Runs may differ in seeds, learning rate and schedule, weight decay, gradient clip, label noise, training lengths,
    `until` and initial weights. With dropout they must have equal lengths, since a mask has the shape of its batch
    and must not depend on the other runs.
    """
    model = spec.model.model_copy(update={"init_std": 1.0, "scale_residual_init": True})
    free = {"lr": 1.0, "warmup": 0, "schedule": "constant", "final_lr": 0.0, "weight_decay": 0.0, "grad_clip": 0.0}
    free |= {"until": None, "until_weights": "equal", "label_noise": 0.0, "init_seed": 0, "data_seed": 0}
    free |= {} if spec.train.dropout else {"min_len": 1, "train_len": 1}
    train = spec.train.model_copy(update=free)
    return spec.model_copy(update={"model": model, "train": train})
