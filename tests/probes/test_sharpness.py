"""Sharpness, interventions and composition on weights set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hand_models import SHARP, batch_of, blank, given_for, induction_pair, part, repeated, shape, with_patterns

import genlab
from genlab.models import Transformer, initial
from genlab.probes import NotApplicable, ProbeInput, chosen, probe_input
from genlab.probes.families.composition import random_alignments
from genlab.probes.families.interventions import scaled
from genlab.probes.families.sharpness import leads
from genlab.probes.probing import values_of


def value(name: str, given: ProbeInput) -> np.ndarray:
    return values_of(chosen([name])[0], given)[name]


def argmax_and_uniform(scores: float) -> ProbeInput:
    """Head 0 gives token 1 a score of `scores` and all others 0; head 1 has no weights. Lengths 4, 8, 16."""
    model = blank(shape(3, 16, extra=0, d_head=4, n_layers=1, n_heads=2))
    part(model, 0, "Q")[3:, 0] = 2 * scores  # every position
    part(model, 0, "K")[1, 0] = 1.0
    batches = []
    for length in (4, 8, 16):
        tokens = torch.zeros(5, length, dtype=torch.int64)
        tokens[:, 0] = 1
        last = torch.zeros_like(tokens, dtype=torch.bool)
        last[:, -1] = True
        batches.append(batch_of(tokens, length, last))
    return given_for(model, *batches)


def test_a_sharp_argmax_head_and_a_uniform_one():
    given = argmax_and_uniform(SHARP)
    assert value("attention_entropy", given)[0, 0] == pytest.approx([0.0, np.mean(np.log([4, 8, 16]))], abs=1e-5)
    assert value("largest_weight", given)[0, 0] == pytest.approx([1.0, np.mean([1 / 4, 1 / 8, 1 / 16])])
    assert value("effective_keys", given)[0, 0] == pytest.approx([1.0, (4 + 8 + 16) / 3], rel=1e-5)
    assert value("score_spread", given)[0, 0] == pytest.approx([SHARP, 0.0])
    assert value("winning_margin", given)[0, 0] == pytest.approx([SHARP, 0.0])
    assert value("largest_weight_growth", given)[0, 0] == pytest.approx([0.0, -1.0], abs=1e-5)
    assert value("effective_keys_growth", given)[0, 0] == pytest.approx([0.0, 1.0], abs=1e-5)
    assert value("effective_keys_extrapolated", given)[0, 0] == pytest.approx([1.0, 64.0], rel=1e-4)
    assert value("largest_weight_extrapolated", given)[0, 0] == pytest.approx([1.0, 1 / 64], rel=1e-4)
    assert value("dispersion_bound", given)[0, 0] == pytest.approx([1.0, 1.0])


def test_the_lead_is_over_the_second_best_key_if_there_is_one():
    for scores, wanted in (([3.0, 1.0, 2.0], 1.0), ([1.0, 3.0], 2.0), ([3.0, 3.0], 0.0), ([3.0], 0.0)):
        best, lead = leads(torch.tensor([scores]))
        assert (float(best), float(lead)) == (3.0, wanted)


def test_a_fixed_spread_disperses():
    """A lead of ln 3: weights 3/(n+2) for the winner, as the bound has it."""
    given = argmax_and_uniform(math.log(3))
    assert value("largest_weight", given)[0, 0, 0] == pytest.approx(np.mean([3 / (n + 2) for n in (4, 8, 16)]))
    assert value("score_spread", given)[0, 0, 0] == pytest.approx(math.log(3), abs=1e-5)
    assert value("dispersion_bound", given)[0] == pytest.approx(np.ones((1, 2)))
    # W_Q W_K^T has one entry a position: 2 ln 3 at 16 positions, so sigma = 2 ln 3 * 4; |x|^2 = 2, d_head 4.
    assert value("score_spread_bound", given)[0, 0, 0] == pytest.approx(2 * 8 * math.log(3) * 2 / 2, rel=1e-5)
    assert value("score_spread_bound", given)[0, 0, 0] >= value("score_spread", given)[0, 0, 0]


def test_the_bound_can_fail_where_weights_are_no_softmax_of_the_scores():
    given = with_patterns(
        argmax_and_uniform(0.0), lambda b: torch.eye(b.tokens.shape[1]).expand(len(b.tokens), -1, -1)
    )
    assert value("dispersion_bound", given).max() == 0.0


def test_growth_needs_three_lengths():
    few = ProbeInput(argmax_and_uniform(1.0).model, argmax_and_uniform(1.0).batches[:2], ())
    with pytest.raises(NotApplicable, match="fewer than three lengths"):
        value("largest_weight_growth", few)


# -- interventions ---------------------------------------------------------------------------------------------------


def retrieval(lead: float) -> ProbeInput:
    """The answer is the token in front (1); the head gives it a lead, all others say 2 with half its voice each."""
    model = blank(shape(3, 16, extra=0, d_head=4, n_layers=1))
    part(model, 0, "Q")[3:, 0] = 2 * lead
    part(model, 0, "K")[1, 0] = 1.0
    part(model, 0, "V")[:3, :3] = torch.eye(3)
    part(model, 0, "O")[:3, :3] = torch.eye(3)
    model.params["unembed.W_U"][0, :3, :3] = torch.diag(torch.tensor([0.2, 1.0, 0.0]))
    tokens = torch.zeros(4, 16, dtype=torch.int64)
    tokens[:, 0] = 1
    last = torch.zeros_like(tokens, dtype=torch.bool)
    last[:, -1] = True
    batch = batch_of(tokens, 16, last)
    return given_for(model, batch)


def test_temperature_moves_exact_match():
    """Right iff w > 0.2 (1 - w) + 0.2, the last token's own voice; w = e^z / (e^z + 15)."""
    lead = math.log(15 / 2)  # w = 1/3, and the threshold too: 1/3 = 0.2 * 2/3 + 0.2
    given = retrieval(lead * 1.1)
    found = values_of(chosen(["exact_match_at_temperature"])[0], given)
    values = [found[f"exact_match_at_temperature.{t}"][0] for t in ("0.5", "0.8", "1.25", "2")]
    assert values == [1.0, 1.0, 0.0, 0.0]


def test_adaptive_temperature_sharpens_what_is_spread_out():
    given = retrieval(math.log(15 / 2) * 0.9)  # just wrong as it is; entropy above 0.85 nats
    assert values_of(chosen(["exact_match_at_temperature"])[0], given)["exact_match_at_temperature.1.25"][0] == 0.0
    assert value("exact_match_adaptive", given)[0] == 1.0
    assert value("exact_match_scalable", given)[0] == 0.0  # the longest training length is its reference


def test_scaled_leaves_unseen_keys_out():
    scores = torch.tensor([[1.0, -math.inf]])
    assert scaled(scores, 0.0).tolist() == [[0.0, -math.inf]]


# -- composition -----------------------------------------------------------------------------------------------------


def test_an_induction_pair_composes_through_keys_alone():
    """The later head's keys read the places that the earlier one writes, its queries and values do not.

    The MLP between them, which no circuit of two heads sees, is left out: keys read the free places themselves.
    """
    model = induction_pair(6, 8)
    keys = part(model, 1, "K")
    keys[14:20] = keys[20:]
    keys[20:] = 0
    given = given_for(model, batch_of(repeated(4, 2, 6)))
    scores = {n: value(n, given)[0] for n in ("q_composition", "k_composition", "v_composition", "subspace_match")}
    assert all(np.isnan(found[0]).all() for found in scores.values())
    assert scores["q_composition"][1, 0] == pytest.approx(0.0, abs=1e-6)
    assert scores["v_composition"][1, 0] == pytest.approx(0.0, abs=1e-6)
    # |W_OV| = sqrt 6; W_QK: 6 entries of s, and 8 of s/2; the product has 6 entries of s.
    assert scores["k_composition"][1, 0] == pytest.approx(6**0.5 / (6**0.5 * (6 + 8 / 4) ** 0.5), rel=1e-4)
    assert scores["subspace_match"][1, 0] == pytest.approx(1.0, abs=1e-6)
    assert value("subspace_percentile", given)[0, 1, 0] > 0.99
    assert value("diagonal_score", given)[0, 1, 0] > 1


def test_random_subspaces_match_by_chance():
    """At width 64 random pairs match at 0.67 (j = 10) and 0.84 (16): FACTS of the field, and percentiles say 1/2."""
    assert float(random_alignments(64, 10).mean()) == pytest.approx(0.67, abs=0.02)
    assert float(random_alignments(64, 16).mean()) == pytest.approx(0.84, abs=0.02)
    spec = genlab.plan("sort", 5, 5, seeds=[0], n_heads=1).specs[0]
    specs = [spec.with_seeds(seed, 0) for seed in range(40)]
    given = probe_input(specs, Transformer(spec.model, initial(spec.model, range(40))))
    shares = value("subspace_percentile", given)[:, 1, 0]
    assert shares.mean() == pytest.approx(0.5, abs=0.15)
    assert np.nanmean(value("subspace_match", given)) == pytest.approx(0.67, abs=0.05)


def test_one_layer_has_no_pairs():
    with pytest.raises(NotApplicable, match="heads of two layers"):
        value("k_composition", retrieval(1.0))
