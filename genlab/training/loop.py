"""The stacked training loop: many runs of one shape, one tensor program."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from genlab.models import initial, model_of
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, in_distribution, spread
from genlab.training.batches import Stream, stack_examples, widest
from genlab.training.evaluate import evaluate
from genlab.training.optimizer import Adam, learning_rate
from genlab.training.step import dropout, losses_and_gradients, places, precision

__all__ = ["RunState", "Stack", "fresh", "stack_key", "train_stack"]

Status = Literal["training", "finished", "reached", "diverged"]
"""`reached`: stopped early by `until`; `diverged`: frozen when its loss was no longer finite."""

_ID_LENGTHS, _ID_EXAMPLES = 8, 64
"""The in-distribution check while training: how many lengths, examples at each."""
TRACED = ("exact_match", "exact_match_no_end", "token_accuracy", "loss")
"""Metrics that are kept of every evaluation while training."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands: all that going on with it needs.

    Attributes:
        step: optimiser steps taken.
        weights, exp_avg, exp_avg_sq: [params], on the CPU.
        history: rows of (step, loss, lr, exact_match, seconds), one a measurement.
        trace: evaluations made while training, rows of (step, split, length, metric, value, n).
        loss_sum: losses since the last measurement, added up; not finite once the run has diverged.
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


def fresh(specs: Sequence[RunSpec]) -> list[RunState]:
    """Runs of one shape at step 0."""
    dtype = torch.float64 if specs[0].train.dtype == "float64" else torch.float32
    weights = torch.cat([initial(s.model, [s.train.init_seed]) for s in specs]).to(dtype)
    zeros = torch.zeros_like(weights)
    rows = zip(specs, weights, zeros, zeros.clone(), strict=True)
    return [RunState(spec, 0, "training", w, m, v) for spec, w, m, v in rows]


def stack_key(spec: RunSpec) -> RunSpec:
    """The spec with all that may differ between the runs of a stack made alike: runs of one key can be stacked.

    Runs may differ in seeds, learning rate and its schedule, weight decay, clip, label noise, `until` and their
    initial weights.
    """
    model = spec.model.model_copy(update={"init_std": 1.0, "scale_residual_init": True})
    own = {"lr": 1.0, "warmup": 0, "schedule": "constant", "final_lr": 0.0, "weight_decay": 0.0, "grad_clip": 0.0}
    train = spec.train.model_copy(update={**own, "until": None, "label_noise": 0.0, "init_seed": 0, "data_seed": 0})
    return spec.model_copy(update={"model": model, "train": train})


class Stack:
    """Runs of one shape, at one step, on one device. A run that ends leaves the stack.

    Attributes:
        train: the training configuration, for the fields that all runs share.
    """

    def __init__(self, task: Task, states: Sequence[RunState], device: torch.device, watched: Sequence[Split] = ()):
        """`watched`: splits (lengths, n and seed filled in) to evaluate at every measurement, beside the check.

        Raises `ValueError` for runs that differ in what a stack shares (`stack_key`), or stand at other steps."""
        if any(stack_key(s.spec) != stack_key(states[0].spec) or s.step != states[0].step for s in states):
            raise ValueError("the runs of a stack share one shape, one training configuration and one step")
        self.task, self.device = task, device
        self.specs = [s.spec for s in states]
        self.train = self.specs[0].train
        self.step = states[0].step
        self.ended: list[RunState] = []
        self._history = [list(s.history) for s in states]
        self._trace = [list(s.trace) for s in states]
        self._streams = [Stream(task, s.spec.train, s.spec.model) for s in states]
        self._flat, *moments = (
            torch.stack([getattr(s, name) for s in states]).to(device)
            for name in ("weights", "exp_avg", "exp_avg_sq")
        )
        self._set_up(moments[0], moments[1], torch.tensor([s.loss_sum for s in states], dtype=torch.float64))
        self._measured_at = states[0].history[-1]["step"] if states[0].history else 0
        train = self.train
        check = in_distribution(task, train)
        lengths = spread(task.lengths_between(check, train.min_len, train.train_len), _ID_LENGTHS)
        self._watched = [check.at(lengths, _ID_EXAMPLES), *watched]
        self._since = time.perf_counter()

    @property
    def history(self) -> list[list[dict[str, int | float]]]:
        """The measurements of each run still in the stack."""
        return self._history

    def take_step(self) -> None:
        """One optimiser step of every run; a run whose loss or gradient is not finite is frozen."""
        batches = [stream.batch(self.step) for stream in self._streams]
        offsets = [s.offsets(self.step, b) for s, b in zip(self._streams, batches, strict=True)]
        # Dropout masks have the shape of the batch, so that must not depend on what the other runs have drawn.
        width = widest(self.task, batches[0].lengths) if self.train.dropout else 0
        batch = places(stack_examples(batches, width), np.stack(offsets), self.train.loss, self._flat)
        drop = dropout(self.specs, self.step, self.device)
        with precision(self.train.dtype, self.device):
            losses, gradients = losses_and_gradients(self._model, batch, drop)
        self._alive &= losses.isfinite() & gradients.isfinite().all(dim=1)
        self._optimizer.update(self._flat, gradients, self.step, self._alive)
        self._loss_sum += losses.masked_fill(~self._alive, float("nan"))
        self.step += 1

    def due(self) -> bool:
        """Whether this step is one to measure at."""
        return self.step % self.train.eval_every == 0 or self.step >= self.train.steps

    def measure(self) -> None:
        """Add a row to each run's history; let the runs go that diverged, reached `until` or are finished."""
        exact = self._evaluate()
        steps = self.step - self._measured_at
        losses = (self._loss_sum / steps).tolist() if steps else [float("nan")] * len(self.specs)
        seconds = time.perf_counter() - self._since
        for i, spec in enumerate(self.specs):
            before = self._history[i][-1]["seconds"] if self._history[i] else 0.0
            self._history[i].append(
                {
                    "step": self.step,
                    "loss": losses[i],
                    "lr": learning_rate(spec.train, max(0, self.step - 1)),
                    "exact_match": float(exact[i]),
                    "seconds": before + seconds / len(self.specs),
                }
            )
        self._since = time.perf_counter()
        self._measured_at = self.step
        self._loss_sum.zero_()
        self._release([self._status(i, alive) for i, alive in enumerate(self._alive.tolist())])

    def states(self) -> list[RunState]:
        """The runs still in the stack, as they stand."""
        return [self._state(i, "training") for i in range(len(self.specs))]

    # -- inside ------------------------------------------------------------------------------------------------

    def _evaluate(self) -> np.ndarray:
        """Add the watched splits to each run's trace; mean exact match of the first, in distribution."""
        inside: list[np.ndarray] = []
        for number, split in enumerate(self._watched):
            with precision(self.train.dtype, self.device):
                results = evaluate(self._model, self.task, split, judge=False)
            for result in results:
                about = {"step": self.step, "split": split.name, "length": result.length, "n": split.n}
                for name in TRACED:
                    values = result.metrics[name][0]
                    for trace, value in zip(self._trace, values, strict=True):
                        trace.append({**about, "metric": name, "value": float(value)})
                if number == 0:
                    inside.append(result.metrics["exact_match"][0])
        return np.mean(inside, axis=0)

    def _set_up(self, exp_avg: Tensor, exp_avg_sq: Tensor, loss_sum: Tensor) -> None:
        self._model = model_of(self.specs[0].model, self._flat)
        self._optimizer = Adam(self.specs[0].model, [s.train for s in self.specs], exp_avg, exp_avg_sq)
        self._loss_sum = loss_sum.to(self._flat)
        self._alive = self._loss_sum.isfinite()

    def _status(self, i: int, alive: bool) -> Status:
        if not alive:
            return "diverged"
        if self.step >= self.train.steps:
            return "finished"
        until, last = self.specs[i].train.until, self._history[i][-2:]
        # "Stays at": two measurements in a row.
        stays = until is not None and len(last) == 2 and all(row["exact_match"] >= until for row in last)
        return "reached" if stays else "training"

    def _state(self, i: int, status: Status) -> RunState:
        rows = (self._flat, self._optimizer.exp_avg, self._optimizer.exp_avg_sq)
        weights, exp_avg, exp_avg_sq = (x[i].detach().cpu().clone() for x in rows)
        loss_sum = float(self._loss_sum[i])
        history = list(self._history[i])
        trace = list(self._trace[i])
        return RunState(self.specs[i], self.step, status, weights, exp_avg, exp_avg_sq, history, loss_sum, trace)

    def _release(self, statuses: list[Status]) -> None:
        """Move the runs that ended out of the stack, so that their time is not paid for."""
        self.ended += [self._state(i, s) for i, s in enumerate(statuses) if s != "training"]
        stay = [i for i, s in enumerate(statuses) if s == "training"]
        if len(stay) == len(self.specs):
            return
        self.specs = [self.specs[i] for i in stay]
        self._streams = [self._streams[i] for i in stay]
        self._history = [self._history[i] for i in stay]
        self._trace = [self._trace[i] for i in stay]
        self._flat = self._flat[stay]
        if stay:
            self._set_up(self._optimizer.exp_avg[stay], self._optimizer.exp_avg_sq[stay], self._loss_sum[stay])


def train_stack(
    task: Task,
    states: Sequence[RunState],
    device: torch.device,
    after_step: Callable[[Stack], bool] = lambda _stack: True,
    watched: Sequence[Split] = (),
) -> list[RunState]:
    """Train runs of one shape, all at one step, to their ends.

    Args:
        after_step: called after every step (with the stack, to read its step, history and states); False stops.
        watched: splits to evaluate every `eval_every` steps, for the runs' traces.

    Returns:
        The state of every run, in the order given; those not ended are `training`.
    """
    stack = Stack(task, states, device, watched)
    if stack.train.steps <= stack.step:  # nothing to train: measured as it is
        stack.measure()
    while stack.specs:
        stack.take_step()
        if stack.due():
            stack.measure()
        if not after_step(stack):
            break
    done = {state.spec.run_id: state for state in [*stack.ended, *stack.states()]}
    return [done[s.spec.run_id] for s in states]
