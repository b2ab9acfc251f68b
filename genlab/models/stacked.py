"""Base classes of stacked models: R models of one shape over one flat parameter tensor, and those that read tokens.

Every parameter and activation has a leading `run` axis, so that hundreds of seeds share each kernel launch; a single
run is a stack of one.
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
_Model = TypeVar("_Model", bound="FlatModel")  # not `Self`, which the type checker of the tests cannot follow


@dataclass(frozen=True, slots=True)
class Packing:
    """Indices of the tokens of a batch that are not padding; only attention needs examples as rows.

    For attention, examples that follow each other form groups, each padded to its own widest. The groups' positions,
    one group after the other, are called cells.

    Attributes:
        places: int[run, token], flat indices into batch * pos; runs with fewer tokens repeat one.
        cells: int[run, token], the cell of each token.
        tokens: int[run, cell], the token in each cell; arbitrary at padding.
        starts: int[batch], the cell in which each example begins.
        groups: (number of examples, width) of each group.
    """

    places: Int[Tensor, "run token"]
    cells: Int[Tensor, "run token"]
    tokens: Int[Tensor, "run cell"]
    starts: Int[Tensor, " batch"]
    groups: tuple[tuple[int, int], ...]

    def pack(self, x: Float[Tensor, "run cell width"]) -> Float[Tensor, "run 1 token width"]:
        """Only the tokens, as one batch per run."""
        return gather_rows(x[:, None], _across_runs(self.cells, self.tokens.shape[1]))

    def unpack(self, x: Float[Tensor, "run 1 token width"]) -> list[Float[Tensor, "run batch pos width"]]:
        """Each group as `[run, batch, pos, width]`; values at padding are arbitrary."""
        cells = gather_rows(x, _across_runs(self.tokens, self.places.shape[1])).squeeze(1)
        parts = cells.split([count * width for count, width in self.groups], dim=1)
        return [part.unflatten(1, (count, width)) for part, (count, width) in zip(parts, self.groups, strict=True)]

    def of_group(self, ids: Tensor) -> list[Tensor]:
        """Positions, int[pos] or int[run, batch, pos], for each group."""
        if ids.ndim == 1:
            return [ids[:width] for _, width in self.groups]
        parts = ids.split([count for count, _ in self.groups], dim=-2)
        return [part[..., :width] for part, (_, width) in zip(parts, self.groups, strict=True)]

    def token_of(self, at: Int[Tensor, "run place"], width: int) -> Int[Tensor, "run place"]:
        """Convert flat indices into batch * pos (`width` positions) to rows of the tokens of all runs."""
        cell = self.starts[at // width] + at % width
        return _across_runs(self.tokens.gather(1, cell), self.places.shape[1])

    def cell_of(self, at: Int[Tensor, "run place"], width: int, since: int) -> Int[Tensor, "run place"]:
        """Convert flat indices into batch * pos to rows of the cells of all runs, where `since` positions of every
        example are left out."""
        example = at // width
        cell = self.starts[example] + at % width - since * (example + 1)
        return _across_runs(cell, self.tokens.shape[1] - since * len(self.starts))


def _across_runs(index: Tensor, each: int) -> Tensor:
    """Indices into one run as indices into all runs, each of which has `each` rows."""
    return index + each * torch.arange(len(index), device=index.device)[:, None]


@dataclass(frozen=True, slots=True)
class Call:
    """The forward-pass arguments other than the tokens (see `StackedModel.__call__`)."""

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
        """Number of tokens already in the cache."""
        return self.past.length if self.past else 0


class FlatModel(ABC):
    """Base class of all models: R models of one shape over one flat parameter tensor.

    Attributes:
        cfg: the shape of each model.
        flat: float[run, params], all weights; `params` are named views of it.
    """

    def __init__(self, cfg: ModelConfig, flat: Float[Tensor, "run params"]):
        declared = self.weights(cfg)
        if flat.shape[1] != parameters.size(declared):
            raise ValueError(f"{flat.shape[1]} weights given, but the configuration has {parameters.size(declared)}")
        self.cfg = cfg
        self.flat = flat
        self.params = parameters.views(flat, declared)

    @classmethod
    @abstractmethod
    def weights(cls, cfg: ModelConfig) -> Weights:
        """Name -> shape and initial distribution of every parameter of one run, in the order of the flat tensor."""

    @property
    def n_runs(self) -> int:
        return self.flat.shape[0]

    def with_params(self: _Model, params: dict[str, Tensor]) -> _Model:
        """The same model with other parameter tensors, for example leaves to differentiate with respect to."""
        other = copy.copy(self)
        other.params = params
        return other

    def _activation(self, x: Tensor) -> Tensor:
        """The elementwise activation function of the MLPs."""
        if self.cfg.act_fn == "relu":
            return F.relu(x)
        return F.gelu(x, approximate="tanh" if self.cfg.act_fn == "gelu_new" else "none")


class StackedModel(FlatModel):
    """Base class of models that read tokens."""

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
            tokens: ids; `[batch, pos]` gives every run the same input (a stack of one then drops its run axis).
            offsets: position of each example's first token (None means 0); or of every token, cached ones included,
                for models whose positions are random or given by the task.
            at: flat indices into `batch * pos` of the positions at which to compute logits, `[run, place, d_vocab]`;
                the last block skips its work elsewhere.
            since: a position before which `at` has no index; the last block skips queries before it.
            tap: called at every hook point; attention is then computed explicitly.
            drop: dropout, applied to embeddings, attention weights and sublayer outputs.
            past: the cache of the tokens before these, which is extended (for decoding).
            lengths: the length of each example, for models whose number of loops grows with it.
            training: whether this is a training pass, for variants that act only at inference.
            packing: computes everything but attention at these tokens only (logits elsewhere are meaningless);
                requires `at`, and excludes taps, dropout, a cache and loops that grow.

        Raises:
            ValueError: the tokens exceed the context of learned positions, or positions or lengths that the
                configuration needs are missing.
        """
        single = tokens.ndim == 2 and self.n_runs == 1
        if tokens.ndim == 2:
            tokens = tokens.expand(self.n_runs, -1, -1)
        call = Call(offsets, at, since, tap, drop, past, lengths, training, packing)
        logits = self._logits(tokens, call)
        if past is not None:
            past.length += tokens.shape[-1]
        if at is not None:
            logits = logits.squeeze(1)  # selected positions come as a batch of one
        return logits.squeeze(0) if single else logits

    @abstractmethod
    def _logits(self, tokens: Int[Tensor, "run batch pos"], call: Call) -> Tensor:
        """Logits `[run, batch, pos, d_vocab]`, or `[run, 1, place, d_vocab]` where `call.at` is given."""

    # -- Operations that involve the run axis

    def _linear(self, prefix: str, name: str, x: Tensor) -> Tensor:
        return self._product(x, self.params[f"{prefix}.W_{name}"], self.params.get(f"{prefix}.b_{name}"))

    def _product(self, x: Tensor, weight: Float[Tensor, "run d_in d_out"], bias: Tensor | None) -> Tensor:
        return stacked_product(x, weight, bias)

    def _unembed(self, x: Tensor) -> Tensor:
        """Logits, in full precision even under autocast: the loss and the argmax are sensitive to rounding."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.flat.dtype)
            if self.cfg.tie_word_embeddings:
                return self._product(x, self.params["embed.W_E"].transpose(1, 2), None)
            return self._linear("unembed", "U", x)

    def _norm(self, name: str, x: Tensor, hook: Tap) -> Tensor:
        """LayerNorm or RMSNorm with each run's own gain; the identity if there is no norm."""
        if self.cfg.normalization_type == "none":
            return x
        gain, shift = self.params[f"{name}.w"], self.params.get(f"{name}.b")
        if hook is identity and self.n_runs == 1:  # one kernel instead of five
            width, gain = gain.shape[1:], gain.squeeze(0)
            if shift is None:
                return F.rms_norm(x, width, gain, EPS)
            return F.layer_norm(x, width, gain, shift.squeeze(0), EPS)
        if shift is not None:
            x = x - x.mean(-1, keepdim=True)
        scale = hook(f"{name}.hook_scale", (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt())
        x = hook(f"{name}.hook_normalized", x / scale) * gain[:, None, None]
        return x if shift is None else x + shift[:, None, None]

    def _rows(self, at: Tensor, shape: torch.Size, since: int) -> Tensor:
        """Convert flat indices `[run, place]` into batch * pos to rows of `[run * batch * (pos - since)]`."""
        runs, batch, pos = shape
        before = since * (at // pos + 1)  # skipped rows before an index: in its own example and the ones above it
        return at - before + batch * (pos - since) * torch.arange(runs, device=at.device)[:, None]


def stacked_product(
    x: Float[Tensor, "run *b d_in"],
    weight: Float[Tensor, "run d_in d_out"],
    bias: Float[Tensor, "run d_out"] | None,
) -> Float[Tensor, "run *b d_out"]:
    """x W + b, with a separate W and b for each run."""
    if len(weight) == 1:  # views only: indexing the activation would cost a zero-filled copy in the backward pass
        rows, only = x.reshape(-1, x.shape[-1]), weight.squeeze(0)
        out = rows @ only if bias is None else torch.addmm(bias.squeeze(0), rows, only)
    else:
        rows = x.flatten(1, -2)  # [run, rows, d_in]
        out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
    return out.view(*x.shape[:-1], weight.shape[-1])


class Past:
    """The KV cache: keys, values and positions of the tokens read so far, and other state of each block.

    Attributes:
        length: number of tokens read so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._cache: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self._memories: dict[str, Memory] = {}

    def extend(self, key: str, k: Tensor, v: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Append keys, values `[run, batch, head, pos, d_head]` and ids, and return all keys, values and ids."""
        if key in self._cache:
            old_k, old_v, old_ids = self._cache[key]
            k, v = torch.cat([old_k, k], dim=-2), torch.cat([old_v, v], dim=-2)
            ids = torch.cat([old_ids, ids], dim=-1)
        self._cache[key] = (k, v, ids)
        return k, v, ids

    def memory(self, key: str) -> Memory:
        """Other cached state under a key, to read and to update."""
        return self._memories.setdefault(key, {})


EPS = 1e-5
"""Added to the variance in every norm, as in GPT-2."""


def identity(_name: str, x: Tensor) -> Tensor:
    """The tap that returns its input unchanged."""
    return x


def apply_dropout(x: Tensor, drop: Drop | None) -> Tensor:
    """Apply dropout, if any."""
    return drop(x) if drop else x


def gather_rows(x: Float[Tensor, "run batch pos width"], rows: Int[Tensor, "run place"]) -> Tensor:
    """The activations at the given rows, as one batch per run, `[run, 1, place, width]`."""
    return x.reshape(-1, x.shape[-1]).index_select(0, rows.flatten()).view(len(rows), 1, -1, x.shape[-1])
