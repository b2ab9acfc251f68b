"""Models whose weights are set by hand, so that what their heads do is known exactly; and inputs made of patterns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genlab.models import Transformer, count
from genlab.probes import Batch, ProbeInput
from genlab.probes.inputs import Seen
from genlab.probes.model import Stacked
from genlab.spec import ModelConfig

SHARP = 60.0
"""A difference of scores so large that a softmax is an argmax."""


def shape(
    d_vocab: int, n_ctx: int, extra: int, d_head: int, n_layers: int = 2, n_heads: int = 1, d_mlp: int = 0
) -> ModelConfig:
    """A residual stream of token, position and `extra` free places: no norms, no biases, no MLP unless asked for."""
    return ModelConfig(
        d_vocab=d_vocab, n_ctx=n_ctx, n_layers=n_layers, d_model=d_vocab + n_ctx + extra, n_heads=n_heads,
        d_head=d_head, attn_only=not d_mlp, d_mlp=d_mlp, act_fn="relu", normalization_type="none",
        final_norm=False, bias=False,
    )  # fmt: skip


def blank(cfg: ModelConfig) -> Transformer:
    """All weights 0, but that token and position stand in the residual stream one-hot."""
    model = Transformer(cfg, torch.zeros(1, count(cfg)))
    model.params["embed.W_E"][0, :, : cfg.d_vocab] = torch.eye(cfg.d_vocab)
    model.params["pos_embed.W_pos"][0, :, cfg.d_vocab : cfg.d_vocab + cfg.n_ctx] = torch.eye(cfg.n_ctx)
    return model


def part(model: Transformer, layer: int, which: str, head: int = 0) -> Tensor:
    """W_Q, W_K or W_V `[d_model, d_head]` or W_O `[d_head, d_model]` of a head, to be written into."""
    cfg = model.cfg
    columns = slice(head * cfg.d_head, (head + 1) * cfg.d_head)
    if which == "O":
        return model.params[f"blocks.{layer}.attn.W_O"][0][columns]
    qkv = model.params[f"blocks.{layer}.attn.W_QKV"][0].unflatten(-1, (3, -1))
    return qkv[:, "QKV".index(which), columns]


def set_previous_token(model: Transformer, layer: int = 0, head: int = 0) -> None:
    """Query i asks for position i - 1; what it finds there, the token, goes to the first free places."""
    cfg = model.cfg
    positions = slice(cfg.d_vocab, cfg.d_vocab + cfg.n_ctx)
    part(model, layer, "Q", head)[positions, : cfg.n_ctx] = torch.eye(cfg.n_ctx).roll(-1, 1).tril(-1) * SHARP
    part(model, layer, "K", head)[positions, : cfg.n_ctx] = torch.eye(cfg.n_ctx) * cfg.d_head**0.5
    part(model, layer, "V", head)[: cfg.d_vocab, : cfg.d_vocab] = torch.eye(cfg.d_vocab)
    free = cfg.d_vocab + cfg.n_ctx
    part(model, layer, "O", head)[: cfg.d_vocab, free : free + cfg.d_vocab] = torch.eye(cfg.d_vocab)


def induction_pair(symbols: int, n_ctx: int) -> Transformer:
    """A previous-token head and an induction head; the latter rests on the first token where nothing matches.

    It spreads evenly over all keys whose previous token is the query's. Position 0 finds only itself before it, which
    the MLP between the two takes out: neuron t is relu(previous token is t - position is 0).
    """
    width = max(symbols + 1, n_ctx)
    model = blank(shape(symbols, n_ctx, extra=2 * symbols, d_head=width, d_mlp=symbols))
    set_previous_token(model)
    before = symbols + n_ctx  # where the previous token stands, and where the gated one will
    gated = before + symbols
    model.params["blocks.0.mlp.W_in"][0, before:gated] = torch.eye(symbols)
    model.params["blocks.0.mlp.W_in"][0, symbols] = -1.0
    model.params["blocks.0.mlp.W_out"][0, :, gated:] = torch.eye(symbols)
    scale = width**0.5 * SHARP
    q, k = part(model, 1, "Q"), part(model, 1, "K")
    q[:symbols, :symbols] = torch.eye(symbols)
    k[gated:, :symbols] = torch.eye(symbols) * scale
    q[symbols:before, symbols] = 1.0
    k[symbols, symbols] = scale / 2  # position 0
    return model


def sign_matching(d_vocab: int, n_ctx: int, opens: int, closes: int) -> Transformer:
    """Layer 0 averages brackets as +1 and -1, which is the depth over the place; layer 1 multiplies two such."""
    model = blank(shape(d_vocab, n_ctx, extra=1, d_head=4))
    free = d_vocab + n_ctx
    part(model, 0, "V")[opens, 0], part(model, 0, "V")[closes, 0] = 1.0, -1.0
    part(model, 0, "O")[0, free] = 1.0
    part(model, 1, "Q")[free, 0] = 5.0  # not so sharp that two weights are both 0
    part(model, 1, "K")[free, 0] = 5.0
    return model


def batch_of(tokens: Tensor, length: int = 0, scored: Tensor | None = None) -> Batch:
    """Tokens without pads, each position real."""
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    targets = tokens.roll(-1, 1)
    return Batch(
        length or tokens.shape[1], tokens, targets, everywhere, everywhere if scored is None else scored, None
    )


def given_for(model: Transformer, *batches: Batch, vocab: Sequence[str] = ()) -> ProbeInput:
    """The probe input of a model and batches, without a task."""
    return ProbeInput(Stacked(model), batches, tuple(vocab))


def with_patterns(given: ProbeInput, pattern: Callable[[Batch], Tensor]) -> ProbeInput:
    """The same input, as if every head had attended so: `pattern` gives float[batch, query, key]."""
    seen: list[Seen] = []
    for old in given.seen:
        made = pattern(old.batch)[None, :, None].expand(given.model.n_runs, -1, given.cfg.n_heads, -1, -1)
        names = [f"blocks.{i}.attn.hook_pattern" for i in range(given.cfg.n_layers)]
        seen.append(Seen(old.batch, old.logits, {**old.kept, **dict.fromkeys(names, made)}))
    given.__dict__["seen"] = tuple(seen)
    return given


def repeated(period: int, copies: int, symbols: int, rows: int = 3) -> Tensor:
    """Different tokens, the same again and again: int[rows, period * copies]."""
    generator = torch.Generator().manual_seed(0)
    once = torch.stack([torch.randperm(symbols, generator=generator)[:period] for _ in range(rows)])
    return once.repeat(1, copies)
