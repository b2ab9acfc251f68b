"""One decoder-only transformer, written once for a stack of runs.

Every parameter and activation has a leading `run` axis, so that hundreds of seeds share each launch; one run is a
stack of one. Letters below: R runs, B batch, T pos, D d_model, H n_heads, K d_head, V d_vocab.

`tap(name, tensor)` is called at the places and under the names of TransformerLens; what it returns goes on in the
tensor's place, so that a tap reads or intervenes. Tapped tensors are `[run, ...]` + TransformerLens's own shape.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genlab.models import parameters
from genlab.models.attention import NORMALISERS, fused, written_out
from genlab.models.kernels import Kernel, product, stacked_product
from genlab.models.positions import encoding, stacked_embedding
from genlab.spec import ModelConfig

__all__ = ["Past", "Tap", "Transformer"]

Tap = Callable[[str, Tensor], Tensor]
Drop = Callable[[Tensor], Tensor]


class Transformer:
    """R models of one shape over one flat parameter tensor.

    Attributes:
        cfg: the shape of each model.
        flat: float[run, params], all weights; `params` are named views into it.
    """

    def __init__(self, cfg: ModelConfig, flat: Float[Tensor, "run params"], kernel: Kernel = "torch"):
        """`kernel`: what multiplies the matrices of a stack of one (see `genlab.models.kernels`)."""
        if flat.shape[1] != parameters.count(cfg):
            raise ValueError(f"{flat.shape[1]} weights given, this configuration has {parameters.count(cfg)}")
        self.cfg = cfg
        self.flat = flat
        self.params = parameters.views(flat, cfg)
        self.positions = encoding(cfg)
        self._multiply = product(kernel)

    @property
    def n_runs(self) -> int:
        return self.flat.shape[0]

    def with_params(self, params: dict[str, Tensor]) -> Transformer:
        """The same model reading other tensors (leaves to differentiate by, for example)."""
        other = copy.copy(self)
        other.params = params
        return other

    def __call__(
        self,
        tokens: Int[Tensor, "*run batch pos"],
        offsets: Int[Tensor, "run batch"] | None = None,
        at: Int[Tensor, "run place"] | None = None,
        since: int = 0,
        tap: Tap | None = None,
        drop: Drop | None = None,
        past: Past | None = None,
    ) -> Float[Tensor, "..."]:
        """Logits `[run, batch, pos, d_vocab]`.

        Args:
            tokens: ids; `[batch, pos]` gives every run the same (a stack of one then drops its run axis).
            offsets: position of each example's first token; None is 0.
            at: places in `batch * pos` to give logits at, `[run, place, d_vocab]`; the last block's work elsewhere
                is left out.
            since: a position before which no place of `at` stands; the last block asks no queries before it.
            tap: called at every hook point; attention is then written out.
            drop: dropout, applied after embedding, to attention weights and to what sublayers write.
            past: keys and values of the tokens before these, which it takes up in turn (for decoding).

        Raises:
            ValueError: the tokens reach beyond the context of learned positions.
        """
        single = tokens.ndim == 2 and self.n_runs == 1
        if tokens.ndim == 2:
            tokens = tokens.expand(self.n_runs, -1, -1)
        look = tap or _same
        start = past.length if past else 0
        ids = torch.arange(start, start + tokens.shape[-1], device=tokens.device)
        if offsets is not None and self.positions.offset_while_training:
            ids = ids + offsets[..., None]
        self._check_reach(start + tokens.shape[-1])
        x = self._embed(tokens, ids, look, drop)
        # With dropout places are taken at the very end: a run's masks must not depend on how many another run has.
        early = at is not None and drop is None and self.cfg.n_layers > 0
        since = since if early and tap is None else 0
        rest = None if at is None else self._rows(at, tokens.shape, since)
        for i in range(self.cfg.n_layers):
            last = early and i == self.cfg.n_layers - 1
            x = self._block(f"blocks.{i}", x, ids, tap, drop, past, rest if last else None, since if last else 0)
        if rest is not None and not early:
            x = _take(x, rest)
        if past is not None:
            past.length += tokens.shape[-1]
        logits = self._unembed(self._norm("ln_final", x, look) if self.cfg.final_norm else x)
        if at is not None:
            logits = logits.squeeze(1)  # places stand in a batch of one
        return logits.squeeze(0) if single else logits

    # -- stages ----------------------------------------------------------------------------------------------

    def _check_reach(self, reach: int) -> None:
        if self.cfg.positions == "learned" and reach > self.cfg.n_ctx:
            raise ValueError(f"{reach} positions asked of a model whose context is {self.cfg.n_ctx} (n_ctx)")

    def _embed(self, tokens: Tensor, ids: Tensor, look: Tap, drop: Drop | None) -> Tensor:
        x = look("hook_embed", stacked_embedding(self.params["embed.W_E"], tokens))
        added = self.positions.embedding(self.params, ids)
        if added is not None:
            # A tap finds the full shape and may write into it; without one, broadcasting does.
            x = x + (added if look is _same else look("hook_pos_embed", added.expand_as(x).clone()))
        return _dropped(x, drop)

    def _block(
        self,
        name: str,
        x: Tensor,
        ids: Tensor,
        tap: Tap | None,
        drop: Drop | None,
        past: Past | None,
        keep: Tensor | None,
        since: int,
    ) -> Tensor:
        look = tap or _same
        x = look(f"{name}.hook_resid_pre", x)
        z = self._attend(name, self._norm(f"{name}.ln1", x, look), ids, tap, drop, past, since)
        if keep is not None:
            z, x = _take(z, keep), _take(x[..., since:, :], keep)
        out = look(f"{name}.hook_attn_out", self._linear(f"{name}.attn", "O", z))
        x = x + _dropped(out, drop)
        if not self.cfg.attn_only:
            x = look(f"{name}.hook_resid_mid", x)
            out = look(f"{name}.hook_mlp_out", self._mlp(name, self._norm(f"{name}.ln2", x, look), look))
            x = x + _dropped(out, drop)
        return look(f"{name}.hook_resid_post", x)

    def _attend(
        self, name: str, x: Tensor, ids: Tensor, tap: Tap | None, drop: Drop | None, past: Past | None, since: int
    ) -> Tensor:
        """z of all heads, joined, for the queries from `since` on: `[run, batch, pos, head * d_head]`."""
        cfg, place = self.cfg, f"{name}.attn"
        qkv = self._linear(place, "QKV", x).unflatten(-1, (3, cfg.n_heads, cfg.d_head))  # [R, B, T, 3, H, K]
        q, k, v = qkv.unbind(-3)
        look = tap or _same
        q, k, v = (look(f"{place}.hook_{n}", y).transpose(-3, -2) for n, y in zip("qkv", (q, k, v), strict=True))
        head_ids = ids if ids.ndim == 1 else ids[..., None, :]
        q, k = self.positions.turn(q, head_ids), self.positions.turn(k, head_ids)
        if cfg.positions == "rotary" and tap:
            q, k = (
                look(f"{place}.hook_rot_{n}", y.transpose(-3, -2)).transpose(-3, -2) for n, y in (("q", q), ("k", k))
            )
        key_ids = ids
        if past is not None:
            k, v, key_ids = past.extend(place, k, v, ids)
        q = q[..., since:, :]
        bias = self.positions.bias(ids[..., since:], key_ids)
        if tap is None and drop is None and cfg.attn_weights == "softmax":
            z = fused(q, k, v, bias)
        else:
            z = written_out(
                q,
                k,
                v,
                bias,
                NORMALISERS[cfg.attn_weights],
                on_scores=lambda s: look(f"{place}.hook_attn_scores", s),
                on_pattern=lambda p: _dropped(look(f"{place}.hook_pattern", p), drop),
            )
        return look(f"{place}.hook_z", z.transpose(-3, -2)).flatten(-2)

    def _mlp(self, name: str, x: Tensor, look: Tap) -> Tensor:
        pre = look(f"{name}.mlp.hook_pre", self._linear(f"{name}.mlp", "in", x))
        post = F.gelu(pre) if self.cfg.act_fn == "gelu" else F.relu(pre)
        return self._linear(f"{name}.mlp", "out", look(f"{name}.mlp.hook_post", post))

    def _unembed(self, x: Tensor) -> Tensor:
        if self.cfg.tie_word_embeddings:
            return self._product(x, self.params["embed.W_E"].transpose(1, 2), None)
        return self._linear("unembed", "U", x)

    # -- the few operations that know of the run axis ----------------------------------------------------------

    def _linear(self, place: str, name: str, x: Tensor) -> Tensor:
        return self._product(x, self.params[f"{place}.W_{name}"], self.params.get(f"{place}.b_{name}"))

    def _norm(self, name: str, x: Tensor, look: Tap) -> Tensor:
        """LayerNorm or RMSNorm with each run's own gain, or nothing."""
        if self.cfg.normalization_type == "none":
            return x
        gain, shift = self.params[f"{name}.w"], self.params.get(f"{name}.b")
        if look is _same and self.n_runs == 1:  # one kernel instead of five
            width, gain = gain.shape[1:], gain.squeeze(0)
            if shift is None:
                return F.rms_norm(x, width, gain, EPS)
            return F.layer_norm(x, width, gain, shift.squeeze(0), EPS)
        if shift is not None:
            x = x - x.mean(-1, keepdim=True)
        scale = look(f"{name}.hook_scale", (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt())
        x = look(f"{name}.hook_normalized", x / scale) * gain[:, None, None]
        return x if shift is None else x + shift[:, None, None]

    def _product(self, x: Tensor, weight: Float[Tensor, "run d_in d_out"], bias: Tensor | None) -> Tensor:
        """x W + b, each run with its own W and b."""
        return stacked_product(self._multiply, x, weight, bias)

    def _rows(self, at: Tensor, shape: torch.Size, since: int) -> Tensor:
        """Places `[run, place]` in batch * pos -> rows of `[run * batch * (pos - since)]`."""
        runs, batch, pos = shape
        before = since * (at // pos + 1)  # rows left out before a place, in its own example and those above it
        return at - before + batch * (pos - since) * torch.arange(runs, device=at.device)[:, None]


class Past:
    """Keys, values and positions of the tokens read so far, a block a name: what decoding need not compute again.

    Attributes:
        length: tokens read so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._kept: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def extend(self, place: str, k: Tensor, v: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take up the new tokens' keys, values `[run, batch, head, pos, d_head]` and ids; give those of all."""
        if place in self._kept:
            old_k, old_v, old_ids = self._kept[place]
            k, v = torch.cat([old_k, k], dim=-2), torch.cat([old_v, v], dim=-2)
            ids = torch.cat([old_ids, ids], dim=-1)
        self._kept[place] = (k, v, ids)
        return k, v, ids


EPS = 1e-5
"""Added to the variance in every norm, as in GPT-2."""


def _same(_name: str, x: Tensor) -> Tensor:
    """The tap that neither reads nor changes."""
    return x


def _dropped(x: Tensor, drop: Drop | None) -> Tensor:
    return drop(x) if drop else x


def _take(x: Float[Tensor, "run batch pos width"], rows: Int[Tensor, "run place"]) -> Tensor:
    """The activations at given rows, as one batch a run: `[run, 1, place, width]`."""
    return x.reshape(-1, x.shape[-1]).index_select(0, rows.flatten()).view(len(rows), 1, -1, x.shape[-1])
