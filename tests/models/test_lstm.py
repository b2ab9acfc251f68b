"""The LSTM baseline: against torch's own, of the transformer's size, in the same loop."""

from __future__ import annotations

import pytest
import torch
from small_models import relative_error, some_tokens
from torch import Tensor, nn

from genlab.models import LSTM, Past, count, initial, model_of
from genlab.models.lstm import lstm_width
from genlab.spec import ModelConfig

CFG = ModelConfig(d_vocab=7, n_ctx=12, n_layers=2, d_model=6, n_heads=3, d_mlp=10, architecture="lstm")


def stack(runs: int = 2) -> LSTM:
    generator = torch.Generator().manual_seed(2)
    made = model_of(CFG, 0.4 * torch.randn(runs, count(CFG), generator=generator, dtype=torch.float64))
    assert isinstance(made, LSTM)
    return made


def with_torch(made: LSTM, run: int, tokens: Tensor) -> Tensor:
    """Logits of `torch.nn.LSTM` with the same weights; its forget gate has the 1 in its bias."""
    width, weights = lstm_width(CFG), {name: weight[run] for name, weight in made.params.items()}
    theirs = nn.LSTM(CFG.d_model, width, CFG.n_layers, batch_first=True).double()
    with torch.no_grad():
        for i in range(CFG.n_layers):
            getattr(theirs, f"weight_ih_l{i}").copy_(weights[f"blocks.{i}.lstm.W_x"].T)
            getattr(theirs, f"weight_hh_l{i}").copy_(weights[f"blocks.{i}.lstm.W_h"].T)
            getattr(theirs, f"bias_ih_l{i}").copy_(weights[f"blocks.{i}.lstm.b_x"])
            getattr(theirs, f"bias_hh_l{i}").zero_()[width : 2 * width] = 1.0
        hidden, _ = theirs(weights["embed.W_E"][tokens])
        return hidden @ weights["unembed.W_U"] + weights["unembed.b_U"]


def test_logits_equal_those_of_torch() -> None:
    made, tokens = stack(), some_tokens(2, 3, 9)
    logits = made(tokens)
    for run in range(2):
        assert relative_error(logits[run], with_torch(made, run, tokens[run])) < 1e-9
        single = LSTM(CFG, made.flat[run : run + 1].clone())
        assert relative_error(single(tokens[run]), logits[run]) < 1e-12
        assert relative_error(LSTM(CFG, single.flat.float())(tokens[run]).double(), logits[run]) < 1e-5


def test_every_way_of_reading_gives_the_same() -> None:
    made, tokens = stack(), some_tokens(2, 3, 8)
    full, past = made(tokens), Past()
    pieces = [made(piece, past=past) for piece in tokens.split((3, 1, 4), dim=-1)]
    assert relative_error(torch.cat(pieces, dim=-2), full) < 1e-12
    at = torch.tensor([[5, 23], [9, 9]])
    wanted = torch.stack([full[run].flatten(0, 1)[at[run]] for run in range(2)])
    assert relative_error(made(tokens, at=at, since=1), wanted) < 1e-12
    changed = tokens.clone()
    changed[..., -1] = (changed[..., -1] + 1) % 7
    assert torch.equal(made(changed)[..., :-1, :], full[..., :-1, :])


def test_gradients_equal_finite_differences() -> None:
    tokens, flat = some_tokens(2, 2, 4), stack().flat

    def loss(flat: Tensor) -> Tensor:
        return LSTM(CFG, flat)(tokens).log_softmax(-1).select(-1, 1).sum()

    leaf = flat.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    way = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = (loss(flat + 1e-5 * way) - loss(flat - 1e-5 * way)) / 2e-5
    assert float((gradient * way).sum()) == pytest.approx(float(slope), rel=1e-6)
    assert (gradient != 0).float().mean() > 0.5


@pytest.mark.parametrize("sizes", [(1, 16, 2), (2, 64, 4), (4, 128, 8)])
def test_it_has_the_size_of_the_transformer_in_its_place(sizes: tuple[int, int, int]) -> None:
    n_layers, d_model, n_heads = sizes
    given = {"d_vocab": 53, "n_ctx": 60, "n_layers": n_layers, "d_model": d_model, "n_heads": n_heads}
    transformer, lstm = ModelConfig(**given), ModelConfig(**given, architecture="lstm")
    assert abs(count(lstm) / count(transformer) - 1) < 0.03
    assert initial(lstm, [0]).shape == (1, count(lstm))


def test_what_an_lstm_has_not_is_refused() -> None:
    for field, value in (("positions", "rotary"), ("attn_weights", "sigmoid"), ("loops", 2), ("n_layers", 0)):
        with pytest.raises(ValueError, match=r"LSTM (requires|needs)"):
            ModelConfig(**{**CFG.model_dump(), field: value})
