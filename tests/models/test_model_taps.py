"""Taps: the names and shapes of TransformerLens, in its order, and what a tap gives back takes effect."""

from __future__ import annotations

import pytest
import torch
from small_models import NORMALISATIONS, POSITIONS, config, model, relative_error, some_tokens
from torch import Tensor

from genlab.models import Transformer
from genlab.spec import ModelConfig

R, B, T = 2, 3, 5


def expected(cfg: ModelConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Hook points of TransformerLens for this model, in the order of the forward pass, with their shapes."""
    stream, heads = (B, T, cfg.d_model), (B, T, cfg.n_heads, cfg.d_head)
    square, hidden = (B, cfg.n_heads, T, T), (B, T, cfg.d_mlp)

    def norm(place: str) -> list[tuple[str, tuple[int, ...]]]:
        if cfg.normalization_type == "none":
            return []
        return [(f"{place}.hook_scale", (B, T, 1)), (f"{place}.hook_normalized", stream)]

    found = [("hook_embed", stream)]
    found += [("hook_pos_embed", stream)] if cfg.positions in ("learned", "sinusoidal") else []
    for i in range(cfg.n_layers):
        block = f"blocks.{i}"
        found += [(f"{block}.hook_resid_pre", stream), *norm(f"{block}.ln1")]
        found += [(f"{block}.attn.hook_{n}", heads) for n in "qkv"]
        found += [(f"{block}.attn.hook_rot_{n}", heads) for n in "qk"] if cfg.positions == "rotary" else []
        found += [(f"{block}.attn.hook_attn_scores", square), (f"{block}.attn.hook_pattern", square)]
        found += [(f"{block}.attn.hook_z", heads), (f"{block}.hook_attn_out", stream)]
        if not cfg.attn_only:
            found += [(f"{block}.hook_resid_mid", stream), *norm(f"{block}.ln2")]
            found += [(f"{block}.mlp.hook_pre", hidden), (f"{block}.mlp.hook_post", hidden)]
            found += [(f"{block}.hook_mlp_out", stream)]
        found += [(f"{block}.hook_resid_post", stream)]
    return found + (norm("ln_final") if cfg.final_norm else [])


def recorded(stack: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def tap(name: str, x: Tensor) -> Tensor:
        assert name not in seen, f"{name} is called twice"
        seen[name] = x.clone()
        return x

    stack(tokens, tap=tap)
    return seen


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("normalization", NORMALISATIONS)
def test_names_order_and_shapes(positions: str, normalization: str) -> None:
    for options in ({}, {"attn_only": True}, {"final_norm": False}):
        cfg = config(positions=positions, normalization_type=normalization, **options)
        found = recorded(model(cfg, runs=R), some_tokens(R, B, T))
        assert [(name, tuple(x.shape)) for name, x in found.items()] == [(n, (R, *s)) for n, s in expected(cfg)]


def test_patterns_are_weights_over_the_past() -> None:
    pattern = recorded(model(config(), runs=R), some_tokens(R, B, T))["blocks.1.attn.hook_pattern"]
    assert torch.allclose(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
    assert (pattern.triu(1) == 0).all()
    assert (pattern >= 0).all()


@pytest.mark.parametrize("name", [name for name, _ in expected(config(positions="rotary"))])
def test_what_a_tap_gives_back_goes_on(name: str) -> None:
    """Written over in one run and one example: that one's logits change, and only that one's."""
    stack, tokens = model(config(positions="rotary"), runs=R), some_tokens(R, B, T)

    def tap(here: str, x: Tensor) -> Tensor:
        if here != name:
            return x
        x = x.clone()
        x[1, 2] = 0.7 * x[1, 2].roll(1, dims=-1).masked_fill(x[1, 2].isinf(), 0.3)
        return x.masked_fill(x.isinf(), float("-inf"))

    changed = (stack(tokens, tap=tap) - stack(tokens)).abs().amax(dim=(-1, -2))
    assert changed[1, 2] > 1e-3
    changed[1, 2] = 0
    assert changed.max() < 1e-12


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_tap_may_write_in_place_into_the_positions_of_one_example(positions: str) -> None:
    stack, tokens = model(config(positions=positions), runs=R), some_tokens(R, B, T)

    def without_positions(name: str, x: Tensor) -> Tensor:
        if name == "hook_pos_embed":
            x[:, 1] = 0
        return x

    same_weights = {k: v for k, v in stack.params.items() if k != "pos_embed.W_pos"}
    unplaced = model(config(positions="none"), runs=R).with_params(same_weights)
    changed, others = stack(tokens, tap=without_positions), [0, 2]
    assert relative_error(changed[:, 1], unplaced(tokens)[:, 1]) < 1e-12
    assert relative_error(changed[:, others], stack(tokens)[:, others]) < 1e-12
    assert relative_error(stack(tokens), unplaced(tokens)) > 1e-3


def test_a_pattern_can_be_replaced_by_that_of_another_prompt() -> None:
    """Patching every pattern and value of one prompt into another gives the first one's attention output."""
    stack, one, other = model(config(n_layers=1), runs=R), some_tokens(R, B, T), some_tokens(R, B, T, seed=9)
    kept = recorded(stack, one)

    def patch(name: str, x: Tensor) -> Tensor:
        return kept[name] if name in ("blocks.0.attn.hook_pattern", "blocks.0.attn.hook_v") else x

    seen: dict[str, Tensor] = {}
    stack(other, tap=lambda name, x: seen.setdefault(name, patch(name, x)))
    assert torch.equal(seen["blocks.0.hook_attn_out"], kept["blocks.0.hook_attn_out"])
    assert not torch.equal(seen["blocks.0.hook_resid_mid"], kept["blocks.0.hook_resid_mid"])
