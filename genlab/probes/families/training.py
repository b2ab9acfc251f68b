"""Signals from the training history, and the sharpness of the loss at the final weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genlab.errors import NotApplicable
from genlab.probes.signal import signal
from genlab.tasks import FIT, fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from genlab.probes.inputs import ProbeInput

_ANY = float("inf")
_VECTORS, _SEED = 8, 14


def per_history(given: ProbeInput, of: Callable[[Mapping[str, np.ndarray]], float]) -> Tensor:
    """A number from each run's history; NaN if the history is too short."""
    import torch

    if not given.history:
        raise NotApplicable("the training history of an external model is not known")
    return torch.tensor([of(history) for history in given.history], dtype=torch.float64)


@signal(
    "time_to_fit",
    per="run",
    about="step at which a run had learned its training distribution",
    formula=f"first measured step with in-distribution exact match >= {FIT}; NaN if there is none",
    blind="Resolution is the evaluation interval; runs that never fit have no value.",
    unit="steps",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def time_to_fit(given: ProbeInput) -> Tensor:
    def first_fit(history: Mapping[str, np.ndarray]) -> float:
        index = np.flatnonzero(fitted(history["exact_match"]))
        return float(history["step"][index[0]]) if len(index) else float("nan")

    return per_history(given, first_fit)


@signal(
    "final_training_loss",
    per="run",
    about="training loss at the end",
    formula="mean training loss over the steps since the last but one measurement",
    blind="Noise of the last batches; nearly 0 for all runs that fit.",
    unit="nats",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def final_training_loss(given: ProbeInput) -> Tensor:
    return per_history(given, lambda history: float(history["loss"][-1]) if len(history["loss"]) else float("nan"))


@signal(
    "loss_area",
    per="run",
    about="mean loss over training: small for a run that learned early",
    formula="mean of the training loss over steps (each measurement covers the steps before it)",
    blind="Dominated by the plateau before a task is learned.",
    unit="nats",
    low=0,
    high=_ANY,
    source="after Ru et al. 2020, Speedy performance estimation, arXiv 2006.04492 (there the sum)",
    reads="history",
)
def loss_area(given: ProbeInput) -> Tensor:
    def area(history: Mapping[str, np.ndarray]) -> float:
        known = np.isfinite(history["loss"])
        weights = np.diff(history["step"], prepend=0)[known]
        return float(np.average(history["loss"][known], weights=weights)) if weights.sum() > 0 else float("nan")

    return per_history(given, area)


@signal(
    "late_loss_variance",
    per="run",
    about="variability of the loss at the end of training",
    formula="variance of the measured training losses in the last tenth of the steps, at least two of them",
    blind="With a schedule that ends at 0 it measures batches rather than weights.",
    unit="nats^2",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def late_loss_variance(given: ProbeInput) -> Tensor:
    def variance(history: Mapping[str, np.ndarray]) -> float:
        late = history["loss"][history["step"] >= 0.9 * history["step"][-1]] if len(history["step"]) else []
        return float(np.var(late)) if len(late) > 1 else float("nan")

    return per_history(given, variance)


def per_gradients(given: ProbeInput, of: Callable[[Mapping[str, np.ndarray]], float]) -> Tensor:
    """A number from each run's measurements with a known gradient norm; NaN if there are too few."""

    def known(history: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.isfinite(history.get("grad_norm", np.full(len(history["step"]), np.nan)))

    measured = any(np.isfinite(history["loss"]).any() for history in given.history)
    if measured and not any(known(history).any() for history in given.history):
        raise NotApplicable("the norms of its gradients are not known: it was trained before they were recorded")
    return per_history(given, lambda history: of({n: column[known(history)] for n, column in history.items()}))


def late_gradients(history: Mapping[str, np.ndarray]) -> np.ndarray:
    """The mean gradient norms measured in the last tenth of the steps."""
    step = history["step"]
    return history["grad_norm"][step >= 0.9 * step[-1]] if len(step) else np.empty(0)


@signal(
    "late_gradient_norm",
    per="run",
    about="size of the gradient at the end of training",
    formula="mean of g over the last tenth of the steps, g the mean norm of the batch gradient before clipping over "
    "the steps between two measurements",
    blind="Near 0 for runs that fit; depends on batch size.",
    unit="nats",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def late_gradient_norm(given: ProbeInput) -> Tensor:
    return per_gradients(given, lambda h: float(late.mean()) if len(late := late_gradients(h)) else float("nan"))


@signal(
    "late_gradient_variance",
    per="run",
    about="variability of the gradient at the end of training",
    formula="variance of g (see late_gradient_norm) in the last tenth of the steps, at least two measurements",
    blind="Same as late_gradient_norm.",
    unit="nats^2",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def late_gradient_variance(given: ProbeInput) -> Tensor:
    return per_gradients(given, lambda h: float(late.var()) if len(late := late_gradients(h)) > 1 else float("nan"))


@signal(
    "largest_gradient_norm",
    per="run",
    about="largest gradient of training: large where training had spikes",
    formula="maximum over all steps of the norm of the batch gradient before clipping",
    blind="A single step determines it.",
    unit="nats",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def largest_gradient_norm(given: ProbeInput) -> Tensor:
    return per_gradients(given, lambda h: float(h["grad_norm_max"].max()) if len(h["step"]) else float("nan"))


@signal(
    "gradient_norm_ratio",
    per="run",
    about="final relative to initial gradient norm: small for a run that has converged",
    formula="g of the last measurement over g of the first (see late_gradient_norm)",
    blind="Depends on the initial gradient, hence on the initial weights.",
    unit="ratio",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def gradient_norm_ratio(given: ProbeInput) -> Tensor:
    def ratio(history: Mapping[str, np.ndarray]) -> float:
        norms = history.get("grad_norm", ())
        return float(norms[-1] / norms[0]) if len(norms) > 1 and norms[0] > 0 else float("nan")

    return per_gradients(given, ratio)


@signal(
    "hessian_trace",
    per="run",
    about="sharpness of the loss at the final weights",
    formula=f"Hutchinson's estimate of the trace of the Hessian of the in-distribution loss: mean of v^T H v over "
    f"{_VECTORS} random sign vectors, batches of all lengths",
    blind="Not invariant to rescaling of weights that leaves the function unchanged (LayerNorm); noisy with few "
    "probes.",
    unit="nats",
    low=-_ANY,
    high=_ANY,
    source="Yao et al. 2020, PyHessian, arXiv 1912.07145",
    slow=True,
)
def hessian_trace(given: ProbeInput) -> Tensor:
    import torch

    from genlab.probes.model import Stacked, stack_of

    stack = stack_of(given.model, "differentiate")
    generator = torch.Generator().manual_seed(_SEED)
    with torch.enable_grad():
        leaves = {name: view.detach().requires_grad_() for name, view in stack.params.items()}
        loss = mean_loss(given, Stacked(stack.with_params(leaves)))  # pyright: ignore[reportArgumentType]
        gradients = torch.autograd.grad(loss.sum(), list(leaves.values()), create_graph=True)
        trace = torch.zeros_like(loss)
        for _ in range(_VECTORS):
            # One draw for all runs: the value of a run must not depend on the other runs in its stack.
            signs = [torch.randint(2, g.shape[1:], generator=generator).to(g) * 2 - 1 for g in gradients]
            slope = sum((g * s).sum() for g, s in zip(gradients, signs, strict=True))
            assert isinstance(slope, torch.Tensor)
            products = torch.autograd.grad(slope, list(leaves.values()), retain_graph=True, allow_unused=True)
            for product, s in zip(products, signs, strict=True):
                if product is not None:
                    trace = trace + (product * s).flatten(1).sum(1).detach()
    return trace.detach() / _VECTORS


def mean_loss(given: ProbeInput, model: object) -> Tensor:
    """In-distribution loss of each run, with explicit attention so that it can be differentiated twice."""
    from genlab.probes.patching import answer_log_prob

    losses = [
        -answer_log_prob(b.targets, b.scored)(model(b.tokens, b.offsets, tap=lambda _name, x: x))  # pyright: ignore
        for b in given.batches
    ]
    return given.mean(losses)
