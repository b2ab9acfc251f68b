"""A set model for real-valued items: an MLP for each item and the query, one cross-attention layer, an output MLP.

The model of Velickovic et al. 2024 (Softmax is not enough, arXiv 2410.01104), stacked over runs and called like the
transformer, with `values` instead of tokens. It is permutation invariant, so it can be evaluated on sets of any size,
and errors on larger sets come from the attention weights alone. Letters below: R runs, B batch, N items, V width of
an item, H n_heads, K d_head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.models.attention import explicit_attention, fused_attention
from genlab.models.normalisers import learnt_weights, normaliser, weigher
from genlab.models.parameters import Weights, linear
from genlab.models.stacked import Drop, FlatModel, Tap, stacked_product
from genlab.spec import ModelConfig


class SetModel(FlatModel):
    """R set models of one shape over one flat parameter tensor; requires `cfg.d_values` > 0."""

    @classmethod
    def weights(cls, cfg: ModelConfig) -> Weights:
        """The item, query and output MLPs, and one attention layer."""
        d, heads, mlp, prefix = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp, "blocks.0.attn"
        declared: Weights = {}
        for name, d_in, d_out in (("items", cfg.d_values, d), ("query", cfg.d_values, d), ("answer", d, cfg.d_vocab)):
            declared |= linear(cfg, f"{name}.mlp", "in", d_in, mlp) | linear(cfg, f"{name}.mlp", "out", mlp, d_out)
        declared |= linear(cfg, prefix, "Q", d, heads) | linear(cfg, prefix, "KV", d, 2 * heads)
        declared |= {f"{prefix}.{name}": weight for name, weight in learnt_weights(cfg).items()}
        return declared | linear(cfg, prefix, "O", heads, d)

    def __call__(
        self,
        values: Float[Tensor, "*run batch pos d_values"],
        offsets: Int[Tensor, "run batch"] | None = None,
        at: Int[Tensor, "run place"] | None = None,
        since: int = 0,
        tap: Tap | None = None,
        drop: Drop | None = None,
        lengths: Int[Tensor, "run batch"] | None = None,
        training: bool = False,
    ) -> Float[Tensor, "*run place d_vocab"]:
        """Logits at the query of each example; the items are all positions before it.

        Args:
            values: items and query; `[batch, pos, d_values]` gives every run the same input (a stack of one then
                drops its run axis).
            offsets: ignored (there are no positions).
            at: positions of the queries as flat indices into `batch * pos`, one per example in order and the same for
                all runs; None means the last position.
            since: ignored (there is one query).
            tap: called at the hook points of the attention, once for each distinct number of items; attention is then
                computed explicitly.
            drop: dropout, applied to the MLP outputs and to the attention weights.
            lengths: ignored (there are no loops).
            training: whether this is a training pass, for variants that act only at inference.

        Raises:
            ValueError: `at` is not one position per example, or differs between runs.
        """
        del offsets, since, lengths
        single = values.ndim == 3 and self.n_runs == 1
        if values.ndim == 3:
            values = values.expand(self.n_runs, -1, -1, -1)
        batch, pos = values.shape[1:3]
        column = torch.full((batch,), pos - 1, device=values.device) if at is None else _columns(at, batch, pos)
        values = values.to(self.params["items.mlp.W_in"].dtype)
        logits: list[Tensor] = []
        rows: list[Tensor] = []
        for count in column.unique().tolist():  # group examples by set size, so that no mask is needed
            rows.append((column == count).nonzero().squeeze(1))
            some = values if len(rows[-1]) == batch else values[:, rows[-1]]
            logits.append(self._answers(some[:, :, :count], some[:, :, count], tap, drop, training))
        stacked = logits[0] if len(rows) == 1 else torch.cat(logits, dim=1)[:, torch.cat(rows).argsort()]
        return stacked.squeeze(0) if single else stacked

    def _answers(self, items: Tensor, query: Tensor, tap: Tap | None, drop: Drop | None, training: bool) -> Tensor:
        """Logits `[R, B, d_vocab]` for queries `[R, B, V]` and items `[R, B, N, V]`."""
        hook = tap or _identity
        prefix = "blocks.0.attn"
        x, y = self._mlp("items", items, drop), self._mlp("query", query, drop)
        q = hook(f"{prefix}.hook_q", self._heads(self._linear(prefix, "Q", y[:, :, None])))  # [R, B, 1, H, K]
        k, v = (
            hook(f"{prefix}.hook_{name}", self._heads(part))
            for name, part in zip("kv", self._linear(prefix, "KV", x).chunk(2, dim=-1), strict=True)
        )
        q, k, v = (part.transpose(-3, -2) for part in (q, k, v))
        if tap is None and drop is None and normaliser(self.cfg, training) == "softmax":
            z = fused_attention(q, k, v, None, self.cfg.attn_temperature)
        else:
            z = explicit_attention(
                q,
                k,
                v,
                None,
                weigher(self.cfg, self.params, prefix, training),
                on_scores=lambda s: hook(f"{prefix}.hook_attn_scores", s),
                on_pattern=lambda p: _apply_dropout(hook(f"{prefix}.hook_pattern", p), drop),
            )
        z = hook(f"{prefix}.hook_z", z.transpose(-3, -2)).flatten(-2).squeeze(2)  # [R, B, H K]
        return self._mlp("answer", self._linear(prefix, "O", z), None)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.cfg.n_heads, self.cfg.d_head))

    def _mlp(self, name: str, x: Tensor, drop: Drop | None) -> Tensor:
        hidden = self._linear(f"{name}.mlp", "in", x)
        return _apply_dropout(self._linear(f"{name}.mlp", "out", self._activation(hidden)), drop)

    def _linear(self, prefix: str, name: str, x: Tensor) -> Tensor:
        weight, bias = self.params[f"{prefix}.W_{name}"], self.params.get(f"{prefix}.b_{name}")
        return stacked_product(x, weight, bias)


def _columns(at: Int[Tensor, "run place"], batch: int, pos: int) -> Int[Tensor, " batch"]:
    """The position of each example's query, int[batch]."""
    flat = at[0]
    rows = torch.arange(batch, device=at.device)
    if at.shape[1] != batch or not bool((at == flat).all()) or not bool((flat // pos == rows).all()):
        raise ValueError("a set model answers one query per example, at the same position in all runs")
    return flat % pos


def _identity(_name: str, x: Tensor) -> Tensor:
    return x


def _apply_dropout(x: Tensor, drop: Drop | None) -> Tensor:
    return drop(x) if drop else x
