"""Training recipes by name: the options of a paper's protocol as a whole, for `--recipe NAME`.

A recipe sets options of model and training (and whether examples have a start token); what the user gives goes before
it, and it goes before the defaults of the task. It does not set what a protocol varies: lengths, depth, width, heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genlab.errors import unknown


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training recipe.

    Attributes:
        about: one line.
        source: where its values are from.
        options: fields of `ModelConfig` and `TrainConfig`, and `start_token`.
    """

    about: str
    source: str
    options: Mapping[str, Any]


_GPT2 = {"act_fn": "gelu_new", "init_std": 0.02, "scale_residual_init": True}
_OWN_LENGTHS = {"lengths_per_batch": 0}

RECIPES: Mapping[str, Recipe] = {
    "lab": Recipe(
        "what learned in the fewest steps and generalized best here (the default)",
        "measured: docs/learning.md",
        {},
    ),
    "huang": Recipe(
        "a small GPT-2 trained with the defaults of Hugging Face's Trainer",
        "Huang et al. 2024, arXiv 2410.02140, and its code; the Trainer clips at norm 1",
        {
            **_GPT2,
            **_OWN_LENGTHS,
            "tie_word_embeddings": True,
            "positions": "learned",
            "offsets": "random",
            "start_token": True,
            "batch_size": 64,
            "optimizer": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.01,
            "warmup": 0,
            "schedule": "linear",
            "grad_clip": 1.0,
            "steps": 30_000,
        },
    ),
    "zhou": Recipe(
        "the setting of most tasks of the RASP-L paper, with six layers and eight heads",
        "Zhou et al. 2023, arXiv 2310.16028, as remembered (its appendix gives a setting per task)",
        {
            **_OWN_LENGTHS,
            "n_layers": 6,
            "n_heads": 8,
            "positions": "learned",
            "offsets": "random",
            "batch_size": 128,
            "optimizer": "adamw",
            "lr": 1e-3,
            "schedule": "cosine",
            "steps": 10_000,
        },
    ),
    "li": Recipe(
        "bracket strings: a minGPT on a fixed pool, with Adam at a constant rate",
        "Li et al. 2025, arXiv 2507.06445, and its code (recipes/brackets.toml)",
        {
            **_GPT2,
            **_OWN_LENGTHS,
            "positions": "learned",
            "offsets": "zero",
            "unembed_bias": False,
            "pool": 200_000,
            "batch_size": 8,
            "optimizer": "adam",
            "decay": "all",
            "lr": 1e-4,
            "warmup": 0,
            "schedule": "constant",
            "grad_clip": 0.0,
            "steps": 125_000,
        },
    ),
    "nanogpt": Recipe(
        "nanoGPT's settings for a small model trained from scratch",
        "Karpathy, nanoGPT (config/train_shakespeare_char.py and the defaults of train.py), without dropout",
        {
            **_GPT2,
            **_OWN_LENGTHS,
            "tie_word_embeddings": True,
            "positions": "learned",
            "bias": False,
            "batch_size": 64,
            "optimizer": "adamw",
            "lr": 1e-3,
            "betas": (0.9, 0.99),
            "weight_decay": 0.1,
            "warmup": 100,
            "schedule": "cosine",
            "final_lr": 0.1,
            "grad_clip": 1.0,
            "steps": 5_000,
        },
    ),
}


def recipe_options(name: str) -> dict[str, Any]:
    """Return the options of a recipe. Raises `UserError` for an unknown name."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return dict(RECIPES[name].options)
