"""Scores of single inputs that may say that the answer is wrong: from the output, and from what lies before it.

Every score is taken at each scored position of the answer, and the most suspect position speaks for the example.
Higher is more suspect: a score that its paper defines the other way round has its sign turned. Scores that need to
know what is usual are fitted on a reference half of the same in-distribution examples and read on the other half.

Letters below: R runs, P positions that are read, N positions that are fitted on, D d_model, V d_vocab. The *features*
are what the unembedding reads (after the final norm), the penultimate layer of the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from genlab.errors import NotApplicable
from genlab.models import Past, Transformer
from genlab.probes.inputs import ProbeInput, Seen
from genlab.probes.model import stack_of
from genlab.probes.scores import (
    BINS,
    CLIP,
    FILLED,
    GAMMA,
    NEIGHBORS,
    PRUNED,
    STEEPNESS,
    TOP,
    VARIANCE,
)

_RANK = 1e-10
"""Variance below this fraction of the largest is rounding of float32 activations, and counts as none."""


@dataclass(frozen=True, eq=False)
class InputScores:
    """Scores of the examples of the half that is read.

    Attributes:
        scores: name -> float64[run, example]; NaN where a score is no number.
        wrong: bool[run, example], whether any scored token is not the likeliest.
        missing: name -> why these models have no such score, as the rest of a sentence.
    """

    scores: Mapping[str, Tensor]
    wrong: Tensor
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answers:
    """What the models had at the scored positions of answers, float64.

    Attributes:
        logits: float64[R, P, V], of the positions that are read; `known_logits` float64[R, N, V] of those fitted on.
        features: float64[R, P, D], what the unembedding reads there; `known` float64[R, N, D].
        labels: int[N], the true next tokens of the positions fitted on: the classes.
        W_U, b_U: float64[R, D, V] and float64[R, V]: logits = features W_U + b_U.
    """

    logits: Tensor
    known_logits: Tensor
    features: Tensor
    known: Tensor
    labels: Tensor
    W_U: Tensor
    b_U: Tensor

    def energy_of(self, features: Tensor) -> Tensor:
        """-log sum exp of the logits that other features would give, float64[R, P]."""
        return -(features @ self.W_U + self.b_U[:, None]).logsumexp(-1)


# -- from the logits alone -------------------------------------------------------------------------------------------


def of_logits(logits: Tensor) -> dict[str, Tensor]:
    """Scores that need the logits of a position and nothing else, float64[R, P] each."""
    log_p = logits.log_softmax(-1)
    top = logits.topk(2, dim=-1).values
    return {
        "msp": 1 - log_p.amax(-1).exp(),
        "energy": -logits.logsumexp(-1),
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "margin": top[..., 1] - top[..., 0],
        "gen": gen(log_p),
    }


def gen(log_p: Tensor) -> Tensor:
    """Generalized entropy: sum of p^gamma (1 - p)^gamma over the most probable tokens."""
    top = log_p.topk(min(TOP, log_p.shape[-1]), dim=-1)
    p = top.values.exp()
    rest = 1 - p
    # 1 - p of the likeliest token is the sum of all others: a difference would lose what is below 1e-16, of which
    # the tenth root is .025.
    others = log_p.scatter(-1, top.indices[..., :1], -torch.inf).logsumexp(-1).exp()
    rest[..., 0] = others
    return (p * rest).pow(GAMMA).sum(-1)


def kl_matching(a: Answers) -> Tensor:
    """KL divergence to the nearest class's mean softmax; a class is a predicted token."""
    log_p, known = a.logits.log_softmax(-1), a.known_logits.log_softmax(-1)
    found: list[Tensor] = []
    for of_run, usual in zip(log_p, known, strict=True):
        chosen = usual.argmax(-1)
        means = [usual[chosen == c].logsumexp(0) - (chosen == c).sum().double().log() for c in chosen.unique()]
        p = of_run.exp()
        found.append(((p * of_run).sum(-1, keepdim=True) - p @ torch.stack(means).mT).amin(-1))
    return torch.stack(found).clamp(min=0)  # below 0 by rounding alone


# -- from the features -----------------------------------------------------------------------------------------------


def mahalanobis(a: Answers) -> Tensor:
    """Squared distance to the nearest class mean under one covariance for all classes; a class is a true token.

    A covariance that is singular is inverted on the space that it spans (the pseudo-inverse).
    """
    classes, place = a.labels.unique(return_inverse=True)
    means = torch.stack([a.known[:, place == c].mean(1) for c in range(len(classes))], dim=1)  # [R, class, D]
    centered = a.known - means[:, place]
    values, vectors = torch.linalg.eigh(centered.mT @ centered / a.known.shape[1])
    spanned = values > _RANK * values.amax(-1, keepdim=True)
    root = vectors * torch.where(spanned, values, torch.inf).rsqrt()[:, None]  # inverse = root root^T
    return torch.cdist(a.features @ root, means @ root).amin(-1) ** 2


def knn(a: Answers) -> Tensor:
    """Distance of the normed features to the k-th nearest of all reference positions."""
    known, found = F.normalize(a.known, dim=-1), []
    for some in F.normalize(a.features, dim=-1).split(1024, dim=1):
        nearest = (some @ known.mT).topk(NEIGHBORS, dim=-1).indices[..., -1:]  # of unit vectors, the largest cosine
        found.append((some - known.gather(1, nearest.expand(-1, -1, known.shape[-1]))).norm(dim=-1))
    return torch.cat(found, dim=1)


def vim(a: Answers) -> Tensor:
    """Norm outside the principal space, scaled to logits, minus log sum exp.

    The origin is where all logits vanish, -W^+ b in least squares. The principal space has half the dimensions of the
    features (1,000 of 2,048 in the paper). NaN where the features do not fill more than that space.
    """
    origin = -(a.b_U[:, None] @ torch.linalg.pinv(a.W_U))
    known = a.known - origin
    outside = torch.linalg.eigh(known.mT @ known).eigenvectors[..., : known.shape[-1] - known.shape[-1] // 2]
    usual, size = (known @ outside).norm(dim=-1).mean(1), known.norm(dim=-1).mean(1)
    alpha = a.known_logits.amax(-1).mean(1) / torch.where(usual**2 > _RANK * size**2, usual, torch.nan)
    return alpha[:, None] * ((a.features - origin) @ outside).norm(dim=-1) - a.logits.logsumexp(-1)


def neco(a: Answers) -> Tensor:
    """-(norm inside the principal space / norm of the features) times the largest logit."""
    mean = a.known.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh((a.known - mean).mT @ (a.known - mean))
    values, vectors = values.flip(-1).clamp(min=0), vectors.flip(-1)
    inside = (values.cumsum(-1) - values) < VARIANCE * values.sum(-1, keepdim=True)
    within = ((a.features - mean) @ vectors * inside[:, None]).norm(dim=-1)
    return -within / a.features.norm(dim=-1).clamp(min=1e-12) * a.logits.amax(-1)


def react(a: Answers) -> Tensor:
    """The energy when features are clipped from above at a quantile of all reference features."""
    few = a.known.flatten(1).sort(-1).values
    at = CLIP * (few.shape[1] - 1)
    low, high = few[:, int(at)], few[:, min(int(at) + 1, few.shape[1] - 1)]
    bound = low + (at - int(at)) * (high - low)
    return a.energy_of(a.features.minimum(bound[:, None, None]))


def scale(a: Answers) -> Tensor:
    """The energy when features are scaled by exp(r), r the sum of all over the sum of the largest."""
    width = a.features.shape[-1]
    largest = a.features.topk(max(1, width - round(PRUNED * width)), dim=-1).values
    return a.energy_of(a.features * (a.features.sum(-1) / largest.sum(-1)).exp()[..., None])


def coverage(a: Answers) -> Tensor:
    """-mean over features of how well reference positions cover the bin that the feature's activation state is in.

    The activation state of a feature z is sigmoid(alpha z dKL/dz), KL that of the uniform distribution from the
    softmax, whose gradient by the logits is p - 1/V.
    """

    def bins(features: Tensor, logits: Tensor) -> Tensor:
        slope = (logits.softmax(-1) - 1 / logits.shape[-1]) @ a.W_U.mT
        return (torch.sigmoid(STEEPNESS * features * slope) * BINS).long().clamp(max=BINS - 1)

    usual = bins(a.known, a.known_logits)
    counts = usual.new_zeros(len(usual), BINS, usual.shape[-1]).scatter_add_(1, usual, torch.ones_like(usual))
    covered = (counts / max(1.0, FILLED * usual.shape[1])).clamp(max=1).double()
    return -covered.gather(1, bins(a.features, a.logits)).mean(-1)


FITTED: Mapping[str, Callable[[Answers], Tensor]] = {
    "mahalanobis": mahalanobis,
    "knn": knn,
    "vim": vim,
    "neco": neco,
    "react": react,
    "scale": scale,
    "coverage": coverage,
}
"""Scores of features, float64[R, P] each."""


# -- of a probe input ------------------------------------------------------------------------------------------------


def input_scores(given: ProbeInput) -> InputScores:
    """All scores but `blood`; `genlab.probes.scores` has their formulas and sources.

    Raises:
        NotApplicable: the model has no layers.
    """
    if not given.cfg.n_layers:
        raise NotApplicable("the model has no layers")
    half = _Half(given)
    logits = half.of(lambda seen: seen.logits)
    states = [half.of(lambda seen, i=i: seen.residual(i)) for i in range(-1, given.cfg.n_layers)]
    turns = [torch.cosine_similarity(x, y, dim=-1) for x, y in pairwise(states)]
    read = {**of_logits(logits[:, ~half.known]), "smoothness": (1 - torch.stack(turns).mean(0))[:, ~half.known]}
    missing: dict[str, str] = {}
    if int(half.known.sum()) <= NEIGHBORS:
        missing = dict.fromkeys(("kl_matching", *FITTED), "too few positions of answers to fit on")
    else:
        try:
            answers = _answers(given, half, logits, states[-1])
        except NotApplicable as why:
            missing = dict.fromkeys(("kl_matching", *FITTED), str(why))
        else:
            read |= {"kl_matching": kl_matching(answers)} | {name: of(answers) for name, of in FITTED.items()}
    wrong = (logits.argmax(-1) != half.targets)[:, ~half.known]
    return InputScores({name: half.worst(x) for name, x in read.items()}, half.worst(wrong) > 0, missing)


class _Half:
    """Scored positions of all batches in a row; the first half of each batch's examples is fitted on.

    Attributes:
        targets: int[position].
        known: bool[position], whether the position is one of those fitted on.
    """

    def __init__(self, given: ProbeInput):
        self._seen = given.seen
        rows = [seen.batch.scored.nonzero()[:, 0] for seen in given.seen]
        sizes = [len(seen.batch.tokens) for seen in given.seen]
        self.targets = torch.cat([seen.batch.targets[seen.batch.scored] for seen in given.seen])
        self.known = torch.cat([row < size // 2 for row, size in zip(rows, sizes, strict=True)])
        example = torch.cat([row + sum(sizes[:i]) for i, row in enumerate(rows)])
        ids, self._whose = example[~self.known].unique(return_inverse=True)
        self._examples = len(ids)

    def of(self, what: Callable[[Seen], Tensor]) -> Tensor:
        """An activation `[run, batch, pos, ...]` at the scored positions, float64[run, position, ...]."""
        return torch.cat([what(seen)[:, seen.batch.scored].double() for seen in self._seen], dim=1)

    def worst(self, x: Tensor) -> Tensor:
        """The largest value over an example's positions, float64[run, example]; NaN where one is no number."""
        held = x.float().double()  # equal but for rounding is equal
        odd = (~held.isfinite()).double()
        shape = (len(held), self._examples)
        out = torch.full(shape, -torch.inf, dtype=torch.float64, device=held.device)
        out = out.scatter_reduce(1, self._whose.expand(len(held), -1), held.nan_to_num(), "amax")
        bad = torch.zeros_like(out).scatter_reduce(1, self._whose.expand(len(held), -1), odd, "amax")
        return out.masked_fill(bad > 0, torch.nan)


def _answers(given: ProbeInput, half: _Half, logits: Tensor, last: Tensor) -> Answers:
    """Raises `NotApplicable` for a model from elsewhere."""
    stack = stack_of(given.model, "read features by")
    exact = Transformer(stack.cfg, stack.flat.double())
    features, (w, b) = exact.before_unembedding(last[:, None])[:, 0], exact.unembedding()
    known = half.known
    return Answers(
        logits[:, ~known], logits[:, known], features[:, ~known], features[:, known], half.targets[known], w, b
    )


# -- between layers --------------------------------------------------------------------------------------------------


def blood_scores(given: ProbeInput) -> InputScores:
    """`blood` and `blood_last`: squared Frobenius norms of the Jacobians of the maps from layer to layer, exactly.

    The Jacobian is that of the residual after a layer by the residual before it, both at the scored position itself;
    the first layer, which reads embeddings, is left out (as published). `blood` is the mean over layers.

    Raises:
        NotApplicable: fewer than two layers, or a model from elsewhere.
    """
    if given.cfg.n_layers < 2:
        raise NotApplicable("it is of maps between the outputs of two layers; the model has fewer")
    stack, half = stack_of(given.model, "differentiate by"), _Half(given)
    squares = [_blood_of(stack, seen, given.cfg.n_layers) for seen in given.seen]
    logits = half.of(lambda seen: seen.logits)
    norms = torch.cat(squares, dim=-1)  # [layer, run, position], those fitted on left out
    wrong = (logits.argmax(-1) != half.targets)[:, ~half.known]
    scores = {"blood": half.worst(norms.mean(0)), "blood_last": half.worst(norms[-1])}
    return InputScores(scores, half.worst(wrong) > 0)


def _blood_of(stack: Transformer, seen: Seen, layers: int) -> Tensor:
    """float64[layer, run, position] of the scored positions of the second half of a batch, in its order."""
    batch, runs = seen.batch, stack.n_runs
    later = slice(len(batch.tokens) // 2, None)
    scored = batch.scored[later]
    found = torch.zeros(layers - 1, runs, *scored.shape, dtype=torch.float64, device=scored.device)
    for layer in range(1, layers):
        before = seen.residual(layer - 1)[:, later]
        for pos in scored.any(0).nonzero()[:, 0].tolist():
            rows = scored[:, pos].nonzero()[:, 0]
            offsets = (
                None if batch.offsets is None else batch.offsets[later][rows].expand(runs, *[-1] * batch.offsets.ndim)
            )
            found[layer - 1][:, rows, pos] = jacobian_norm(stack, layer, before[:, rows, : pos + 1], offsets)
    return found[:, :, scored]


def jacobian_norm(stack: Transformer, layer: int, before: Tensor, offsets: Tensor | None) -> Tensor:
    """Squared Frobenius norm of a layer's Jacobian at the last position by that position alone, float64[run, batch].

    Args:
        before: float[run, batch, pos, d_model], the residual before the layer.
    """
    past = Past()
    if before.shape[2] > 1:
        stack.block(layer, before[:, :, :-1], offsets, past)  # keys and values of the positions before
    with torch.enable_grad():
        here = before[:, :, -1:].detach().clone().requires_grad_()
        after = stack.block(layer, here, offsets, past)
        total = torch.zeros(before.shape[:2], dtype=torch.float64, device=before.device)
        for one in after.unbind(-1):
            total += torch.autograd.grad(one.sum(), here, retain_graph=True)[0].double().pow(2).sum((-1, -2))
    return total
