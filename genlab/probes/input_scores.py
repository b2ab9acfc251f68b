"""Scores of single inputs that may indicate a wrong answer, computed from the output and from the layers before it.

Every score is taken at each scored position of the answer, and the maximum over positions is the example's score.
Higher means more suspect; scores that their papers define the other way round change sign. Scores that need reference
statistics are fitted on one half of the in-distribution examples and read on the other.

Letters below: R runs, P positions that are read, N reference positions, D d_model, V d_vocab. The *features* are the
input of the unembedding (after the final norm), the penultimate layer of the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
"""Variance below this fraction of the largest is treated as zero: it is rounding error of float32 activations."""


@dataclass(frozen=True, eq=False)
class InputScores:
    """Scores of the half of the examples that is read.

    Attributes:
        scores: name -> float64[run, example]; NaN where a score is undefined.
        wrong: bool[run, example], whether any scored token is not the most likely one.
        missing: name -> why these models have no such score.
    """

    scores: Mapping[str, Tensor]
    wrong: Tensor
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits, features and targets at the scored positions of answers, float64.

    Attributes:
        logits: float64[R, P, V], at the positions that are read; `known_logits` float64[R, N, V], at reference
            positions.
        features: float64[R, P, D], the input of the unembedding; `known` float64[R, N, D], at reference positions.
        labels: int[N], the true next tokens at reference positions: the classes.
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
        """-log sum exp of the logits that other features would produce, float64[R, P]."""
        return -(features @ self.W_U + self.b_U[:, None]).logsumexp(-1)


# -- Scores from the logits


def of_logits(logits: Tensor) -> dict[str, Tensor]:
    """Scores that need only the logits of a position, float64[R, P] each."""
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
    # For the most likely token, 1 - p is computed as the sum over all others: the difference would lose anything
    # below # 1e-16, whose tenth root is .025.
    others = log_p.scatter(-1, top.indices[..., :1], -torch.inf).logsumexp(-1).exp()
    rest[..., 0] = others
    return (p * rest).pow(GAMMA).sum(-1)


def kl_matching(a: Answers) -> Tensor:
    """KL divergence to the nearest class's mean softmax; a class is a predicted token."""
    log_p, known = a.logits.log_softmax(-1), a.known_logits.log_softmax(-1)
    rows: list[Tensor] = []
    for of_run, usual in zip(log_p, known, strict=True):
        chosen = usual.argmax(-1)
        means = [usual[chosen == c].logsumexp(0) - (chosen == c).sum().double().log() for c in chosen.unique()]
        p = of_run.exp()
        rows.append(((p * of_run).sum(-1, keepdim=True) - p @ torch.stack(means).mT).amin(-1))
    return torch.stack(rows).clamp(min=0)  # negative only through rounding


# -- Scores from the features


def mahalanobis(a: Answers) -> Tensor:
    """Squared distance to the nearest class mean under one covariance for all classes; a class is a true token.

    A singular covariance is inverted on the space that it spans (the pseudo-inverse).
    """
    classes, index = a.labels.unique(return_inverse=True)
    means = torch.stack([a.known[:, index == c].mean(1) for c in range(len(classes))], dim=1)  # [R, class, D]
    centered = a.known - means[:, index]
    values, vectors = torch.linalg.eigh(centered.mT @ centered / a.known.shape[1])
    spanned = values > _RANK * values.amax(-1, keepdim=True)
    root = vectors * torch.where(spanned, values, torch.inf).rsqrt()[:, None]  # inverse = root root^T
    return torch.cdist(a.features @ root, means @ root).amin(-1) ** 2


def knn(a: Answers) -> Tensor:
    """Distance of the normalized features to the k-th nearest of all reference positions."""
    known, distances = F.normalize(a.known, dim=-1), []
    for some in F.normalize(a.features, dim=-1).split(1024, dim=1):
        nearest = (some @ known.mT).topk(NEIGHBORS, dim=-1).indices[..., -1:]  # for unit vectors: largest cosine
        distances.append((some - known.gather(1, nearest.expand(-1, -1, known.shape[-1]))).norm(dim=-1))
    return torch.cat(distances, dim=1)


def vim(a: Answers) -> Tensor:
    """Norm outside the principal space, scaled to the logits, minus log sum exp.

    The origin is where all logits vanish, -W^+ b in the least-squares sense. The principal space has half the
    dimensions of the features (1,000 of 2,048 in the paper). NaN where the features do not extend beyond that space.
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
    """The energy after clipping features from above at a quantile of all reference features."""
    few = a.known.flatten(1).sort(-1).values
    at = CLIP * (few.shape[1] - 1)
    low, high = few[:, int(at)], few[:, min(int(at) + 1, few.shape[1] - 1)]
    bound = low + (at - int(at)) * (high - low)
    return a.energy_of(a.features.minimum(bound[:, None, None]))


def scale(a: Answers) -> Tensor:
    """The energy after scaling features by exp(r), r the sum of all features over the sum of the largest."""
    width = a.features.shape[-1]
    largest = a.features.topk(max(1, width - round(PRUNED * width)), dim=-1).values
    return a.energy_of(a.features * (a.features.sum(-1) / largest.sum(-1)).exp()[..., None])


def coverage(a: Answers) -> Tensor:
    """-mean over features of how well reference positions cover the bin of the feature's activation state.

    The activation state of a feature z is sigmoid(alpha z dKL/dz), where KL is the divergence of the softmax from the
    uniform distribution, whose gradient with respect to the logits is p - 1/V.
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
"""Scores from the features, float64[R, P] each."""


def fitted_scores(answers: Answers) -> dict[str, Tensor]:
    """Every score that is fitted on reference positions, float64[R, P] each."""
    return {"kl_matching": kl_matching(answers)} | {name: score(answers) for name, score in FITTED.items()}


def smoothness(states: Sequence[Tensor]) -> Tensor:
    """The score `smoothness` of residual streams before the first and after each layer, float64[R, P]."""
    return 1 - torch.stack([torch.cosine_similarity(x, y, dim=-1) for x, y in pairwise(states)]).mean(0)


def largest(x: Tensor, whose: Tensor, examples: int) -> Tensor:
    """The maximum over each example's positions, float64[run, example]; NaN if any of them is not finite.

    Args:
        x: float64[run, position].
        whose: int[position], the example of each position.
        examples: number of examples.
    """
    rounded = x.float().double()  # values that differ only by rounding become equal
    odd = (~rounded.isfinite()).double()
    index = whose.expand(len(rounded), -1)
    out = torch.full((len(rounded), examples), -torch.inf, dtype=torch.float64, device=rounded.device)
    out = out.scatter_reduce(1, index, rounded.nan_to_num(), "amax")
    bad = torch.zeros_like(out).scatter_reduce(1, index, odd, "amax")
    return out.masked_fill(bad > 0, torch.nan)


# -- Scores of a probe input


def input_scores(given: ProbeInput) -> InputScores:
    """All scores except `blood`; formulas and sources are in `genlab.probes.scores`.

    Raises:
        NotApplicable: the model has no layers.
    """
    if not given.cfg.n_layers:
        raise NotApplicable("the model has no layers")
    half = _ScoredPositions(given)
    logits = half.gather(lambda seen: seen.logits)
    states = [half.gather(lambda seen, i=i: seen.residual(i)) for i in range(-1, given.cfg.n_layers)]
    read = {**of_logits(logits[:, ~half.known]), "smoothness": smoothness(states)[:, ~half.known]}
    missing: dict[str, str] = {}
    if int(half.known.sum()) <= NEIGHBORS:
        missing = dict.fromkeys(("kl_matching", *FITTED), "too few positions of answers to fit on")
    else:
        try:
            answers = _answers(given, half, logits, states[-1])
        except NotApplicable as why:
            missing = dict.fromkeys(("kl_matching", *FITTED), str(why))
        else:
            read |= fitted_scores(answers)
    wrong = (logits.argmax(-1) != half.targets)[:, ~half.known]
    return InputScores({name: half.worst(x) for name, x in read.items()}, half.worst(wrong) > 0, missing)


class _ScoredPositions:
    """The scored positions of all batches in a row; the first half of each batch's examples is the reference.

    Attributes:
        targets: int[position].
        known: bool[position], whether it is a reference position.
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

    def gather(self, what: Callable[[Seen], Tensor]) -> Tensor:
        """An activation `[run, batch, pos, ...]` at the scored positions, float64[run, position, ...]."""
        return torch.cat([what(seen)[:, seen.batch.scored].double() for seen in self._seen], dim=1)

    def worst(self, x: Tensor) -> Tensor:
        """The maximum over an example's positions, float64[run, example]; NaN if any of them is not finite."""
        return largest(x, self._whose, self._examples)


def _answers(given: ProbeInput, half: _ScoredPositions, logits: Tensor, last: Tensor) -> Answers:
    """Raises `NotApplicable` for an external model."""
    stack, known = stack_of(given.model, "compute features from"), half.known
    return answers_of(
        stack, (logits[:, ~known], last[:, ~known]), (logits[:, known], last[:, known]), half.targets[known]
    )


def answers_of(
    stack: Transformer, read: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor], labels: Tensor
) -> Answers:
    """Answers of a stack from the logits and the last residual stream at some positions.

    Args:
        stack: the models.
        read: float64[R, P, V] and float64[R, P, D], where scores are read.
        known: float64[R, N, V] and float64[R, N, D], the reference.
        labels: int[N], the true next tokens of the reference.
    """
    exact = Transformer(stack.cfg, stack.flat.double())
    features, reference = (exact.before_unembedding(last[:, None])[:, 0] for _, last in (read, known))
    return Answers(read[0], known[0], features, reference, labels, *exact.unembedding())


# -- Jacobians between layers


def blood_scores(given: ProbeInput) -> InputScores:
    """`blood` and `blood_last`: squared Frobenius norms of layer-to-layer Jacobians, computed exactly.

    The Jacobian is that of the residual after a layer with respect to the residual before it, both at the scored
    position; the first layer, which reads embeddings, is excluded (as published). `blood` is the mean over layers.

    Raises:
        NotApplicable: fewer than two layers, or an external model.
    """
    if given.cfg.n_layers < 2:
        raise NotApplicable("it compares the outputs of two layers; the model has fewer")
    stack, half = stack_of(given.model, "differentiate"), _ScoredPositions(given)
    squares = [_blood_of(stack, seen, given.cfg.n_layers) for seen in given.seen]
    logits = half.gather(lambda seen: seen.logits)
    norms = torch.cat(squares, dim=-1)  # [layer, run, position], without reference positions
    wrong = (logits.argmax(-1) != half.targets)[:, ~half.known]
    scores = {"blood": half.worst(norms.mean(0)), "blood_last": half.worst(norms[-1])}
    return InputScores(scores, half.worst(wrong) > 0)


def _blood_of(stack: Transformer, seen: Seen, layers: int) -> Tensor:
    """float64[layer, run, position], at the scored positions of the second half of a batch, in order."""
    batch = seen.batch
    later = slice(len(batch.tokens) // 2, None)
    before = [seen.residual(layer - 1)[:, later] for layer in range(1, layers)]
    offsets = None if batch.offsets is None else batch.offsets[later]
    return jacobian_norms(stack, before, batch.scored[later], offsets)


def jacobian_norms(stack: Transformer, before: Sequence[Tensor], scored: Tensor, offsets: Tensor | None) -> Tensor:
    """`jacobian_norm` of every layer but the first at the scored positions, float64[layer, run, position].

    Args:
        stack: the models.
        before: float[run, batch, pos, d_model], the residual before each of these layers.
        scored: bool[batch, pos].
        offsets: positions of the examples.
    """
    runs = stack.n_runs
    norms = torch.zeros(len(before), runs, *scored.shape, dtype=torch.float64, device=scored.device)
    for i, residual in enumerate(before):
        for pos in scored.any(0).nonzero()[:, 0].tolist():
            rows = scored[:, pos].nonzero()[:, 0]
            own = None if offsets is None else offsets[rows].expand(runs, *[-1] * offsets.ndim)
            norms[i][:, rows, pos] = jacobian_norm(stack, i + 1, residual[:, rows, : pos + 1], own)
    return norms[:, :, scored]


def jacobian_norm(stack: Transformer, layer: int, before: Tensor, offsets: Tensor | None) -> Tensor:
    """Squared Frobenius norm of a layer's Jacobian at and with respect to the last position, float[run, batch].

    Args:
        stack: the models.
        layer: index of the layer.
        before: float[run, batch, pos, d_model], the residual before the layer.
        offsets: positions of the examples.
    """
    past = Past()
    if before.shape[2] > 1:
        stack.block(layer, before[:, :, :-1], offsets, past)  # fills the cache with the earlier positions
    with torch.enable_grad():
        here = before[:, :, -1:].detach().clone().requires_grad_()
        after = stack.block(layer, here, offsets, past)
        total = torch.zeros(before.shape[:2], dtype=torch.float64, device=before.device)
        for one in after.unbind(-1):
            total += torch.autograd.grad(one.sum(), here, retain_graph=True)[0].double().pow(2).sum((-1, -2))
    return total
