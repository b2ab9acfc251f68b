"""The local learning coefficient: of losses of which it is known, and without a trace in global random state."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch
from hand_models import batch_of, given_for, repeated, shape
from torch import Tensor, nn

from genlab.models import Transformer, count
from genlab.probes import NotApplicable, chosen, local_learning, read
from genlab.probes.local_learning import OneRun, coefficient, example_losses
from genlab.probes.probing import values_of

CURVATURE = 200.0
SHAPE = shape(3, 24, extra=0, d_head=1, n_layers=1)
BATCHES = (batch_of(repeated(3, 8, 3)), batch_of(repeated(3, 6, 2)))


class Bowl(nn.Module):
    """A loss of `CURVATURE / 2` times the square of its first `stiff` parameters."""

    def __init__(self, stiff: int, free: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(stiff + free))
        self.stiff = stiff


def bowl(model: nn.Module, numbers: Tensor) -> Tensor:
    assert isinstance(model, Bowl)
    return (CURVATURE / 2 * model.w[: model.stiff].square().sum()).expand(len(numbers))


@pytest.mark.parametrize(("stiff", "free"), [pytest.param(10, 0, marks=pytest.mark.slow), (10, 30)])
def test_a_bowl_has_half_its_stiff_directions_whatever_the_free_ones(stiff: int, free: int):
    pull = local_learning.BETA * CURVATURE + local_learning.PULL
    # Stationary variance of w' = (1 - e p / 2) w + N(0, e), e the step size and p the pull: 1 / (p (1 - e p / 4)).
    wanted = stiff / 2 * local_learning.BETA * CURVATURE / (pull * (1 - local_learning.STEP * pull / 4))
    assert wanted == pytest.approx(stiff / 2, rel=0.1)
    # 800 draws of 10 squares, of which about every sixth is independent: a standard error of some 4 %.
    assert coefficient(Bowl(stiff, free), bowl, 64) == pytest.approx(wanted, rel=0.12)


@pytest.mark.slow
def test_global_random_state_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_learning, "DRAWS", 2)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    first = coefficient(Bowl(3, 0), bowl, 64)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    torch.rand(3)
    assert coefficient(Bowl(3, 0), bowl, 64) == first  # the seed is the sampler's own


def test_a_chain_that_diverges_gives_no_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_learning, "DRAWS", 20)
    monkeypatch.setattr(local_learning, "STEP", 1e6)
    assert np.isnan(coefficient(Bowl(3, 0), lambda model, numbers: bowl(model, numbers).exp(), 64))


def test_without_the_library_the_signal_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "devinterp.slt.llc", None)
    with pytest.raises(NotApplicable, match=r"pip install 'genlab\[llc\]'"):
        coefficient(Bowl(3, 0), bowl, 64)


@pytest.mark.slow
def test_each_run_of_a_stack_is_sampled_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_learning, "DRAWS", 3)
    monkeypatch.setattr(local_learning, "CHAINS", 1)
    flat = torch.randn(2, count(SHAPE), generator=torch.Generator().manual_seed(0))
    read = [
        values_of(chosen(["local_learning_coefficient"])[0], given_for(Transformer(SHAPE, one), *BATCHES))
        for one in (flat, flat[:1], flat[1:])
    ]
    both, first, second = (found["local_learning_coefficient"] for found in read)
    assert both.shape == (2,)
    assert both.tolist() == pytest.approx([first[0], second[0]], rel=1e-4)
    assert both[0] != both[1]


def test_losses_of_examples_are_the_mean_over_their_answers():
    model = Transformer(SHAPE, torch.randn(1, count(SHAPE), generator=torch.Generator().manual_seed(1)))
    first, second = BATCHES
    size = len(first.tokens)
    found = example_losses(BATCHES)(OneRun(model, 0), torch.tensor([size + 1, 0, size - 1]))
    for number, (batch, row) in enumerate(((second, 1), (first, 0), (first, size - 1))):
        log_p = model(batch.tokens[None, row : row + 1])[0, 0].log_softmax(-1)
        places = torch.nonzero(batch.scored[row])[:, 0]
        wanted = -log_p[places, batch.targets[row, places]].mean()
        assert float(found[number].detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_the_formula_says_how_it_is_sampled():
    formula = chosen(["local_learning_coefficient"])[0].formula
    said = f"{local_learning.CHAINS} chains of {local_learning.DRAWS} steps"
    beta = f"b = {local_learning.BATCH} / ln {local_learning.BATCH}"
    for part in (said, beta, f"pull to w* {local_learning.PULL:g},"):
        assert part in formula
    assert f"step size {local_learning.STEP:.0e}".replace("e-04", "e-4") in formula


def test_it_is_read_on_both_halves_of_the_examples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_learning, "coefficient", lambda model, losses, examples: float(examples))
    model = Transformer(SHAPE, torch.randn(1, count(SHAPE), generator=torch.Generator().manual_seed(2)))
    rows = read(given_for(model, *BATCHES), chosen(["local_learning_coefficient"])).rows["local_learning_coefficient"]
    values = {row.name.removeprefix("local_learning_coefficient"): row.value for row in rows}
    assert values[""] == values[".half1"] + values[".half2"]
    assert min(values.values()) > 0
