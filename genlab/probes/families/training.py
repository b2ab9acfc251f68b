"""How training went, from the measurements that were kept of it; and how sharp the loss is where it ended."""

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
    """A number of each run's history; NaN where a run has too little of it."""
    import torch

    if not given.history:
        raise NotApplicable("how training went is not known of a model from elsewhere")
    return torch.tensor([of(history) for history in given.history], dtype=torch.float64)


@signal(
    "time_to_fit",
    per="run",
    about="when a run had learned what it was trained on",
    formula=f"first measured step with in-distribution exact match >= {FIT}; not a number if there is none",
    unit="steps",
    low=0,
    high=_ANY,
    source="ours",
    reads="history",
)
def time_to_fit(given: ProbeInput) -> Tensor:
    def first(history: Mapping[str, np.ndarray]) -> float:
        there = np.flatnonzero(fitted(history["exact_match"]))
        return float(history["step"][there[0]]) if len(there) else float("nan")

    return per_history(given, first)


@signal(
    "final_training_loss",
    per="run",
    about="training loss at the end",
    formula="mean training loss of the steps since the measurement before the last",
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
    about="how long the loss stayed high: small for a run that learned early",
    formula="mean of the training loss over steps (each measurement stands for the steps before it)",
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
    about="how restless training was at its end",
    formula="variance of the measured training losses in the last tenth of the steps, two of them at least",
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
    """A number of each run's measurements at which the norm of its gradient is known; NaN where there are too few."""

    def known(history: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.isfinite(history.get("grad_norm", np.full(len(history["step"]), np.nan)))

    measured = any(np.isfinite(history["loss"]).any() for history in given.history)
    if measured and not any(known(history).any() for history in given.history):
        raise NotApplicable("the norms of its gradients are not known: it was trained before they were kept")
    return per_history(given, lambda history: of({n: column[known(history)] for n, column in history.items()}))


def late_gradients(history: Mapping[str, np.ndarray]) -> np.ndarray:
    """The mean norms measured in the last tenth of the steps."""
    step = history["step"]
    return history["grad_norm"][step >= 0.9 * step[-1]] if len(step) else np.empty(0)


@signal(
    "late_gradient_norm",
    per="run",
    about="how far from flat training ended: the gradient that is left",
    formula="mean of g over the last tenth of the steps, g the mean norm of the batch gradient before clipping, "
    "of the steps between two measurements",
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
    about="how restless the gradient was at the end",
    formula="variance of g (see late_gradient_norm) in the last tenth of the steps, two measurements at least",
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
    about="the steepest step of training: a spike, where training was not smooth",
    formula="the largest norm of the batch gradient before clipping, of all steps",
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
    about="how much of the first gradient is left at the end: small for a run that has settled",
    formula="g of the last measurement over g of the first (see late_gradient_norm)",
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
    about="sharpness of the loss at the weights reached",
    formula=f"Hutchinson's estimate of the trace of the Hessian of the in-distribution loss: mean of v^T H v over "
    f"{_VECTORS} random sign vectors, batches of all lengths",
    unit="nats",
    low=-_ANY,
    high=_ANY,
    source="Yao et al. 2020, PyHessian, arXiv 1912.07145",
    slow=True,
)
def hessian_trace(given: ProbeInput) -> Tensor:
    import torch

    from genlab.probes.model import Stacked, stack_of

    stack = stack_of(given.model, "differentiate by")
    generator = torch.Generator().manual_seed(_SEED)
    with torch.enable_grad():
        leaves = {name: view.detach().requires_grad_() for name, view in stack.params.items()}
        loss = mean_loss(given, Stacked(stack.with_params(leaves)))  # pyright: ignore[reportArgumentType]
        gradients = torch.autograd.grad(loss.sum(), list(leaves.values()), create_graph=True)
        found = torch.zeros_like(loss)
        for _ in range(_VECTORS):
            # One draw for all runs: what a run gives must not depend on which others are in its stack.
            signs = [torch.randint(2, g.shape[1:], generator=generator).to(g) * 2 - 1 for g in gradients]
            slope = sum((g * s).sum() for g, s in zip(gradients, signs, strict=True))
            assert isinstance(slope, torch.Tensor)
            products = torch.autograd.grad(slope, list(leaves.values()), retain_graph=True, allow_unused=True)
            for product, s in zip(products, signs, strict=True):
                if product is not None:
                    found = found + (product * s).flatten(1).sum(1).detach()
    return found.detach() / _VECTORS


def mean_loss(given: ProbeInput, model: object) -> Tensor:
    """In-distribution loss of each run, attention written out so that it can be differentiated twice."""
    from genlab.probes.patching import answer_log_prob

    losses = [
        -answer_log_prob(b.targets, b.scored)(model(b.tokens, b.offsets, tap=lambda _name, x: x))  # pyright: ignore
        for b in given.batches
    ]
    return given.mean(losses)
