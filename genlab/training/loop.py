"""The stacked training loop: many runs of one shape trained as one tensor program."""

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
from genlab.tasks import Task, Vocab
from genlab.training.ahead import Batches
from genlab.training.batches import Places, to_device
from genlab.training.capture import GRAIN, Captured, can_capture
from genlab.training.evaluate import check_law, check_of, evaluate_stack
from genlab.training.optimizer import Adam, learning_rate
from genlab.training.state import RunState, Status, stack_key

# -- Statistics between two measurements

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Sums:
    """Losses and gradient norms of each run since the last measurement.

    Attributes:
        loss_sum: sum of the losses; NaN for good once the run has diverged, which makes the norms meaningless.
        norm_sum: sum of the Euclidean norms of the gradient before clipping.
        norm_max: the largest of those norms.
    """

    loss_sum: Float[Tensor, " run"]
    norm_sum: Float[Tensor, " run"]
    norm_max: Float[Tensor, " run"]

    @classmethod
    def from_states(cls, states: Sequence[RunState], like: Tensor) -> Sums:
        """The sums stored in run states, with the dtype and device of `like`."""
        rows = [[getattr(state, field.name) for state in states] for field in fields(cls)]
        return cls(*(torch.tensor(row, dtype=torch.float64).to(like) for row in rows))

    def tensors(self) -> list[Tensor]:
        """All tensors, to be changed in place."""
        return [self.loss_sum, self.norm_sum, self.norm_max]

    def add(self, losses: Float[Tensor, " run"], norms: Float[Tensor, " run"], alive: Bool[Tensor, " run"]) -> None:
        """Add one step, in place and without synchronizing, so that it can be captured."""
        self.loss_sum.add_(losses.masked_fill(~alive, _NAN))
        self.norm_sum.add_(norms)
        torch.maximum(self.norm_max, norms, out=self.norm_max)

    def means(self, steps: int) -> list[dict[str, float]]:
        """Mean loss, and mean and maximum gradient norm, of each run over so many steps; NaN where undefined."""
        known = self.loss_sum.isfinite() & (steps > 0)
        columns = (self.loss_sum / max(1, steps), self.norm_sum / max(1, steps), self.norm_max)
        rows = zip(*(column.masked_fill(~known, _NAN).tolist() for column in columns), strict=True)
        return [{"loss": loss, "grad_norm": norm, "grad_norm_max": largest} for loss, norm, largest in rows]

    def clear(self) -> None:
        """Reset to zero, in place."""
        for tensor in self.tensors():
            tensor.zero_()

    def run(self, i: int) -> dict[str, float]:
        """The sums of one run, as fields of `RunState`."""
        return {field.name: float(getattr(self, field.name)[i]) for field in fields(self)}

    def of_runs(self, rows: Sequence[int]) -> Sums:
        """The sums of the given runs."""
        return Sums(*(tensor[list(rows)] for tensor in self.tensors()))


# -- One training step: forward pass, loss, gradients

_DROPOUT = 8


def losses_and_gradients(
    model: Model,
    batch: Places,
    drop: Callable[[Tensor], Tensor] | None = None,
    decoupling: float = 0.0,
    diversity: float = 0.0,
) -> tuple[Float[Tensor, " run"], Float[Tensor, "run params"]]:
    """Mean loss of each run at its loss positions, and its gradient, one row per run like the weights.

    Args:
        model: the stack of models.
        batch: the inputs and loss positions.
        drop: dropout, if any.
        decoupling: coefficient of spectral decoupling (Pezeshki et al. 2020, arXiv 2011.09468): the gradient includes
            `decoupling / 2` times the mean squared norm of the logits, the returned loss does not.
        diversity: coefficient of `head_likeness`, which is in the gradient but not in the returned loss.
    """
    leaves = {name: view.detach().requires_grad_() for name, view in model.params.items()}
    options = {"at": batch.at, "since": batch.since, "lengths": batch.lengths, "training": True}
    outputs: list[Tensor] = []
    if diversity:
        options["tap"] = _kept_outputs(outputs)
    elif batch.packing is not None:
        options["packing"] = batch.packing
    logits = model.with_params(leaves)(batch.inputs, batch.offsets, drop=drop, **options)
    each = F.cross_entropy(logits.flatten(0, 1).to(batch.weights.dtype), batch.targets.flatten(), reduction="none")
    losses = (each.view_as(batch.weights) * batch.weights).sum(dim=1)
    total = losses.sum()
    if decoupling:
        total = total + decoupling / 2 * (logits.to(losses.dtype).square().sum(-1) * batch.weights).sum()
    if diversity:
        total = total + diversity * head_likeness(outputs, batch.inputs != Vocab.pad).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    return losses.detach(), torch.cat([g.flatten(1) for g in gradients], dim=1)


def _kept_outputs(outputs: list[Tensor]) -> Callable[[str, Tensor], Tensor]:
    """A tap that appends the outputs of the heads of each layer."""

    def tap(name: str, x: Tensor) -> Tensor:
        if name.endswith(".attn.hook_z"):
            outputs.append(x)
        return x

    return tap


def head_likeness(outputs: Sequence[Tensor], real: Tensor) -> Float[Tensor, " run"]:
    """Mean cosine between the outputs of two heads, over pairs of heads of a layer, tokens and layers.

    The negative of the disagreement on outputs of Li et al. 2018, Multi-Head Attention with Disagreement
    Regularization, arXiv 1810.10183, there with all pairs of heads, a head and itself included.

    Args:
        outputs: of each layer, float[run, batch, pos, head, d_head], before the output projection.
        real: bool[run, batch, pos], tokens that are not padding.
    """
    means: list[Tensor] = []
    for z in outputs:
        unit = F.normalize(z, dim=-1)
        heads = z.shape[-2]
        pairs = (unit.sum(-2).square().sum(-1) - unit.square().sum((-2, -1))) / (heads * (heads - 1))
        means.append((pairs * real).sum((1, 2)) / real.sum((1, 2)))
    return torch.stack(means).mean(0)


def dropout(specs: Sequence[RunSpec], step: int, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Dropout for one step, with a separate generator per run, so that a run's mask does not depend on the stack."""
    rate = specs[0].train.dropout
    if not rate:
        return None
    seeds = [np.random.SeedSequence([_DROPOUT, s.train.init_seed, s.train.data_seed, step]) for s in specs]
    generators = [torch.Generator(device).manual_seed(int(s.generate_state(1, np.uint64)[0] >> 1)) for s in seeds]

    def drop(x: Float[Tensor, "run ..."]) -> Float[Tensor, "run ..."]:
        mask = torch.stack([torch.rand(x.shape[1:], generator=g, device=device) >= rate for g in generators])
        return x * mask / (1 - rate)

    return drop


def precision(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrix products run at the precision `dtype`; PyTorch's settings are restored on exit."""
    if dtype == "bfloat16":
        # The autocast cache is off on CUDA: a captured step would reuse weights cast in an earlier step.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=device.type != "cuda")
    return _tf32() if dtype == "tf32" else nullcontext()


@contextmanager
def _tf32():
    matmul = torch.backends.cuda.matmul
    newer = hasattr(matmul, "fp32_precision")  # since PyTorch 2.9; allow_tf32 cannot restore the unset state
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
"""The splits of a run (lengths, n and seed filled in) evaluated at every measurement, besides its ID check."""


def _no_splits(_spec: RunSpec) -> Sequence[Split]:
    return ()


class Stack:
    """Runs of one shape, at one step, on one device. Runs that end leave the stack.

    Attributes:
        train: the training configuration, for fields that all runs share.
    """

    def __init__(
        self,
        task: Task,
        states: Sequence[RunState],
        device: torch.device,
        watched: Watched = _no_splits,
        makers: int = 0,
        keep: Collection[int] = (),
    ):
        """
        Args:
            task: the task of all runs.
            states: the runs.
            device: where to train.
            watched: extra splits to evaluate at every measurement.
            makers: maximum number of worker processes that prefetch batches.
            keep: checkpoints: steps whose weights are stored in the run state, besides the final weights.

        Raises:
            ValueError: the runs differ in what a stack shares (`stack_key`), or are at different steps.
        """
        if any(stack_key(s.spec) != stack_key(states[0].spec) or s.step != states[0].step for s in states):
            raise ValueError("the runs of a stack must share one shape, one training configuration and one step")
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
        recur = self._captures or self.train.dtype == "bfloat16"  # oneDNN, too, compiles a kernel for each new shape
        self._batches = Batches(task, self.specs, GRAIN if recur else 1, makers)
        self._flat, *moments = (
            torch.stack([getattr(s, name) for s in states]).to(device)
            for name in ("weights", "exp_avg", "exp_avg_sq")
        )
        self._set_up(moments[0], moments[1], Sums.from_states(states, self._flat))
        averages = [s.average for s in states if s.average is not None]
        self._average = torch.stack(averages).to(device) if averages else None
        self._measured_at = int(states[0].history[-1]["step"]) if states[0].history else 0
        self._fastest = float("inf")
        self._since = time.perf_counter()

    @property
    def history(self) -> list[list[dict[str, int | float]]]:
        """The measurements of each run that is still in the stack."""
        return self._history

    def take_step(self) -> None:
        """Take one optimizer step with every run; a run whose loss or gradient is not finite is frozen."""
        batch = self.batch()
        start = time.perf_counter()
        self._update(batch, self._optimizer.rates(self.step))
        self._finish_step()
        if self._batches.wants_workers:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._fastest = min(self._fastest, time.perf_counter() - start)  # slower steps include one-time setup
            self._batches.start_workers(self._fastest)

    def batch(self) -> Places:
        """The batch of the next step, on the device."""
        return to_device(self._batches.take(self.step), self._flat)

    def advance(self, batch: Places) -> None:
        """Take the step with the given batch."""
        self._update(batch, self._optimizer.rates(self.step))
        self._finish_step()

    def close(self) -> None:
        """Shut down the batch workers."""
        self._batches.close()

    def due(self) -> bool:
        """Whether this step is a measurement step."""
        return self.step % self.train.eval_every == 0 or self.step >= self.train.steps

    def measure(self) -> None:
        """Add a row to each run's history; runs that diverged, reached `until` or finished leave the stack."""
        exact = self._evaluate()
        since = self._sums.means(self.step - self._measured_at)
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
        """The current states of the runs that are still in the stack."""
        return [self._state(i, "training") for i in range(len(self.specs))]

    # -- Internals

    def _finish_step(self) -> None:
        self.step += 1
        self._keep_average()
        self._keep_weights()

    def _evaluate(self) -> list[float]:
        """Add to each run's trace, and return each run's in-distribution exact match."""
        with precision(self.train.dtype, self.device):
            inside, rows = evaluate_stack(self._model, self.task, self._splits, self._laws)
        for trace, new in zip(self._trace, rows, strict=True):
            trace += [{"step": self.step, **row} for row in new]
        return inside

    def _set_up(self, exp_avg: Tensor, exp_avg_sq: Tensor, sums: Sums) -> None:
        self._model = model_of(self.specs[0].model, self._flat)
        self._optimizer = Adam(self.specs[0].model, [s.train for s in self.specs], exp_avg, exp_avg_sq)
        self._sums = sums
        self._alive = sums.loss_sum.isfinite()
        changed = (self._flat, exp_avg, exp_avg_sq, *sums.tensors(), self._alive)
        self._update = Captured(self._eager_update, changed) if self._captures else self._eager_update

    def _keep_average(self) -> None:
        """Update the running mean of the weights over the last steps; after the final step it replaces them."""
        count = self.step - (self.train.steps - self.train.average_steps)
        if not self.train.average_steps or count < 1:
            return
        if self._average is None:
            self._average = self._flat.clone()
        self._average.lerp_(self._flat, 1 / count)
        if self.step == self.train.steps:
            self._flat.copy_(self._average)

    def _keep_weights(self) -> None:
        """Store the weights at a checkpoint, for runs that have not diverged."""
        if self.step not in self._keep or self.step == self.train.steps:  # the final weights are saved anyway
            return
        rows = self._flat.detach().to("cpu", copy=True)
        for kept, weights, alive in zip(self._kept, rows, self._alive.tolist(), strict=True):
            if alive:
                kept[self.step] = weights

    def _eager_update(self, batch: Places, rates: Tensor) -> None:
        """One step; it changes tensors only in place and does not synchronize, so that it can be captured."""
        drop = dropout(self.specs, self.step, self.device)
        with precision(self.train.dtype, self.device):
            losses, gradients = losses_and_gradients(
                self._model, batch, drop, self.train.spectral_decoupling, self.train.head_diversity
            )
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
        # "Stays at": at two consecutive measurements.
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
        """Move the runs that ended out of the stack, so that no time is spent on them."""
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
    watched: Watched = _no_splits,
    makers: int = 0,
    keep: Collection[int] = (),
) -> list[RunState]:
    """Train runs of one shape, all at one step, until each has ended.

    Args:
        task: the task of all runs.
        states: the runs.
        device: where to train.
        after_step: called with the stack after every step (to read its step, history and states); False stops
            training.
        watched, makers, keep: see `Stack`.

    Returns:
        The state of every run, in the order given; runs that have not ended have status `training`.
    """
    stack = Stack(task, states, device, watched, makers, keep)
    try:
        if stack.train.steps <= stack.step:  # nothing left to train: measure the runs as they are
            stack.measure()
        while stack.specs:
            stack.take_step()
            if stack.due():
                stack.measure()
            if not after_step(stack):
                break
    finally:
        stack.close()
    final = {state.spec.run_id: state for state in [*stack.ended, *stack.states()]}
    return [final[s.spec.run_id] for s in states]
