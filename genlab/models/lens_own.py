"""Conversion to TransformerLens's own models and back: `HookedTransformer` (2 and 3), `TransformerBridge` (4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genlab.errors import UserError
from genlab.models.kinds import count, shapes, views
from genlab.models.lens import BRIDGES, LENS, VERSION, LensConfig, shared_config
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig

_TABLES = {"learned": "standard", "sinusoidal": "standard", "none": "standard", "rotary": "rotary"}
"""Sinusoidal positions are written into its position table; for no positions the table is zero."""
_POSITIONS = _TABLES if BRIDGES else {**_TABLES, "alibi": "alibi"}
_OWN = "TransformerBridge" if BRIDGES else "HookedTransformer"


def why_not(cfg: ModelConfig) -> list[str]:
    """The reasons why a configuration cannot become TransformerLens's own model; empty if it can."""
    reasons = []
    if cfg.positions not in _POSITIONS:
        reasons.append(f"positions {cfg.positions!r} (supported: {', '.join(_POSITIONS)})")
    if cfg.attn_weights != "softmax":
        reasons.append(f"attention weights {cfg.attn_weights!r} (supported: softmax)")
    if cfg.attn_temperature != 1:
        reasons.append(f"an attention temperature of {cfg.attn_temperature} (supported: 1)")
    if cfg.loops > 1 or cfg.loop_growth:
        reasons.append("blocks that are applied more than once")
    if cfg.random_positions:
        reasons.append("random positions")
    if not cfg.final_norm and cfg.normalization_type != "none":
        reasons.append("no final norm (it always has one)")
    if cfg.n_layers == 0:
        reasons.append("no layers")
    return reasons


def to_lens(model: Transformer, run: int = 0) -> Any:
    """One run of a stack as TransformerLens's own model, with the same weights, in evaluation mode.

    That is a `TransformerBridge` from TransformerLens 4 on, and a `HookedTransformer` before.

    Args:
        model: a stack of transformers.
        run: index of the run in the stack.

    Raises:
        UserError: the configuration is not supported; the message lists every reason.
    """
    if not isinstance(model, Transformer):
        raise UserError(f"{type(model).__name__} is not a transformer: TransformerLens has no equivalent")
    if reasons := why_not(model.cfg):
        raise UserError(f"not supported by {_OWN}: {'; '.join(reasons)}; use as_hooked instead")
    return _to_bridge(model, run) if BRIDGES else _to_hooked_transformer(model, run)


@torch.no_grad()
def from_lens(cfg: ModelConfig, own: Any) -> Transformer:
    """Convert a model made by `to_lens`, possibly trained further, back to a stack of one.

    Raises:
        UserError: it has another shape, or its tied embeddings are no longer equal.
    """
    return _from_bridge(cfg, own) if BRIDGES else _from_hooked_transformer(cfg, own)


def to_bridge(model: Transformer, run: int = 0) -> Any:
    """`to_lens`, for code that needs a `TransformerBridge`.

    Raises:
        UserError: as `to_lens`; or TransformerLens is older than 4.
    """
    if not BRIDGES:
        raise UserError(f"to_bridge needs transformer-lens 4 or later, this is {VERSION}: use to_lens instead")
    return to_lens(model, run)


def from_bridge(cfg: ModelConfig, bridge: Any) -> Transformer:
    """`from_lens`, for code that has a `TransformerBridge`.

    Raises:
        UserError: as `from_lens`; or TransformerLens is older than 4.
    """
    if not BRIDGES:
        raise UserError(f"from_bridge needs transformer-lens 4 or later, this is {VERSION}: use from_lens instead")
    return from_lens(cfg, bridge)


def _position_table(model: Transformer) -> Tensor:
    """Sinusoids of all positions, float[n_ctx, d_model]."""
    table = model.positions.embedding(model.params, torch.arange(model.cfg.n_ctx, device=model.flat.device))
    assert table is not None
    return table


# -- `HookedTransformer`: TransformerLens 2 and 3


@torch.no_grad()
def _to_hooked_transformer(model: Transformer, run: int) -> Any:
    cfg = model.cfg
    own = LENS.HookedTransformer(
        LensConfig(
            n_layers=cfg.n_layers,
            device=str(model.flat.device),
            dtype=model.flat.dtype,
            eps=1e-5,
            positional_embedding_type=_POSITIONS[cfg.positions],
            rotary_adjacent_pairs=True,
            init_weights=False,
            **shared_config(cfg),
        ),
        move_to_device=False,
    )
    weights = {name: weight[run] for name, weight in model.params.items()}
    targets = dict(own.named_parameters())
    for weight in targets.values():
        weight.zero_()
    for name, weight in _per_head(cfg, weights):
        targets[name].copy_(weight)
    if cfg.positions == "sinusoidal":
        targets["pos_embed.W_pos"].copy_(_position_table(model))
    if cfg.tie_word_embeddings:
        targets["unembed.W_U"].copy_(weights["embed.W_E"].T)
    return own.eval()


def _from_hooked_transformer(cfg: ModelConfig, own: Any) -> Transformer:
    sources = dict(own.named_parameters())
    flat = torch.zeros(1, count(cfg), dtype=sources["embed.W_E"].dtype)
    for name, into in _per_head(cfg, {name: weight[0] for name, weight in views(flat, cfg).items()}):
        if name not in sources or sources[name].shape != into.shape:
            raise UserError(f"the HookedTransformer has no {name!r} of shape {tuple(into.shape)}: its shape differs")
        into.copy_(sources[name])
    if cfg.tie_word_embeddings and not torch.equal(sources["unembed.W_U"], sources["embed.W_E"].T):
        raise UserError("the configuration ties the embeddings, but those of the HookedTransformer are not equal")
    return Transformer(cfg, flat)


def _per_head(cfg: ModelConfig, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights of one run under HookedTransformer's names and in its shapes, as views."""
    for name, weight in weights.items():
        if name.endswith("_QKV"):  # [d_model, 3 * head * d_head], or the bias without d_model
            for part, of in zip("QKV", weight.unflatten(-1, (3, cfg.n_heads, cfg.d_head)).unbind(-3), strict=True):
                yield name.replace("QKV", part), of.transpose(0, 1) if of.ndim == 3 else of
        elif name.endswith("attn.W_O"):
            yield name, weight.unflatten(0, (cfg.n_heads, cfg.d_head))
        else:
            yield name, weight


# -- `TransformerBridge`: TransformerLens 4


def _to_bridge(model: Transformer, run: int) -> Any:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    cfg = model.cfg
    bridge = TransformerBridge.boot_native(  # pyright: ignore[reportAttributeAccessIssue] (bound at import)
        TransformerBridgeConfig(
            n_layers=cfg.n_layers,
            positional_embedding_type=_POSITIONS[cfg.positions],
            **shared_config(cfg),
            seed=0,
        ),
        dtype=model.flat.dtype,
    )
    weights = {name: weight[run] for name, weight in model.params.items()}
    native = bridge.original_model
    if "unembed.b_U" in weights:
        _head(native).bias = nn.Parameter(torch.zeros_like(weights["unembed.b_U"]))
    targets = _named(native)
    with torch.no_grad():
        for weight in targets.values():
            weight.zero_()
        for name, columns, target in _name_map(cfg):
            targets[target].copy_(_transposed(weights[name][..., columns], name))
        if cfg.positions == "sinusoidal":
            targets["pos.weight"].copy_(_position_table(model))
        if cfg.tie_word_embeddings:
            targets["head.weight"].copy_(weights["embed.W_E"])
    return bridge.eval()


def _from_bridge(cfg: ModelConfig, bridge: Any) -> Transformer:
    sources = _named(bridge.original_model)
    flat = torch.zeros(1, count(cfg), dtype=sources["tok_embed.weight"].dtype)
    weights = views(flat, cfg)
    for name, columns, source in _name_map(cfg):
        into = weights[name][0][..., columns]
        if source not in sources or sources[source].numel() != into.numel():
            raise UserError(f"the TransformerBridge has no {source!r} of the size of {name!r}: its shape differs")
        into.copy_(_transposed(sources[source], name))
    if cfg.tie_word_embeddings and not torch.equal(sources["head.weight"], sources["tok_embed.weight"]):
        raise UserError("the configuration ties the embeddings, but those of the TransformerBridge are not equal")
    return Transformer(cfg, flat)


def _named(native: nn.Module) -> dict[str, Tensor]:
    """Parameters by their names in the native module."""
    return {name.replace("_original_component.", ""): p for name, p in native.named_parameters()}


def _head(native: nn.Module) -> nn.Linear:
    heads = [m for name, m in native.named_modules() if name.startswith("head") and isinstance(m, nn.Linear)]
    return heads[-1]


def _transposed(weight: Tensor, name: str) -> Tensor:
    """A weight in the other convention: linear maps are transposed, embeddings are not."""
    is_map = weight.ndim == 2 and name not in ("embed.W_E", "pos_embed.W_pos")
    return weight.T if is_map else weight


def _name_map(cfg: ModelConfig) -> Iterator[tuple[str, slice, str]]:
    """Our parameter name, its columns, and the bridge's name; here queries, keys and values share one matrix."""
    plain = {"embed.W_E": "tok_embed.weight", "pos_embed.W_pos": "pos.weight"}
    plain |= {"unembed.W_U": "head.weight", "unembed.b_U": "head.bias"}
    ends = {"W": "weight", "b": "bias", "w": "weight"}
    for name in shapes(cfg):
        *path, last = name.split(".")
        prefix = ".".join(path).replace("blocks.", "layers.").replace("ln_final", "ln_out")
        kind, _, which = last.partition("_")
        if name in plain:
            yield name, slice(None), plain[name]
        elif which == "QKV":
            width = cfg.n_heads * cfg.d_head
            for i, part in enumerate("qkv"):
                yield name, slice(i * width, (i + 1) * width), f"{prefix}.{part}.{ends[kind]}"
        else:
            part = {"O": ".o", "in": ".fc_in", "out": ".fc_out", "": ""}[which]
            yield name, slice(None), f"{prefix}{part}.{ends[kind]}"
