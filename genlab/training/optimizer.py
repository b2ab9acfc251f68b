"""AdamW and Adam for a whole stack at once; each run has its own learning rate, weight decay and gradient clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlab.models.kinds import decay_mask
from genlab.spec import ModelConfig, TrainConfig


def learning_rate(train: TrainConfig, step: int) -> float:
    """The learning rate at a step (from 0): linear warmup, then constant, or decay to `final_lr * lr`."""
    if step < train.warmup:
        return train.lr * (step + 1) / train.warmup
    if train.schedule == "constant":
        return train.lr
    progress = (step - train.warmup) / max(1, train.steps - train.warmup)
    left = 1 - progress if train.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return train.lr * (train.final_lr + (1 - train.final_lr) * left)


class Adam:
    """Adam (Kingma and Ba 2015) with L2 regularization, or AdamW with decoupled decay (Loshchilov and Hutter 2019).

    The runs of a stack share betas, eps, the optimizer and the step. State has one row per run, like the weights.
    """

    def __init__(
        self,
        cfg: ModelConfig,
        trains: Sequence[TrainConfig],
        exp_avg: Float[Tensor, "run params"],
        exp_avg_sq: Float[Tensor, "run params"],
    ):
        self.trains = list(trains)
        self.exp_avg, self.exp_avg_sq = exp_avg, exp_avg_sq
        mask = decay_mask(cfg, trains[0].decay).to(exp_avg)
        self._decay = self._column([t.weight_decay for t in trains]) * mask
        self._clip = self._column([t.grad_clip or math.inf for t in trains])

    def _column(self, values: list[float]) -> Float[Tensor, "run 1"]:
        return torch.tensor(values, dtype=self.exp_avg.dtype, device=self.exp_avg.device)[:, None]

    def rates(self, step: int) -> Float[Tensor, "run 3"]:
        """The step-dependent factors (steps from 0), as a tensor so that a captured step can take them as input.

        Returns:
            Columns: the learning rate, the learning rate over the bias of `exp_avg`, the bias of `exp_avg_sq`.
        """
        beta1, beta2 = self.trains[0].betas
        lrs = [learning_rate(t, step) for t in self.trains]
        rows = [(lr, lr / (1 - beta1 ** (step + 1)), 1 - beta2 ** (step + 1)) for lr in lrs]
        return torch.tensor(rows, dtype=self.exp_avg.dtype, device=self.exp_avg.device)

    @torch.no_grad()
    def update(
        self,
        flat: Float[Tensor, "run params"],
        grads: Float[Tensor, "run params"],
        norms: Float[Tensor, " run"],
        rates: Float[Tensor, "run 3"],
        alive: Bool[Tensor, " run"],
    ) -> None:
        """Update `flat` in place by one step; `grads` is overwritten. The weights of runs that are not alive stay.

        Args:
            flat: the weights.
            grads: the gradients.
            norms: the gradient norm of each run.
            rates: the factors from `rates`.
            alive: runs to update.
        """
        first = self.trains[0]
        beta1, beta2 = first.betas
        rate, unbiased_rate, bias_sq = (rates * alive[:, None]).split(1, dim=1)
        bias_sq = bias_sq.masked_fill(~alive[:, None], 1.0)
        grads.masked_fill_(~alive[:, None], 0.0)
        norms = norms.masked_fill(~alive, 0.0)[:, None]
        grads.mul_((self._clip / (norms + 1e-6)).clamp_(max=1.0))
        if first.optimizer == "adam":
            grads.addcmul_(flat, self._decay)
        else:
            flat.addcmul_(flat, rate * self._decay, value=-1)
        self.exp_avg.lerp_(grads, 1 - beta1)
        self.exp_avg_sq.mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
        denominator = (self.exp_avg_sq / bias_sq).sqrt_().add_(first.eps)
        flat.sub_((self.exp_avg / denominator).mul_(unbiased_rate))
