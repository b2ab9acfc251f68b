"""Evaluations of a stack while it trains: what is watched beside the check of each run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import first, runs

from genlab.models import Transformer
from genlab.training import evaluate, fresh, train_stack

CPU = torch.device("cpu")


def test_watched_splits_are_evaluated_at_every_measurement() -> None:
    watched = first().split("id").at((7, 8), 16)
    specs = runs(first(), [0, 1], steps=20, eval_every=8)
    states = train_stack(first(), fresh(specs), CPU, watched=lambda _spec: [watched])
    plain = train_stack(first(), fresh(specs), CPU)
    for state, unwatched in zip(states, plain, strict=True):
        assert torch.equal(state.weights, unwatched.weights)  # looking changes nothing
        assert {row["step"] for row in state.trace} == {8, 16, 20}
        beyond = [row for row in state.trace if row["n"] == 16]
        assert len(beyond) == 3 * 2 * 4  # steps, lengths, metrics
        last = Transformer(state.spec.model, state.weights[None])
        for result in evaluate(last, first(), watched):
            (row,) = (
                r for r in beyond if (r["step"], r["length"], r["metric"]) == (20, result.length, "exact_match")
            )
            assert row["value"] == pytest.approx(float(result.metrics["exact_match"][0][0]))
        for measured in state.history:
            inside = [
                row["value"]
                for row in state.trace
                if (row["step"], row["metric"]) == (measured["step"], "exact_match") and row["n"] != 16
            ]
            assert measured["exact_match"] == pytest.approx(np.mean(inside))
