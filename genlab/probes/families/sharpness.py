"""How sharp attention is, and how this changes with the number of keys, at training lengths.

All signals are read at the positions of the answer, where a head's choice matters. If the scores of a head stay
within a spread delta, every weight lies in [exp(-delta)/n, exp(delta)/n] (Velickovic et al. 2024), so it disperses as
n grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput, Seen

VELICKOVIC = "Velickovic et al. 2024, softmax is not enough, arXiv 2410.01104"
_ANY = float("inf")
_FURTHER = 4
"""The extrapolations go to this multiple of the longest training input."""


def rows_of(seen: Seen, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and scores at scored positions, float[run, head, row, key], and n, the visible keys of each row."""
    weights, scores = (
        x.transpose(2, 3)[:, seen.batch.scored].transpose(1, 2) for x in (seen.pattern(layer), seen.scores(layer))
    )
    return weights, scores, seen.batch.scored.nonzero()[:, 1] + 1


MEASURES = ("entropy", "effective", "largest", "spread", "lead", "within")


def measures(seen: Seen, layer: int) -> Tensor:
    """Sums over the scored positions of each example, float[run, example, head, measure], as in `row_measures`."""
    values = row_measures(*rows_of(seen, layer)).permute(0, 2, 1, 3)  # [run, row, head, measure]
    example = seen.batch.scored.nonzero()[:, 0]
    sums = values.new_zeros(values.shape[0], len(seen.batch.tokens), *values.shape[2:])
    return sums.index_add_(1, example, values)


def row_measures(weights: Tensor, scores: Tensor, n: Tensor) -> Tensor:
    """Sharpness of single queries, float[run, head, row, measure], as in `MEASURES`.

    Entropy in nats, effective keys (the number of keys with that entropy if uniform), the largest weight, the spread
    of the scores, the lead of the best key over the second best (0 for a single key), and the fraction of weights
    within the bound.

    Args:
        weights, scores: float[run, head, row, key].
        n: visible keys of each row, the first ones.
    """
    import torch

    entropy = torch.special.entr(weights).sum(-1)
    best, lead = leads(scores)
    keys = torch.arange(weights.shape[-1], device=weights.device) < n[:, None]
    spread = best - scores.masked_fill(~keys, _ANY).amin(-1)
    largest = weights.amax(-1)
    rows = (entropy, entropy.exp(), largest, spread, lead, within(weights, keys, spread, largest, n))
    return torch.stack(rows, dim=-1)


def leads(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best score of each row, and its lead over the second best (0 if there is only one key)."""
    best, at = scores.max(-1)
    if scores.shape[-1] < 2:
        return best, best * 0
    rest = scores.scatter(-1, at[..., None], -_ANY).amax(-1)
    return best, (best - rest).nan_to_num(posinf=0.0, nan=0.0)


def within(weights: Tensor, keys: Tensor, spread: Tensor, largest: Tensor, n: Tensor) -> Tensor:
    """The fraction of each row's weights that are within the dispersion bound, float[run, head, row]."""
    low, high = ((sign * spread).exp() / n * (1 + sign * 1e-4) for sign in (-1, 1))
    least = weights.masked_fill(~keys, _ANY).amin(-1)
    if bool(((least >= low) & (largest <= high)).all()):
        return spread * 0 + 1
    inside = (weights >= low[..., None]) & (weights <= high[..., None]) & keys
    return inside.sum(-1) / n


def by_length(given: ProbeInput, name: str, pooled: bool = False) -> Tensor:
    """The mean of one of `measures` over the scored positions of each batch, float[run, layer, head, length].

    Args:
        given: the probe input.
        name: the measure, as in `MEASURES`.
        pooled: average over all batches instead, float[run, layer, head].
    """
    import torch

    def example_sums(whole: ProbeInput) -> list[Tensor]:
        if not whole.cfg.n_layers:
            raise NotApplicable("the model has no layers")
        layers = range(whole.cfg.n_layers)
        return [torch.stack([measures(seen, layer) for layer in layers], dim=2) for seen in whole.seen]

    which = MEASURES.index(name)
    sums = [x[..., which].sum(1) for x in given.whole("sharpness", example_sums, axis=1)]  # [run, layer, head]
    counts = [int(batch.scored.sum()) for batch in given.batches]
    if pooled:
        return torch.stack(sums).sum(0) / sum(counts)
    return torch.stack([total / count for total, count in zip(sums, counts, strict=True)], dim=-1)


@signal(
    "attention_entropy",
    per="head",
    about="how diffuse attention is",
    formula="mean over scored positions of -sum_j A[i, j] ln A[i, j]",
    blind="Averaged over queries: a head that is sharp only at answers looks diffuse. Grows with the number of "
    "keys. A head with random weights may be more diffuse than one that counts.",
    unit="nats",
    low=0,
    high=_ANY,
    source=VELICKOVIC,
)
def attention_entropy(given: ProbeInput) -> Tensor:
    return by_length(given, "entropy", pooled=True)


@signal(
    "largest_weight",
    per="head",
    about="weight of the key with the most attention",
    formula="mean over scored positions of max_j A[i, j]",
    blind="A head that rests on the first token looks sharp. Falls with the number of keys. Saturates: with a "
    "lead of 8 nats the next key has less than a thousandth.",
    unit="weight",
    low=0,
    high=1,
    source=VELICKOVIC,
)
def largest_weight(given: ProbeInput) -> Tensor:
    return by_length(given, "largest", pooled=True)


@signal(
    "effective_keys",
    per="head",
    about="number of keys that attention is spread over",
    formula="mean over scored positions of exp(entropy)",
    blind="Same as attention_entropy, in keys.",
    unit="keys",
    low=0,
    high=_ANY,
    source="ours",
)
def effective_keys(given: ProbeInput) -> Tensor:
    return by_length(given, "effective", pooled=True)


@signal(
    "score_spread",
    per="head",
    about="spread delta of the attention scores",
    formula="mean over scored positions of max_j z[i, j] - min_j z[i, j] over visible keys",
    blind="Depends on the range of scores, of which a single outlier key determines much.",
    unit="nats",
    low=0,
    high=_ANY,
    source=VELICKOVIC,
)
def score_spread(given: ProbeInput) -> Tensor:
    return by_length(given, "spread", pooled=True)


@signal(
    "score_spread_bound",
    per="head",
    about="upper bound on the spread of scores, from the weights alone",
    formula="2 sigma(W_Q W_K^T) |x|^2 / sqrt(d_head), sigma the largest singular value, gains folded in, biases "
    "ignored; |x|^2 = d_model after a norm, without one the largest observed",
    blind="A bound from weights, usually far above what inputs reach.",
    unit="nats",
    low=0,
    high=_ANY,
    source="after " + VELICKOVIC + " (there the looser 2 sigma(W_Q) sigma(W_K) |x|^2)",
)
def score_spread_bound(given: ProbeInput) -> Tensor:
    import torch

    w = given.model.weights()
    sigma = torch.linalg.matrix_norm(w.W_Q @ w.W_K.transpose(-1, -2), ord=2)  # [run, layer, head]
    squares = torch.full_like(sigma, given.cfg.d_model)
    if given.cfg.normalization_type in ("none", None):
        layers = range(given.cfg.n_layers)
        norms = [torch.stack([s.residual(i - 1).pow(2).sum(-1).amax((1, 2)) for s in given.seen]) for i in layers]
        squares = torch.stack([n.amax(0) for n in norms], dim=1)[..., None].expand_as(sigma)
    return 2 * sigma * squares / given.cfg.d_head**0.5


@signal(
    "winning_margin",
    per="head",
    about="lead of the best key over the second best",
    formula="mean over scored positions of the largest minus the second largest score",
    blind="Looks at two keys only: ties among several correct keys give 0 for a head that is sharp on the set.",
    unit="nats",
    low=0,
    high=_ANY,
    source="ours",
)
def winning_margin(given: ProbeInput) -> Tensor:
    return by_length(given, "lead", pooled=True)


def growth(given: ProbeInput, values: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares slope and intercept of ln(values) against ln(visible keys), over the training lengths.

    Lengths are weighted by their number of examples.
    """
    import torch

    if len(given.seen) < 3:
        raise NotApplicable("training has fewer than three lengths")
    counts = [seen.batch.scored.nonzero()[:, 1].double().add(1).mean() for seen in given.seen]
    x = torch.stack(counts).log().to(values.device)
    weights = torch.tensor([float(len(batch.tokens)) for batch in given.batches], dtype=x.dtype, device=x.device)
    weights = weights / weights.sum()
    middle = (weights * x).sum()
    deviation = weights * (x - middle)
    if float((deviation * x).sum()) < 1e-7:
        raise NotApplicable("the number of keys is the same at all training lengths")
    y = values.double().clamp(min=1e-12).log()
    slope = (y * deviation).sum(-1) / (deviation * x).sum()
    return slope, (y * weights).sum(-1) - slope * middle


def declare_growth(name: str, what: str, key: str, symbol: str) -> None:
    """Declare two signals: the exponent of growth with length, and its extrapolation beyond the training lengths."""

    def exponent(given: ProbeInput) -> Tensor:
        return growth(given, by_length(given, key))[0]

    def extrapolated(given: ProbeInput) -> Tensor:
        import math

        slope, start = growth(given, by_length(given, key))
        longest = float(given.seen[-1].batch.scored.nonzero()[:, 1].double().add(1).mean())
        value = (start + slope * math.log(_FURTHER * longest)).exp()
        return value.clamp(max=1.0) if name == "largest_weight" else value

    for function, suffix in ((exponent, "_growth"), (extrapolated, "_extrapolated")):
        function.__name__ = function.__qualname__ = name + suffix
    signal(
        f"{name}_growth",
        per="head",
        about=f"how {what} grows with length",
        formula=f"least-squares slope of ln {symbol} against ln n over training lengths, weighted as in training, "
        "n the mean number of visible keys",
        blind="A slope over training lengths: on sort and max retrieval it breaks where they end (lab dispersion).",
        unit="exponent",
        low=-_ANY,
        high=_ANY,
        source="ours",
    )(exponent)
    signal(
        f"{name}_extrapolated",
        per="head",
        about=f"{what} extrapolated to {_FURTHER} times the longest training input",
        formula=f"the same line at {_FURTHER} times the mean number of visible keys at the longest probed length",
        blind="Assumes that the trend over training lengths goes on; on sort it does not (see lab dispersion).",
        unit="extrapolated",
        low=0,
        high=_ANY,
        source="ours",
        why_not="extrapolates to inputs longer than any in training",
    )(extrapolated)


declare_growth("largest_weight", "the largest weight", "largest", "max_j A[i, j]")
declare_growth("effective_keys", "the number of effective keys", "effective", "exp(entropy)")
declare_growth("score_spread", "the spread of scores", "spread", "delta")


@signal(
    "dispersion_bound",
    per="head",
    about="fraction of weights within the dispersion bound: an identity of softmax, shown as a check, not as "
    "evidence",
    formula="fraction of A[i, j] within [exp(-delta)/n, exp(delta)/n] at scored positions: always 1",
    blind="Always 1 up to rounding: a check of the instrument, not evidence about a model.",
    unit="fraction",
    low=0,
    high=1,
    source=VELICKOVIC,
    why_not="is an identity: it is 1 for every model",
    null=False,
)
def dispersion_bound(given: ProbeInput) -> Tensor:
    model = None if given.spec is None else given.spec.model
    if model is not None and (model.attn_weights != "softmax" or model.attn_temperature != 1):
        raise NotApplicable(f"the bound holds for softmax at temperature 1, not for {model.attn_weights!r}")

    return by_length(given, "within", pooled=True)
