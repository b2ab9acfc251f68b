"""Small models with random weights everywhere: biases and gains too, which initial weights leave at 0 and 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genlab.models import Transformer, count
from genlab.spec import ModelConfig

POSITIONS = ("learned", "none", "sinusoidal", "rotary", "alibi")
NORMALISATIONS = ("LN", "RMS", "none")


def config(**given: Any) -> ModelConfig:
    """Three heads, so that no power of two hides a factor; d_head even, as rotary positions ask."""
    sizes = {"d_vocab": 7, "n_ctx": 12, "n_layers": 2, "d_model": 6, "n_heads": 3, "d_head": 4, "d_mlp": 10}
    return ModelConfig(**{**sizes, **given})


def model(cfg: ModelConfig, runs: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64) -> Transformer:
    generator = torch.Generator().manual_seed(seed)
    made = Transformer(cfg, 0.4 * torch.randn(runs, count(cfg), generator=generator, dtype=torch.float64).to(dtype))
    for name, weights in made.params.items():
        if name.endswith(".w"):
            weights += 1
    return made


def alone(stack: Transformer, run: int) -> Transformer:
    """One run of a stack, as a stack of one."""
    return Transformer(stack.cfg, stack.flat[run : run + 1].clone())


def some_tokens(*shape: int, seed: int = 1, d_vocab: int = 7) -> Tensor:
    return torch.randint(d_vocab, shape, generator=torch.Generator().manual_seed(seed))


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, as a share of the largest entry."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())
