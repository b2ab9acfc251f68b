"""Normalisers one by one: the adaptive temperature, entmax, and what n is."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from genlab.models.normalisers import NORMALISERS, Rows, adaptive_temperature, entmax15

ENTROPIES = torch.linspace(0, 8, 8001, dtype=torch.float64)


def rows_of(scores: Tensor, **learnt: float) -> Rows:
    """One head whose every query sees what is not -inf."""
    shaped = scores.reshape(1, 1, 1, *scores.shape[-2:])
    numbers = {name: torch.tensor(value, dtype=scores.dtype) for name, value in learnt.items()}
    return Rows(shaped, ~shaped.isneginf(), numbers, {})


def causal(n: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    scores = scale * torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scores.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), -torch.inf)


# -- adaptive temperature --------------------------------------------------------------------------------------


def published(entropy: float) -> Fraction:
    """The polynomial in exact arithmetic, term by term: -0.037 H^4 + 0.481 H^3 - 2.3 H^2 + 4.917 H - 1.791."""
    h = Fraction(entropy)
    terms = {4: "-0.037", 3: "0.481", 2: "-2.3", 1: "4.917", 0: "-1.791"}
    return sum((Fraction(c) * h**power for power, c in terms.items()), Fraction(0))


def test_the_adaptive_temperature_is_the_published_polynomial_where_it_acts() -> None:
    beta = adaptive_temperature(ENTROPIES)
    for entropy, found in zip(ENTROPIES.tolist()[::37], beta.tolist()[::37], strict=True):
        wanted = max(1.0, float(published(entropy))) if entropy > 0.5 else 1.0
        assert found == pytest.approx(wanted, abs=1e-12)


def test_it_acts_between_two_entropies_alone_and_peaks_where_it_should() -> None:
    beta = adaptive_temperature(ENTROPIES)
    acting = ENTROPIES[beta > 1]
    assert float(acting.min()) == pytest.approx(0.849, abs=1e-3)
    assert float(acting.max()) == pytest.approx(5.945, abs=2e-3)
    assert len(acting) == ((acting.min() <= ENTROPIES) & (acting.max() >= ENTROPIES)).sum()  # one piece
    assert float(beta.max()) == pytest.approx(2.42, abs=0.005)
    assert float(ENTROPIES[beta.argmax()]) == pytest.approx(4.41, abs=0.01)


def test_a_row_is_softmax_at_the_temperature_of_its_own_entropy() -> None:
    scores = causal(60)
    weights = NORMALISERS["adaptive"](rows_of(scores))[0, 0, 0]
    for i in (0, 1, 5, 59):
        row = scores[i, : i + 1]
        p = row.softmax(0)
        beta = float(adaptive_temperature(-(p * p.log()).sum()))
        assert torch.allclose(weights[i, : i + 1], (beta * row).softmax(0), atol=1e-14)
    assert beta > 2  # the last row is flat enough for it to act
    sharp = causal(60, scale=200.0)
    assert torch.allclose(NORMALISERS["adaptive"](rows_of(sharp))[0, 0, 0], sharp.softmax(-1), atol=1e-14)


# -- entmax --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("keys", [1, 2, 7, 300])
def test_entmax_is_the_one_that_its_conditions_name(keys: int, scale: float) -> None:
    """It sums to 1, and sqrt(p_i) - sqrt(p_j) = (z_i - z_j) / 2 in its support, outside which z is no higher."""
    z = scale * torch.randn(50, keys, generator=torch.Generator().manual_seed(keys), dtype=torch.float64)
    p = entmax15(z)
    assert torch.allclose(p.sum(-1), torch.ones(50, dtype=torch.float64), atol=1e-12)
    tau = z / 2 - p.sqrt()
    inside = p > 0
    level = tau.masked_fill(~inside, -torch.inf).amax(-1, keepdim=True)
    assert (tau - level).masked_fill(~inside, 0).abs().max() < 1e-9
    assert ((z / 2 - level).masked_fill(inside, 0) <= 1e-12).all()
    if (keys, scale) == (300, 30.0):
        assert inside.float().mean() < 0.1


def test_entmax_of_equal_scores_is_uniform_and_unseen_keys_weigh_nothing() -> None:
    z = torch.tensor([[3.0, 3.0, 3.0, -torch.inf], [-torch.inf, 9.0, 0.0, -torch.inf]], dtype=torch.float64)
    assert torch.allclose(entmax15(z), torch.tensor([[1, 1, 1, 0], [0, 3, 0, 0]], dtype=torch.float64) / 3)


def test_gradients_of_entmax_equal_finite_differences_with_unseen_keys_too() -> None:
    z = causal(6, seed=2).requires_grad_()
    weights = torch.randn(6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (found,) = torch.autograd.grad((entmax15(z) * weights).sum(), z)
    for i in range(6):
        for j in range(i + 1):
            step = torch.zeros_like(z)
            step[i, j] = 1e-6
            slope = ((entmax15(z + step) - entmax15(z - step)) * weights).sum() / 2e-6
            assert found[i, j].item() == pytest.approx(slope.item(), abs=1e-7)
    assert (found.triu(1) == 0).all()


def test_entmax_in_float32_and_far_from_zero() -> None:
    z = torch.randn(20, 400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(entmax15(z.float()).double(), entmax15(z), atol=1e-6)
    assert torch.allclose(entmax15(z + 1000), entmax15(z), atol=1e-9)


# -- n -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scalable", "scalable-entmax", "sigmoid"])
def test_n_is_the_number_of_keys_that_a_query_sees_never_the_width(name: str) -> None:
    learnt = {"s": 0.7, "delta": 0.4, "beta": 1.3, "gamma": 0.8}
    scores = causal(5)
    alone = NORMALISERS[name](rows_of(scores, **learnt))
    padded = torch.nn.functional.pad(scores, (0, 40), value=-torch.inf)
    assert torch.allclose(NORMALISERS[name](rows_of(padded, **learnt))[..., :5], alone, atol=1e-15)
    hidden = scores.clone()
    hidden[4, 1] = -torch.inf  # a key inside that a window hides: the row has one key fewer
    assert torch.allclose(
        NORMALISERS[name](rows_of(hidden, **learnt))[..., 4, [0, 2, 3, 4]],
        NORMALISERS[name](rows_of(scores[4:, [0, 2, 3, 4]], **learnt))[..., 0, :],
        atol=1e-15,
    )


def test_scalable_softmax_keeps_its_weight_where_softmax_flattens() -> None:
    """One score above n - 1 equal ones by 3, s = 1: it weighs 1 / (1 + (n - 1) n^-3)."""
    for n in (10, 1000):
        row = torch.zeros(1, n, dtype=torch.float64)
        row[0, 0] = 3.0
        weights = NORMALISERS["scalable"](rows_of(row, s=1.0))
        assert float(weights[0, 0, 0, 0, 0]) == pytest.approx(1 / (1 + (n - 1) * n**-3.0))


def test_stick_breaking_prefers_the_nearest_of_equal_scores_and_never_the_query_itself() -> None:
    scores = causal(4) * 0
    weights = NORMALISERS["stick-breaking"](rows_of(scores.masked_fill(scores.isnan(), -torch.inf)))[0, 0, 0]
    assert weights[3].tolist() == pytest.approx([0.125, 0.25, 0.5, 0.0])
    assert weights[0].tolist() == [0.0] * 4


def test_a_vote_hides_a_key_from_later_queries_only() -> None:
    scores = torch.zeros(4, 4, dtype=torch.float64)
    scores[2, 1] = 5.0  # query 2 wants key 1 out of the way
    scores = scores.masked_fill(~torch.ones(4, 4, dtype=torch.bool).tril(), -torch.inf)
    weights = NORMALISERS["selective"](rows_of(scores))[0, 0, 0]
    assert weights[2].tolist() == pytest.approx(scores[2].softmax(0).tolist())
    assert weights[3].tolist() == pytest.approx(torch.tensor([0.0, -5.0, 0.0, 0.0]).softmax(0).tolist(), abs=1e-6)
