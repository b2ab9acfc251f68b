"""What the output itself says, in distribution: the baselines that any signal from the inside has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.probes.families.interventions import exact_match
from genlab.probes.signal import NotApplicable, signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.input_scores import InputScores
    from genlab.probes.inputs import Batch, ProbeInput, Seen

_ANY = float("inf")
_SCORES = {
    "msp": (0, 1, "1 - largest softmax probability", "Hendrycks and Gimpel 2016, arXiv 1610.02136"),
    "energy": (-_ANY, _ANY, "-log sum exp of the logits", "Liu et al. 2020, arXiv 2010.03759"),
    "entropy": (0, _ANY, "entropy of the softmax", "Hendrycks and Gimpel 2016, arXiv 1610.02136"),
    "margin": (-_ANY, 0, "-(largest - second largest logit)", "Jiang et al. 2018, arXiv 1810.00113"),
    "mahalanobis": (
        0,
        _ANY,
        "squared Mahalanobis distance of the last residual to the nearest class mean; a class is a target token",
        "Lee et al. 2018, arXiv 1807.03888",
    ),
    "nearest": (
        0,
        2,
        "distance of the normed last residual to the 10th nearest of 128 reference places",
        "Sun et al. 2022, arXiv 2204.06507",
    ),
    "vim": (
        -_ANY,
        _ANY,
        "norm outside the principal space (90 % of variance), scaled to logits, minus log sum exp",
        "Wang et al. 2022, arXiv 2203.10807",
    ),
    "neco": (
        -_ANY,
        0,
        "-norm inside the principal space / norm of the last residual",
        "Ben Ammar et al. 2023, arXiv 2310.06823",
    ),
    "coverage": (
        -1,
        0,
        "-mean over the last layer's neurons of how common their state is, of 50 bins, the commonest 1",
        "Liu et al. 2023, neuron activation coverage, arXiv 2306.02879",
    ),
    "smoothness": (0, 2, "mean over layers of 1 - cosine of the residual before and after", "ours"),
}
"""Score of a single input -> low, high, formula at one place of the answer, source. The most suspect place counts."""

_MEASURES = {
    "auroc": "probability that a wrong answer scores higher than a right one",
    "aupr": "average precision in finding the wrong answers",
    "fpr95": "share of right answers flagged where 95 % of the wrong ones are",
    "autc": "mean of both error rates over all thresholds of the scaled score",
    "risk_coverage": "mean share of wrong answers among the k least suspect, over all k",
}


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
    low, high, formula, source = _SCORES[name]

    def read(given: ProbeInput) -> Tensor:
        found = scores_of(given).scores
        if name not in found:
            raise NotApplicable("the model has no neurons (attention only)")
        return found[name].mean(-1)

    read.__name__ = read.__qualname__ = f"confidence_{name}"
    signal(
        f"confidence_{name}",
        per="run",
        about=f"mean over examples of the score `{name}` (higher: more suspect)",
        formula=f"{formula}; the most suspect place of an answer counts, fits are on the other half of the examples",
        unit="score",
        low=low,
        high=high,
        source=source,
    )(read)


for _name in _SCORES:
    declare(_name)


def declare_measure(measure: str) -> None:
    """How well each score says which in-distribution answers are wrong."""

    def read(given: ProbeInput) -> dict[str, Tensor]:
        import torch

        from genlab.probes.wrongness import MEASURES

        found = scores_of(given)
        wrong = found.wrong.cpu().numpy()
        of = MEASURES[measure]
        mixed = [bool(of_run.any() and not of_run.all()) for of_run in wrong]
        if not any(mixed):
            raise NotApplicable("no in-distribution answer is wrong, or all are")

        def per_run(scores: Tensor) -> Tensor:
            rows = zip(scores.cpu().numpy(), wrong, mixed, strict=True)
            return torch.tensor([of(s, w) if both else float("nan") for s, w, both in rows])

        return {name: per_run(scores) for name, scores in found.scores.items()}

    read.__name__ = read.__qualname__ = f"wrong_{measure}"
    signal(
        f"wrong_{measure}",
        per="run",
        about=f"is this answer wrong? {_MEASURES[measure]}, for each score",
        formula="see genlab.probes.wrongness; scores are those of the confidence_ signals",
        unit=measure,
        low=0,
        high=1,
        source="Humblot-Renaux et al. 2023, arXiv 2306.14658, and what it compares",
    )(read)


for _name in _MEASURES:
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
    source="Lakshminarayanan et al. 2017, arXiv 1612.01474",
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
