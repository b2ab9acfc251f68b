"""Where a run stands, and which runs can be trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from genlab.models import initial
from genlab.spec import RunSpec

Status = Literal["training", "finished", "reached", "diverged"]
"""`reached`: stopped early by `until`; `diverged`: frozen when its loss was no longer finite."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands: all that going on with it needs.

    Attributes:
        step: optimiser steps taken.
        weights, exp_avg, exp_avg_sq: [params], on the CPU.
        history: rows of (step, loss, grad_norm, grad_norm_max, lr, exact_match, seconds), one a measurement.
        trace: evaluations made while training, rows of (step, split, length, metric, value, n).
        loss_sum: losses since the last measurement, added up; not finite once the run has diverged.
        average: [params], mean of the weights after each of the last steps so far, where those are averaged.
        norm_sum, norm_max: norms of the gradient since the last measurement, before clipping: their sum, the largest.
        kept: step -> [params], weights of the steps so far that were asked for.
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
    """Runs of one shape at step 0."""
    dtype = torch.float64 if specs[0].train.dtype == "float64" else torch.float32
    weights = torch.cat([initial(s.model, [s.train.init_seed]) for s in specs]).to(dtype)
    zeros = torch.zeros_like(weights)
    rows = zip(specs, weights, zeros, zeros.clone(), strict=True)
    return [RunState(spec, 0, "training", w, m, v) for spec, w, m, v in rows]


def stack_key(spec: RunSpec) -> RunSpec:
    """The spec with all that may differ between the runs of a stack made alike: runs of one key can be stacked.

    Runs may differ in seeds, learning rate and its schedule, weight decay, clip, label noise, training lengths,
    `until` and their initial weights. With dropout the lengths are alike: a mask has the shape of its batch, which
    must not depend on the other runs.
    """
    model = spec.model.model_copy(update={"init_std": 1.0, "scale_residual_init": True})
    own = {"lr": 1.0, "warmup": 0, "schedule": "constant", "final_lr": 0.0, "weight_decay": 0.0, "grad_clip": 0.0}
    own |= {"until": None, "until_weights": "equal", "label_noise": 0.0, "init_seed": 0, "data_seed": 0}
    own |= {} if spec.train.dropout else {"min_len": 1, "train_len": 1}
    train = spec.train.model_copy(update=own)
    return spec.model_copy(update={"model": model, "train": train})
