"""Logits against two independent implementations: the twin written from the definitions, and TransformerLens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from small_models import NORMALISATIONS, POSITIONS, alone, config, model, relative_error, some_tokens
from torch import Tensor
from twin import twin_logits

from genlab.models import Transformer, count, model_of, shapes
from genlab.spec import LSTM_FIXED, ModelConfig

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def variants(positions: str, normalization: str) -> Iterator[ModelConfig]:
    """Every combination of the other options (attention alone has no activation)."""
    yes_no = (False, True)
    for attn_only, bias, tied, final_norm in product(yes_no, repeat=4):
        for act_fn in ("gelu",) if attn_only else ("gelu", "gelu_new", "relu"):
            yield config(
                positions=positions,
                normalization_type=normalization,
                attn_only=attn_only,
                bias=bias,
                tie_word_embeddings=tied,
                final_norm=final_norm,
                act_fn=act_fn,
            )


@pytest.mark.parametrize("normalization", NORMALISATIONS)
@pytest.mark.parametrize("positions", POSITIONS)
def test_logits_equal_those_of_the_twin(positions: str, normalization: str) -> None:
    """The second run of a stack, and that run alone, in both precisions."""
    tokens = some_tokens(2, 1, 4)
    for cfg in variants(positions, normalization):
        single = model(cfg, runs=2, dtype=torch.float32)
        double = Transformer(cfg, single.flat.double())
        wanted = twin_logits(cfg, {name: weight[1] for name, weight in double.params.items()}, tokens[1, 0])
        for stack in (single, double):
            for logits in (stack(tokens)[1, 0], alone(stack, 1)(tokens[1])[0]):
                assert relative_error(logits.double(), wanted) < TOLERANCE[logits.dtype], (logits.dtype, cfg)


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_other_depths_equal_the_twin(n_layers: int) -> None:
    made, tokens = model(config(n_layers=n_layers)), some_tokens(1, 6)
    wanted = twin_logits(made.cfg, {name: w[0] for name, w in made.params.items()}, tokens[0])
    assert relative_error(made(tokens)[0], wanted) < 1e-9


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_without_a_bias_of_the_unembedding_it_is_as_if_it_were_0(architecture: str) -> None:
    fixed = dict(LSTM_FIXED) if architecture == "lstm" else {"positions": "learned"}
    with_bias = config(architecture=architecture, **fixed)
    without = with_bias.model_copy(update={"unembed_bias": False})
    flat = torch.randn(2, count(with_bias), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stack, tokens = model_of(with_bias, flat), some_tokens(2, 3, 5)
    assert set(shapes(with_bias)) - set(shapes(without)) == {"unembed.b_U"}
    same = torch.cat([stack.params[name].flatten(1) for name in shapes(without)], dim=1)
    bias = stack.params["unembed.b_U"][:, None, None]
    assert relative_error(model_of(without, same)(tokens), stack(tokens) - bias) < 1e-9


def test_learned_positions_start_at_the_offset() -> None:
    stack, tokens = model(config(positions="learned"), runs=2), some_tokens(2, 3, 5)
    offsets = torch.tensor([[0, 4, 7], [1, 0, 6]])
    found = stack(tokens, offsets)
    for run, row in product(range(2), range(3)):
        weights = {name: weight[run] for name, weight in stack.params.items()}
        wanted = twin_logits(stack.cfg, weights, tokens[run, row], offset=int(offsets[run, row]))
        assert relative_error(found[run, row], wanted) < 1e-9


@pytest.mark.parametrize("runs", [1, 2])
def test_a_position_beyond_the_context_is_an_error_and_never_another_run_s(runs: int) -> None:
    stack = model(config(positions="learned", n_ctx=6), runs=runs)
    tokens = some_tokens(runs, 2, 5)
    with pytest.raises(ValueError, match="context of 6"):
        stack(some_tokens(runs, 2, 7))
    offsets = torch.ones(runs, 2, dtype=torch.int64)
    stack(tokens, offsets)
    offsets[0, 1] = 2  # one position too far, in the first run: the next row is the second run's
    with pytest.raises(IndexError):
        stack(tokens, offsets)


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "rotary", "alibi"])
def test_offsets_and_contexts_bind_learned_positions_alone(positions: str) -> None:
    made, tokens = model(config(positions=positions, n_ctx=3)), some_tokens(1, 2, 8)
    assert torch.equal(made(tokens), made(tokens, torch.tensor([[5, 9]])))


def test_angles_of_far_positions_survive_bfloat16() -> None:
    """A query 300 positions away sees its key turned as in float32, but for the rounding of the products."""
    exact = model(config(positions="rotary", n_layers=1, d_model=16, d_head=16), dtype=torch.float32)
    x = torch.randn(1, 1, 1, 301, 16, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(301)
    turned = exact.positions.turn(x.bfloat16(), ids).float()
    assert (turned - exact.positions.turn(x, ids)).abs().max() < 0.05


# -- TransformerLens -------------------------------------------------------------------------------------------


def bridge_with_weights(cfg: ModelConfig, weights: dict[str, Tensor]):
    """A `TransformerBridge` of the same shape that carries the same weights, in float64."""
    lens = pytest.importorskip("transformer_lens.model_bridge")
    lens_config = pytest.importorskip("transformer_lens.config")
    bridge = lens.TransformerBridge.boot_native(
        lens_config.TransformerBridgeConfig(
            d_model=cfg.d_model,
            d_head=cfg.d_head,
            n_heads=cfg.n_heads,
            n_layers=cfg.n_layers,
            n_ctx=cfg.n_ctx,
            d_vocab=cfg.d_vocab,
            d_mlp=cfg.d_mlp or None,
            act_fn=cfg.act_fn,
            attn_only=cfg.attn_only,
            # Any other string would be taken for LN without a word.
            normalization_type={"LN": "LN", "RMS": "RMS", "none": None}[cfg.normalization_type],
            positional_embedding_type={"learned": "standard", "rotary": "rotary"}[cfg.positions],
            seed=0,
        ),
        dtype=torch.float64,
    )
    _carry_over(cfg, weights, bridge.original_model)
    return bridge


@torch.no_grad()
def _carry_over(cfg: ModelConfig, weights: dict[str, Tensor], native: torch.nn.Module) -> None:
    """Write every weight to its place there (their matrices are transposed); what has none of ours becomes 0."""
    theirs = {name.replace("_original_component.", ""): p for name, p in native.named_parameters()}
    for p in theirs.values():
        p.zero_()
    theirs["tok_embed.weight"].copy_(weights["embed.W_E"])
    theirs["head.weight"].copy_(weights["embed.W_E"] if cfg.tie_word_embeddings else weights["unembed.W_U"].T)
    if cfg.positions == "learned":
        theirs["pos.weight"].copy_(weights["pos_embed.W_pos"])
    norms = {f"blocks.{i}.{ln}": f"layers.{i}.{ln}" for i in range(cfg.n_layers) for ln in ("ln1", "ln2")}
    for ours, place in {**norms, "ln_final": "ln_out"}.items():
        for kind, ending in (("w", "weight"), ("b", "bias")):
            if f"{ours}.{kind}" in weights:
                theirs[f"{place}.{ending}"].copy_(weights[f"{ours}.{kind}"])
    for i in range(cfg.n_layers):
        for kind, ending in (("W", "weight"), ("b", "bias")):
            if f"blocks.{i}.attn.{kind}_QKV" not in weights:
                continue
            q, k, v = weights[f"blocks.{i}.attn.{kind}_QKV"].chunk(3, dim=-1)
            maps = {"attn.q": q, "attn.k": k, "attn.v": v, "attn.o": weights[f"blocks.{i}.attn.{kind}_O"]}
            if not cfg.attn_only:
                maps |= {f"mlp.fc_{end}": weights[f"blocks.{i}.mlp.{kind}_{end}"] for end in ("in", "out")}
            for place, weight in maps.items():
                theirs[f"layers.{i}.{place}.{ending}"].copy_(weight.mT if kind == "W" else weight)


LENS_CASES = [
    config(positions=positions, **options)
    for positions in ("learned", "rotary")
    for options in (
        {},
        {"normalization_type": "RMS", "act_fn": "relu", "bias": False},
        {"normalization_type": "none", "tie_word_embeddings": True},
        {"attn_only": True},
        {"act_fn": "gelu_new", "unembed_bias": False},
    )
]


@pytest.mark.parametrize(
    "cfg", LENS_CASES, ids=lambda c: f"{c.positions}-{c.normalization_type}-{c.attn_only}-{c.act_fn}"
)
def test_logits_and_activations_equal_those_of_transformer_lens(cfg: ModelConfig) -> None:
    stack = model(cfg)
    weights = {name: weight[0] for name, weight in stack.params.items()}
    tokens = some_tokens(3, 9)
    with torch.no_grad():
        theirs, cache = bridge_with_weights(cfg, weights).run_with_cache(tokens)
    theirs = theirs + weights.get("unembed.b_U", 0)  # it has no such bias
    assert relative_error(stack(tokens), theirs) < 1e-6  # its RMS norm and its angles are float32

    seen: dict[str, Tensor] = {}
    stack(tokens, tap=lambda name, x: seen.setdefault(name, x))
    assert all("hook_rot_" in name for name in set(seen) - set(cache))  # its older models had these, the bridge not
    for name in set(seen) & set(cache):
        assert seen[name][0].shape == cache[name].shape, name
        if not name.endswith("hook_attn_scores"):  # theirs holds the pattern there
            assert relative_error(seen[name][0], cache[name]) < 1e-6, name
