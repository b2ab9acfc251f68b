"""Scores of single inputs that may say that the answer is wrong: from the output, and from what lies before it.

All are taken at each place of the answer, and the most suspect place speaks for the example. Scores that need to know
what is usual are fitted on a reference half of the same in-distribution examples. Higher is more suspect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from genlab.probes.inputs import ProbeInput, Seen
from genlab.probes.signal import NotApplicable

__all__ = ["InputScores", "input_scores"]

_NEIGHBOURS, _STORED, _BINS, _VARIANCE = 10, 128, 50, 0.9


@dataclass(frozen=True, eq=False)
class InputScores:
    """Scores of the examples of the second half.

    Attributes:
        scores: name -> float64[run, example].
        wrong: bool[run, example], whether any scored token is not the likeliest.
    """

    scores: dict[str, Tensor]
    wrong: Tensor


@dataclass(frozen=True, eq=False)
class _Places:
    """The places of answers, `[run, place, ...]`; `example` says whose they are; `reference` are those fitted on."""

    logits: Tensor
    features: Tensor
    neurons: Tensor | None
    steps: Tensor
    targets: Tensor
    example: Tensor
    reference: Tensor


def input_scores(given: ProbeInput) -> InputScores:
    """All scores that apply; `genlab.probes.families.confidence` has their formulas and sources.

    Raises:
        NotApplicable: the model has no layers, or there are too few examples to fit on.
    """
    places = _gather(given)
    found = {**_of_output(places), **_of_features(places), "smoothness": places.steps}
    if places.neurons is not None:
        found["coverage"] = _coverage(places)
    wrong = places.logits.argmax(-1) != places.targets
    examples = places.example[~places.reference]
    ids, whose = examples.unique(return_inverse=True)

    def worst(x: Tensor) -> Tensor:
        held = x[:, ~places.reference].float().double()  # equal but for rounding is equal
        out = torch.full((len(held), len(ids)), -torch.inf, dtype=torch.float64, device=held.device)
        return out.scatter_reduce(1, whose.expand(len(held), -1), held, "amax")

    return InputScores({name: worst(x) for name, x in found.items()}, worst(wrong) > 0)


def _gather(given: ProbeInput) -> _Places:
    if not given.cfg.n_layers:
        raise NotApplicable("the model has no layers")
    last, all_seen = given.cfg.n_layers - 1, given.seen

    def at_answers(of: Callable[[Seen], Tensor]) -> Tensor:
        return torch.cat([of(seen)[:, seen.batch.scored].double() for seen in all_seen], dim=1)

    states = [at_answers(lambda seen, i=i: seen.residual(i)) for i in range(-1, last + 1)]
    cosines = [torch.cosine_similarity(a, b, dim=-1) for a, b in pairwise(states)]
    post = f"blocks.{last}.mlp.hook_post"
    rows = [seen.batch.scored.nonzero()[:, 0] for seen in all_seen]
    sizes = [len(seen.batch.tokens) for seen in all_seen]
    return _Places(
        logits=at_answers(lambda seen: seen.logits),
        features=states[-1],
        neurons=at_answers(lambda seen: seen.kept[post]).float() if post in all_seen[0].kept else None,
        steps=1 - torch.stack(cosines).mean(0),
        targets=torch.cat([seen.batch.targets[seen.batch.scored] for seen in all_seen]),
        example=torch.cat([r + sum(sizes[:i]) for i, r in enumerate(rows)]),
        reference=torch.cat([r < size // 2 for r, size in zip(rows, sizes, strict=True)]),
    )


def _of_output(p: _Places) -> dict[str, Tensor]:
    log_p = p.logits.log_softmax(-1)
    top = p.logits.topk(2, dim=-1).values
    return {
        "msp": 1 - log_p.amax(-1).exp(),
        "energy": -p.logits.logsumexp(-1),
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "margin": top[..., 1] - top[..., 0],
    }


def _of_features(p: _Places) -> dict[str, Tensor]:
    known = p.features[:, p.reference]
    if known.shape[1] <= _NEIGHBOURS:
        raise NotApplicable("too few places of answers to fit on")
    mean = known.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh((known - mean).mT @ (known - mean) / known.shape[1])
    values, vectors = values.flip(-1).clamp(min=0), vectors.flip(-1)
    inside = (values.cumsum(-1) - values) < _VARIANCE * values.sum(-1, keepdim=True)  # principal directions
    parts = (p.features - mean) @ vectors
    outer = (parts * ~inside[:, None]).norm(dim=-1)
    energy = p.logits.logsumexp(-1)
    alpha = p.logits[:, p.reference].amax(-1).mean(1) / outer[:, p.reference].mean(1).clamp(min=1e-12)
    normed, stored = (torch.nn.functional.normalize(x, dim=-1) for x in (p.features, known))
    return {
        "mahalanobis": _mahalanobis(p, known),
        "nearest": torch.stack([_to_nearest(f, known) for f, known in zip(normed, stored, strict=True)]),
        "vim": alpha[:, None] * outer - energy,
        "neco": -(parts * inside[:, None]).norm(dim=-1) / p.features.norm(dim=-1).clamp(min=1e-12),
    }


def _to_nearest(features: Tensor, known: Tensor) -> Tensor:
    """Distance to the k-th nearest of at most `_STORED` reference places, evenly taken."""
    few = known[torch.linspace(0, len(known) - 1, min(_STORED, len(known)), device=known.device).long()]
    return torch.cdist(features, few).topk(_NEIGHBOURS, dim=-1, largest=False).values[:, -1]


def _mahalanobis(p: _Places, known: Tensor) -> Tensor:
    """To the nearest class mean, with one covariance for all classes; a class is a target token."""
    labels = p.targets[p.reference]
    means = torch.stack([known[:, labels == c].mean(1) for c in labels.unique()], dim=1)  # [run, class, d]
    place = torch.searchsorted(labels.unique(), labels)
    centred = known - means[:, place]
    covariance = centred.mT @ centred / known.shape[1]
    ridge = 1e-3 * covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-12)
    precision = torch.linalg.inv(covariance + ridge[:, None, None] * torch.eye(known.shape[-1], device=known.device))
    root = torch.linalg.cholesky((precision + precision.mT) / 2)
    return torch.cdist(p.features @ root, means @ root).amin(-1) ** 2


def _coverage(p: _Places) -> Tensor:
    """-mean over neurons of how common their state is: its bin's share among the reference, 1 for the commonest."""
    assert p.neurons is not None
    known = p.neurons[:, p.reference]
    low, high = known.amin(1, keepdim=True), known.amax(1, keepdim=True)
    bins = ((p.neurons - low) / (high - low).clamp(min=1e-12) * _BINS).floor_()
    bins = torch.where(p.neurons == high, _BINS - 1, bins)  # the largest belongs to the last bin
    inside, bins = (bins >= 0) & (bins < _BINS), bins.clamp_(0, _BINS - 1).long()
    counts = torch.zeros(known.shape[0], _BINS, known.shape[2], dtype=known.dtype, device=known.device)
    counts.scatter_add_(1, bins[:, p.reference], torch.ones_like(known))
    share = counts / counts.amax(1, keepdim=True).clamp(min=1)
    return -(share.gather(1, bins) * inside).mean(-1)
