"""Position encodings: what is added to the embedding, how queries and keys are rotated, what is added to the scores.

`ids` are the positions of the tokens: int[pos], or int[run, batch, pos] where they differ between examples. A new
encoding is a subclass of `Positions` with an entry in `_ENCODINGS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genlab.errors import UserError, unknown
from genlab.models.parameters import Weight, Weights
from genlab.spec import ModelConfig, register_value


class Positions:
    """No position encoding: order is known only through the causal mask (Haviv et al. 2022, arXiv 2203.16634).

    Also the base class: other encodings override the methods they need.
    """

    offset_while_training = False
    """Whether training shifts each example by a random offset, so that all positions up to `n_ctx` are trained."""

    def __init__(self, cfg: ModelConfig):
        self.cfg = cfg

    def shared_weights(self) -> Weights:
        """Parameters shared by all blocks, by full name."""
        return {}

    def block_weights(self) -> Weights:
        """Parameters of each block's attention, by the last part of their names (after `blocks.0.attn.`)."""
        return {}

    def reach(self) -> int | None:
        """Number of positions, or None if there is no limit."""
        return None

    def embedding(self, params: dict[str, Tensor], ids: Int[Tensor, "*b pos"]) -> Float[Tensor, "..."] | None:
        """What is added to the token embeddings, `[*b, pos, d_model]`, or None."""
        del params, ids
        return None

    def turn(
        self, x: Float[Tensor, "*#b pos d_head"], ids: Int[Tensor, "*#b pos"]
    ) -> Float[Tensor, "*#b pos d_head"]:
        """Queries or keys, transformed according to their positions."""
        del ids
        return x

    def bias(
        self, params: Mapping[str, Tensor], query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "*d head query key"] | None:
        """What is added to a block's attention scores, or None; -inf masks a key.

        The leading axes are absent or `[run, batch]`, either of which may have size 1.

        Args:
            params: the parameters of this encoding; those of the block by the last part of their names.
            query_ids: positions of the queries.
            key_ids: positions of the keys.
        """
        del params, query_ids, key_ids
        return None


class Learned(Positions):
    """A trained vector per position (Vaswani et al. 2017).

    Training shifts each example by a random offset within `n_ctx` (as in Zhou et al., arXiv 2310.16028), since
    positions never seen in training keep their random initial vectors.
    """

    offset_while_training = True

    def shared_weights(self) -> Weights:
        return {"pos_embed.W_pos": Weight((self.reach(), self.cfg.d_model), self.cfg.init_std)}

    def reach(self) -> int:
        return self.cfg.random_positions or self.cfg.n_ctx

    def embedding(self, params: dict[str, Tensor], ids: Int[Tensor, "*b pos"]) -> Float[Tensor, "..."]:
        return stacked_embedding(params["pos_embed.W_pos"], ids)


class Abacus(Learned):
    """A trained vector for the place value of each digit, ones first; other tokens get id 0 (arXiv 2405.17399).

    The task provides the ids. Training shifts the ids of the digits by a random offset, so that place values beyond
    the training lengths are trained too. Source: McLeish et al. 2024.
    """


class Coupled(Learned):
    """A trained vector for ids shared by tokens that belong together (Cho et al. 2024, arXiv 2405.20671).

    The task provides the ids, for example for digits of one place value, or an item and its copy. Training shifts
    them by a random offset.
    """


class Sinusoidal(Positions):
    """Fixed sinusoids with geometric wavelengths (Vaswani et al. 2017, section 3.5), sines first, then cosines."""

    def embedding(self, params: dict[str, Tensor], ids: Int[Tensor, "*b pos"]) -> Float[Tensor, "..."]:
        like = params["embed.W_E"]
        angle = _angles(ids, self.cfg.d_model)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).to(like.dtype)


class Rotary(Positions):
    """Rotary embedding: queries and keys are rotated by position-dependent angles (Su et al. 2021, arXiv 2104.09864).

    Adjacent pairs (2i, 2i + 1) are rotated together, over the whole head, with base 10000.
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

    In float64, because angles grow with the position: rounded to bfloat16, an angle of 300 would be off by a radian.
    """
    rates = 10000.0 ** (-torch.arange(0, width, 2, device=ids.device, dtype=torch.float64) / width)
    return ids[..., None] * rates


def stacked_embedding(
    table: Float[Tensor, "run rows d_model"], ids: Int[Tensor, "*b pos"]
) -> Float[Tensor, "run batch pos d_model"]:
    """Look up rows of each run's own table; ids are `[run, batch, pos]`, or `[pos]` for all examples.

    An id beyond the table is an error; it never reads another run's row.
    """
    runs, rows, width = table.shape
    if ids.ndim == 1:
        return table[:, None, ids]
    if runs > 1:
        flat = ids + rows * torch.arange(runs, device=ids.device)[:, None, None]
        ids = flat.masked_fill(ids >= rows, runs * rows)
    return F.embedding(ids, table.reshape(runs * rows, width))


# -- Encodings that bias the attention scores by distance
#
# None of them trains a vector per position, so each is defined at distances never seen in training: a penalty that
# keeps growing (ALiBi), the value of the last bucket (T5), a function of a ratio between 0 and 1 (FIRE), a fixed
# window.


class Alibi(Positions):
    """A penalty linear in distance, with a fixed slope per head (Press et al. 2021, arXiv 2108.12409).

    Slopes are 2^(-8 h / n_heads) for h = 1..n_heads, the paper's geometric sequence for any number of heads. Beyond
    the training lengths the penalty keeps growing, so distant keys fade.
    """

    def bias(
        self, params: Mapping[str, Tensor], query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "*b head query key"]:
        del params
        heads = torch.arange(1, self.cfg.n_heads + 1, device=key_ids.device, dtype=torch.float64)
        slopes = 2.0 ** (-8.0 * heads / self.cfg.n_heads)
        return -slopes[:, None, None] * _distance(query_ids, key_ids)[..., None, :, :]


class HardAlibi(Positions):
    """Fixed windows instead of slopes: half of the heads see only the last few keys (arXiv 2402.01032).

    The last n_heads // 2 heads see the last 1, 2, ... positions, including the query's own; the other heads see every
    key, with no position information. Nothing depends on the input length. Source: Jelassi et al. 2024.
    """

    def bias(
        self, params: Mapping[str, Tensor], query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "*b head query key"]:
        del params
        narrow = self.cfg.n_heads // 2
        number = torch.arange(1, self.cfg.n_heads + 1, device=key_ids.device) - (self.cfg.n_heads - narrow)
        windows = torch.where(number > 0, number.double(), math.inf)[:, None, None]
        hidden = _distance(query_ids, key_ids)[..., None, :, :] >= windows
        return torch.zeros_like(hidden, dtype=torch.float64).masked_fill(hidden, -math.inf)


class T5(Positions):
    """A trained bias for each distance bucket and head, shared by all blocks (Raffel et al. 2020, arXiv 1910.10683).

    Of 32 buckets the first 16 hold one distance each and the others cover geometrically growing ranges up to 128; all
    larger distances share the last one. Buckets that no training example reaches keep their initial values.
    """

    buckets, furthest = 32, 128

    def shared_weights(self) -> Weights:
        return {"pos_embed.W_rel": Weight((self.buckets, self.cfg.n_heads), self.cfg.init_std)}

    def bias(
        self, params: Mapping[str, Tensor], query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "run batch head query key"]:
        bucket = self.bucket(_distance(query_ids, key_ids))
        values = stacked_embedding(params["pos_embed.W_rel"], bucket.flatten(-2))  # [run, batch, query * key, head]
        return values.unflatten(-2, bucket.shape[-2:]).movedim(-1, -3)

    def bucket(self, distance: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """The bucket of each distance; negative distances (later keys, always masked) get bucket 0."""
        exact = self.buckets // 2
        steps = torch.log(distance.clamp(min=exact).double() / exact) / math.log(self.furthest / exact)
        far = (exact + (steps * (self.buckets - exact)).long()).clamp(max=self.buckets - 1)
        return torch.where(distance < exact, distance.clamp(min=0), far)


class Fire(Positions):
    """An MLP of distance relative to the query's position, both on a log scale (Li et al. 2023, arXiv 2310.04418).

    bias = MLP(log(c d + 1) / log(c max(i, L) + 1)) for query i at distance d, with trained c and L and, per block, an
    MLP 1-32-n_heads with ReLU, initialized as in the paper's code (c = 0.1, L = 512). The MLP's input is between 0
    and 1 at any length; below L it depends only on the distance.
    """

    width, c, threshold = 32, 0.1, 512.0

    def block_weights(self) -> Weights:
        # The variance of PyTorch's uniform initialization, 1 / (3 fan_in), for biases too: they place the ReLU kinks.
        first, second = 1 / math.sqrt(3), 1 / math.sqrt(3 * self.width)
        return {
            "fire.W_1": Weight((1, self.width), first),
            "fire.b_1": Weight((self.width,), first),
            "fire.W_2": Weight((self.width, self.cfg.n_heads), second),
            "fire.b_2": Weight((self.cfg.n_heads,), second),
            "fire.c": Weight((1,), mean=self.c),
            "fire.L": Weight((1,), mean=1.0),  # in units of `threshold`, so that one learning rate suits all
        }

    def bias(
        self, params: Mapping[str, Tensor], query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]
    ) -> Float[Tensor, "run batch head query key"]:
        W_1, b_1, W_2, b_2, c, L = (params[name] for name in self.block_weights())
        c, L = c.abs()[..., None, None], L.abs()[..., None, None] * self.threshold  # [run, 1, 1, 1]
        near = _distance(query_ids, key_ids).clamp(min=0).to(c)
        ratio = (c * near).log1p() / (c * torch.maximum(query_ids[..., :, None].to(c), L)).log1p()
        hidden = F.relu(ratio[..., None] * W_1[:, None, None] + b_1[:, None, None, None])  # [run, b, query, key, 32]
        return (hidden @ W_2[:, None, None] + b_2[:, None, None, None]).movedim(-1, -3)


def _distance(query_ids: Int[Tensor, "*b query"], key_ids: Int[Tensor, "*b key"]) -> Int[Tensor, "*b query key"]:
    return query_ids[..., :, None] - key_ids[..., None, :]


_ENCODINGS: dict[str, type[Positions]] = {
    "none": Positions,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "rotary": Rotary,
    "alibi": Alibi,
    "hard-alibi": HardAlibi,
    "t5": T5,
    "fire": Fire,
    "abacus": Abacus,
    "coupled": Coupled,
}


def encoding(cfg: ModelConfig) -> Positions:
    """The position encoding of a configuration.

    Raises:
        UserError: it is registered by a file that is not loaded.
    """
    if cfg.positions not in _ENCODINGS:
        raise unknown("positions", cfg.positions, _ENCODINGS)
    return _ENCODINGS[cfg.positions](cfg)


def position_encoding(name: str) -> Callable[[type[Positions]], type[Positions]]:
    """Register the class below as the position encoding `name`: `positions="name"` and `--positions name`.

    Raises:
        UserError: another encoding has this name.
    """

    def register(cls: type[Positions]) -> type[Positions]:
        known = _ENCODINGS.get(name)
        if known is not None and known.__module__ != cls.__module__:
            raise UserError(f"position encoding {name!r} exists already; choose another name")
        register_value("positions", name, relative=not cls.offset_while_training)
        _ENCODINGS[name] = cls
        return cls

    return register
