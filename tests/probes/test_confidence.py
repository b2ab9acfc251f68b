"""Confidence: measures against their definitions, scores on answers that are known, seeds against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hand_models import batch_of, blank, given_for, shape

import genlab
from genlab.models import Transformer, initial
from genlab.probes import NotApplicable, ProbeInput, chosen, probe_input
from genlab.probes.families.confidence import MEASURES, aupr, auroc, autc, fpr95, risk_coverage
from genlab.probes.input_scores import input_scores
from genlab.probes.probing import values_of


def value(name: str, given: ProbeInput) -> np.ndarray:
    return values_of(chosen([name])[0], given)[name]


# -- measures: slow twins --------------------------------------------------------------------------------------------


def some_scores(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wrong = rng.random(60) < 0.3
    score = rng.normal(size=60) + wrong
    return (score.round() if ties else score), wrong


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_their_definitions(seed: int, ties: bool):
    score, wrong = some_scores(seed, ties)
    bad, good = score[wrong], score[~wrong]
    pairs = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    assert auroc(score, wrong) == pytest.approx(np.mean(pairs))

    thresholds = sorted(set(score), reverse=True)
    recall = [0.0, *((bad >= t).mean() for t in thresholds)]
    precision = [wrong[score >= t].mean() for t in thresholds]
    steps = zip(recall, recall[1:], precision, strict=False)
    assert aupr(score, wrong) == pytest.approx(sum((b - a) * p for a, b, p in steps))
    strictest = next(t for t in thresholds if (bad >= t).mean() >= 0.95)
    assert fpr95(score, wrong) == pytest.approx((good >= strictest).mean())

    grid = np.linspace(score.min(), score.max(), 20_001)
    errors = [((good > t).mean() + (bad <= t).mean()) / 2 for t in grid]
    assert autc(score, wrong) == pytest.approx(np.mean(errors), abs=2e-3)

    rng = np.random.default_rng(9)
    risks = []
    for _ in range(400 if ties else 1):  # ties in random order
        order = np.lexsort((rng.random(len(score)), score))
        risks.append(np.mean(np.cumsum(wrong[order]) / np.arange(1, len(score) + 1)))
    assert risk_coverage(score, wrong) == pytest.approx(np.mean(risks), abs=0.01 if ties else 1e-12)


def test_infinite_scores_are_the_largest_and_the_smallest():
    score, wrong = np.array([-np.inf, 0.0, 1.0, np.inf]), np.array([False, True, False, True])
    for measure in (auroc, aupr, fpr95):
        assert measure(score, wrong) == measure(np.array([-1.0, 0.0, 1.0, 2.0]), wrong), measure.__name__


def test_perfect_useless_and_open():
    wrong = np.array([False, False, True, True])
    perfect, constant = np.array([0.0, 0.0, 1.0, 1.0]), np.zeros(4)
    found = {name: (of(perfect, wrong), of(constant, wrong)) for name, of in MEASURES.items()}
    assert found["auroc"] == (1.0, 0.5)
    assert found["aupr"] == (1.0, 0.5)
    assert found["fpr95"] == (0.0, 1.0)
    assert found["autc"][0] == 0.0
    assert np.isnan(found["autc"][1])
    assert found["risk_coverage"] == (pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4), pytest.approx(0.5))
    for name in ("auroc", "aupr", "fpr95", "autc"):
        assert np.isnan(MEASURES[name](perfect, np.zeros(4, bool)))


def test_a_score_that_is_no_number_has_no_measure():
    wrong = np.array([False, True, False, True])
    for at in range(4):
        score = np.array([0.1, 0.2, 0.3, 0.4])
        score[at] = np.nan
        for name, of in MEASURES.items():
            assert np.isnan(of(score, wrong)), name


# -- scores ----------------------------------------------------------------------------------------------------------


def echo(logit: float) -> ProbeInput:
    """A model that says the token it reads, with that logit against zeros; every fourth row asks for another."""
    model = blank(shape(4, 8, extra=0, d_head=4, n_layers=1))
    model.params["unembed.W_U"][0, :4] = logit * torch.eye(4)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, (40, 6), generator=generator)
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    scored[:, 3:] = True
    batch = batch_of(tokens, 6, scored)
    batch.targets[:] = tokens
    batch.targets[::4, 4] = (tokens[::4, 4] + 1) % 4
    return given_for(model, batch)


def test_output_scores_of_known_logits():
    """Logits (2, 0, 0, 0): p = e^2 / (e^2 + 3)."""
    given = echo(2.0)
    p = np.exp(2) / (np.exp(2) + 3)
    assert value("confidence_msp", given)[0] == pytest.approx(1 - p)
    assert value("confidence_energy", given)[0] == pytest.approx(-np.log(np.exp(2) + 3))
    assert value("confidence_margin", given)[0] == pytest.approx(-2.0)
    q = (1 - p) / 3
    assert value("confidence_entropy", given)[0] == pytest.approx(-p * np.log(p) - 3 * q * np.log(q))
    assert value("confidence_smoothness", given)[0] == pytest.approx(0.0, abs=1e-12)  # the layer adds nothing
    assert value("accuracy", given)[0] == pytest.approx(0.75)
    assert value("loss", given)[0] == pytest.approx(-(11 * np.log(p) + np.log(q)) / 12, rel=1e-5)
    assert value("confidence_gen", given)[0] == pytest.approx((p * (1 - p)) ** 0.1 + 3 * (q * (1 - q)) ** 0.1)
    assert value("confidence_kl_matching", given)[0] == pytest.approx(0.0, abs=1e-9)  # each is its class's mean
    assert value("confidence_coverage", given)[0] == -1  # attention alone: it is of what the unembedding reads


def test_constant_scores_know_nothing_of_wrong_answers():
    found = values_of(chosen(["wrong_auroc"])[0], echo(2.0))
    assert found["wrong_auroc.msp"][0] == pytest.approx(0.5)
    right = echo(2.0)
    right.batches[0].targets[:] = right.batches[0].tokens
    with pytest.raises(NotApplicable, match="no in-distribution answer is wrong"):
        values_of(chosen(["wrong_auroc"])[0], right)


def test_an_odd_input_is_suspect_to_the_scores_that_know_what_is_usual():
    """Token 3 is at no reference position; with it the features lie outside all that was fitted.

    `mahalanobis` does not see that: as published, it measures within what the features of a class span.
    """
    model = blank(shape(4, 8, extra=0, d_head=4, n_layers=1, d_mlp=4))
    model.params["blocks.0.mlp.W_in"][0, :4] = torch.eye(4)
    model.params["blocks.0.mlp.W_out"][0, :, :4] = 4 * torch.eye(4)
    model.params["unembed.W_U"][0, :4] = torch.eye(4)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, (60, 8), generator=generator)
    tokens[45:] = 3
    given = given_for(model, batch_of(tokens, 8))
    odd = np.arange(30) >= 15  # of the second half
    found = input_scores(given).scores
    for name in ("knn", "vim"):
        assert auroc(found[name][0].numpy(), odd) > 0.99, name


# -- seeds -----------------------------------------------------------------------------------------------------------


def stack(runs: int, alike: bool) -> ProbeInput:
    spec = genlab.plan("sort", 5, 5, seeds=[0]).specs[0]
    specs = [spec.with_seeds(seed, 0) for seed in range(runs)]
    return probe_input(specs, Transformer(spec.model, initial(spec.model, [0 if alike else s for s in range(runs)])))


def test_equal_seeds_agree_and_others_do_not():
    for name in ("ensemble_disagreement", "ensemble_mutual_information"):
        assert value(name, stack(3, alike=True)) == pytest.approx(np.zeros(3), abs=1e-9)
        assert (value(name, stack(3, alike=False)) > 0.005).all()
    with pytest.raises(NotApplicable, match="two seeds"):
        value("ensemble_disagreement", stack(1, alike=True))


def test_disagreement_by_hand():
    """Of three runs two are alike: they differ from one of two others, the third from both."""
    spec = genlab.plan("sort", 5, 5, seeds=[0]).specs[0]
    specs = [spec.with_seeds(seed, 0) for seed in range(3)]
    given = probe_input(specs, Transformer(spec.model, initial(spec.model, [0, 0, 1])))
    found = value("ensemble_disagreement", given)
    assert found[0] == found[1] == pytest.approx(found[2] / 2)
    assert found[2] > 0.1
