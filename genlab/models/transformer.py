"""A decoder-only transformer, vectorized over a stack of runs.

Every parameter and activation has a leading `run` axis (see `stacked.py`). Letters below: R runs, B batch, T pos,
D d_model, H n_heads, K d_head, V d_vocab.

`tap(name, tensor)` is called at TransformerLens's hook points, under its names, and its return value replaces the
tensor, so a tap can read or intervene. Tapped tensors are `[run, ...]` followed by TransformerLens's own shape. When
the blocks are applied several times, a tap sees each application as a further block.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.models.attention import explicit_attention, fused_attention
from genlab.models.normalisers import ACROSS_QUERIES, learnt_weights, normaliser, weigher
from genlab.models.parameters import Weight, Weights, linear, norm, unembedding
from genlab.models.positions import encoding, stacked_embedding
from genlab.models.stacked import Call, Past, StackedModel, Tap, apply_dropout, gather_rows, identity
from genlab.spec import ModelConfig

PAD = 0
"""The id of `<pad>` in every vocabulary (`genlab.tasks.Vocab`)."""


class Transformer(StackedModel):
    """R transformers of one shape over one flat parameter tensor."""

    def __init__(self, cfg: ModelConfig, flat: Float[Tensor, "run params"]):
        super().__init__(cfg, flat)
        self.positions = encoding(cfg)

    @classmethod
    def weights(cls, cfg: ModelConfig) -> Weights:
        """Embeddings, the parameters of each block, the final norm, and the unembedding."""
        d, heads, mlp, positions = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp, encoding(cfg)
        declared: Weights = {"embed.W_E": Weight((cfg.d_vocab, d), cfg.init_std), **positions.shared_weights()}
        for i in range(cfg.n_layers):
            block = f"blocks.{i}"
            declared |= norm(cfg, f"{block}.ln1")
            declared |= linear(cfg, f"{block}.attn", "QKV", d, 3 * heads) | linear(
                cfg, f"{block}.attn", "O", heads, d
            )
            own = positions.block_weights() | learnt_weights(cfg)
            declared |= {f"{block}.attn.{name}": weight for name, weight in own.items()}
            if not cfg.attn_only:
                declared |= norm(cfg, f"{block}.ln2")
                declared |= linear(cfg, f"{block}.mlp", "in", d, mlp) | linear(cfg, f"{block}.mlp", "out", mlp, d)
        if cfg.final_norm:
            declared |= norm(cfg, "ln_final")
        if not cfg.tie_word_embeddings:
            declared |= unembedding(cfg, d)
        return declared

    def _logits(self, tokens: Int[Tensor, "run batch pos"], call: Call) -> Tensor:
        ids, loops = self._ids(tokens.shape[-1], call, tokens == PAD), self._loops(call)
        most = loops if isinstance(loops, int) else int(loops.max())
        # With dropout, positions are selected last: a run's mask must not depend on the other runs' counts.
        early = call.at is not None and call.drop is None and self.cfg.n_layers > 0 and isinstance(loops, int)
        since = call.since if early and call.tap is None else 0
        rest = None if call.at is None else self._rows(call.at, tokens.shape, since)
        x = self._embed(tokens, ids, call) if call.packing is None else self._embed_packed(tokens, ids, call)
        for loop in range(most):
            before = x
            for i in range(self.cfg.n_layers):
                last = early and (loop, i) == (most - 1, self.cfg.n_layers - 1)
                x = self._block(i, loop, x, ids, call, rest if last else None, since if last else 0)
            if not isinstance(loops, int):
                x = torch.where((loop < loops)[..., None, None], x, before)
        if rest is not None and not early:
            x = gather_rows(x, rest)
        return self._unembed(self.before_unembedding(x, call.tap))

    def before_unembedding(
        self, x: Float[Tensor, "run batch pos d_model"], tap: Tap | None = None
    ) -> Float[Tensor, "run batch pos d_model"]:
        """The input of the unembedding, given the residual stream after the last block."""
        return self._norm("ln_final", x, tap or identity) if self.cfg.final_norm else x

    def unembedding(self) -> tuple[Float[Tensor, "run d_model d_vocab"], Float[Tensor, "run d_vocab"]]:
        """W and b of logits = x W + b; b is zero if the unembedding has no bias."""
        if self.cfg.tie_word_embeddings:
            w, b = self.params["embed.W_E"].transpose(1, 2), None
        else:
            w, b = self.params["unembed.W_U"], self.params.get("unembed.b_U")
        return w, w.new_zeros(self.n_runs, self.cfg.d_vocab) if b is None else b

    def block(
        self,
        layer: int,
        x: Float[Tensor, "run batch pos d_model"],
        offsets: Tensor | None = None,
        past: Past | None = None,
    ) -> Float[Tensor, "run batch pos d_model"]:
        """Apply one block to the residual stream; repeated blocks count as further layers, as for taps.

        Args:
            layer: index of the block.
            x: the residual stream before it.
            offsets: see `__call__`.
            past: the block's cache for earlier positions, which is extended.
        """
        call = Call(offsets, None, 0, None, None, past, None, False)
        loop, i = divmod(layer, self.cfg.n_layers)
        after = self._block(i, loop, x, self._ids(x.shape[-2], call), call, None, 0)
        if past is not None:
            past.length += x.shape[-2]
        return after

    # -- Stages

    def _ids(self, count: int, call: Call, pads: Tensor | None = None) -> Tensor:
        """Positions of the next `count` tokens, int[pos] or int[run, batch, pos]."""
        end = call.start + count
        if self.cfg.needs_ids:
            given = call.offsets
            if given is None or given.ndim < 3 or given.shape[-1] < end:
                raise ValueError(f"the positions of all {end} tokens must be given, as `offsets` [run, batch, pos]")
            return given[..., call.start : end]
        reach = self.positions.reach()
        if reach is not None and end > reach:
            raise ValueError(f"{end} positions requested from a model with a context of {reach} (n_ctx)")
        ids = torch.arange(call.start, end, device=self.flat.device)
        if call.offsets is None or not self.positions.offset_while_training:
            return ids
        ids = ids + call.offsets[..., None]
        if reach is None or pads is None:
            return ids
        # Padding may lie beyond the context, when a short example with a large offset is padded to a longer one.
        within = ids.clamp(max=reach - 1)
        return within if call.training else torch.where(pads, within, ids)

    def _loops(self, call: Call) -> int | Int[Tensor, "run batch"]:
        """How many times the blocks are applied: the same for all examples, or int[run, batch] by length."""
        if not self.cfg.loop_growth:
            return self.cfg.loops
        if call.lengths is None:
            raise ValueError("the number of loops grows with the length of each example: `lengths` must be given")
        return self.cfg.loops + (self.cfg.loop_growth * call.lengths).floor().long()

    def _embed(self, tokens: Tensor, ids: Tensor, call: Call) -> Tensor:
        hook = call.tap or identity
        x = hook("hook_embed", stacked_embedding(self.params["embed.W_E"], tokens))
        added = self.positions.embedding(self.params, ids)
        if added is not None:
            # A tap gets the full shape and may write into it; without one, broadcasting suffices.
            x = x + (added if hook is identity else hook("hook_pos_embed", added.expand_as(x).clone()))
        return apply_dropout(x, call.drop)

    def _embed_packed(self, tokens: Tensor, ids: Tensor, call: Call) -> Tensor:
        assert call.packing is not None
        places = call.packing.places
        flat = ids.expand(tokens.shape).flatten(1)
        return self._embed(tokens.flatten(1).gather(1, places)[:, None], flat.gather(1, places)[:, None], call)

    def _block(
        self, i: int, loop: int, x: Tensor, ids: Tensor, call: Call, keep: Tensor | None, since: int
    ) -> Tensor:
        """Block i, applied for the `loop`-th time (from 0); returns only the rows `keep` of its output, if given."""
        name, tap = f"blocks.{i}", _as_block(call.tap, i, i + loop * self.cfg.n_layers)
        hook = tap or identity
        x = hook(f"{name}.hook_resid_pre", x)
        z = self._attend(name, loop, self._norm(f"{name}.ln1", x, hook), ids, tap, call, since)
        if keep is None:
            z = z if call.packing is None else call.packing.pack(z)
        elif call.packing is None:
            z, x = gather_rows(z, keep), gather_rows(x[..., since:, :], keep)
        else:
            assert call.at is not None
            width = ids.shape[-1]
            z = gather_rows(z[:, None], call.packing.cell_of(call.at, width, since))
            x = gather_rows(x, call.packing.token_of(call.at, width))
        out = hook(f"{name}.hook_attn_out", self._linear(f"{name}.attn", "O", z))
        x = x + apply_dropout(out, call.drop)
        if not self.cfg.attn_only:
            x = hook(f"{name}.hook_resid_mid", x)
            out = hook(f"{name}.hook_mlp_out", self._mlp(name, self._norm(f"{name}.ln2", x, hook), hook))
            x = x + apply_dropout(out, call.drop)
        return hook(f"{name}.hook_resid_post", x)

    def _attend(
        self, name: str, loop: int, x: Tensor, ids: Tensor, tap: Tap | None, call: Call, since: int
    ) -> Tensor:
        """z of all heads, concatenated, for the queries from `since` on: `[run, batch, pos, head * d_head]`.

        Of a packed batch, `[run, cell, head * d_head]` (see `Packing`).
        """
        qkv = self._linear(f"{name}.attn", "QKV", x)
        if call.packing is None:
            return self._mix(name, loop, qkv, ids, tap, call, since)
        groups = zip(call.packing.unpack(qkv), call.packing.of_group(ids), strict=True)
        parts = [self._mix(name, loop, part, own, tap, call, since).flatten(1, 2) for part, own in groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _mix(self, name: str, loop: int, qkv: Tensor, ids: Tensor, tap: Tap | None, call: Call, since: int) -> Tensor:
        """z of all heads, given their queries, keys and values, `[run, batch, pos, 3 * head * d_head]`."""
        cfg, prefix, hook = self.cfg, f"{name}.attn", tap or identity
        qkv = qkv.unflatten(-1, (3, cfg.n_heads, cfg.d_head))  # [R, B, T, 3, H, K]
        q, k, v = qkv.unbind(-3)
        q, k, v = (hook(f"{prefix}.hook_{n}", y).transpose(-3, -2) for n, y in zip("qkv", (q, k, v), strict=True))
        head_ids = ids if ids.ndim == 1 else ids[..., None, :]
        q, k = self.positions.turn(q, head_ids), self.positions.turn(k, head_ids)
        if cfg.positions == "rotary" and tap:
            q, k = (
                hook(f"{prefix}.hook_rot_{n}", y.transpose(-3, -2)).transpose(-3, -2) for n, y in (("q", q), ("k", k))
            )
        key_ids, memory = ids, None
        if call.past is not None:
            k, v, key_ids = call.past.extend(f"{prefix}/{loop}", k, v, ids)
            memory = call.past.memory(f"{prefix}/{loop}")
        first = 0 if cfg.attn_weights in ACROSS_QUERIES else since
        q = q[..., first:, :]
        bias = self.positions.bias(self._position_params(prefix), ids[..., first:], key_ids)
        if tap is None and call.drop is None and normaliser(cfg, call.training) == "softmax":
            z = fused_attention(q, k, v, bias, cfg.attn_temperature)
        else:
            z = explicit_attention(
                q,
                k,
                v,
                bias,
                weigher(cfg, self.params, prefix, call.training, memory),
                on_scores=lambda s: hook(f"{prefix}.hook_attn_scores", s),
                on_pattern=lambda p: apply_dropout(hook(f"{prefix}.hook_pattern", p), call.drop),
            )
        return hook(f"{prefix}.hook_z", z[..., since - first :, :].transpose(-3, -2)).flatten(-2)

    def _position_params(self, prefix: str) -> dict[str, Tensor]:
        shared = {name: self.params[name] for name in self.positions.shared_weights()}
        return shared | {name: self.params[f"{prefix}.{name}"] for name in self.positions.block_weights()}

    def _mlp(self, name: str, x: Tensor, hook: Tap) -> Tensor:
        pre = hook(f"{name}.mlp.hook_pre", self._linear(f"{name}.mlp", "in", x))
        post = self._activation(pre)
        return self._linear(f"{name}.mlp", "out", hook(f"{name}.mlp.hook_post", post))


def _as_block(tap: Tap | None, i: int, shown: int) -> Tap | None:
    """A tap that sees block i under another block number."""

    if tap is None or shown == i:
        return tap
    return lambda name, x: tap(name.replace(f"blocks.{i}.", f"blocks.{shown}.", 1), x)
