"""TransformerLens 2 to 4, both ways: `as_hooked` and `to_lens` compute our logits, and give our weights back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genlab.errors import UserError
from genlab.models import Transformer, count
from genlab.spec import ModelConfig

pytest.importorskip("transformer_lens")
from transformer_lens import ActivationCache, patching
from transformer_lens.head_detector import detect_head

from genlab.models.lens import BRIDGES, HookedRootModule, LensConfig, as_hooked
from genlab.models.lens_own import from_bridge, from_lens, to_bridge, to_lens, why_not

OWN = "TransformerBridge" if BRIDGES else "HookedTransformer"


def config(**given: Any) -> ModelConfig:
    sizes = {"d_vocab": 7, "n_ctx": 12, "n_layers": 2, "d_model": 6, "n_heads": 3, "d_head": 4, "d_mlp": 10}
    return ModelConfig(**{**sizes, **given})


def model(cfg: ModelConfig, runs: int = 1) -> Transformer:
    """Random weights everywhere, biases and gains too."""
    generator = torch.Generator().manual_seed(0)
    return Transformer(cfg, 0.4 * torch.randn(runs, count(cfg), generator=generator))


def tokens(*shape: int) -> Tensor:
    return torch.randint(7, shape, generator=torch.Generator().manual_seed(1))


CONFIGS = [
    config(
        positions=positions, normalization_type=norm, attn_only=attn_only, bias=bias, tie_word_embeddings=tied,
        final_norm=final,
    )
    for positions in ("learned", "none", "sinusoidal", "rotary", "alibi")
    for norm in ("LN", "RMS", "none")
    for attn_only, bias, tied, final in ((False, True, False, True), (True, False, True, False))
]  # fmt: skip


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda c: f"{c.positions}-{c.normalization_type}-{c.attn_only}")
def test_logits_equal_ours(cfg: ModelConfig):
    stack, ids = model(cfg, runs=2), tokens(3, 9)
    ours = stack(ids)
    hooked = as_hooked(stack, run=1)
    assert (hooked(ids) - ours[1]).abs().max() < 1e-5
    logits, cache = hooked.run_with_cache(ids)
    assert (logits - ours[1]).abs().max() < 1e-5
    assert cache["pattern", 1].shape == (3, 3, 9, 9)
    if not why_not(cfg):
        own = to_lens(stack, run=1)
        assert type(own).__name__ == OWN
        assert (own(ids) - ours[1]).abs().max() < 1e-5


def test_which_configurations_have_a_model_of_transformer_lens():
    yes_no, without = (False, True), ("alibi",) if BRIDGES else ()
    for positions, final, norm in product(("learned", "none", "rotary", "alibi"), yes_no, ("LN", "none")):
        cfg = config(positions=positions, final_norm=final, normalization_type=norm)
        assert bool(why_not(cfg)) == (positions in without or (norm == "LN" and not final))
    with pytest.raises(UserError, match=r"positions 't5'.*; no final norm"):
        to_lens(model(config(positions="t5", final_norm=False)))


@pytest.mark.parametrize(
    ("of", "convert"), [("to_bridge", to_bridge), ("from_bridge", lambda m: from_bridge(m.cfg, m))]
)
@pytest.mark.skipif(BRIDGES, reason="this version has bridges")
def test_a_version_without_bridges_says_so(of: str, convert: Callable[[Transformer], Any]):
    with pytest.raises(UserError, match=rf"{of} needs transformer-lens 4 or later, this is [23]\."):
        convert(model(config()))


def test_it_is_what_transformer_lens_users_expect():
    hooked = as_hooked(model(config()), vocab=("<pad>", "<end>", ">", "a", "b", "c", "d"))
    assert isinstance(hooked, HookedRootModule)
    assert isinstance(hooked.cfg, LensConfig)
    assert (hooked.cfg.n_layers, hooked.cfg.n_heads, hooked.cfg.d_head) == (2, 3, 4)
    assert hooked.to_tokens("a b >").tolist() == [[3, 4, 2]]
    assert hooked.to_tokens(["a b", "c d"]).tolist() == [[3, 4], [5, 6]]
    logits, cache = hooked.run_with_cache("a b a b", remove_batch_dim=True)
    assert isinstance(cache, ActivationCache)
    assert cache["pattern", 0].shape == (3, 4, 4)
    assert torch.allclose(cache["resid_post", 1], cache["resid_mid", 1] + cache["mlp_out", 1])
    heads = cache.stack_head_results(layer=2)
    assert heads.shape == (6, 4, 6)
    joined = heads[3:].sum(0) + hooked.model.params["blocks.1.attn.b_O"][0]
    assert torch.allclose(joined, cache["attn_out", 1], atol=1e-6)
    assert logits.shape == (1, 4, 7)


def test_hooks_read_and_write():
    hooked, ids = as_hooked(model(config())), tokens(2, 5)
    zeroed = hooked.run_with_hooks(ids, fwd_hooks=[("blocks.0.hook_mlp_out", lambda x, hook: 0 * x)])
    by_hand = model(config())(ids, tap=lambda name, x: 0 * x if name == "blocks.0.hook_mlp_out" else x)
    assert torch.allclose(zeroed, by_hand, atol=1e-6)
    assert not torch.allclose(zeroed, hooked(ids), atol=1e-3)
    assert torch.allclose(hooked(ids), model(config())(ids), atol=1e-6)  # nothing stays behind


PATCHES = {
    "resid_pre": patching.get_act_patch_resid_pre,
    "mlp_out": patching.get_act_patch_mlp_out,
    "attn.hook_z": patching.get_act_patch_attn_head_out_all_pos,
}


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("make", [as_hooked, to_lens])
def test_activation_patching_of_transformer_lens_is_ours(make: Callable[[Transformer], Any], name: str):
    """Each activation of a run on one sequence, put into a run on another, as a tap of ours does it."""
    stack, clean = model(config()), tokens(1, 6)
    corrupted = clean.clone()
    corrupted[0, 1] = (clean[0, 1] + 1) % 7
    theirs = make(stack)
    _, cache = theirs.run_with_cache(clean)
    found = PATCHES[name](theirs, corrupted, cache, lambda logits: logits[0].norm())
    of_heads = name == "attn.hook_z"
    assert found.shape == ((2, 3) if of_heads else (2, 6))  # [layer, head] or [layer, pos]
    seen: dict[str, Tensor] = {}
    stack(clean, tap=lambda place, x: seen.setdefault(place, x))
    by_hand = torch.empty_like(found)
    for layer, at in product(*map(range, found.shape)):
        here = f"blocks.{layer}.{name}" if of_heads else f"blocks.{layer}.hook_{name}"

        def put(place: str, x: Tensor, here: str = here, at: int = at) -> Tensor:
            if place != here:
                return x
            x = x.clone()  # [run, batch, pos, d_model], or of heads [run, batch, pos, head, d_head]
            rows = (..., at, slice(None)) if of_heads else (slice(None), slice(None), at)
            x[rows] = seen[here][rows]
            return x

        by_hand[layer, at] = stack(corrupted, tap=put)[0].norm()
    assert (found - by_hand).abs().max() < 1e-5
    assert found.max() - found.min() > 1e-3


def test_gradients_reach_activations_and_weights():
    hooked, ids = as_hooked(model(config())), tokens(2, 6)
    for _ in range(2):  # the second time must not find a freed graph
        hooked.weight.grad = None
        _, cache = hooked.run_with_cache(ids, return_type="loss", incl_bwd=True)
        assert cache["blocks.0.hook_resid_pre_grad"].abs().max() > 0
        assert hooked.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["previous_token_head", "duplicate_token_head", "induction_head"])
def test_detect_head_runs_on_it(name: str):
    hooked = as_hooked(model(config()))
    scores = detect_head(hooked, "3 4 5 3 4 5", name)
    assert scores.shape == (2, 3)
    assert (scores >= 0).all()


@pytest.mark.parametrize(
    "cfg",
    [
        config(),
        config(positions="rotary", tie_word_embeddings=True, bias=False),
        config(act_fn="gelu_new", unembed_bias=False),
    ],
)
def test_checkpoints_load_back(cfg: ModelConfig, tmp_path: Path):
    stack, other = model(cfg), Transformer(cfg, torch.zeros(1, count(cfg)))
    torch.save(as_hooked(stack).state_dict(), tmp_path / "hooked.pt")
    loaded = as_hooked(other)
    loaded.load_state_dict(torch.load(tmp_path / "hooked.pt"))
    assert torch.equal(loaded.model.flat, stack.flat)

    own = to_lens(stack)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    empty = to_lens(other)
    empty.load_state_dict(torch.load(tmp_path / "own.pt"))
    assert torch.equal(from_lens(cfg, empty).flat, stack.flat)


def test_what_cannot_be_is_one_line():
    stack = model(config(), runs=2)
    with pytest.raises(UserError, match="no run 2 in a stack of 2"):
        as_hooked(stack, run=2)
    with pytest.raises(UserError, match=r"unknown token 'x'.*allowed: 0, 1"):
        as_hooked(stack).to_tokens("0 x")
    with pytest.raises(UserError, match=r"strings of \[1, 2\] tokens"):
        as_hooked(stack).to_tokens(["0", "0 1"])
    with pytest.raises(UserError, match="shape differs"):
        from_lens(config(d_mlp=11), to_lens(stack))
    tied = config(tie_word_embeddings=True)
    with pytest.raises(UserError, match="ties the embeddings"):
        from_lens(tied, to_lens(stack))


# -- Tools of TransformerLens that read weights, norms and biases


def gained(cfg: ModelConfig) -> Transformer:
    """A model whose norms have gains around 1, so that an ignored gain shows."""
    made = model(cfg)
    for name, weights in made.params.items():
        if name.endswith(".w"):
            weights += 1
    return made


VARIANTS = [
    config(), config(normalization_type="RMS", bias=False), config(normalization_type="none"), config(loops=2),
    config(attn_only=True, tie_word_embeddings=True), config(final_norm=False), config(positions="rotary"),
]  # fmt: skip


@pytest.mark.parametrize("cfg", VARIANTS)
def test_logit_lens_ends_at_our_logits(cfg: ModelConfig):
    hooked, ids = as_hooked(gained(cfg)), tokens(2, 5)
    logits, cache = hooked.run_with_cache(ids)
    if hasattr(cache, "logit_lens"):  # not in TransformerLens 2, where the lens is `accumulated_resid` and `unembed`
        lens = cache.logit_lens(positions=None)
        assert (lens.values[-1] - logits).abs().max() < 1e-4
        first = hooked.unembed(hooked.ln_final(cache["resid_pre", 0]))
        assert (lens.values[0] - first).abs().max() < 1e-4
    read = cache.accumulated_resid(apply_ln=True)
    assert (hooked.unembed(read[-1]) - logits).abs().max() < 1e-4


@pytest.mark.parametrize("cfg", [cfg for cfg in VARIANTS if cfg.final_norm])
def test_attributions_of_all_components_sum_to_the_logit(cfg: ModelConfig):
    hooked, ids = as_hooked(gained(cfg)), tokens(2, 5)
    logits, cache = hooked.run_with_cache(ids)
    for expand in (False, True):
        parts, labels = cache.get_full_resid_decomposition(expand_neurons=expand, return_labels=True)
        assert len(parts) == len(labels)
        assert (parts.sum(0) - cache["resid_post", -1]).abs().max() < 1e-4
    attributed = cache.logit_attrs(parts, tokens=torch.full((2, 5), 3)).sum(0)
    shift = hooked.model.params.get("ln_final.b")
    constant = hooked.b_U + (0 if shift is None else shift[0] @ hooked.W_U)
    assert (attributed + constant[3] - logits[..., 3]).abs().max() < 1e-4
    one = cache.logit_attrs(parts, tokens="3", incorrect_tokens="4").sum(0)
    wanted = logits[..., 3] - logits[..., 4] - constant[3] + constant[4]
    assert (one - wanted).abs().max() < 1e-4


def test_the_middle_of_the_model_decomposes_too():
    _, cache = as_hooked(gained(config())).run_with_cache(tokens(2, 5))
    parts = cache.get_full_resid_decomposition(layer=1, mlp_input=True)
    assert (parts.sum(0) - cache["resid_mid", 1]).abs().max() < 1e-4


def test_stop_at_layer_returns_what_enters_it():
    hooked, ids, seen = as_hooked(model(config())), tokens(2, 5), list[str]()
    _, cache = hooked.run_with_cache(ids)
    entries = {0: "blocks.0.hook_resid_pre", 1: "blocks.1.hook_resid_pre", -1: "blocks.1.hook_resid_pre"}
    for layer, name in {**entries, 2: "blocks.1.hook_resid_post"}.items():
        assert torch.allclose(hooked(ids, stop_at_layer=layer), cache[name], atol=1e-6)
    hooked.run_with_hooks(
        ids, fwd_hooks=[(lambda _name: True, lambda x, hook: seen.append(hook.name))], stop_at_layer=1
    )
    assert seen[-1] == "blocks.0.hook_resid_post"
    with pytest.raises(UserError, match="stop_at_layer 3 is not allowed: the model has 2 layers"):
        hooked(ids, stop_at_layer=3)


def test_losses():
    hooked, ids = as_hooked(model(config())), tokens(2, 5)
    each = hooked(ids, return_type="loss", loss_per_token=True)
    right = hooked(ids)[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    assert torch.allclose(each, -right, atol=1e-6)
    logits, loss = hooked(ids, return_type="both")
    assert torch.allclose(loss, each.mean(), atol=1e-6)
    assert torch.equal(logits, hooked(ids))
    assert hooked(ids, return_type=None) is None
    with pytest.raises(UserError, match="unknown return_type 'logit'; did you mean 'logits'"):
        hooked(ids, return_type="logit")


def test_a_hook_point_that_does_not_exist_is_answered_with_the_nearest():
    hooked, ids, told = as_hooked(model(config())), tokens(2, 5), "unknown hook point .*did you mean .*hook_pattern'"
    wrong = "blocks.0.attn.hook_patern"
    calls: list[Callable[[], Any]] = [
        lambda: hooked.run_with_cache(ids, names_filter=wrong),
        lambda: hooked.run_with_cache(ids, names_filter=["hook_embed", wrong]),
        lambda: hooked.add_caching_hooks(wrong),
        lambda: hooked.run_with_hooks(ids, fwd_hooks=[(wrong, lambda x, hook: x)]),
        lambda: hooked.add_hook(wrong, lambda x, hook: x),
    ]
    for call in calls:
        with pytest.raises(UserError, match=told):
            call()
    _, cache = hooked.run_with_cache(ids, names_filter="blocks.0.attn.hook_pattern")
    assert list(cache) == ["blocks.0.attn.hook_pattern"]
    with pytest.raises(UserError, match="'3 4' is 2 tokens, not one"):
        hooked.to_single_token("3 4")
