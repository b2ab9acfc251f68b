"""The stacked training loop: many runs of one shape, one tensor program."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from genlab.models import Model, model_of
from genlab.spec import RunSpec, Split
from genlab.tasks import Task
from genlab.training.ahead import Batches
from genlab.training.batches import Places, moved
from genlab.training.capture import GRAIN, Captured, can_capture
from genlab.training.evaluate import check_law, check_of, looked_at
from genlab.training.optimizer import Adam, learning_rate
from genlab.training.state import RunState, Status, stack_key

# -- What is added up of each run between two measurements: its losses, and the norms of its gradients

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Sums:
    """A number a run, of the steps since the last measurement.

    Attributes:
        loss_sum: the losses, added up; NaN for good once the run has diverged, and then the norms say nothing.
        norm_sum: the Euclidean norms of the gradient before clipping, added up.
        norm_max: the largest of those norms.
    """

    loss_sum: Float[Tensor, " run"]
    norm_sum: Float[Tensor, " run"]
    norm_max: Float[Tensor, " run"]

    @classmethod
    def of(cls, states: Sequence[RunState], like: Tensor) -> Sums:
        """Where runs stand, of the dtype and on the device of `like`."""
        rows = [[getattr(state, field.name) for state in states] for field in fields(cls)]
        return cls(*(torch.tensor(row, dtype=torch.float64).to(like) for row in rows))

    def tensors(self) -> list[Tensor]:
        """All of it, to be changed in place."""
        return [self.loss_sum, self.norm_sum, self.norm_max]

    def add(self, losses: Float[Tensor, " run"], norms: Float[Tensor, " run"], alive: Bool[Tensor, " run"]) -> None:
        """Add a step. In place alone, and waits for nothing, so that it can be captured."""
        self.loss_sum.add_(losses.masked_fill(~alive, _NAN))
        self.norm_sum.add_(norms)
        torch.maximum(self.norm_max, norms, out=self.norm_max)

    def since(self, steps: int) -> list[dict[str, float]]:
        """Of each run over so many steps: mean loss, mean and largest gradient norm. NaN where there were none."""
        known = self.loss_sum.isfinite() & (steps > 0)
        columns = (self.loss_sum / max(1, steps), self.norm_sum / max(1, steps), self.norm_max)
        rows = zip(*(column.masked_fill(~known, _NAN).tolist() for column in columns), strict=True)
        return [{"loss": loss, "grad_norm": norm, "grad_norm_max": largest} for loss, norm, largest in rows]

    def clear(self) -> None:
        """Begin anew, in place."""
        for tensor in self.tensors():
            tensor.zero_()

    def run(self, i: int) -> dict[str, float]:
        """Of one run, as a `RunState` has it."""
        return {field.name: float(getattr(self, field.name)[i]) for field in fields(self)}

    def of_runs(self, rows: Sequence[int]) -> Sums:
        """Of these runs alone."""
        return Sums(*(tensor[list(rows)] for tensor in self.tensors()))


# -- One training step of a stack: forward, loss, gradients

_DROPOUT = 8


def losses_and_gradients(
    model: Model, batch: Places, drop: Callable[[Tensor], Tensor] | None = None, decoupling: float = 0.0
) -> tuple[Float[Tensor, " run"], Float[Tensor, "run params"]]:
    """Mean loss of each run at its places, and its gradient, a row a run like the weights.

    Args:
        decoupling: the gradient is also that of `decoupling / 2` times the mean squared norm of the logits: spectral
            decoupling (Pezeshki et al. 2020, arXiv 2011.09468). The loss that is given back is without it.
    """
    leaves = {name: view.detach().requires_grad_() for name, view in model.params.items()}
    read = {"at": batch.at, "since": batch.since, "lengths": batch.lengths, "training": True}
    if batch.packing is not None:
        read["packing"] = batch.packing
    logits = model.with_params(leaves)(batch.inputs, batch.offsets, drop=drop, **read)
    each = F.cross_entropy(logits.flatten(0, 1).to(batch.weights.dtype), batch.targets.flatten(), reduction="none")
    losses = (each.view_as(batch.weights) * batch.weights).sum(dim=1)
    total = losses.sum()
    if decoupling:
        total = total + decoupling / 2 * (logits.to(losses.dtype).square().sum(-1) * batch.weights).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    return losses.detach(), torch.cat([g.flatten(1) for g in gradients], dim=1)


def dropout(specs: Sequence[RunSpec], step: int, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Dropout for a step, each run from its own generator, so that a mask does not depend on the stack."""
    rate = specs[0].train.dropout
    if not rate:
        return None
    seeds = [np.random.SeedSequence([_DROPOUT, s.train.init_seed, s.train.data_seed, step]) for s in specs]
    generators = [torch.Generator(device).manual_seed(int(s.generate_state(1, np.uint64)[0] >> 1)) for s in seeds]

    def drop(x: Float[Tensor, "run ..."]) -> Float[Tensor, "run ..."]:
        kept = torch.stack([torch.rand(x.shape[1:], generator=g, device=device) >= rate for g in generators])
        return x * kept / (1 - rate)

    return drop


def precision(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which matrix products run at `dtype`; it leaves torch's settings as it found them."""
    if dtype == "bfloat16":
        # A weight cast in one step must not be used in the next, which a captured step would do.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=device.type != "cuda")
    return _tf32() if dtype == "tf32" else nullcontext()


@contextmanager
def _tf32():
    matmul = torch.backends.cuda.matmul
    newer = hasattr(matmul, "fp32_precision")  # torch 2.9: tells unset from off, which allow_tf32 does not put back
    before = matmul.fp32_precision if newer else matmul.allow_tf32
    if before in ("tf32", True):
        yield
        return
    matmul.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32 = False
        if newer:
            matmul.fp32_precision = before


Watched = Callable[[RunSpec], Sequence[Split]]
"""The splits (lengths, n and seed filled in) of a run that are evaluated at every measurement, beside its check."""


def _nothing(_spec: RunSpec) -> Sequence[Split]:
    return ()


class Stack:
    """Runs of one shape, at one step, on one device. A run that ends leaves the stack.

    Attributes:
        train: the training configuration, for the fields that all runs share.
    """

    def __init__(
        self,
        task: Task,
        states: Sequence[RunState],
        device: torch.device,
        watched: Watched = _nothing,
        makers: int = 0,
        keep: Collection[int] = (),
    ):
        """
        Args:
            watched: what is evaluated at every measurement, beside the check.
            makers: processes that may make batches ahead, at most.
            keep: steps whose weights each run keeps in its state, beside those that it ends with.

        Raises:
            ValueError: runs that differ in what a stack shares (`stack_key`), or stand at other steps.
        """
        if any(stack_key(s.spec) != stack_key(states[0].spec) or s.step != states[0].step for s in states):
            raise ValueError("the runs of a stack share one shape, one training configuration and one step")
        self.task, self.device = task, device
        self.specs = [s.spec for s in states]
        self.train = self.specs[0].train
        self.step = states[0].step
        self.ended: list[RunState] = []
        self._history = [list(s.history) for s in states]
        self._trace = [list(s.trace) for s in states]
        self._keep = frozenset(keep)
        self._kept = [dict(s.kept) for s in states]
        self._splits = [[check_of(task, spec), *watched(spec)] for spec in self.specs]
        self._laws = [check_law(task, spec) for spec in self.specs]
        self._captures = device.type == "cuda" and can_capture(self.specs[0])
        recur = self._captures or self.train.dtype == "bfloat16"  # oneDNN too makes a program for each new shape
        self._batches = Batches(task, self.specs, GRAIN if recur else 1, makers)
        self._flat, *moments = (
            torch.stack([getattr(s, name) for s in states]).to(device)
            for name in ("weights", "exp_avg", "exp_avg_sq")
        )
        self._set_up(moments[0], moments[1], Sums.of(states, self._flat))
        averages = [s.average for s in states if s.average is not None]
        self._average = torch.stack(averages).to(device) if averages else None
        self._measured_at = int(states[0].history[-1]["step"]) if states[0].history else 0
        self._fastest = float("inf")
        self._since = time.perf_counter()

    @property
    def history(self) -> list[list[dict[str, int | float]]]:
        """The measurements of each run still in the stack."""
        return self._history

    def take_step(self) -> None:
        """One optimiser step of every run; a run whose loss or gradient is not finite is frozen."""
        batch = self.batch()
        start = time.perf_counter()
        self.advance(batch)
        if self._batches.wants_makers:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._fastest = min(self._fastest, time.perf_counter() - start)  # the others set something up
            self._batches.hire(self._fastest)

    def batch(self) -> Places:
        """The batch of the coming step, on the device."""
        return moved(self._batches.take(self.step), self._flat)

    def advance(self, batch: Places) -> None:
        """The step itself, given its batch."""
        self._update(batch, self._optimizer.rates(self.step))
        self.step += 1
        self._keep_average()
        self._keep_weights()

    def close(self) -> None:
        """Let the processes go that make batches."""
        self._batches.close()

    def due(self) -> bool:
        """Whether this step is one to measure at."""
        return self.step % self.train.eval_every == 0 or self.step >= self.train.steps

    def measure(self) -> None:
        """Add a row to each run's history; let the runs go that diverged, reached `until` or are finished."""
        exact = self._evaluate()
        since = self._sums.since(self.step - self._measured_at)
        seconds = time.perf_counter() - self._since
        for i, spec in enumerate(self.specs):
            before = self._history[i][-1]["seconds"] if self._history[i] else 0.0
            self._history[i].append(
                {
                    "step": self.step,
                    **since[i],
                    "lr": learning_rate(spec.train, max(0, self.step - 1)),
                    "exact_match": exact[i],
                    "seconds": before + seconds / len(self.specs),
                }
            )
        self._since = time.perf_counter()
        self._measured_at = self.step
        self._sums.clear()
        self._release([self._status(i, alive) for i, alive in enumerate(self._alive.tolist())])

    def states(self) -> list[RunState]:
        """The runs still in the stack, as they stand."""
        return [self._state(i, "training") for i in range(len(self.specs))]

    # -- inside ------------------------------------------------------------------------------------------------

    def _evaluate(self) -> list[float]:
        """Add to each run's trace; the exact match of each in distribution."""
        with precision(self.train.dtype, self.device):
            inside, rows = looked_at(self._model, self.task, self._splits, self._laws)
        for trace, new in zip(self._trace, rows, strict=True):
            trace += [{"step": self.step, **row} for row in new]
        return inside

    def _set_up(self, exp_avg: Tensor, exp_avg_sq: Tensor, sums: Sums) -> None:
        self._model = model_of(self.specs[0].model, self._flat)
        self._optimizer = Adam(self.specs[0].model, [s.train for s in self.specs], exp_avg, exp_avg_sq)
        self._sums = sums
        self._alive = sums.loss_sum.isfinite()
        changed = (self._flat, exp_avg, exp_avg_sq, *sums.tensors(), self._alive)
        self._update = Captured(self._update_plainly, changed) if self._captures else self._update_plainly

    def _keep_average(self) -> None:
        """The mean of the weights after each of the last steps so far; after the last one it takes their place."""
        count = self.step - (self.train.steps - self.train.average_steps)
        if not self.train.average_steps or count < 1:
            return
        if self._average is None:
            self._average = self._flat.clone()
        self._average.lerp_(self._flat, 1 / count)
        if self.step == self.train.steps:
            self._flat.copy_(self._average)

    def _keep_weights(self) -> None:
        """The weights of a step that was asked for, of the runs that have not diverged before it."""
        if self.step not in self._keep or self.step == self.train.steps:  # those of the end are kept anyway
            return
        rows = self._flat.detach().to("cpu", copy=True)
        for kept, weights, alive in zip(self._kept, rows, self._alive.tolist(), strict=True):
            if alive:
                kept[self.step] = weights

    def _update_plainly(self, batch: Places, rates: Tensor) -> None:
        """Changes its tensors in place alone and waits for nothing, so that it can be captured."""
        drop = dropout(self.specs, self.step, self.device)
        with precision(self.train.dtype, self.device):
            losses, gradients = losses_and_gradients(self._model, batch, drop, self.train.spectral_decoupling)
        norms = torch.linalg.vector_norm(gradients, dim=1)
        self._alive.logical_and_(losses.isfinite() & norms.isfinite())
        self._optimizer.update(self._flat, gradients, norms, rates, self._alive)
        self._sums.add(losses, norms, self._alive)

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
        return RunState(
            spec=self.specs[i],
            step=self.step,
            status=status,
            weights=weights,
            exp_avg=exp_avg,
            exp_avg_sq=exp_avg_sq,
            history=list(self._history[i]),
            trace=list(self._trace[i]),
            average=None if self._average is None else self._average[i].cpu().clone(),
            kept=dict(self._kept[i]),
            **self._sums.run(i),
        )

    def _release(self, statuses: list[Status]) -> None:
        """Move the runs that ended out of the stack, so that their time is not paid for."""
        self.ended += [self._state(i, s) for i, s in enumerate(statuses) if s != "training"]
        stay = [i for i, s in enumerate(statuses) if s == "training"]
        if len(stay) == len(self.specs):
            return
        self.specs = [self.specs[i] for i in stay]
        self._batches.keep(stay)
        self._splits = [self._splits[i] for i in stay]
        self._laws = [self._laws[i] for i in stay]
        self._history = [self._history[i] for i in stay]
        self._trace = [self._trace[i] for i in stay]
        self._kept = [self._kept[i] for i in stay]
        self._flat = self._flat[stay]
        self._average = None if self._average is None else self._average[stay]
        if stay:
            moments = (self._optimizer.exp_avg[stay], self._optimizer.exp_avg_sq[stay])
            self._set_up(*moments, self._sums.of_runs(stay))


def train_stack(
    task: Task,
    states: Sequence[RunState],
    device: torch.device,
    after_step: Callable[[Stack], bool] = lambda _stack: True,
    watched: Watched = _nothing,
    makers: int = 0,
    keep: Collection[int] = (),
) -> list[RunState]:
    """Train runs of one shape, all at one step, to their ends.

    Args:
        after_step: called after every step (with the stack, to read its step, history and states); False stops.
        watched, makers, keep: see `Stack`.

    Returns:
        The state of every run, in the order given; those not ended are `training`.
    """
    stack = Stack(task, states, device, watched, makers, keep)
    try:
        _to_the_end(stack, after_step)
    finally:
        stack.close()
    done = {state.spec.run_id: state for state in [*stack.ended, *stack.states()]}
    return [done[s.spec.run_id] for s in states]


def _to_the_end(stack: Stack, after_step: Callable[[Stack], bool]) -> None:
    if stack.train.steps <= stack.step:  # nothing to train: measured as it is
        stack.measure()
    while stack.specs:
        stack.take_step()
        if stack.due():
            stack.measure()
        if not after_step(stack):
            break
