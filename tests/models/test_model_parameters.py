"""Parameters: one flat row a run, views that follow it, initial weights and what decays."""

from __future__ import annotations

import hashlib
import math
from itertools import product

import numpy as np
import pytest
import torch
from small_models import NORMALISATIONS, POSITIONS, config

from genlab.models import count, initial, shapes, views
from genlab.models.kinds import decay_mask


def test_views_share_the_memory_of_the_flat_tensor_and_cover_it_once() -> None:
    for positions, normalization, bias in product(POSITIONS, NORMALISATIONS, (True, False)):
        cfg = config(positions=positions, normalization_type=normalization, bias=bias)
        flat = torch.zeros(2, count(cfg))
        for name, view in views(flat, cfg).items():
            assert view.shape == (2, *shapes(cfg)[name])
            view += 1
        assert (flat == 1).all()


def test_number_of_parameters_of_a_known_model() -> None:
    """GPT-2 small: 124,439,808."""
    cfg = config(
        d_vocab=50257,
        n_ctx=1024,
        n_layers=12,
        d_model=768,
        n_heads=12,
        d_head=64,
        d_mlp=3072,
        tie_word_embeddings=True,
    )
    assert count(cfg) == 124_439_808


def test_initial_weights_depend_on_the_model_and_the_seed_alone() -> None:
    cfg = config()
    together = initial(cfg, range(8))
    assert torch.equal(initial(cfg, [3])[0], together[3])
    assert torch.equal(initial(cfg, [5, 3])[1], together[3])
    assert not torch.equal(together[3], together[4])
    assert together.dtype == torch.float32


@pytest.mark.parametrize("scaled", [True, False])
def test_initial_weights_have_the_deviations_that_the_configuration_says(scaled: bool) -> None:
    cfg = config(d_model=48, d_head=16, d_mlp=192, n_layers=3, init_std=0.05, scale_residual_init=scaled)
    for name, weights in views(initial(cfg, [0]), cfg).items():
        if weights.ndim == 2:  # [run, width]: gains and shifts
            assert (weights == (1.0 if name.endswith(".w") else 0.0)).all(), name
            continue
        smaller = math.sqrt(6) if scaled and name.endswith(("W_O", "W_out")) else 1
        n = weights.numel()
        assert abs(weights.std() / (0.05 / smaller) - 1) < 4 / math.sqrt(2 * n), name
        assert abs(weights.mean()) < 4 * 0.05 / math.sqrt(n), name


def test_what_decays() -> None:
    cfg = config(positions="learned")

    def decaying(which: str) -> set[str]:
        mask = views(decay_mask(cfg, which)[None], cfg)
        assert all(((m == 0) | (m == 1)).all() and m.min() == m.max() for m in mask.values())
        return {name for name, m in mask.items() if m.min() == 1}

    matrices = {name for name, shape in shapes(cfg).items() if len(shape) == 2}
    assert decaying("all") == set(shapes(cfg))
    assert decaying("matrices") == matrices
    assert decaying("linear") == matrices - {"embed.W_E", "pos_embed.W_pos"}
    assert "unembed.W_U" in decaying("linear")


def test_no_global_random_state_is_touched() -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    initial(config(), [0, 1])
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_what_variants_train_starts_as_they_say() -> None:
    """The numbers of normalisers at 1, FIRE's MLP as torch starts a linear map, its c and L as published."""
    cfg = config(positions="fire", attn_weights="scalable-entmax", n_heads=3)
    weights = views(initial(cfg, range(200)), cfg)
    for name in ("delta", "beta", "gamma", "fire.L"):
        assert (weights[f"blocks.1.attn.{name}"] == 1).all()
    assert (weights["blocks.0.attn.fire.c"] == torch.tensor(0.1)).all()
    for name, fan_in in (("W_1", 1), ("b_1", 1), ("W_2", 32), ("b_2", 32)):
        found = weights[f"blocks.0.attn.fire.{name}"]
        assert abs(found.std() * math.sqrt(3 * fan_in) - 1) < 5 / math.sqrt(2 * found.numel()), name
    assert set(shapes(cfg)) - set(shapes(config(positions="none"))) == {
        f"blocks.{i}.attn.{name}"
        for i in range(2)
        for name in ("delta", "beta", "gamma", *(f"fire.{n}" for n in ("W_1", "b_1", "W_2", "b_2", "c", "L")))
    }


def test_initial_weights_are_the_same_bits_as_ever() -> None:
    """Runs that are kept were started so."""
    for options, digest in (({}, DIGESTS[0]), ({"positions": "rotary", "bias": False}, DIGESTS[1])):
        cfg = config(init_std=round(0.4 / 6**0.5, 6), **options)  # what they were started with
        found = hashlib.sha256(initial(cfg, [0, 7]).numpy().tobytes()).hexdigest()
        assert found[:16] == digest


DIGESTS = ("419492966d35e032", "26e036a39abf19eb")
