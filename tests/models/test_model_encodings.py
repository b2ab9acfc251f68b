"""Position encodings one by one: formulas written out, shifts of all positions, positions never trained."""

from __future__ import annotations

import math

import pytest
import torch
from small_models import config, model, relative_error, some_tokens
from torch import Tensor
from twin import twin_bias

from genlab.models import Transformer
from genlab.models.positions import T5, Rotary

BIASES = ("alibi", "hard-alibi", "t5", "fire")


def biases(made: Transformer, ids: Tensor) -> Tensor:
    """What the first block adds to its scores, `[head, query, key]`, for one sequence at some positions."""
    found = made.positions.bias(made._position_params("blocks.0.attn"), ids, ids)
    assert found is not None
    return found.reshape(-1, *found.shape[-3:])[0].double()


def small(positions: str, **options: int) -> Transformer:
    made = model(config(positions=positions, n_layers=1, n_heads=5, **options))
    for name, weight in made.params.items():
        if name.endswith(("fire.c", "fire.L")):
            weight.abs_().add_(0.1)
    return made


@pytest.mark.parametrize("positions", BIASES)
def test_biases_equal_their_formula_at_near_and_far_positions(positions: str) -> None:
    made, ids = small(positions), torch.tensor([0, 1, 2, 5, 14, 15, 16, 17, 40, 127, 128, 129, 900, 5000])
    weights = {name: weight[0] for name, weight in made.params.items()}
    found = biases(made, ids)
    for head in range(5):
        for i, at in enumerate(ids.tolist()):
            for j, key in enumerate(ids.tolist()[: i + 1]):
                wanted = twin_bias(made.cfg, weights, "blocks.0.attn", head, at, key)
                expected = -math.inf if wanted is None else float(wanted)
                assert float(found[head, i, j]) == pytest.approx(expected, abs=1e-12), (head, at, key)


@pytest.mark.parametrize("positions", [*BIASES, "rotary", "none"])
def test_relative_encodings_do_not_see_a_shift_of_all_positions(positions: str) -> None:
    made, tokens = model(config(positions=positions, n_heads=5)), some_tokens(1, 2, 6)
    if positions == "fire":
        made.params["blocks.0.attn.fire.L"].fill_(1.0)
        made.params["blocks.1.attn.fire.L"].fill_(1.0)
    asked = Transformer(made.cfg.model_copy(update={"random_positions": 1000}), made.flat)
    ids = torch.tensor([0, 1, 3, 4, 9, 11]).expand(1, 2, -1)
    assert relative_error(asked(tokens, ids + 300), asked(tokens, ids)) < 1e-9
    if positions != "none":
        assert relative_error(asked(tokens, ids * 2), asked(tokens, ids)) > 1e-6


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "abacus", "coupled"])
def test_absolute_encodings_see_it(positions: str) -> None:
    made, tokens = model(config(positions=positions, n_ctx=30, random_positions=30)), some_tokens(1, 2, 6)
    ids = torch.arange(6).expand(1, 2, -1)
    assert relative_error(made(tokens, ids + 7), made(tokens, ids)) > 1e-2


def test_fire_sees_a_shift_only_beyond_its_threshold() -> None:
    made, near = small("fire"), torch.arange(6)
    threshold = 512 * float(made.params["blocks.0.attn.fire.L"])
    assert relative_error(biases(made, near + int(threshold) - 6), biases(made, near)) < 1e-12
    assert relative_error(biases(made, near + 2 * int(threshold)), biases(made, near)) > 1e-6


def test_fire_reads_a_share_between_0_and_1_at_any_position() -> None:
    """So that its bias stays within what it has at shares it was trained on: an MLP that gives back what it reads."""
    made = small("fire")
    for name, value in {"W_1": 1.0, "b_1": 0.0, "W_2": 1 / 32, "b_2": 0.0}.items():
        made.params[f"blocks.0.attn.fire.{name}"].fill_(value)
    shares = biases(made, torch.tensor([0, 1, 50, 10_000, 1_000_000])).tril()
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert float(shares[0, 4, 0]) == pytest.approx(1.0)


def test_t5_buckets_are_exact_near_by_then_grow_and_all_that_is_far_is_one() -> None:
    bucket = T5(config(positions="t5")).bucket(torch.arange(-3, 2000))
    assert bucket[:3].tolist() == [0, 0, 0]
    near = bucket[3:]
    assert near[:16].tolist() == list(range(16))
    assert (near.diff() >= 0).all()
    assert near.unique().tolist() == list(range(32))
    assert near.tolist().index(31) == 113  # 16 * 8 ** (15 / 16) is 112.4
    assert (near[128:] == 31).all()


@pytest.mark.parametrize("heads", [1, 2, 5, 8])
def test_hard_alibi_windows(heads: int) -> None:
    made = model(config(positions="hard-alibi", n_layers=1, n_heads=heads))
    seen = (~biases(made, torch.arange(50)).isneginf()).tril().sum(-1)
    assert seen[:, -1].tolist() == [50] * (heads - heads // 2) + list(range(1, heads // 2 + 1))


def test_alibi_goes_on_falling_where_nothing_was_trained() -> None:
    found = biases(small("alibi"), torch.arange(4000))[:, -1]
    assert (found.diff(dim=-1) > 0).all()
    assert float(found[0, 0]) == pytest.approx(-3999 * 2 ** (-8 / 5))


def test_rotary_scores_depend_on_the_distance_alone_at_far_positions() -> None:
    rotary = Rotary(config(positions="rotary"))
    q, k = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def score(at: int, key: int) -> float:
        turned = [rotary.turn(x[None, None], torch.tensor([[p]])) for x, p in ((q, at), (k, key))]
        return float((turned[0] * turned[1]).sum())

    assert score(100_003, 100_000) == pytest.approx(score(3, 0), abs=1e-9)
    assert abs(score(4, 0) - score(3, 0)) > 1e-3


@pytest.mark.parametrize("positions", ["learned", "abacus", "coupled"])
def test_a_trained_vector_ends_with_its_table(positions: str) -> None:
    made = model(config(positions=positions, n_ctx=12, random_positions=20), runs=2)
    tokens = some_tokens(2, 1, 3)
    made(tokens, torch.tensor([[[0, 5, 19]]] * 2))
    with pytest.raises(IndexError):
        made(tokens, torch.tensor([[[0, 5, 20]]] * 2))
