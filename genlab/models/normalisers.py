"""Attention normalisers: functions that turn attention scores into weights over keys (softmax and its alternatives).

Scores of masked keys are -inf on input and get weight 0. n is the number of keys visible to a query, itself included,
not the width of a padded batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from genlab.errors import UserError, unknown
from genlab.models.parameters import Weight, Weights
from genlab.spec import ModelConfig, register_value

Scores = Float[Tensor, "*b head query key"]
Seen = Bool[Tensor, "*#d query key"]
Memory = dict[str, Tensor]
"""What a normaliser stores about earlier queries during incremental decoding."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Attention scores, one row per query, and what else the weights may depend on.

    Attributes:
        scores: -inf where the key is masked.
        seen: bool[..., query, key], whether the key is visible to the query.
        learnt: trained parameters by name, one number per head, `[run, 1, head, 1, 1]`.
        memory: state of earlier queries, to read and to update.
    """

    scores: Scores
    seen: Seen
    learnt: Mapping[str, Tensor]
    memory: Memory

    @property
    def n(self) -> Float[Tensor, "*d query 1"]:
        """Number of keys visible to each query."""
        return self.seen.sum(-1, keepdim=True).to(self.scores.dtype)

    @property
    def own(self) -> Bool[Tensor, "query key"]:
        """True where the key is at the query's own position; queries are the last of the keys."""
        queries, keys = self.scores.shape[-2:]
        positions = torch.arange(keys, device=self.scores.device)
        return positions[keys - queries :, None] == positions

    def scaled(self, factor: Tensor) -> Scores:
        """Scores times a factor; masked keys stay -inf, without the NaN of -inf times 0 or of its gradient."""
        return (factor * self.scores.masked_fill(~self.seen, 0.0)).masked_fill(~self.seen, -torch.inf)


Normaliser = Callable[[Rows], Scores]


def softmax(rows: Rows) -> Scores:
    """exp(z) over its sum; rows sum to 1."""
    return rows.scores.softmax(dim=-1)


def adaptive(rows: Rows) -> Scores:
    """softmax(beta z), where beta >= 1 grows with the row's entropy (Velickovic et al. 2024, arXiv 2410.01104)."""
    z = rows.scores - rows.scores.amax(-1, keepdim=True).detach()
    entropy = z.logsumexp(-1, keepdim=True) - (z.softmax(-1) * z.masked_fill(~rows.seen, 0.0)).sum(-1, keepdim=True)
    return rows.scaled(adaptive_temperature(entropy)).softmax(-1)


_POLYNOMIAL = (-0.037, 0.481, -2.3, 4.917, -1.791)


def adaptive_temperature(entropy: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """beta as a function of entropy in nats: a fitted polynomial, at least 1, and 1 for entropies up to 0.5.

    >>> [round(float(beta), 2) for beta in adaptive_temperature(torch.tensor([0.4, 0.84, 2.0, 4.41, 6.0]))]
    [1.0, 1.0, 2.1, 2.42, 1.0]
    """
    value = torch.zeros_like(entropy)
    for coefficient in _POLYNOMIAL:  # highest power first
        value = value * entropy + coefficient
    return torch.where(entropy > 0.5, value.clamp(min=1.0), 1.0)


def scalable(rows: Rows) -> Scores:
    """softmax(s log(n) z) with s trained per head, so that attention does not flatten as n grows (arXiv 2501.19399).

    Source: Nakanishi 2025.
    """
    return rows.scaled(rows.learnt["s"] * rows.n.log()).softmax(-1)


def sparse(rows: Rows) -> Scores:
    """entmax with alpha = 1.5 (Peters et al. 2019, arXiv 1905.05702): rows sum to 1, low scores get exactly 0."""
    return entmax15(rows.scores)


def scalable_sparse(rows: Rows) -> Scores:
    """entmax15((delta + beta log(n)^gamma) z) (Vasylenko et al. 2025, arXiv 2506.16640).

    delta, beta and gamma are trained per head. n is clamped to at least 2: with one key the weight is 1 at any scale,
    and the derivative of 0^gamma is not finite.
    """
    growth = rows.n.clamp(min=2).log() ** rows.learnt["gamma"]
    return entmax15(rows.scaled(rows.learnt["delta"] + rows.learnt["beta"] * growth))


def sigmoid(rows: Rows) -> Scores:
    """1 / (1 + exp(-(z - log n))) for each key separately; rows need not sum to 1 (arXiv 2409.04431).

    Source: Ramapuram et al. 2024.
    """
    return (rows.scores - rows.n.log()).sigmoid()


def stick_breaking(rows: Rows) -> Scores:
    """Each earlier key, nearest first, takes a fraction of what remains (Tan et al. 2024, arXiv 2410.17980).

    Key j < i gets sigmoid(z_j) times the product of 1 - sigmoid(z_k) over the keys k between j and i. The query's own
    key gets nothing and the remainder is not distributed: a row sums to 1 minus the product of all 1 - sigmoid(z_k),
    and the first row to 0.
    """
    earlier = rows.seen & ~rows.own
    z = rows.scores.masked_fill(~earlier, 0.0)
    left = F.logsigmoid(-z).masked_fill(~earlier, 0.0).flip(-1).cumsum(-1).flip(-1)  # over key j and all after it
    return (F.logsigmoid(z) + F.pad(left[..., 1:], (0, 1))).exp().masked_fill(~earlier, 0.0)


def selective(rows: Rows) -> Scores:
    """softmax(z - F): a token can mask a key for later tokens (Leviathan et al. 2024, arXiv 2410.02703).

    F for a query and a key is the sum, over earlier queries, of head 0's positive scores for that key; a token does
    not mask itself. The paper exempts the beginning-of-sequence token; sequences here have none. Rows sum to 1.
    """
    votes = rows.scores[..., :1, :, :].masked_fill(rows.own, 0.0).relu()
    old = rows.memory.get(
        "votes", votes[..., :0, :0].sum(-2, keepdim=True)
    )  # of queries in the cache: [.., 1, old key]
    old = F.pad(old, (0, votes.shape[-1] - old.shape[-1]))
    total = torch.cat([old, votes], dim=-2).cumsum(-2)
    rows.memory["votes"] = total[..., -1:, :]
    return (rows.scores - total[..., :-1, :]).softmax(-1)


# -- Entmax


def entmax15(scores: Float[Tensor, "*b key"]) -> Float[Tensor, "*b key"]:
    """max(z / 2 - tau, 0)^2 over the last axis, with tau such that it sums to 1; exact, by sorting. -inf gets 0.

    A row with a NaN, or of -inf only, is NaN throughout, as with softmax.

    >>> entmax15(torch.tensor([2.0, 2.0, -torch.inf, 0.0], dtype=torch.float64)).round(decimals=9).tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    return _Entmax15.apply(scores)  # pyright: ignore[reportReturnType]


def _threshold(z: Float[Tensor, "*b key"]) -> Float[Tensor, "*b 1"]:
    """tau for scores whose maximum is 0, from the largest support size k whose k-th score exceeds its threshold."""
    falling = z.sort(dim=-1, descending=True).values
    k = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    mean = falling.cumsum(-1) / k
    spread = falling.square().cumsum(-1) - k * mean.square()
    tau = mean - ((1 - spread) / k).clamp(min=0).sqrt()
    support = (tau <= falling).sum(-1, keepdim=True).clamp(min=1)  # 0 only if the whole row is NaN
    return tau.gather(-1, support - 1)


class _Entmax15(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        # No score below max - 1 is in the support; clamping masked keys at -2 keeps them outside it, and finite.
        z = ((scores - scores.amax(-1, keepdim=True)) / 2).clamp(min=-2.0)
        root = (z - _threshold(z)).clamp(min=0)
        ctx.save_for_backward(root)
        return root.square()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (the signature in PyTorch's examples)
        ctx: Any, *grads: Tensor
    ) -> Tensor:
        (root,) = ctx.saved_tensors
        scaled = grads[0] * root
        return scaled - root * scaled.sum(-1, keepdim=True) / root.sum(-1, keepdim=True)


NORMALISERS: dict[str, Normaliser] = {
    "softmax": softmax,
    "adaptive": adaptive,
    "scalable": scalable,
    "entmax15": sparse,
    "scalable-entmax": scalable_sparse,
    "sigmoid": sigmoid,
    "stick-breaking": stick_breaking,
    "selective": selective,
}
"""Name (`ModelConfig.attn_weights`) -> function from scores to weights."""

LEARNT: dict[str, dict[str, float]] = {
    "scalable": {"s": 1.0},
    "scalable-entmax": {"delta": 1.0, "beta": 1.0, "gamma": 1.0},
}
"""Name -> the parameters trained per head, with their initial values."""

ACROSS_QUERIES = {"selective"}
"""Normalisers in which a query's weights depend on earlier queries' scores, so that no query can be skipped."""


def attention_weights(
    name: str, *, learnt: Mapping[str, float] | None = None, across_queries: bool = False
) -> Callable[[Normaliser], Normaliser]:
    """Register the function below as the normalizer `name`: `attn_weights="name"` and `--attn-weights name`.

    Args:
        learnt: parameters that it trains per head, with their initial values; it reads them from `Rows.learnt`.
        across_queries: whether the weights of a query depend on the scores of earlier queries.

    Raises:
        UserError: another normalizer has this name.
    """

    def register(function: Normaliser) -> Normaliser:
        known = NORMALISERS.get(name)
        if known is not None and known.__module__ != function.__module__:
            raise UserError(f"normalizer {name!r} exists already; choose another name")
        register_value("attn_weights", name)
        NORMALISERS[name] = function
        LEARNT[name] = dict(learnt or {})
        (ACROSS_QUERIES.add if across_queries else ACROSS_QUERIES.discard)(name)
        return function

    return register


def learnt_weights(cfg: ModelConfig) -> Weights:
    """The parameters that a block's normaliser trains, by the last part of their names."""
    return {key: Weight((cfg.n_heads,), mean=value) for key, value in LEARNT.get(cfg.attn_weights, {}).items()}


def normaliser(cfg: ModelConfig, training: bool) -> str:
    """The normaliser in effect: the adaptive temperature is off in training unless `adaptive_training` is set."""
    if cfg.attn_weights not in NORMALISERS:
        raise unknown("attn_weights", cfg.attn_weights, NORMALISERS)
    idle = cfg.attn_weights == "adaptive" and training and not cfg.adaptive_training
    return "softmax" if idle else cfg.attn_weights


def weigher(
    cfg: ModelConfig, params: Mapping[str, Tensor], prefix: str, training: bool = False, memory: Memory | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The function from scores and visibility mask to attention weights for the attention layer at `prefix`.

    Args:
        cfg: the model configuration.
        params: parameters by name.
        prefix: where the layer's parameters are, such as `blocks.0.attn`.
        training: whether this is a training pass.
        memory: state carried between calls during incremental decoding.
    """
    name, state = normaliser(cfg, training), {} if memory is None else memory
    learnt = {key: params[f"{prefix}.{key}"][:, None, :, None, None] for key in LEARNT.get(name, {})}

    def weigh(scores: Tensor, seen: Tensor) -> Tensor:
        return NORMALISERS[name](Rows(scores / cfg.attn_temperature, seen, learnt, state))

    return weigh
