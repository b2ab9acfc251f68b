"""Scores of single inputs, and how they are evaluated as detectors of wrong answers: formulas, settings, sources.

No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

_ANY = float("inf")
NEIGHBORS = 10
"""k of the nearest neighbor: the paper's value for 1 % of ImageNet's training features, the size closest to ours."""
VARIANCE = 0.9
"""NECO's principal space: the fewest directions that explain this fraction of the variance."""
CLIP = 0.9
"""ReAct's quantile of all reference features, at which features are clipped."""
PRUNED = 0.85
"""SCALE's fraction of features that are not among the largest."""
GAMMA, TOP = 0.1, 100
"""GEN's exponent, and the number of most probable tokens it uses (all, if the vocabulary is smaller)."""
STEEPNESS, BINS, FILLED = 100.0, 50, 0.01
"""Neuron activation coverage, as published for the final norm of a vision transformer: steepness of the sigmoid, bins
of the histogram, and the fraction of reference positions at which a bin counts as filled (500 of 50,000 there)."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score of a single input, taken at each scored position of the answer; the maximum over positions counts.

    Attributes:
        low, high: the range of the score.
        formula: in the notation of `genlab.probes.input_scores`: h are the features (the input of the unembedding), z
            the logits, p their softmax.
        source: the paper that defines it, or `ours`; signs are chosen so that higher means more suspect.
        version: raised when its values change.
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
"""Name -> score of a single input."""

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
"""Measure of how well a score detects wrong answers -> (description, source)."""
