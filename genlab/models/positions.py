"""Position encodings, each behind one seam: what is added to the embedding, turned in q and k, added to scores.

`ids` are the positions of the tokens: int[pos], or int[run, batch, pos] where they differ between examples. Those
that add to the scores stand in `biases.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genlab.models.weight import Weight, Weights
from genlab.spec import ModelConfig

__all__ = ["Abacus", "Coupled", "Learned", "Positions", "Rotary", "Sinusoidal", "stacked_embedding"]


class Positions:
    """No positions at all: order is known through the causal mask alone (Haviv et al. 2022, arXiv 2203.16634).

    Also the seam: another encoding overrides the hooks that it needs.
    """

    offset_while_training = False
    """Whether examples are moved by a random offset, so that all positions up to `n_ctx` train."""

    def __init__(self, cfg: ModelConfig):
        self.cfg = cfg

    def shared_weights(self) -> Weights:
        """Weights that all blocks share, by full name."""
        return {}

    def block_weights(self) -> Weights:
        """Weights of each block's attention, by the ending of their names (`blocks.0.attn.` stands before it)."""
        return {}

    def reach(self) -> int | None:
        """How many positions there are, or None where there is no last one."""
        return None

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
        self, params: Mapping[str, Tensor], query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "*d head query key"] | None:
        """What is added to the attention scores of a block, or None; -inf hides a key.

        Its leading axes are none, or `[run, batch]`, either of which may be 1.

        Args:
            params: the weights of this encoding, those of the block by the endings of their names.
        """
        del params, query_ids, key_ids
        return None


class Learned(Positions):
    """A trained vector a position (Vaswani et al. 2017); positions beyond those trained are noise, hence the offset.

    Training moves each example by a random offset within `n_ctx` (as in Zhou et al., arXiv 2310.16028).
    """

    offset_while_training = True

    def shared_weights(self) -> Weights:
        return {"pos_embed.W_pos": Weight((self.reach(), self.cfg.d_model), self.cfg.init_std)}

    def reach(self) -> int:
        return self.cfg.random_positions or self.cfg.n_ctx

    def embedding(self, params: dict[str, Tensor], ids: Int[Tensor, "*b pos"]) -> Float[Tensor, "..."]:
        return stacked_embedding(params["pos_embed.W_pos"], ids)


class Abacus(Learned):
    """A trained vector for the place value of each digit, ones first; all else stands at 0 (arXiv 2405.17399).

    The task gives the ids. Training moves those of the digits by a random offset, so that places beyond the training
    lengths are trained too.
    """


class Coupled(Learned):
    """A trained vector for ids that tokens which belong together share (Cho et al. 2024, arXiv 2405.20671).

    The task gives the ids: digits of one place value, an item and its copy. Training moves them by a random offset.
    """


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
