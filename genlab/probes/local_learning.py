"""The local learning coefficient, computed with devinterp (an optional dependency)."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genlab.errors import NotApplicable
from genlab.global_random import kept_global_random
from genlab.models import Transformer
from genlab.probes.inputs import Batch

CHAINS, DRAWS, BATCH = 4, 200, 64
STEP, PULL = 1e-4, 100.0
BETA = BATCH / math.log(BATCH)

Losses = Callable[[nn.Module, Tensor], Tensor]
"""(model, indices of examples, int[batch]) -> the loss of each example, float[batch]."""


def coefficient(model: nn.Module, losses: Losses, examples: int) -> float:
    """The local learning coefficient at a model's parameters, BETA (mean loss - loss there).

    The mean is over CHAINS chains of DRAWS steps of stochastic gradient Langevin dynamics. devinterp draws rows of
    token ids; its rows here hold only the index of an example, so that examples may have any form.

    Args:
        model: the model, at the parameters of interest.
        losses: the loss of each example.
        examples: number of examples, at least one.

    Returns:
        The coefficient, in parameters; NaN if a chain diverged.

    Raises:
        NotApplicable: devinterp is not installed.
    """
    with (
        kept_global_random(),
        torch.enable_grad(),  # signals are read under no_grad
        contextlib.redirect_stderr(io.StringIO()),  # hides the progress bars
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            from devinterp.slt.llc import llc
        except ImportError as error:
            raise NotApplicable(
                f"it needs devinterp, an optional dependency: pip install 'genlab[llc]' ({error})"
            ) from None
        # A diverged chain only causes a warning, and its missing draws would count as zeros.
        warnings.filterwarnings("error", message="Chain failed")
        rows = [{"input_ids": torch.tensor([number, 0])} for number in range(examples)]
        with tempfile.TemporaryDirectory() as folder:
            try:
                estimate = llc(
                    model,
                    rows,  # pyright: ignore[reportArgumentType] (anything with a length and items works)
                    {},
                    lr=STEP,
                    n_beta=BETA,
                    localization=PULL,
                    num_chains=CHAINS,
                    num_draws=DRAWS,
                    batch_size=min(BATCH, examples),
                    loss_fn=lambda one, rows: losses(one, rows[:, 0])[:, None],
                    device=str(next(model.parameters()).device),
                    output_path=Path(folder) / "draws.zarr",
                )
            except UserWarning:
                return float("nan")
            return float(estimate["llc_scalar"])


class OneRun(nn.Module):
    """One run of a stack, with its flat weights as the only parameter."""

    def __init__(self, stack: Transformer, run: int):
        super().__init__()
        self.flat = nn.Parameter(stack.flat[run : run + 1].detach().clone())
        self.shape = stack.cfg  # not `cfg`, by which devinterp tells a TransformerLens model

    def forward(self, tokens: Tensor, offsets: Tensor | None) -> Tensor:
        """Logits `[1, batch, pos, d_vocab]`."""
        model = Transformer(self.shape, self.flat)
        return model(tokens[None], None if offsets is None else offsets[None])


def example_losses(batches: Sequence[Batch]) -> Losses:
    """The mean loss over an answer's tokens, by the index of the example across all batches."""
    ends = torch.tensor([len(batch.tokens) for batch in batches]).cumsum(0)

    def losses_of(model: nn.Module, numbers: Tensor) -> Tensor:
        which = torch.searchsorted(ends, numbers.cpu(), right=True)
        means = numbers.new_zeros(len(numbers), dtype=torch.float32)
        for i in which.unique().tolist():
            batch = batches[i]
            rows = numbers[which == i] - (int(ends[i]) - len(batch.tokens))
            offsets = None if batch.offsets is None else batch.offsets[rows]
            losses = cross_entropy(model(batch.tokens[rows], offsets)[0].mT, batch.targets[rows], reduction="none")
            scored = batch.scored[rows]
            means[which == i] = (losses * scored).sum(1) / scored.sum(1)
        return means

    return losses_of
