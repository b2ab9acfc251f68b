"""Every position encoding with every normaliser: the stack against the slow twin, and what holds of each."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch
from small_models import alone, config, model, relative_error, some_tokens
from torch import Tensor
from twin import twin_logits

from genlab.models import Past, Transformer
from genlab.spec import ModelConfig

ENCODINGS = ("none", "learned", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire", "abacus", "coupled")
NORMALISERS = (
    "softmax",
    "adaptive",
    "scalable",
    "entmax15",
    "scalable-entmax",
    "sigmoid",
    "stick-breaking",
    "selective",
)
R, B, T = 2, 2, 6

combinations = pytest.mark.parametrize(("positions", "weights"), list(product(ENCODINGS, NORMALISERS)))


@cache
def variant(positions: str, weights: str, random: bool = False) -> Transformer:
    """Two runs, random weights everywhere, in float64; scores are made larger, so that weights are not alike."""
    spread = {"random_positions": 40} if random else {}
    made = model(config(positions=positions, attn_weights=weights, n_ctx=24, **spread), runs=R)
    for name, weight in made.params.items():
        if name.endswith("attn.W_QKV"):
            weight *= 2
        if name.split(".")[-1] in ("s", "delta", "beta", "gamma", "c", "L"):
            weight.abs_().add_(0.3)
    return made


def places_for(cfg: ModelConfig, pos: int = T) -> Tensor | None:
    """Positions of each token of each example, where the configuration has them given."""
    if not cfg.needs_ids:
        return None
    draw = torch.Generator().manual_seed(4)
    if cfg.given_positions:
        return torch.randint(cfg.n_ctx, (R, B, pos), generator=draw)
    return torch.rand(R, B, 40, generator=draw).argsort(-1)[..., :pos].sort(-1).values


def twin_of(stack: Transformer, tokens: Tensor, run: int, row: int, **options: object) -> Tensor:
    ids = places_for(stack.cfg)
    given = None if ids is None else ids[run, row].tolist()
    weights = {name: weight[run] for name, weight in stack.params.items()}
    return twin_logits(stack.cfg, weights, tokens[run, row], ids=given, **options)  # pyright: ignore


def agree_with_the_twin(stack: Transformer) -> None:
    """The second run of a stack, and that run alone, in both precisions."""
    tokens, places = some_tokens(R, B, T), places_for(stack.cfg)
    wanted = twin_of(stack, tokens, 1, 1)
    own = None if places is None else places[1:]
    for made, tolerance in ((stack, 1e-9), (Transformer(stack.cfg, stack.flat.float()), 1e-5)):
        together, single = made(tokens, places)[1, 1], alone(made, 1)(tokens[1], own)[1]
        assert relative_error(together.double(), wanted) < tolerance
        assert relative_error(single.double(), wanted) < tolerance


@combinations
def test_logits_equal_those_of_the_twin(positions: str, weights: str) -> None:
    agree_with_the_twin(variant(positions, weights))


@pytest.mark.parametrize("positions", ENCODINGS[1:])
def test_logits_at_random_positions_equal_those_of_the_twin(positions: str) -> None:
    agree_with_the_twin(variant(positions, "softmax", random=True))


@combinations
def test_gradients_equal_finite_differences(positions: str, weights: str) -> None:
    """Along two random directions through all weights, in float64; the adaptive temperature in training too."""
    own = {"adaptive_training": weights == "adaptive"}
    cfg = variant(positions, weights).cfg.model_copy(update={"n_layers": 1, **own})
    tokens, places = some_tokens(R, B, T), places_for(cfg)
    flat = model(cfg, runs=R, seed=3).flat
    at = torch.tensor([[5, 8, 11]] * R)

    def loss(flat: Tensor) -> Tensor:
        return Transformer(cfg, flat)(tokens, places, at=at, training=True).log_softmax(-1).select(-1, 1).sum()

    leaf = flat.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    for seed in range(2):
        way = torch.randn(flat.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-5 * way
        slope = (loss(flat + step) - loss(flat - step)) / 2e-5
        assert abs(float(slope - (gradient * way).sum())) < 1e-6 * max(1.0, float(slope.abs()))


@combinations
def test_rows_sum_as_their_definition_says(positions: str, weights: str) -> None:
    stack, seen = variant(positions, weights), dict[str, Tensor]()
    stack(some_tokens(R, B, T), places_for(stack.cfg), tap=lambda name, x: seen.setdefault(name, x))
    scores, pattern = (seen[f"blocks.1.attn.hook_{name}"] for name in ("attn_scores", "pattern"))
    assert (pattern >= 0).all()
    assert (pattern[scores.isneginf()] == 0).all()
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    assert (pattern.masked_fill(causal, 0) == 0).all()
    shares = scores.sigmoid()
    if weights == "sigmoid":
        n = (~scores.isneginf()).sum(-1, keepdim=True)
        wanted = (1 / (1 + n * torch.exp(-scores))).sum(-1)
    elif weights == "stick-breaking":
        wanted = 1 - (1 - shares.masked_fill(torch.eye(T, dtype=torch.bool), 0)).prod(-1)
    else:
        wanted = torch.ones_like(pattern[..., 0])
    assert torch.allclose(pattern.sum(-1), wanted, atol=1e-12)


@combinations
def test_later_tokens_and_pads_change_nothing(positions: str, weights: str) -> None:
    stack, tokens = variant(positions, weights), some_tokens(R, B, T)
    places = places_for(stack.cfg)
    before = stack(tokens, places)
    for place in (1, T - 1):
        changed = tokens.clone()
        changed[..., place] = (changed[..., place] + 1) % 7
        after = stack(changed, places)
        assert relative_error(after[..., :place, :], before[..., :place, :]) < 1e-12
        assert (after[..., place:, :] != before[..., place:, :]).any(-1).all()
    longer = None if places is None else torch.nn.functional.pad(places, (0, 3), value=2)
    padded = stack(torch.nn.functional.pad(tokens, (0, 3)), longer)
    assert relative_error(padded[..., :T, :], before) < 1e-12


@combinations
def test_every_way_of_reading_gives_the_same(positions: str, weights: str) -> None:
    """With a tap, in pieces, and at some places only with early queries left out."""
    stack, tokens = variant(positions, weights), some_tokens(R, B, T)
    places = places_for(stack.cfg)
    full = stack(tokens, places)
    assert relative_error(stack(tokens, places, tap=lambda _name, x: x), full) < 1e-12
    past = Past()
    pieces = [stack(piece, places, past=past) for piece in tokens.split((3, 1, 2), dim=-1)]
    assert relative_error(torch.cat(pieces, dim=-2), full) < 1e-12
    at = torch.tensor([[3, 9, 11], [5, 4, 10]])  # none before position 3 of its example
    wanted = torch.stack([full[run].flatten(0, 1)[at[run]] for run in range(R)])
    assert relative_error(stack(tokens, places, at=at, since=3), wanted) < 1e-12


@pytest.mark.parametrize("weights", NORMALISERS)
def test_a_temperature_divides_the_scores(weights: str) -> None:
    stack = variant("t5", weights)
    agree_with_the_twin(Transformer(stack.cfg.model_copy(update={"attn_temperature": 0.6}), stack.flat))


def test_the_adaptive_temperature_rests_in_training_unless_asked_for() -> None:
    adaptive, softmax, tokens = variant("learned", "adaptive"), variant("learned", "softmax"), some_tokens(R, B, T)
    plain = softmax(tokens)
    assert relative_error(adaptive(tokens, training=True), plain) < 1e-12
    assert relative_error(adaptive(tokens), plain) > 1e-3
    always = Transformer(adaptive.cfg.model_copy(update={"adaptive_training": True}), adaptive.flat)
    assert relative_error(always(tokens, training=True), adaptive(tokens)) < 1e-12


@pytest.mark.parametrize("positions", ["abacus", "coupled"])
def test_a_model_without_the_positions_it_has_to_be_given_says_so(positions: str) -> None:
    stack, tokens = variant(positions, "softmax"), some_tokens(R, B, T)
    for offsets in (None, torch.zeros(R, B, dtype=torch.int64), torch.zeros(R, B, T - 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match="positions of all 6 tokens must be given"):
            stack(tokens, offsets)


# -- loops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["softmax", "selective"])
def test_blocks_applied_three_times_equal_the_twin(weights: str) -> None:
    stack = variant("rotary", weights)
    agree_with_the_twin(Transformer(stack.cfg.model_copy(update={"loops": 3}), stack.flat))


def test_loops_that_grow_with_the_length_equal_the_twin_for_each_example() -> None:
    once = variant("learned", "softmax")
    stack = Transformer(once.cfg.model_copy(update={"loop_growth": 0.5}), once.flat)
    tokens, lengths, at = some_tokens(R, B, T), torch.tensor([[1, 5], [2, 3]]), torch.tensor([[5, 11]] * R)
    logits, last, past = stack(tokens, lengths=lengths), stack(tokens, at=at, since=5, lengths=lengths), Past()
    pieces = [stack(piece, past=past, lengths=lengths) for piece in tokens.split((4, 2), dim=-1)]
    assert relative_error(torch.cat(pieces, dim=-2), logits) < 1e-12
    for run, row in product(range(R), range(B)):
        wanted = twin_of(stack, tokens, run, row, length=int(lengths[run, row]))
        assert relative_error(logits[run, row], wanted) < 1e-9
        assert relative_error(last[run, row], wanted[-1]) < 1e-9
    with pytest.raises(ValueError, match="length of each example"):
        stack(tokens)


def test_a_tap_sees_repeated_blocks_as_so_many_in_a_row() -> None:
    once, seen = variant("learned", "softmax"), list[str]()
    stack = Transformer(once.cfg.model_copy(update={"loops": 2}), once.flat)

    def note(name: str, x: Tensor) -> Tensor:
        seen.append(name)
        return x

    stack(some_tokens(R, B, T), tap=note)
    assert [name for name in seen if name.endswith("resid_pre")] == [f"blocks.{i}.hook_resid_pre" for i in range(4)]
    assert len(seen) == len(set(seen))
