"""Two layers of attention learn an induction head on `repeats`, one layer cannot: the signal tells them apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import genlab
from genlab.models import Transformer
from genlab.probes import ProbeInput, chosen, probe_input
from genlab.probes.probing import values_of
from genlab.tasks import make
from genlab.training import fresh, train_stack


def trained(n_layers: int) -> ProbeInput:
    """Attention alone, 250 steps on patterns of 10 to 12 tokens in texts of 32."""
    plan = genlab.plan(
        "repeats",
        12,
        12,
        seeds=[0],
        params={"symbols": 32, "n_tokens": 32},
        n_layers=n_layers,
        n_heads=2,
        attn_only=True,
        loss="scored",
        lr=3e-3,
        batch_size=64,
        min_len=10,
        steps=250,
    )
    spec = plan.specs[0]
    state = train_stack(make(spec.task), fresh([spec]), torch.device("cpu"))[0]
    return probe_input([spec], Transformer(spec.model, state.weights[None]))


def largest(name: str, given: ProbeInput) -> float:
    return float(np.nanmax(values_of(chosen([name])[0], given)[name]))


@pytest.mark.slow
def test_induction_needs_two_layers():
    two, one = trained(2), trained(1)
    for name in ("induction_scored", "induction_prefix", "random_induction_prefix"):
        assert largest(name, two) > 0.5, name
        assert largest(name, one) < 0.3, name
    assert largest("accuracy", two) > 0.5
    assert largest("accuracy", one) < 0.1
    assert largest("previous_token", two) > 0.5
