"""Every kernel gives the same product and the same gradients."""

from __future__ import annotations

import pytest
import torch

from genlab.errors import UserError
from genlab.models import Transformer, initial
from genlab.models.kernels import available, chosen, fastest, product
from genlab.spec import ModelConfig


@pytest.mark.parametrize("kernel", available())
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_product_and_gradients_are_those_of_plain_torch(kernel, bias: bool, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(1)
    shapes = [(37, 16), (16, 24), *([(24,)] if bias else [])]
    leaves = [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]
    x, weight = leaves[:2]
    grad = torch.randn(24, 37, generator=generator, dtype=dtype).t()  # not contiguous, as gradients may be
    out = product(kernel)(x, weight, leaves[2] if bias else None)
    expected = x @ weight + (leaves[2] if bias else 0)
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad(out, leaves, grad)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaves, grad))


@pytest.mark.parametrize("kernel", available())
def test_a_model_gives_the_same_logits_with_every_kernel(kernel):
    cfg = ModelConfig(d_vocab=11, n_ctx=9, d_model=16, n_heads=2)
    tokens = torch.arange(18).view(2, 9) % 11
    flat = initial(cfg, [3])
    torch.testing.assert_close(Transformer(cfg, flat, kernel)(tokens), Transformer(cfg, flat)(tokens))


def test_an_unknown_kernel_is_named():
    with pytest.raises(UserError, match=r"unknown kernel 'onednm'"):
        product("onednm")


def test_the_fastest_is_one_that_is_there_and_every_one_was_measured():
    name, microseconds = fastest(rows=64, d_model=8, d_mlp=16, repeats=3)
    assert set(microseconds) == set(available())
    assert min(microseconds.values()) > 0
    assert name == chosen(microseconds)
