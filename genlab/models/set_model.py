"""A model of sets of real-valued items: an MLP on each item and on a query, one attention from the query, an MLP out.

That of Velickovic et al. 2024 (Softmax is not enough, arXiv 2410.01104), written for a stack of runs like the
transformer and called like it, with `values` in the place of tokens. It knows no order, so that it may be asked of
ever more items: what it then gets wrong is its attention weights alone. Letters below: R runs, B batch, N items,
V width of an item, H n_heads, K d_head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.models.attention import fused, written_out
from genlab.models.normalisers import learnt_weights, normaliser, weigher
from genlab.models.parameters import Weights, linear
from genlab.models.stacked import Drop, FlatModel, Tap, stacked_product
from genlab.spec import ModelConfig


class SetModel(FlatModel):
    """R set models of one shape over one flat parameter tensor; `d_values` of their configuration is not 0."""

    @classmethod
    def weights(cls, cfg: ModelConfig) -> Weights:
        """The MLPs of items, query and answer, and one attention."""
        d, heads, mlp, place = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp, "blocks.0.attn"
        found: Weights = {}
        for name, d_in, d_out in (("items", cfg.d_values, d), ("query", cfg.d_values, d), ("answer", d, cfg.d_vocab)):
            found |= linear(cfg, f"{name}.mlp", "in", d_in, mlp) | linear(cfg, f"{name}.mlp", "out", mlp, d_out)
        found |= linear(cfg, place, "Q", d, heads) | linear(cfg, place, "KV", d, 2 * heads)
        found |= {f"{place}.{name}": weight for name, weight in learnt_weights(cfg).items()}
        return found | linear(cfg, place, "O", heads, d)

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
        """Logits at the query of each example; the items are all that stands before it.

        Args:
            values: items and query; `[batch, pos, d_values]` gives every run the same (a stack of one then drops its
                run axis).
            offsets: not used, for there are no positions.
            at: where the queries stand, in `batch * pos`, one for each example in order and alike for all runs;
                None is the last position.
            since: not used, for there is one query.
            tap: called at the hook points of the attention, once for each number of items; it is then written out.
            drop: dropout, applied to what the MLPs write and to the attention weights.
            lengths: not used, for there are no loops.
            training: whether the weights are being trained, for what acts at inference alone.

        Raises:
            ValueError: `at` is not one place for each example, or differs between runs.
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
        for count in column.unique().tolist():  # examples of one size together: no item of another's is in the way
            rows.append((column == count).nonzero().squeeze(1))
            some = values if len(rows[-1]) == batch else values[:, rows[-1]]
            logits.append(self._answers(some[:, :, :count], some[:, :, count], tap, drop, training))
        found = logits[0] if len(rows) == 1 else torch.cat(logits, dim=1)[:, torch.cat(rows).argsort()]
        return found.squeeze(0) if single else found

    def _answers(self, items: Tensor, query: Tensor, tap: Tap | None, drop: Drop | None, training: bool) -> Tensor:
        """Logits `[R, B, d_vocab]` of queries `[R, B, V]` to items `[R, B, N, V]`."""
        look = tap or _same
        place = "blocks.0.attn"
        x, y = self._mlp("items", items, drop), self._mlp("query", query, drop)
        q = look(f"{place}.hook_q", self._heads(self._linear(place, "Q", y[:, :, None])))  # [R, B, 1, H, K]
        k, v = (
            look(f"{place}.hook_{name}", self._heads(part))
            for name, part in zip("kv", self._linear(place, "KV", x).chunk(2, dim=-1), strict=True)
        )
        q, k, v = (part.transpose(-3, -2) for part in (q, k, v))
        if tap is None and drop is None and normaliser(self.cfg, training) == "softmax":
            z = fused(q, k, v, None, self.cfg.attn_temperature)
        else:
            z = written_out(
                q,
                k,
                v,
                None,
                weigher(self.cfg, self.params, place, training),
                on_scores=lambda s: look(f"{place}.hook_attn_scores", s),
                on_pattern=lambda p: _dropped(look(f"{place}.hook_pattern", p), drop),
            )
        z = look(f"{place}.hook_z", z.transpose(-3, -2)).flatten(-2).squeeze(2)  # [R, B, H K]
        return self._mlp("answer", self._linear(place, "O", z), None)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.cfg.n_heads, self.cfg.d_head))

    def _mlp(self, name: str, x: Tensor, drop: Drop | None) -> Tensor:
        hidden = self._linear(f"{name}.mlp", "in", x)
        return _dropped(self._linear(f"{name}.mlp", "out", self._activation(hidden)), drop)

    def _linear(self, place: str, name: str, x: Tensor) -> Tensor:
        weight, bias = self.params[f"{place}.W_{name}"], self.params.get(f"{place}.b_{name}")
        return stacked_product(x, weight, bias)


def _columns(at: Int[Tensor, "run place"], batch: int, pos: int) -> Int[Tensor, " batch"]:
    """The position of each example's query."""
    places = at[0]
    rows = torch.arange(batch, device=at.device)
    if at.shape[1] != batch or not bool((at == places).all()) or not bool((places // pos == rows).all()):
        raise ValueError("a set model answers one query for each example, at the same places in all runs")
    return places % pos


def _same(_name: str, x: Tensor) -> Tensor:
    return x


def _dropped(x: Tensor, drop: Drop | None) -> Tensor:
    return drop(x) if drop else x
