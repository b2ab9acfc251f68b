"""Every fast path of the model against the slow one, and what holds of any decoder-only transformer."""

from __future__ import annotations

import pytest
import torch
from small_models import NORMALISATIONS, POSITIONS, alone, config, model, relative_error, some_tokens
from torch import Tensor

from genlab.models import Past, Transformer
from genlab.models.attention import explicit_attention, fused_attention


def softmax(scores: Tensor, seen: Tensor) -> Tensor:
    return scores.softmax(-1)


every_encoding = pytest.mark.parametrize("positions", POSITIONS)


def same(_name: str, x: Tensor) -> Tensor:
    return x


def offsets_for(stack: Transformer, batch: int) -> Tensor:
    return torch.randint(4, (stack.n_runs, batch), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("queries", [1, 3, 6])
@pytest.mark.parametrize("bias_shape", [None, (3, 6, 6), (2, 2, 3, 6, 6)])
def test_fused_attention_equals_written_out(queries: int, bias_shape: tuple[int, ...] | None) -> None:
    """Six keys, of which the queries are the last: with a past where there are fewer."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 3, 6, 4, generator=generator, dtype=torch.float64)
    bias = None if bias_shape is None else torch.randn(bias_shape, generator=generator, dtype=torch.float64)
    q, bias = q[..., -queries:, :], None if bias is None else bias[..., -queries:, :]
    slow = explicit_attention(q, k, v, bias, softmax, on_scores=lambda x: x, on_pattern=lambda x: x)
    assert relative_error(fused_attention(q, k, v, bias), slow) < 1e-12


@every_encoding
@pytest.mark.parametrize("runs", [1, 3])
def test_looking_changes_nothing(positions: str, runs: int) -> None:
    """With a tap, attention and norms are computed explicitly; without one, they are fused."""
    for normalization in NORMALISATIONS:
        stack = model(config(positions=positions, normalization_type=normalization), runs=runs)
        tokens = some_tokens(runs, 4, 7)
        offsets = offsets_for(stack, 4)
        assert relative_error(stack(tokens, offsets, tap=same), stack(tokens, offsets)) < 1e-12


@every_encoding
@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_logits_at_places_are_those_of_the_full_forward(positions: str, n_layers: int) -> None:
    stack = model(config(positions=positions, n_layers=n_layers), runs=3)
    tokens, offsets = some_tokens(3, 4, 5), offsets_for(stack, 4)
    at = torch.tensor([[0, 7, 19], [4, 4, 1], [18, 0, 2]])  # in batch * pos
    full = stack(tokens, offsets).flatten(1, 2)
    wanted = torch.stack([full[run, at[run]] for run in range(3)])
    assert relative_error(stack(tokens, offsets, at=at), wanted) < 1e-12
    single = alone(stack, 0)
    assert relative_error(single(tokens[0], offsets[:1], at=at[:1]), wanted[0]) < 1e-12


@every_encoding
@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_queries_that_nothing_asks_for_are_left_out_without_a_trace(positions: str, n_layers: int) -> None:
    stack = model(config(positions=positions, n_layers=n_layers), runs=3)
    tokens, offsets = some_tokens(3, 4, 5), offsets_for(stack, 4)
    at = torch.tensor([[3, 7, 19], [4, 9, 2], [18, 12, 2]])  # none before position 2 of its example
    assert relative_error(stack(tokens, offsets, at=at, since=2), stack(tokens, offsets, at=at)) < 1e-12
    looked_at = stack(tokens, offsets, at=at, since=2, tap=same)
    assert relative_error(looked_at, stack(tokens, offsets, at=at)) < 1e-12


@every_encoding
@pytest.mark.parametrize("n_layers", [0, 2])
@pytest.mark.parametrize("pieces", [(8,), (5, 1, 1, 1), (1,) * 8, (3, 4, 1)])
def test_reading_in_pieces_equals_reading_at_once(positions: str, n_layers: int, pieces: tuple[int, ...]) -> None:
    stack = model(config(positions=positions, n_layers=n_layers), runs=2)
    tokens, offsets = some_tokens(2, 3, 8), offsets_for(stack, 3)
    for tap in (None, same):
        past = Past()
        logits = [stack(piece, offsets, past=past, tap=tap) for piece in tokens.split(pieces, dim=-1)]
        assert past.length == 8
        assert relative_error(torch.cat(logits, dim=-2), stack(tokens, offsets)) < 1e-12


@every_encoding
def test_a_run_in_a_stack_has_the_logits_it_has_alone(positions: str) -> None:
    for normalization in NORMALISATIONS:
        stack = model(config(positions=positions, normalization_type=normalization), runs=4)
        tokens, offsets = some_tokens(4, 3, 6), offsets_for(stack, 3)
        together = stack(tokens, offsets)
        for run in range(4):
            single = alone(stack, run)(tokens[run], offsets[run : run + 1])
            assert relative_error(together[run], single) < 1e-12


def test_tokens_without_a_run_axis_go_to_every_run() -> None:
    stack, tokens = model(config(), runs=3), some_tokens(4, 5)
    assert torch.equal(stack(tokens), stack(tokens.expand(3, -1, -1)))
    assert alone(stack, 0)(tokens).shape == (4, 5, 7)


@every_encoding
def test_a_later_token_changes_nothing_before_it(positions: str) -> None:
    stack, tokens = model(config(positions=positions), runs=2), some_tokens(2, 3, 8)
    before = stack(tokens)
    for place in range(8):
        changed = tokens.clone()
        changed[..., place] = (changed[..., place] + 1) % 7
        after = stack(changed)
        assert torch.equal(after[..., :place, :], before[..., :place, :])
        assert (after[..., place:, :] != before[..., place:, :]).any(dim=-1).all()


@every_encoding
def test_pads_on_the_right_change_nothing(positions: str) -> None:
    stack, tokens = model(config(positions=positions), runs=2), some_tokens(2, 3, 6)
    padded = torch.nn.functional.pad(tokens, (0, 4))
    assert relative_error(stack(padded)[..., :6, :], stack(tokens)) < 1e-12


@every_encoding
@pytest.mark.parametrize("runs", [1, 2])
def test_gradients_equal_finite_differences(positions: str, runs: int) -> None:
    """Of the fused path, in float64, for every weight (at `at`, so that both halves of the last block are there)."""
    cfg = config(positions=positions, n_layers=1, n_heads=2, d_head=2, d_model=4, d_mlp=5, d_vocab=4, n_ctx=8)
    stack, tokens, at = model(cfg, runs=runs), some_tokens(runs, 2, 3, d_vocab=4), torch.tensor([[0, 2, 5]] * runs)

    def loss(flat: Tensor) -> Tensor:
        return Transformer(cfg, flat)(tokens, at=at).log_softmax(-1).select(-1, 1).sum()

    assert torch.autograd.gradcheck(loss, stack.flat.clone().requires_grad_(), eps=1e-6, atol=1e-7, fast_mode=True)
    assert (torch.autograd.functional.jacobian(loss, stack.flat.clone()) != 0).float().mean() > 0.5


def test_weights_of_the_wrong_size_are_refused() -> None:
    stack = model(config())
    with pytest.raises(ValueError, match="weights given"):
        Transformer(stack.cfg, stack.flat[:, 1:])


# -- bfloat16 on a CPU -----------------------------------------------------------------------------------------------


def refused(*_: object, **__: object) -> Tensor:
    raise AssertionError("torch's fused attention, whose backward is slow in bfloat16")


@pytest.mark.parametrize("queries", [1, 3, 6])
@pytest.mark.parametrize("bias_shape", [None, (3, 6, 6), (2, 2, 3, 6, 6)])
def test_attention_and_gradients_in_bfloat16_are_those_of_written_out_attention_rounded(
    queries: int, bias_shape: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 2, 2, 3, 6, 4, generator=generator))
    bias = None if bias_shape is None else torch.randn(bias_shape, generator=generator).requires_grad_()
    leaves = [q, k, v, *([] if bias is None else [bias])]
    asked = q[..., -queries:, :], k, v, None if bias is None else bias[..., -queries:, :]
    slow = explicit_attention(*asked, softmax, on_scores=lambda x: x, on_pattern=lambda x: x)
    grad = torch.randn(slow.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        with monkeypatch.context() as patched:
            patched.setattr("torch.nn.functional.scaled_dot_product_attention", refused)
            fast = fused_attention(*asked)
        found = torch.autograd.grad(fast, leaves, grad.bfloat16())
        with torch.no_grad():
            looked = fused_attention(*asked)
    assert fast.dtype == torch.bfloat16
    for one in (fast.detach(), looked):
        assert relative_error(one.float(), slow.detach()) < 0.02
    for one, other in zip(found, torch.autograd.grad(slow, leaves, grad), strict=True):
        assert relative_error(one.float(), other) < 0.02


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("runs", [1, 2])
def test_logits_are_not_rounded_in_bfloat16(tied: bool, runs: int) -> None:
    """A model without blocks has no other products than those of its logits."""
    stack = model(config(n_layers=0, tie_word_embeddings=tied), runs=runs, dtype=torch.float32)
    tokens = some_tokens(runs, 4, 7)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = stack(tokens)
    assert torch.equal(rounded, stack(tokens))
