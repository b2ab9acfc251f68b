"""Confidence of the output, and how well it detects wrong answers: the baseline for internal signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genlab.errors import NotApplicable
from genlab.probes.families.interventions import exact_match
from genlab.probes.scores import MEASURED, SCORES
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.input_scores import InputScores
    from genlab.probes.inputs import Batch, ProbeInput, Seen

UNDEFINED = (
    "Undefined where all answers are right, which is the rule in distribution for runs that fit. Ranks answers "
    "inside the training distribution only."
)
"""Blind spots of all measures of how well scores find wrong answers."""


@signal(
    "loss",
    per="run",
    about="in-distribution loss",
    formula="mean cross-entropy over the scored positions of each length, averaged over examples",
    blind="Averages over answers: a few confident errors dominate.",
    unit="nats",
    low=0,
    high=float("inf"),
    source="ours",
)
def loss(given: ProbeInput) -> Tensor:
    def mean_loss(seen: Seen) -> Tensor:
        batch = seen.batch
        log_p = seen.logits[:, batch.scored].log_softmax(-1)
        return -log_p.gather(-1, batch.targets[batch.scored].expand(len(log_p), -1)[..., None]).mean((1, 2))

    return given.mean([mean_loss(seen) for seen in given.seen])


@signal(
    "accuracy",
    per="run",
    about="in-distribution exact match",
    formula="fraction of examples in which every scored token is the most likely one",
    blind="Saturated at 1 for runs that fit.",
    unit="fraction",
    low=0,
    high=1,
    source="ours",
)
def accuracy(given: ProbeInput) -> Tensor:
    return given.mean([exact_match(seen) for seen in given.seen])


def scores_of(given: ProbeInput) -> InputScores:
    """The scores of single inputs, computed once."""
    from genlab.probes.input_scores import input_scores

    return given.once("input scores", lambda: input_scores(given))


def declare(name: str) -> None:
    """Declare the mean of a score over in-distribution examples."""
    score = SCORES[name]

    def read(given: ProbeInput) -> Tensor:
        result = scores_of(given)
        if name in result.missing:
            raise NotApplicable(result.missing[name])
        return result.scores[name].mean(-1)

    read.__name__ = read.__qualname__ = f"confidence_{name}"
    signal(
        f"confidence_{name}",
        per="run",
        about=f"mean over examples of the score `{name}` (higher: more suspect)",
        formula=f"{score.formula}; maximum over the positions of an answer, fitted on the other half of the examples",
        blind="A mean over in-distribution examples: how unsure a run is there. Models that extrapolate wrongly can "
        "be sure of it.",
        unit="score",
        low=score.low,
        high=score.high,
        source=score.source,
        version=score.version,
    )(read)


for _name in SCORES:
    declare(_name)


def wrongness_of(result: InputScores, measure: str) -> dict[str, Tensor]:
    """A measure of each score as a detector of wrong answers, float64[run] each.

    NaN for runs in which no answer, or every answer, is wrong.

    Raises:
        NotApplicable: this holds for every run.
    """
    import torch

    wrong, measure_of = result.wrong.cpu().numpy(), MEASURES[measure]
    mixed = [bool(of_run.any() and not of_run.all()) for of_run in wrong]
    if not any(mixed):
        raise NotApplicable("no in-distribution answer is wrong, or every one is")

    def per_run(scores: Tensor) -> Tensor:
        rows = zip(scores.cpu().numpy(), wrong, mixed, strict=True)
        return torch.tensor([measure_of(s, w) if both else float("nan") for s, w, both in rows])

    return {name: per_run(scores) for name, scores in result.scores.items()}


def declare_measure(measure: str) -> None:
    """Declare how well each score detects wrong in-distribution answers."""
    about, source = MEASURED[measure]

    def read(given: ProbeInput) -> dict[str, Tensor]:
        return wrongness_of(scores_of(given), measure)

    read.__name__ = read.__qualname__ = f"wrong_{measure}"
    signal(
        f"wrong_{measure}",
        per="run",
        about=f"is this answer wrong? {about}, for each score",
        formula="see genlab.probes.families.confidence; scores as in the confidence_ signals",
        blind=UNDEFINED,
        unit=measure,
        low=0,
        high=1,
        source=source,
        version=2,
    )(read)


for _name in MEASURED:
    declare_measure(_name)


def answers(given: ProbeInput) -> tuple[Tensor, Tensor]:
    """The answers of all runs at scored positions, int[run, position], and their disagreement, float[position].

    The disagreement is the entropy of the mean prediction minus the mean entropy. Computed for a few runs at a time,
    because all seeds of a configuration are compared; only the results are stored.
    """
    import torch

    from genlab.models import model_of
    from genlab.probes.model import Stacked

    if given.model.n_runs < 2 or given.spec is None:
        raise NotApplicable("needs at least two seeds of a configuration, probed together")
    config = given.spec.model
    few = [Stacked(model_of(config, rows)) for rows in given.model.flat.split(16)]

    def compare(batch: Batch) -> tuple[Tensor, Tensor]:
        """Most likely tokens, int[run, batch, pos], and the disagreement, float[batch, pos]."""
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

    def compared(whole: ProbeInput, which: int) -> list[Tensor]:
        return [both[which] for both in whole.once("answers", lambda: [compare(batch) for batch in whole.batches])]

    scored = [batch.scored for batch in given.batches]
    tokens = given.whole("answer tokens", lambda whole: compared(whole, 0), axis=1)
    apart = given.whole("answer disagreement", lambda whole: compared(whole, 1))
    return (
        torch.cat([x[:, at] for x, at in zip(tokens, scored, strict=True)], dim=1),
        torch.cat([x[at] for x, at in zip(apart, scored, strict=True)]),
    )


@signal(
    "ensemble_disagreement",
    per="run",
    about="fraction of a run's answer tokens that differ from those of the other seeds",
    formula="mean over the other runs of the configuration of the fraction of scored positions with another most "
    "likely token",
    blind="Needs several seeds. Seeds that share a wrong rule agree.",
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
    about="how much the seeds of a configuration disagree beyond their own uncertainty (the same for all of them)",
    formula="entropy of the mean prediction - mean entropy of the predictions, averaged over scored positions",
    blind="One value per configuration: it cannot rank its runs.",
    unit="nats",
    low=0,
    high=float("inf"),
    source="Depeweg et al. 2017, arXiv 1710.07283",
    together=True,
)
def ensemble_mutual_information(given: ProbeInput) -> Tensor:
    _, apart = answers(given)
    return apart.mean().clamp(min=0).expand(given.model.n_runs)


# -- Measures of how well a score detects wrong answers
#
# A higher score means *more likely wrong*. NaN means that the measure is undefined: none or all of the answers are
# wrong (`risk_coverage` is defined there too), or a score is not finite.

Scores = NDArray[np.floating]
Wrong = NDArray[np.bool_]


def auroc(score: Scores, wrong: Wrong) -> float:
    """The probability that a wrong answer scores higher than a right one; ties count half.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    if _undefined(score, wrong):
        return float("nan")
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong, _ordered(score)))


def aupr(score: Scores, wrong: Wrong) -> float:
    """Average precision in detecting wrong answers; answers with equal scores are flagged together.

    >>> round(aupr(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, False, True])), 6)
    0.833333
    """
    if _undefined(score, wrong):
        return float("nan")
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(wrong, _ordered(score)))


def fpr95(score: Scores, wrong: Wrong) -> float:
    """The fraction of right answers flagged at the strictest threshold that flags 95 % of the wrong ones.

    >>> fpr95(np.array([0.1, 0.2, 0.3, 0.9]), np.array([False, False, True, True]))
    0.0
    """
    if _undefined(score, wrong):
        return float("nan")
    from sklearn.metrics import roc_curve

    right_flagged, wrong_flagged, _ = roc_curve(wrong, _ordered(score), drop_intermediate=False)
    return float(right_flagged[np.argmax(wrong_flagged >= 0.95)])


def autc(score: Scores, wrong: Wrong) -> float:
    """Area under the threshold curve: mean of the two error rates over all thresholds of the rescaled score.

    Scores are rescaled to [0, 1]; 0 is perfect. Unlike AUROC, it depends on how far apart the scores of right and
    wrong answers are (Humblot-Renaux et al. 2023, arXiv 2306.14658).

    >>> autc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([False, False, True, True]))
    0.0
    """
    low, high = float(score.min()), float(score.max())
    if _undefined(score, wrong) or low == high:
        return float("nan")
    scaled = (score - low) / (high - low)
    # For a uniform threshold t, a right answer of score s is flagged (t < s) with probability s; a wrong one is
    # missed with probability 1 - s.
    return float((scaled[~wrong].mean() + (1 - scaled[wrong]).mean()) / 2)


def risk_coverage(score: Scores, wrong: Wrong) -> float:
    """Area under the risk-coverage curve: the mean fraction of wrong answers among the k least suspect, over all k.

    Ties are taken in expectation (Geifman and El-Yaniv 2017, arXiv 1705.08500).

    >>> round(risk_coverage(np.array([0.1, 0.2, 0.9]), np.array([False, False, True])), 4)
    0.1111
    """
    if np.isnan(score).any():
        return float("nan")
    return float(np.mean(risks(score, wrong)))


def risks(score: Scores, wrong: Wrong) -> Scores:
    """The risk-coverage curve: the fraction of wrong answers among the k least suspect, k = 1 to n, float[n].

    Ties are taken in expectation.

    >>> risks(np.array([0.1, 0.9, 0.9]), np.array([False, False, True])).tolist()
    [0.0, 0.25, 0.3333333333333333]
    """
    _, group = np.unique(score, return_inverse=True)
    among = np.bincount(group, weights=wrong.astype(float)) / np.bincount(group)
    expected = among[group][np.argsort(group, kind="stable")]
    return np.cumsum(expected) / np.arange(1, len(score) + 1)


def _undefined(score: Scores, wrong: Wrong) -> bool:
    """Whether a measure is undefined: all answers are right or all are wrong, or a score is NaN."""
    return bool(wrong.all() or not wrong.any() or np.isnan(score).any())


def _ordered(score: Scores) -> Scores:
    """The scores with the largest numbers in place of infinities, which scikit-learn refuses; the order stays."""
    return np.nan_to_num(score)


MEASURES: Mapping[str, Callable[[Scores, Wrong], float]] = MappingProxyType(
    {"auroc": auroc, "aupr": aupr, "fpr95": fpr95, "autc": autc, "risk_coverage": risk_coverage}
)
"""Name -> measure."""
