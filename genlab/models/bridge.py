"""A model as a `TransformerBridge` of TransformerLens with equal logits, where it can be one; and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genlab.errors import UserError
from genlab.models.parameters import count, shapes, views
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig

__all__ = ["from_bridge", "to_bridge", "why_not"]

_POSITIONS = {"learned": "standard", "sinusoidal": "standard", "none": "standard", "rotary": "rotary"}
"""Sinusoids stand in its table of positions, and no positions are a table of zeros."""
_NORMS = {"LN": "LN", "RMS": "RMS", "none": None}
"""Any other string would be taken for LN there without a word."""


def why_not(cfg: ModelConfig) -> list[str]:
    """Why a configuration has no `TransformerBridge`: every reason, none if it has one."""
    reasons = []
    if cfg.positions not in _POSITIONS:
        reasons.append(f"positions {cfg.positions!r} (it has learned, sinusoidal, none and rotary)")
    if cfg.attn_weights != "softmax":
        reasons.append(f"attention weights {cfg.attn_weights!r} (it has softmax)")
    if cfg.attn_temperature != 1:
        reasons.append(f"an attention temperature of {cfg.attn_temperature} (it has 1)")
    if cfg.loops > 1 or cfg.loop_growth:
        reasons.append("blocks that are applied several times")
    if cfg.random_positions:
        reasons.append("random positions")
    if not cfg.final_norm and cfg.normalization_type != "none":
        reasons.append("no final norm (it always has one)")
    if cfg.n_layers == 0:
        reasons.append("no layers")
    return reasons


def to_bridge(model: Transformer, run: int = 0) -> Any:
    """One run of a stack as a `TransformerBridge` with the same weights, in evaluation mode.

    Raises:
        UserError: it cannot represent the configuration; says each reason.
    """
    if not isinstance(model, Transformer):
        raise UserError(f"a {type(model).__name__} is no transformer: TransformerLens has nothing like it")
    cfg = model.cfg
    if reasons := why_not(cfg):
        raise UserError(f"no TransformerBridge can be this model: {'; '.join(reasons)}; as_hooked takes any")
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_native(  # pyright: ignore[reportAttributeAccessIssue] (bound at import)
        TransformerBridgeConfig(
            d_model=cfg.d_model,
            d_head=cfg.d_head,
            n_heads=cfg.n_heads,
            n_layers=cfg.n_layers,
            n_ctx=cfg.n_ctx,
            d_vocab=cfg.d_vocab,
            d_mlp=cfg.d_mlp or None,
            act_fn=cfg.act_fn,
            attn_only=cfg.attn_only,
            normalization_type=_NORMS[cfg.normalization_type],
            positional_embedding_type=_POSITIONS[cfg.positions],
            default_prepend_bos=False,
            seed=0,
        ),
        dtype=model.flat.dtype,
    )
    weights = {name: weight[run] for name, weight in model.params.items()}
    native = bridge.original_model
    if "unembed.b_U" in weights:
        _head(native).bias = nn.Parameter(torch.zeros_like(weights["unembed.b_U"]))
    theirs = _named(native)
    with torch.no_grad():
        for weight in theirs.values():
            weight.zero_()
        for name, columns, place in _places(cfg):
            theirs[place].copy_(_their(weights[name][..., columns], name))
        if cfg.positions == "sinusoidal":
            ids = torch.arange(cfg.n_ctx, device=model.flat.device)
            table = model.positions.embedding(model.params, ids)
            assert table is not None
            theirs["pos.weight"].copy_(table)
        if cfg.tie_word_embeddings:
            theirs["head.weight"].copy_(weights["embed.W_E"])
    return bridge.eval()


@torch.no_grad()
def from_bridge(cfg: ModelConfig, bridge: Any) -> Transformer:
    """The stack of one whose weights a `TransformerBridge` made by `to_bridge` carries (trained on, perhaps).

    Raises:
        UserError: the bridge has another shape, or tied embeddings that have come apart.
    """
    theirs = _named(bridge.original_model)
    flat = torch.zeros(1, count(cfg), dtype=theirs["tok_embed.weight"].dtype)
    ours = views(flat, cfg)
    for name, columns, place in _places(cfg):
        into = ours[name][0][..., columns]
        if place not in theirs or theirs[place].numel() != into.numel():
            raise UserError(f"this TransformerBridge has no {place!r} of the size of {name!r}: it has another shape")
        into.copy_(_their(theirs[place], name))
    if cfg.tie_word_embeddings and not torch.equal(theirs["head.weight"], theirs["tok_embed.weight"]):
        raise UserError("the embeddings of this TransformerBridge have come apart; the configuration ties them")
    return Transformer(cfg, flat)


def _named(native: nn.Module) -> dict[str, Tensor]:
    """Parameters by the names of the plain module."""
    return {name.replace("_original_component.", ""): p for name, p in native.named_parameters()}


def _head(native: nn.Module) -> nn.Linear:
    found = [m for name, m in native.named_modules() if name.startswith("head") and isinstance(m, nn.Linear)]
    return found[-1]


def _their(weight: Tensor, name: str) -> Tensor:
    """One of our weights as theirs: maps are transposed there, embeddings are not."""
    is_map = weight.ndim == 2 and name not in ("embed.W_E", "pos_embed.W_pos")
    return weight.T if is_map else weight


def _places(cfg: ModelConfig) -> Iterator[tuple[str, slice, str]]:
    """Our name, which of its columns, and their name; queries, keys and values are one matrix here."""
    plain = {"embed.W_E": "tok_embed.weight", "pos_embed.W_pos": "pos.weight"}
    plain |= {"unembed.W_U": "head.weight", "unembed.b_U": "head.bias"}
    ends = {"W": "weight", "b": "bias", "w": "weight"}
    for name in shapes(cfg):
        *path, last = name.split(".")
        place = ".".join(path).replace("blocks.", "layers.").replace("ln_final", "ln_out")
        kind, _, which = last.partition("_")
        if name in plain:
            yield name, slice(None), plain[name]
        elif which == "QKV":
            width = cfg.n_heads * cfg.d_head
            for i, part in enumerate("qkv"):
                yield name, slice(i * width, (i + 1) * width), f"{place}.{part}.{ends[kind]}"
        else:
            part = {"O": ".o", "in": ".fc_in", "out": ".fc_out", "": ""}[which]
            yield name, slice(None), f"{place}{part}.{ends[kind]}"
