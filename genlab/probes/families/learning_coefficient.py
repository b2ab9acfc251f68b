"""The local learning coefficient: how degenerate the loss is around the final weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput


@signal(
    "local_learning_coefficient",
    per="run",
    about="how degenerate the loss is around the weights: small if many directions leave it unchanged",
    formula="b (mean L(w) - L(w*)), b = 64 / ln 64, over 4 chains of 200 steps of SGLD from the weights w* (step "
    "size 1e-4, pull to w* 100, batches of 64 in-distribution examples); L of an example: mean loss of its answer",
    blind="An estimate that depends on step size and localization. Halves use the same sampler seed, so that its "
    "reliability covers examples, not chains.",
    unit="parameters",
    low=-float("inf"),
    high=float("inf"),
    source="Lau et al. 2023, The local learning coefficient, arXiv 2308.12108 (devinterp)",
    slow=True,
)
def local_learning_coefficient(given: ProbeInput) -> Tensor:
    import torch

    from genlab.probes.local_learning import OneRun, coefficient, example_losses
    from genlab.probes.model import stack_of

    stack = stack_of(given.model, "sample around")
    losses, examples = example_losses(given.batches), sum(len(batch.tokens) for batch in given.batches)
    coefficients = [coefficient(OneRun(stack, run), losses, examples) for run in range(stack.n_runs)]
    return torch.tensor(coefficients, dtype=torch.float64)
