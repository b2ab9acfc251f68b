"""What the output itself says, in distribution: the baselines that any signal from the inside has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genlab.probes.families.interventions import exact_match
from genlab.probes.signal import NotApplicable, signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.input_scores import InputScores
    from genlab.probes.inputs import Batch, ProbeInput, Seen

_ANY = float("inf")
NEIGHBORS = 10
"""k of the nearest neighbor: that of the paper for 1 % of ImageNet's training features, the size nearest to ours."""
VARIANCE = 0.9
"""NECO's principal space: the fewest directions that hold this fraction of the variance."""
CLIP = 0.9
"""ReAct's quantile of all reference features, above which they are clipped."""
PRUNED = 0.85
"""SCALE's fraction of features that do not count as large."""
GAMMA, TOP = 0.1, 100
"""GEN's exponent, and the most probable tokens that count (all where the vocabulary is smaller)."""
STEEPNESS, BINS, FILLED = 100.0, 50, 0.01
"""Neuron activation coverage, as published for the final norm of a vision transformer: steepness of the sigmoid, bins
of the histogram, and the fraction of reference positions at which a bin counts as filled (500 of 50,000 there)."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score of a single input, at one scored position of the answer; the most suspect position counts.

    Attributes:
        low, high: the ends of its range.
        formula: in the words of `genlab.probes.input_scores`; h are the features (what the unembedding reads), z the
            logits, p their softmax.
        source: the paper that defines it, or `ours`; signs are turned so that higher is more suspect.
        version: rises when its values change.
    """

    low: float
    high: float
    formula: str
    source: str
    version: int = 1


SCORES = {
    "msp": Score(0, 1, "1 - max p", "Hendrycks and Gimpel 2016, arXiv 1610.02136"),
    "energy": Score(-_ANY, _ANY, "-log sum exp z (temperature 1)", "Liu et al. 2020, arXiv 2010.03759"),
    "entropy": Score(0, _ANY, "-sum p ln p", "Lakshminarayanan et al. 2017, arXiv 1612.01474 (predictive entropy)"),
    "margin": Score(
        -_ANY,
        0,
        "-(largest - second largest z)",
        "ours, after Jiang et al. 2018, arXiv 1810.00113 (there of the true class, over the norm of its gradient)",
    ),
    "gen": Score(
        0,
        _ANY,
        f"sum of p^g (1 - p)^g, g = {GAMMA}, over the {TOP} most probable tokens (or all)",
        "Liu et al. 2023, GEN: pushing the limits of softmax-based out-of-distribution detection, CVPR",
    ),
    "kl_matching": Score(
        0,
        _ANY,
        "min over classes of KL(p || mean p of the reference positions at which that token is the most probable)",
        "Hendrycks et al. 2019, Scaling out-of-distribution detection, arXiv 1911.11132",
    ),
    "mahalanobis": Score(
        0,
        _ANY,
        "squared Mahalanobis distance of h to the nearest class mean, one covariance for all classes "
        "(pseudo-inverse, variance below 1e-10 of the largest is none); a class is a true token",
        "Lee et al. 2018, arXiv 1807.03888 (the last layer's score, inputs not perturbed)",
        version=2,
    ),
    "knn": Score(
        0,
        2,
        f"distance of h / |h| to the {NEIGHBORS}th nearest of all reference positions",
        "Sun et al. 2022, Out-of-distribution detection with deep nearest neighbors, arXiv 2204.06507",
    ),
    "vim": Score(
        -_ANY,
        _ANY,
        "a |part of x outside the principal space| - log sum exp z; x = h + W^+ b, the space has the d_model / 2 "
        "largest directions of x^T x over the reference, a = mean max z / mean norm outside it, over the reference",
        "Wang et al. 2022, ViM, arXiv 2203.10807 (the logarithm of the virtual logit's odds)",
        version=2,
    ),
    "neco": Score(
        -_ANY,
        _ANY,
        f"-max z |P (h - mean)| / |h|, P on the fewest principal directions with {VARIANCE:.0%} of the variance",
        "Ben Ammar et al. 2023, NECO, arXiv 2310.06823 (as for vision transformers: features not standardized)",
        version=2,
    ),
    "react": Score(
        -_ANY,
        _ANY,
        f"energy of min(h, c) W + b, c the {CLIP:.0%} quantile of all reference features",
        "Sun et al. 2021, ReAct, arXiv 2111.12797",
    ),
    "scale": Score(
        -_ANY,
        _ANY,
        f"energy of h exp(r) W + b, r = sum h / sum of the largest {1 - PRUNED:.0%} of h (after a final norm h has "
        "both signs, so that r may be below 1)",
        "Xu et al. 2023, SCALE, arXiv 2310.00227 (applied to a final norm as OpenOOD applies it to ViT)",
    ),
    "coverage": Score(
        -1,
        0,
        f"-mean over h of min(1, n / O), n the reference positions in the state's bin of {BINS} on [0, 1], O = "
        f"max(1, {FILLED:.0%} of them); state: sigmoid({STEEPNESS:g} h dKL/dh), KL(uniform || p)",
        "Liu et al. 2023, neuron activation coverage, arXiv 2306.02879 (NAC-UE; settings of the final norm of ViT)",
        version=2,
    ),
    "smoothness": Score(0, 2, "mean over layers of 1 - cosine of the residual before and after", "ours"),
}
"""Score of a single input -> what it is."""

MEASURED = {
    "auroc": (
        "probability that a wrong answer scores higher than a right one",
        "Hendrycks and Gimpel 2016, arXiv 1610.02136",
    ),
    "aupr": (
        "average precision in finding the wrong answers",
        "Hendrycks and Gimpel 2016, arXiv 1610.02136 (wrong answers are the positive class)",
    ),
    "fpr95": (
        "fraction of right answers flagged where 95 % of the wrong ones are",
        "Liang et al. 2017, ODIN, arXiv 1706.02690 (here wrong answers are the positive class)",
    ),
    "autc": (
        "mean of both error rates over all thresholds of the scaled score",
        "Humblot-Renaux et al. 2023, arXiv 2306.14658",
    ),
    "risk_coverage": (
        "mean fraction of wrong answers among the k least suspect, over all k",
        "Geifman and El-Yaniv 2017, arXiv 1705.08500",
    ),
}
"""How well a score says which answers are wrong -> what it is, source."""


@signal(
    "loss",
    per="run",
    about="in-distribution loss",
    formula="mean cross-entropy over scored places of a length, a mean over examples",
    unit="nats",
    low=0,
    high=_ANY,
    source="ours",
)
def loss(given: ProbeInput) -> Tensor:
    def of(seen: Seen) -> Tensor:
        batch = seen.batch
        right = seen.logits[:, batch.scored].log_softmax(-1)
        return -right.gather(-1, batch.targets[batch.scored].expand(len(right), -1)[..., None]).mean((1, 2))

    return given.mean([of(seen) for seen in given.seen])


@signal(
    "accuracy",
    per="run",
    about="in-distribution exact match",
    formula="fraction of examples whose every scored token is the likeliest",
    unit="fraction",
    low=0,
    high=1,
    source="ours",
)
def accuracy(given: ProbeInput) -> Tensor:
    return given.mean([exact_match(seen) for seen in given.seen])


def scores_of(given: ProbeInput) -> InputScores:
    """The scores of single inputs, made once."""
    from genlab.probes.input_scores import input_scores

    return given.once("input scores", lambda: input_scores(given))


def declare(name: str) -> None:
    """The mean of a score over in-distribution examples."""
    score = SCORES[name]

    def read(given: ProbeInput) -> Tensor:
        found = scores_of(given)
        if name in found.missing:
            raise NotApplicable(found.missing[name])
        return found.scores[name].mean(-1)

    read.__name__ = read.__qualname__ = f"confidence_{name}"
    signal(
        f"confidence_{name}",
        per="run",
        about=f"mean over examples of the score `{name}` (higher: more suspect)",
        formula=f"{score.formula}; the most suspect position of an answer counts, fits are on the other half of the "
        "examples",
        unit="score",
        low=score.low,
        high=score.high,
        source=score.source,
        version=score.version,
    )(read)


for _name in SCORES:
    declare(_name)


def wrongness_of(found: InputScores, measure: str) -> dict[str, Tensor]:
    """A measure of each score, float64[run] each; NaN for a run of which no answer is wrong, or all are.

    Raises:
        NotApplicable: that holds for every run.
    """
    import torch

    from genlab.probes.wrongness import MEASURES

    wrong, of = found.wrong.cpu().numpy(), MEASURES[measure]
    mixed = [bool(of_run.any() and not of_run.all()) for of_run in wrong]
    if not any(mixed):
        raise NotApplicable("no in-distribution answer is wrong, or all are")

    def per_run(scores: Tensor) -> Tensor:
        rows = zip(scores.cpu().numpy(), wrong, mixed, strict=True)
        return torch.tensor([of(s, w) if both else float("nan") for s, w, both in rows])

    return {name: per_run(scores) for name, scores in found.scores.items()}


def declare_measure(measure: str) -> None:
    """How well each score says which in-distribution answers are wrong."""
    about, source = MEASURED[measure]

    def read(given: ProbeInput) -> dict[str, Tensor]:
        return wrongness_of(scores_of(given), measure)

    read.__name__ = read.__qualname__ = f"wrong_{measure}"
    signal(
        f"wrong_{measure}",
        per="run",
        about=f"is this answer wrong? {about}, for each score",
        formula="see genlab.probes.wrongness; scores are those of the confidence_ signals",
        unit=measure,
        low=0,
        high=1,
        source=source,
        version=2,
    )(read)


for _name in MEASURED:
    declare_measure(_name)


def answers(given: ProbeInput) -> tuple[Tensor, Tensor]:
    """What all runs answer at scored places: tokens int[run, place], and how much they disagree, float[place].

    The latter is the entropy of the mean prediction less the mean entropy. Computed a few runs at a time: all seeds
    of a configuration are compared, and of none is more kept than what it says.
    """
    import torch

    from genlab.models import model_of
    from genlab.probes.model import Stacked

    if given.model.n_runs < 2 or given.spec is None:
        raise NotApplicable("needs two seeds of a configuration or more, probed together")
    config = given.spec.model
    few = [Stacked(model_of(config, rows)) for rows in given.model.flat.split(16)]

    def of(batch: Batch) -> tuple[Tensor, Tensor]:
        """Likeliest tokens int[run, batch, pos], and the disagreement float[batch, pos]."""
        chosen: list[Tensor] = []
        total, entropy = torch.zeros(()), torch.zeros(())
        for some in few:
            log_p = some(batch.tokens, batch.offsets).log_softmax(-1).double()
            chosen.append(log_p.argmax(-1))
            p = log_p.exp()
            total = total.to(p) + p.sum(0)
            entropy = entropy.to(p) - (p * log_p.clamp(min=-100)).sum((0, -1))
        mean = total / given.model.n_runs
        of_mean = -(mean * mean.clamp(min=1e-40).log()).sum(-1)
        return torch.cat(chosen), of_mean - entropy / given.model.n_runs

    def made(whole: ProbeInput, which: int) -> list[Tensor]:
        return [both[which] for both in whole.once("answers", lambda: [of(batch) for batch in whole.batches])]

    scored = [batch.scored for batch in given.batches]
    tokens = given.whole("answer tokens", lambda whole: made(whole, 0), axis=1)
    apart = given.whole("answer disagreement", lambda whole: made(whole, 1))
    return (
        torch.cat([x[:, at] for x, at in zip(tokens, scored, strict=True)], dim=1),
        torch.cat([x[at] for x, at in zip(apart, scored, strict=True)]),
    )


@signal(
    "ensemble_disagreement",
    per="run",
    about="how often a run's answer tokens differ from those of the other seeds",
    formula="mean over other runs of the configuration of the fraction of scored places with another likeliest token",
    unit="fraction",
    low=0,
    high=1,
    source="ours, after Lakshminarayanan et al. 2017, arXiv 1612.01474 (there divergences from the mean prediction)",
    together=True,
)
def ensemble_disagreement(given: ProbeInput) -> Tensor:
    import torch

    chosen, _ = answers(given)
    return torch.stack([(chosen != one).double().mean(1).sum() / (len(chosen) - 1) for one in chosen])


@signal(
    "ensemble_mutual_information",
    per="run",
    about="how much the seeds of a configuration disagree beyond their own doubt (the same for all of them)",
    formula="entropy of the mean prediction - mean entropy of predictions, mean over scored places",
    unit="nats",
    low=0,
    high=_ANY,
    source="Depeweg et al. 2017, arXiv 1710.07283",
    together=True,
)
def ensemble_mutual_information(given: ProbeInput) -> Tensor:
    _, apart = answers(given)
    return apart.mean().clamp(min=0).expand(given.model.n_runs)
