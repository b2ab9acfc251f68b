"""Position encodings, each behind one seam: what is added to the embedding, turned in q and k, added to scores.

`ids` are the positions of the tokens: int[pos], or int[run, batch, pos] where they differ between examples.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genlab.spec import ModelConfig

__all__ = ["Alibi", "Learned", "Positions", "Rotary", "Sinusoidal", "encoding"]


class Positions:
    """No positions at all: order is known through the causal mask alone (Haviv et al. 2022, arXiv 2203.16634).

    Also the seam: another encoding overrides the hooks that it needs.
    """

    offset_while_training = False
    """Whether examples are moved by a random offset, so that all positions up to `n_ctx` train."""

    def __init__(self, cfg: ModelConfig):
        self.cfg = cfg

    def embedding(self, params: dict[str, Tensor], ids: Int[Tensor, "*b pos"]) -> Float[Tensor, "..."] | None:
        """What is added to the token embeddings: `[*b, pos, d_model]`, or None."""
        del params, ids
        return None

    def turn(
        self, x: Float[Tensor, "*#b pos d_head"], ids: Int[Tensor, "*#b pos"]
    ) -> Float[Tensor, "*#b pos d_head"]:
        """Queries or keys as positions change them."""
        del ids
        return x

    def bias(
        self, query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "*b head query key"] | None:
        """What is added to the attention scores, or None."""
        del query_ids, key_ids
        return None


class Learned(Positions):
    """A trained vector a position (Vaswani et al. 2017); positions beyond those trained are noise, hence the offset.

    Training moves each example by a random offset within `n_ctx` (as in Zhou et al., arXiv 2310.16028).
    """

    offset_while_training = True

    def embedding(self, params: dict[str, Tensor], ids: Int[Tensor, "*b pos"]) -> Float[Tensor, "..."]:
        return stacked_embedding(params["pos_embed.W_pos"], ids)


class Sinusoidal(Positions):
    """Fixed waves of geometric wavelengths (Vaswani et al. 2017, section 3.5), sines first, then cosines."""

    def embedding(self, params: dict[str, Tensor], ids: Int[Tensor, "*b pos"]) -> Float[Tensor, "..."]:
        like = params["embed.W_E"]
        angle = _angles(ids, self.cfg.d_model)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).to(like.dtype)


class Rotary(Positions):
    """Queries and keys turn by an angle that grows with position (Su et al. 2021, arXiv 2104.09864).

    Adjacent pairs (2i, 2i + 1) turn together, over the whole head, with base 10000.
    """

    def turn(
        self, x: Float[Tensor, "*#b pos d_head"], ids: Int[Tensor, "*#b pos"]
    ) -> Float[Tensor, "*#b pos d_head"]:
        angle = _angles(ids, self.cfg.d_head)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class Alibi(Positions):
    """A penalty linear in the distance, at a slope of the head's own (Press et al. 2021, arXiv 2108.12409).

    Slopes are 2^(-8 h / n_heads) for h = 1..n_heads, the paper's geometric sequence for any number of heads.
    """

    def bias(
        self, query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "*b head query key"]:
        heads = torch.arange(1, self.cfg.n_heads + 1, device=key_ids.device, dtype=torch.float64)
        slopes = 2.0 ** (-8.0 * heads / self.cfg.n_heads)
        distance = query_ids[..., :, None] - key_ids[..., None, :]
        return -slopes[:, None, None] * distance[..., None, :, :]


def _angles(ids: Int[Tensor, "*b pos"], width: int) -> Float[Tensor, "*b pos half"]:
    """ids / 10000^(2 i / width) for i = 0..width/2 - 1.

    In float64: an angle grows with the position, and rounded to bfloat16 one of 300 would be off by a radian.
    """
    rates = 10000.0 ** (-torch.arange(0, width, 2, device=ids.device, dtype=torch.float64) / width)
    return ids[..., None] * rates


def stacked_embedding(
    table: Float[Tensor, "run rows d_model"], ids: Int[Tensor, "*b pos"]
) -> Float[Tensor, "run batch pos d_model"]:
    """Rows of each run's own table; ids are `[run, batch, pos]`, or `[pos]` for all alike.

    An id beyond the table is an error, never another run's row.
    """
    runs, rows, width = table.shape
    if ids.ndim == 1:
        return table[:, None, ids]
    if runs > 1:
        own = ids + rows * torch.arange(runs, device=ids.device)[:, None, None]
        ids = own.masked_fill(ids >= rows, runs * rows)
    return F.embedding(ids, table.reshape(runs * rows, width))


_ENCODINGS: dict[str, type[Positions]] = {
    "none": Positions,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "rotary": Rotary,
    "alibi": Alibi,
}


def encoding(cfg: ModelConfig) -> Positions:
    """The position encoding that a configuration names."""
    return _ENCODINGS[cfg.positions](cfg)
