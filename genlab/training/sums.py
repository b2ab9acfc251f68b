"""What is added up of each run between two measurements: its losses, and the norms of its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlab.training.state import RunState

__all__ = ["Sums"]

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
