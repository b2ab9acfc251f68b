"""Ablations and patching on a hand-set induction pair: it alone says the answer, so that what each does is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hand_models import batch_of, blank, given_for, induction_pair, part, repeated, shape

from genlab.errors import UserError
from genlab.probes import NotApplicable, ProbeInput, chosen
from genlab.probes.patching import answer_log_prob, patch_heads, patch_residual, path_patch
from genlab.probes.probing import values_of

SYMBOLS, PERIOD = 8, 5


def copier() -> ProbeInput:
    """The induction head's value is the token that it attends to, which the unembedding reads."""
    model = induction_pair(SYMBOLS, 2 * PERIOD)
    part(model, 1, "V")[:SYMBOLS, :SYMBOLS] = torch.eye(SYMBOLS)
    last = slice(-SYMBOLS, None)  # the place of the gated token is free again after layer 1's keys have been read
    part(model, 1, "O")[:SYMBOLS, last] = 20 * torch.eye(SYMBOLS)
    model.params["unembed.W_U"][0, last] = torch.eye(SYMBOLS)
    tokens = repeated(PERIOD, 2, SYMBOLS, rows=6)
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    scored[:, PERIOD:-1] = True
    return given_for(model, batch_of(tokens, scored=scored))


def test_without_either_head_all_is_lost():
    given = copier()
    found = {name: v[0] for name, v in values_of(chosen(["ablate_head"])[0], given).items()}
    assert values_of(chosen(["accuracy"])[0], given)["accuracy"][0] == 1.0
    for kind in ("zero", "mean", "uniform"):
        assert found[f"ablate_head.{kind}.exact_match"] == pytest.approx(np.ones((2, 1))), kind
        assert (found[f"ablate_head.{kind}.loss"] > 1).all(), kind
    # Another example's repeats stand at the same places: the induction head then says its tokens.
    assert found["ablate_head.resample.exact_match"][1, 0] == 1.0
    mlp = values_of(chosen(["ablate_mlp"])[0], given)["ablate_mlp.zero.exact_match"][0]
    assert mlp == pytest.approx([1.0, 0.0])  # the second one writes nothing


def test_a_head_that_does_nothing_costs_nothing():
    idle = given_for(blank(shape(4, 8, extra=0, d_head=4)), batch_of(repeated(4, 1, 4)))
    for values in values_of(chosen(["ablate_head"])[0], idle).values():
        assert values == pytest.approx(np.zeros_like(values), abs=1e-7)
    with pytest.raises(NotApplicable, match="no MLP"):
        values_of(chosen(["ablate_mlp"])[0], idle)


def test_the_induction_head_brings_the_answer_over_alone():
    given = copier()
    batch = given.batches[0]
    other = batch.tokens.roll(1, 0)
    measure = answer_log_prob(batch.targets, batch.scored)
    restored = patch_heads(given.model, batch.tokens, other, measure)[0]
    assert restored[1, 0] == pytest.approx(1.0, abs=0.02)
    assert restored[0, 0] < 0.3  # its keys match, but the values are the other prompt's
    signal = values_of(chosen(["patch_head"])[0], given)["patch_head"][0]
    assert signal == pytest.approx(restored.numpy(), abs=1e-4)


def test_residuals_matter_where_they_are_read():
    """Query and value: before layer 1 no single position holds all of an answer of four tokens."""
    given = copier()
    batch = given.batches[0]
    one = torch.zeros_like(batch.scored)
    one[:, PERIOD] = True  # the answer at the first place of the second copy: the token at position 1
    measure = answer_log_prob(batch.targets, one)
    other = batch.tokens.clone()
    other[:, 1] = torch.tensor([min(set(range(SYMBOLS)) - set(row)) for row in other.tolist()])  # no other match
    restored = patch_residual(given.model, batch.tokens, other, measure)[0]
    assert restored[1, 1] == pytest.approx(1.0, abs=0.05)
    assert restored[1, [0, 2, 3, 4]].abs().max() < 0.05


def test_the_path_runs_through_keys():
    """The previous-token head speaks to the induction head's keys, not to its queries or values."""
    given = copier()
    batch = given.batches[0]
    measure, other = answer_log_prob(batch.targets, batch.scored), batch.tokens.roll(1, 0)
    heads = ((0, 0), (1, 0))
    lost = {
        "q": float(path_patch(given.model, batch.tokens, other, measure, *heads, "q")),
        "k": float(path_patch(given.model, batch.tokens, other, measure, *heads, "k")),
        "v": float(path_patch(given.model, batch.tokens, other, measure, *heads, "v")),
    }
    assert lost["k"] > 1
    assert lost["q"] == pytest.approx(0.0, abs=1e-5)
    assert lost["v"] == pytest.approx(0.0, abs=1e-5)
    found = values_of(chosen(["path_patch_keys"])[0], given)["path_patch_keys"][0]
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx(lost["k"], rel=1e-4)


def test_what_cannot_be_patched():
    given = copier()
    tokens = given.batches[0].tokens
    measure = answer_log_prob(tokens, tokens >= 0)
    with pytest.raises(UserError, match="not before the receiver"):
        path_patch(given.model, tokens, tokens, measure, (1, 0), (1, 0), "k")
    with pytest.raises(UserError, match="cannot be patched together"):
        patch_heads(given.model, tokens, tokens[:, :-1], measure)
    assert patch_heads(given.model, tokens, tokens, measure).isnan().all()
    alike = given_for(given.model.model, batch_of(tokens[:1].expand(3, -1)))  # pyright: ignore
    with pytest.raises(NotApplicable, match="different answers"):
        values_of(chosen(["patch_head"])[0], alike)
