"""A run: one seed of one configuration; and one number that was measured of it."""

from __future__ import annotations

import hashlib

from genlab.spec.model import ModelConfig
from genlab.spec.task import TaskSpec
from genlab.spec.training import TrainConfig
from genlab.spec.values import Frozen, canonical_json

__all__ = ["EvalRow", "RunSpec"]


class RunSpec(Frozen):
    """One seed of one configuration."""

    task: TaskSpec
    model: ModelConfig
    train: TrainConfig

    @property
    def run_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:12]

    @property
    def configuration(self) -> RunSpec:
        """This spec with both seeds at 0: what all seeds of one configuration share."""
        return self.with_seeds(0, 0)

    def with_seeds(self, init_seed: int, data_seed: int) -> RunSpec:
        """The same configuration at other seeds."""
        train = self.train.model_copy(update={"init_seed": init_seed, "data_seed": data_seed})
        return self.model_copy(update={"train": train})


class EvalRow(Frozen):
    """One measured number: `metric` over `n` examples of `split` at `length`, for a run at a step."""

    run_id: str
    step: int
    split: str
    length: int
    metric: str
    value: float
    n: int
