"""What multiplies matrices on a CPU: torch's default library, or oneDNN where that is faster.

The two differ in the last bits of a float32, so which one a group of runs uses is chosen once, recorded with it, and
obeyed when it goes on. torch's default is slow on some processors; on others there is nothing between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from genlab.errors import unknown

__all__ = ["KERNELS", "Kernel", "available", "fastest", "product", "stacked_product"]

Kernel = Literal["torch", "onednn"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)

_GAIN = 1.5
"""How many times as fast as torch's default a kernel must be to be chosen. (Where it was 1.2 times as fast at
products alone, a whole step gained 0 to 4 %: they are half of it, and gradients of weights are torch's anyway.)"""

Product = Callable[[Float[Tensor, "rows d_in"], Float[Tensor, "d_in d_out"], Tensor | None], Tensor]


def available() -> tuple[Kernel, ...]:
    """The kernels that this build of torch has."""
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return KERNELS if has_onednn else KERNELS[:1]


def product(kernel: str) -> Product:
    """The function `(x, W, b or None) -> x W + b` of a kernel. Raises `UserError` for one that is not there."""
    if kernel not in available():
        raise unknown("kernel", kernel, available())
    return _onednn if kernel == "onednn" else _torch


def stacked_product(
    multiply: Product,
    x: Float[Tensor, "run *b d_in"],
    weight: Float[Tensor, "run d_in d_out"],
    bias: Float[Tensor, "run d_out"] | None,
) -> Float[Tensor, "run *b d_out"]:
    """x W + b, each run with its own W and b; `multiply` (see `product`) serves a stack of one."""
    if len(weight) == 1:  # views alone: indexing an activation would cost a copy of zeros in its backward
        rows, only = x.reshape(-1, x.shape[-1]), weight.squeeze(0)
        out = multiply(rows, only, None if bias is None else bias.squeeze(0))
    else:
        rows = x.flatten(1, -2)  # [run, rows, d_in]
        out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
    return out.view(*x.shape[:-1], weight.shape[-1])


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # oneDNN's linear is float32 on the CPU alone; anything else (a float64 twin, autocast) goes the usual way.
    if x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return _torch(x, weight, bias)
    return _OneDNN.apply(x, weight, bias)  # pyright: ignore[reportReturnType]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDNN(torch.autograd.Function):
    """x W + b, forward and the gradient of x by oneDNN; W's gradient by torch, whose layout it suits better."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _linear(x, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch's own examples write it so)
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        grad = grads[0].contiguous()
        x, weight = ctx.saved_tensors
        grad_x = _linear(grad, weight, None) if ctx.needs_input_grad[0] else None
        return grad_x, x.t() @ grad, grad.sum(0) if ctx.has_bias else None


def fastest(rows: int, d_model: int, d_mlp: int, repeats: int = 15) -> tuple[Kernel, dict[str, float]]:
    """The kernel that multiplies a model's matrices fastest here, and microseconds a forward and backward of each.

    The kernels take turns, so that a machine whose speed drifts favours none. torch's default gives way only to one
    that is clearly faster: where they are about equal, every grid on a machine shall choose alike.

    Args:
        rows: tokens of a batch.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, d_model, generator=generator)
    weights = [torch.randn(d_model, width, generator=generator).requires_grad_() for width in (3 * d_model, d_mlp)]
    seconds: dict[Kernel, list[float]] = {kernel: [] for kernel in available()}
    for _ in range(repeats):
        for kernel, taken in seconds.items():
            multiply, start = product(kernel), time.perf_counter()
            for weight in weights:
                inputs = x.clone().requires_grad_()
                torch.autograd.grad(multiply(inputs, weight, None).sum(), (inputs, weight))
            taken.append(time.perf_counter() - start)
    medians: dict[Kernel, float] = {kernel: median(taken) * 1e6 for kernel, taken in seconds.items()}
    return chosen(medians), {name: medians[name] for name in medians}


def chosen(medians: Mapping[Kernel, float]) -> Kernel:
    """The kernel of the least time, or torch's where that is about as fast.

    >>> chosen({"torch": 100.0, "onednn": 80.0}), chosen({"torch": 100.0, "onednn": 45.0})
    ('torch', 'onednn')
    """
    best = min(medians, key=lambda kernel: medians[kernel])
    return best if medians["torch"] >= _GAIN * medians[best] else "torch"
