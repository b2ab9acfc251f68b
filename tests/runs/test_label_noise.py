"""Label noise: a share of the trained targets, pure in (data seed, step), and never what is read."""

from __future__ import annotations

import numpy as np
import pytest

import genlab
from genlab.tasks import Vocab
from genlab.training import Stream


def streams(share: float, data_seed: int = 3) -> tuple[Stream, Stream]:
    plan = genlab.plan("sort", 6, 6, seeds=[(0, data_seed)], batch_size=512)
    noisy = genlab.plan("sort", 6, 6, seeds=[(0, data_seed)], batch_size=512, label_noise=share)
    return Stream(plan.task, plan.specs[0].train), Stream(noisy.task, noisy.specs[0].train)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_the_share_of_targets_and_nothing_else(share: float):
    clean, noisy = (stream.batch(7) for stream in streams(share))
    assert np.array_equal(clean.tokens, noisy.tokens)
    changed = clean.targets != noisy.targets
    assert not changed[~clean.scored].any()
    assert not changed[clean.targets == Vocab.end].any()
    assert not (noisy.targets == Vocab.end)[clean.targets != Vocab.end].any()
    answers = clean.scored & (clean.targets != Vocab.end)
    # A target drawn from 12 values is the old one in about a twelfth of the cases.
    assert changed[answers].mean() == pytest.approx(share * 11 / 12, abs=0.05)


def test_it_is_a_pure_function_of_data_seed_and_step():
    _, first = streams(0.3)
    _, second = streams(0.3)
    second.batch(1)
    assert np.array_equal(first.batch(7).targets, second.batch(7).targets)
    clean, other = streams(0.3, data_seed=4)
    assert not np.array_equal(
        first.batch(7).targets != streams(0.3)[0].batch(7).targets, other.batch(7).targets != clean.batch(7).targets
    )
