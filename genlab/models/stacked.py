"""What models have in common, and those that read tokens: R models of one shape over one flat parameter tensor.

Every parameter and activation has a leading `run` axis, so that hundreds of seeds share each launch; one run is a
stack of one.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genlab.models import parameters
from genlab.models.normalisers import Memory
from genlab.models.parameters import Weights
from genlab.spec import ModelConfig

Tap = Callable[[str, Tensor], Tensor]
Drop = Callable[[Tensor], Tensor]
_Same = TypeVar("_Same", bound="FlatModel")  # not `Self`, which cannot be checked method by method in the tests


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the tokens of a batch stand that are no padding: attention alone wants examples as rows.

    Attributes:
        places: int[run, token], in batch * pos; runs with fewer tokens repeat one.
        rows: int[run, batch * pos], the packed token at each place; at padding any.
        batch: the examples of a run.
    """

    places: Int[Tensor, "run token"]
    rows: Int[Tensor, "run cell"]
    batch: int

    def pack(self, x: Float[Tensor, "run batch pos width"]) -> Float[Tensor, "run 1 token width"]:
        """The tokens alone, as one batch a run."""
        return take(x, self._of_all(self.places, self.rows.shape[1]))

    def unpack(self, x: Float[Tensor, "run 1 token width"]) -> Float[Tensor, "run batch pos width"]:
        """Examples as rows again; what stands at padding means nothing."""
        found = take(x, self._of_all(self.rows, self.places.shape[1]))
        return found.view(len(found), self.batch, -1, found.shape[-1])

    def packed(self, at: Int[Tensor, "run place"]) -> Int[Tensor, "run place"]:
        """Places in batch * pos as rows of the packed tokens of all runs."""
        return self._of_all(self.rows.gather(1, at), self.places.shape[1])

    @staticmethod
    def _of_all(index: Tensor, each: int) -> Tensor:
        return index + each * torch.arange(len(index), device=index.device)[:, None]


@dataclass(frozen=True, slots=True)
class Call:
    """What a forward pass was asked for beside the tokens: the arguments of `StackedModel.__call__`."""

    offsets: Tensor | None
    at: Tensor | None
    since: int
    tap: Tap | None
    drop: Drop | None
    past: Past | None
    lengths: Tensor | None
    training: bool
    packing: Packing | None = None

    @property
    def start(self) -> int:
        """How many tokens were read before these."""
        return self.past.length if self.past else 0


class FlatModel(ABC):
    """R models of one shape over one flat parameter tensor: what every model is, whatever it reads.

    Attributes:
        cfg: the shape of each model.
        flat: float[run, params], all weights; `params` are named views into it.
    """

    def __init__(self, cfg: ModelConfig, flat: Float[Tensor, "run params"]):
        declared = self.weights(cfg)
        if flat.shape[1] != parameters.size(declared):
            raise ValueError(f"{flat.shape[1]} weights given, this configuration has {parameters.size(declared)}")
        self.cfg = cfg
        self.flat = flat
        self.params = parameters.views(flat, declared)

    @classmethod
    @abstractmethod
    def weights(cls, cfg: ModelConfig) -> Weights:
        """Name -> shape and initial law of every parameter of one run, in the order of the flat tensor."""

    @property
    def n_runs(self) -> int:
        return self.flat.shape[0]

    def with_params(self: _Same, params: dict[str, Tensor]) -> _Same:
        """The same model reading other tensors (leaves to differentiate by, for example)."""
        other = copy.copy(self)
        other.params = params
        return other

    def _activation(self, x: Tensor) -> Tensor:
        """The activation of the MLPs, element by element."""
        if self.cfg.act_fn == "relu":
            return F.relu(x)
        return F.gelu(x, approximate="tanh" if self.cfg.act_fn == "gelu_new" else "none")


class StackedModel(FlatModel):
    """R models of one shape that read tokens."""

    def __call__(
        self,
        tokens: Int[Tensor, "*run batch pos"],
        offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"] | None = None,
        at: Int[Tensor, "run place"] | None = None,
        since: int = 0,
        tap: Tap | None = None,
        drop: Drop | None = None,
        past: Past | None = None,
        lengths: Int[Tensor, "run batch"] | None = None,
        training: bool = False,
        packing: Packing | None = None,
    ) -> Float[Tensor, "..."]:
        """Logits `[run, batch, pos, d_vocab]`.

        Args:
            tokens: ids; `[batch, pos]` gives every run the same (a stack of one then drops its run axis).
            offsets: position of each example's first token (None is 0); of every token, those of the past included,
                where positions are the task's own or random ones.
            at: places in `batch * pos` to give logits at, `[run, place, d_vocab]`; the last block's work elsewhere
                is left out.
            since: a position before which no place of `at` stands; the last block asks no queries before it.
            tap: called at every hook point; attention is then written out.
            drop: dropout, applied after embedding, to attention weights and to what sublayers write.
            past: what was kept of the tokens before these, which it takes up in turn (for decoding).
            lengths: each example's own length, where the number of loops grows with it.
            training: whether the weights are being trained, for what acts at inference alone.
            packing: all but attention is computed at these tokens alone (logits at other places mean nothing); it
                goes with `at`, and without a tap, dropout, a past or loops that grow.

        Raises:
            ValueError: the tokens reach beyond the context of learned positions; positions or lengths are not given
                though the configuration asks for them.
        """
        single = tokens.ndim == 2 and self.n_runs == 1
        if tokens.ndim == 2:
            tokens = tokens.expand(self.n_runs, -1, -1)
        call = Call(offsets, at, since, tap, drop, past, lengths, training, packing)
        logits = self._logits(tokens, call)
        if past is not None:
            past.length += tokens.shape[-1]
        if at is not None:
            logits = logits.squeeze(1)  # places stand in a batch of one
        return logits.squeeze(0) if single else logits

    @abstractmethod
    def _logits(self, tokens: Int[Tensor, "run batch pos"], call: Call) -> Tensor:
        """Logits `[run, batch, pos, d_vocab]`, or `[run, 1, place, d_vocab]` where places are asked for."""

    # -- the few operations that know of the run axis ----------------------------------------------------------

    def _linear(self, place: str, name: str, x: Tensor) -> Tensor:
        return self._product(x, self.params[f"{place}.W_{name}"], self.params.get(f"{place}.b_{name}"))

    def _product(self, x: Tensor, weight: Float[Tensor, "run d_in d_out"], bias: Tensor | None) -> Tensor:
        return stacked_product(x, weight, bias)

    def _unembed(self, x: Tensor) -> Tensor:
        """Logits. Under autocast they are not rounded: the loss and the choice of a token want their digits."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.flat.dtype)
            if self.cfg.tie_word_embeddings:
                return self._product(x, self.params["embed.W_E"].transpose(1, 2), None)
            return self._linear("unembed", "U", x)

    def _norm(self, name: str, x: Tensor, look: Tap) -> Tensor:
        """LayerNorm or RMSNorm with each run's own gain, or nothing."""
        if self.cfg.normalization_type == "none":
            return x
        gain, shift = self.params[f"{name}.w"], self.params.get(f"{name}.b")
        if look is same and self.n_runs == 1:  # one kernel instead of five
            width, gain = gain.shape[1:], gain.squeeze(0)
            if shift is None:
                return F.rms_norm(x, width, gain, EPS)
            return F.layer_norm(x, width, gain, shift.squeeze(0), EPS)
        if shift is not None:
            x = x - x.mean(-1, keepdim=True)
        scale = look(f"{name}.hook_scale", (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt())
        x = look(f"{name}.hook_normalized", x / scale) * gain[:, None, None]
        return x if shift is None else x + shift[:, None, None]

    def _rows(self, at: Tensor, shape: torch.Size, since: int) -> Tensor:
        """Places `[run, place]` in batch * pos -> rows of `[run * batch * (pos - since)]`."""
        runs, batch, pos = shape
        before = since * (at // pos + 1)  # rows left out before a place, in its own example and those above it
        return at - before + batch * (pos - since) * torch.arange(runs, device=at.device)[:, None]


def stacked_product(
    x: Float[Tensor, "run *b d_in"],
    weight: Float[Tensor, "run d_in d_out"],
    bias: Float[Tensor, "run d_out"] | None,
) -> Float[Tensor, "run *b d_out"]:
    """x W + b, each run with its own W and b."""
    if len(weight) == 1:  # views alone: indexing an activation would cost a copy of zeros in its backward
        rows, only = x.reshape(-1, x.shape[-1]), weight.squeeze(0)
        out = rows @ only if bias is None else torch.addmm(bias.squeeze(0), rows, only)
    else:
        rows = x.flatten(1, -2)  # [run, rows, d_in]
        out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
    return out.view(*x.shape[:-1], weight.shape[-1])


class Past:
    """What reading on needs of the tokens read so far: keys, values and positions of each block, and the like.

    Attributes:
        length: tokens read so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._kept: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self._memories: dict[str, Memory] = {}

    def extend(self, place: str, k: Tensor, v: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take up the new tokens' keys, values `[run, batch, head, pos, d_head]` and ids; give those of all."""
        if place in self._kept:
            old_k, old_v, old_ids = self._kept[place]
            k, v = torch.cat([old_k, k], dim=-2), torch.cat([old_v, v], dim=-2)
            ids = torch.cat([old_ids, ids], dim=-1)
        self._kept[place] = (k, v, ids)
        return k, v, ids

    def memory(self, place: str) -> Memory:
        """What else is kept at a place, to read and to write."""
        return self._memories.setdefault(place, {})


EPS = 1e-5
"""Added to the variance in every norm, as in GPT-2."""


def same(_name: str, x: Tensor) -> Tensor:
    """The tap that neither reads nor changes."""
    return x


def dropped(x: Tensor, drop: Drop | None) -> Tensor:
    """With dropout where there is any."""
    return drop(x) if drop else x


def take(x: Float[Tensor, "run batch pos width"], rows: Int[Tensor, "run place"]) -> Tensor:
    """The activations at given rows, as one batch a run: `[run, 1, place, width]`."""
    return x.reshape(-1, x.shape[-1]).index_select(0, rows.flatten()).view(len(rows), 1, -1, x.shape[-1])
