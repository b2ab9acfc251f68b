"""In-distribution exact match when attention is sharpened or flattened at inference, with unchanged weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.families.sharpness import VELICKOVIC
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen

_TEMPERATURES = (0.5, 0.8, 1.25, 2.0)
_EVERY = 4
"""Only every fourth example of each length and half is read, since every intervention is a separate forward pass."""


def is_right(seen: Seen) -> Tensor:
    """Whether every scored token is the most likely one, bool[run, example]."""
    wrong = (seen.logits.argmax(-1) != seen.batch.targets) & seen.batch.scored
    return ~wrong.any(-1)


def exact_match(seen: Seen) -> Tensor:
    """Fraction of examples in which every scored token is the most likely one, float[run]."""
    return is_right(seen).double().mean(-1)


def with_scores(given: ProbeInput, key: str, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Exact match with modified attention scores, float[run], averaged over lengths with the weights of training.

    Args:
        given: the probe input.
        key: a name for the modification; both halves share one pass.
        change: maps attention scores to modified ones.
    """
    import torch

    from genlab.probes.inputs import Seen
    from genlab.probes.model import check_hooks

    check_hooks(given.model, "attn.hook_attn_scores")

    if given.spec is not None and given.spec.model.attn_weights not in ("softmax", "entmax15", "sigmoid"):
        raise NotApplicable(f"attention weights {given.spec.model.attn_weights!r} already rescale their scores")

    def tap(name: str, x: Tensor) -> Tensor:
        return change(x) if name.endswith("attn.hook_attn_scores") else x

    def right(batch: Batch) -> Tensor:
        count = len(batch.tokens)
        middle = -(-count // 2)
        rows = torch.tensor([*range(0, middle, _EVERY), *range(middle, count, _EVERY)], device=batch.tokens.device)
        few = batch.rows(rows)
        read = is_right(Seen(few, given.model(few.tokens, few.offsets, tap=tap), {})).double()
        padded = torch.full((len(read), count), float("nan"), dtype=read.dtype, device=read.device)
        return padded.index_copy_(1, rows, read)

    read = given.whole(f"scores {key}", lambda whole: [right(batch) for batch in whole.batches], axis=1)
    return given.mean([of_batch.nanmean(-1) for of_batch in read])


def scaled(scores: Tensor, factor: Tensor | float) -> Tensor:
    """Scores times a factor; masked keys stay -inf."""
    masked = scores.isinf()
    return (scores.masked_fill(masked, 0.0) * factor).masked_fill(masked, float("-inf"))


@signal(
    "exact_match_at_temperature",
    per="run",
    about="in-distribution exact match with attention scores divided by a temperature",
    formula="exact match under softmax(z / theta), every fourth example, theta one of "
    + ", ".join(map(str, _TEMPERATURES)),
    blind="Changes all heads at once; says nothing of lengths beyond training.",
    unit="fraction",
    low=0,
    high=1,
    source=VELICKOVIC,
)
def exact_match_at_temperature(given: ProbeInput) -> dict[str, Tensor]:
    return {f"{t:g}": with_scores(given, f"at {t:g}", lambda z, t=t: scaled(z, 1 / t)) for t in _TEMPERATURES}


@signal(
    "exact_match_adaptive",
    per="run",
    about="in-distribution exact match under adaptive temperature",
    formula="exact match under softmax(beta z), beta >= 1 a polynomial of the row's entropy",
    blind="Saturated at 1 in distribution for models that fit, so it rarely separates runs.",
    unit="fraction",
    low=0,
    high=1,
    source=VELICKOVIC,
)
def exact_match_adaptive(given: ProbeInput) -> Tensor:
    import torch

    from genlab.models.normalisers import adaptive_temperature

    def sharpened(scores: Tensor) -> Tensor:
        entropy = torch.special.entr(scores.softmax(-1)).sum(-1, keepdim=True)
        return scaled(scores, adaptive_temperature(entropy))

    return with_scores(given, "adaptive", sharpened)


@signal(
    "exact_match_scalable",
    per="run",
    about="in-distribution exact match under scalable softmax, substituted at inference",
    formula="exact match under softmax(z ln(n) / ln(n0)), n the number of visible keys, n0 its mean at the longest "
    "probed length",
    blind="Same as exact_match_adaptive.",
    unit="fraction",
    low=0,
    high=1,
    source="Nakanishi 2025, scalable softmax, arXiv 2501.19399 (there s ln(n) with s trained)",
)
def exact_match_scalable(given: ProbeInput) -> Tensor:
    import math

    import torch

    longest = float(given.batches[-1].scored.nonzero()[:, 1].double().add(1).mean())

    def sharpened(scores: Tensor) -> Tensor:
        n = torch.arange(1, scores.shape[-2] + 1, device=scores.device, dtype=scores.dtype)[:, None]
        return scaled(scores, n.clamp(min=2).log() / math.log(max(2.0, longest)))

    return with_scores(given, "scalable", sharpened)
