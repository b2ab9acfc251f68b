"""How a run is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from genlab.spec.values import Frozen

__all__ = ["TrainConfig"]


class TrainConfig(Frozen):
    """How a run is trained. Lengths are the task's own (bits, digits, items), both ends included."""

    train_len: int = Field(ge=1, description="longest training length")
    min_len: int = Field(1, ge=0, description="shortest training length")
    train_split: str = Field("id", description="split that training draws from")
    steps: int = Field(2500, ge=0, description="optimiser steps")
    batch_size: int = Field(64, ge=1, description="examples a step")
    lengths_per_batch: int = Field(
        0,
        ge=0,
        description="lengths drawn for a batch; 0: 4. From a pool: 1 (the default), like lengths together, or as "
        "many as the batch size, lengths as they come",
    )
    pool: int = Field(0, ge=0, description="train on a fixed pool of N examples in shuffled passes; 0: fresh")
    curriculum: float = Field(
        0.0, ge=0, le=1, description="share of the steps over which the longest length grows to train_len"
    )
    loss: Literal["scored", "all"] = Field("scored", description="positions that the loss is taken over")
    optimizer: Literal["adamw", "adam"] = Field("adamw", description="adam: weight decay as L2 in the gradient")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.01, ge=0, description="weight decay")
    decay: Literal["matrices", "linear", "all"] = Field(
        "matrices", description="what decays: matrices, those without embeddings (linear), or all"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's two decay rates")
    eps: float = Field(1e-8, gt=0, description="Adam's epsilon")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate after warm-up")
    final_lr: float = Field(0.0, ge=0, le=1, description="where cosine ends, as a share of lr")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm of a run; 0: no clipping")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of embeddings, attention and sublayers")
    label_noise: float = Field(0.0, ge=0, le=1, description="share of training targets put in another one's place")
    mix: float = Field(
        0.0, ge=0, le=1, description="share of a batch that is longer (mix_len) or shifted (mix_split)"
    )
    mix_split: str = Field("", description="split of that share; empty: train_split")
    mix_len: int = Field(0, ge=0, description="that share is longer than train_len, up to this; 0: training lengths")
    spectral_decoupling: float = Field(
        0.0, ge=0, description="half of it times the squared norm of the logits is added to what is minimised"
    )
    average_steps: int = Field(0, ge=0, description="final weights are the mean after each of the last N steps")
    until: float | None = Field(None, gt=0, le=1, description="stop once in-distribution exact match stays at this")
    until_weights: Literal["equal", "law"] = Field(
        "equal", description="how until's exact match weighs training lengths: alike, or as training draws them (law)"
    )
    eval_every: int = Field(250, ge=1, description="steps between in-distribution evaluations")
    dtype: Literal["float32", "tf32", "bfloat16", "float64"] = Field(
        "float32", description="precision of the matrix products (weights stay float32 or float64)"
    )
    init_seed: int = Field(0, ge=0, description="seed of the initial weights")
    data_seed: int = Field(0, ge=0, description="seed of the training examples")

    later: ClassVar[frozenset[str]] = frozenset(
        {"mix", "mix_split", "mix_len", "spectral_decoupling", "average_steps", "until_weights"}
    )

    @property
    def mixed_in(self) -> tuple[str, tuple[int, int]]:
        """The split, and the lowest and highest length, of the share of a batch that `mix` is."""
        lowest = self.train_len + 1 if self.mix_len else self.min_len
        return self.mix_split or self.train_split, (lowest, self.mix_len or self.train_len)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, given: Any) -> Any:
        """Fill what follows from other fields, so that one way of training has one canonical JSON."""
        if not isinstance(given, Mapping):
            return given
        values: dict[str, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
        batch = values.get("batch_size", 64)
        if not values.get("lengths_per_batch") and isinstance(batch, int):
            values["lengths_per_batch"] = 1 if values.get("pool") else max(1, min(4, batch))
        return values

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.min_len > self.train_len:
            raise ValueError(f"min_len {self.min_len} is above train_len {self.train_len}")
        if self.pool and self.curriculum:
            raise ValueError("curriculum is for fresh data, not for a pool")
        if self.pool and self.lengths_per_batch not in (1, self.batch_size):
            raise ValueError(
                f"lengths_per_batch {self.lengths_per_batch} is not for a pool: 1 puts like lengths together, "
                f"{self.batch_size} (the batch size) draws them as they come"
            )
        if self.lengths_per_batch > self.batch_size:
            raise ValueError(f"lengths_per_batch {self.lengths_per_batch} is above batch_size {self.batch_size}")
        if self.until is None and self.until_weights != "equal":
            raise ValueError("until_weights says what until goes by; give until")
        if not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")
        self._check_interventions()
        return self

    def _check_interventions(self) -> None:
        if bool(self.mix) != bool(self.mix_split or self.mix_len):
            raise ValueError("mix is a share of longer or shifted examples: give mix, and mix_len or mix_split")
        if self.mix and self.pool:
            raise ValueError("mix is for fresh data, not for a pool")
        if self.mix_len and self.mix_len <= self.train_len:
            raise ValueError(f"mix_len {self.mix_len} is not above train_len {self.train_len}")
        if self.average_steps > self.steps:
            raise ValueError(f"average_steps {self.average_steps} is above steps {self.steps}")
        if self.average_steps and self.until is not None:
            raise ValueError("average_steps are the last of all steps; with until there is no knowing which they are")
