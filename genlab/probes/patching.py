"""Activation patching: which activations, moved from one prompt to another, restore the answer.

Prompts are batches of equal shape, paired row by row: `clean` and `other`. A measure maps logits
`[run, batch, pos, d_vocab]` to one number per run, such as the log probability of the clean answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from genlab.errors import UserError
from genlab.probes.model import Probed, check_hooks

Measure = Callable[[Tensor], Tensor]


def answer_log_prob(targets: Tensor, scored: Tensor) -> Measure:
    """The mean log probability of the answers `targets` at the positions `scored` (both `[batch, pos]`)."""

    def measure(logits: Tensor) -> Tensor:
        log_p = logits[:, scored].log_softmax(-1)
        return log_p.gather(-1, targets[scored].expand(len(log_p), -1)[..., None]).mean((1, 2))

    return measure


@torch.no_grad()
def activations(
    model: Probed, tokens: Tensor, ends: tuple[str, ...], offsets: Tensor | None = None
) -> dict[str, Tensor]:
    """The activations of one forward pass whose hook names end with one of `ends`."""
    check_hooks(model, *ends)
    recorded: dict[str, Tensor] = {}

    def tap(name: str, x: Tensor) -> Tensor:
        if name.endswith(ends):
            recorded[name] = x
        return x

    model(tokens, offsets, tap=tap)
    return recorded


@torch.no_grad()
def patch_heads(
    model: Probed, clean: Tensor, other: Tensor, measure: Measure, offsets: Tensor | None = None
) -> Tensor:
    """Fraction of the difference that each head's output on `clean` restores when patched into a pass on `other`.

    (m(patched) - m(other)) / (m(clean) - m(other)), denoising in the terms of Heimersheim and Nanda 2024 (arXiv
    2404.15255).

    Returns:
        float[run, layer, head]; 1 if the head alone restores the answer, NaN where the measures of the prompts agree.
    """
    _check_shapes(clean, other)
    source = activations(model, clean, ("attn.hook_z",), offsets)
    layers = []
    for layer in range(model.cfg.n_layers):
        heads = []
        for head in range(model.cfg.n_heads):
            tap = _write_head({f"blocks.{layer}.attn.hook_z": source[f"blocks.{layer}.attn.hook_z"]}, head)
            heads.append(measure(model(other, offsets, tap=tap)))
        layers.append(torch.stack(heads, dim=-1))
    return _restored(model, clean, other, measure, offsets, torch.stack(layers, dim=1))


@torch.no_grad()
def patch_residual(
    model: Probed, clean: Tensor, other: Tensor, measure: Measure, offsets: Tensor | None = None
) -> Tensor:
    """As `patch_heads`, for the residual stream before each layer at each position: float[run, layer, pos]."""
    _check_shapes(clean, other)
    source = activations(model, clean, ("hook_resid_pre",), offsets)
    layers = []
    for layer in range(model.cfg.n_layers):
        name, positions = f"blocks.{layer}.hook_resid_pre", []
        for pos in range(clean.shape[1]):

            def tap(here: str, x: Tensor, name: str = name, pos: int = pos) -> Tensor:
                if here != name:
                    return x
                x = x.clone()
                x[:, :, pos] = source[name][:, :, pos]
                return x

            positions.append(measure(model(other, offsets, tap=tap)))
        layers.append(torch.stack(positions, dim=-1))
    return _restored(model, clean, other, measure, offsets, torch.stack(layers, dim=1))


@torch.no_grad()
def path_patch(
    model: Probed,
    clean: Tensor,
    other: Tensor,
    measure: Measure,
    sender: tuple[int, int],
    receiver: tuple[int, int],
    into: Literal["q", "k", "v"],
    offsets: Tensor | None = None,
) -> Tensor:
    """Path patching: m(clean) - m(patched), float[run], for the path from one head to a later head's input.

    The sender's output is that on `other`, and all other heads are frozen as on `clean`; the resulting queries, keys
    or values of the receiver are patched into a final pass on `clean` (Wang et al. 2022, arXiv 2211.00593).

    Args:
        model: the probed model.
        clean, other: the prompts.
        measure: maps logits to one number per run.
        sender, receiver: (layer, head), the sender in an earlier layer.
        into: which input of the receiver is patched.
        offsets: positions of the prompts.

    Raises:
        UserError: the sender is not in an earlier layer, or the prompts differ in shape.
    """
    _check_shapes(clean, other)
    if sender[0] >= receiver[0]:
        raise UserError(f"the sender's layer {sender[0]} is not before the receiver's layer {receiver[0]}")
    check_hooks(model, f"attn.hook_{into}")
    frozen = activations(model, clean, ("attn.hook_z",), offsets)
    sent = activations(model, other, ("attn.hook_z",), offsets)[f"blocks.{sender[0]}.attn.hook_z"]
    name = f"blocks.{sender[0]}.attn.hook_z"
    frozen[name] = frozen[name].clone()
    frozen[name][..., sender[1], :] = sent[..., sender[1], :]
    received: dict[str, Tensor] = {}
    wanted = f"blocks.{receiver[0]}.attn.hook_{into}"

    def with_frozen_heads(here: str, x: Tensor) -> Tensor:
        if here == wanted:
            received[here] = x
        return frozen.get(here, x)

    model(clean, offsets, tap=with_frozen_heads)
    return measure(model(clean, offsets)) - measure(model(clean, offsets, tap=_write_head(received, receiver[1])))


def _write_head(source: Mapping[str, Tensor], head: int) -> Callable[[str, Tensor], Tensor]:
    """A tap that replaces one head's part of some activations."""

    def tap(name: str, x: Tensor) -> Tensor:
        if name not in source:
            return x
        x = x.clone()
        x[..., head, :] = source[name][..., head, :]
        return x

    return tap


def _restored(
    model: Probed, clean: Tensor, other: Tensor, measure: Measure, offsets: Tensor | None, patched: Tensor
) -> Tensor:
    top, base = (measure(model(tokens, offsets))[:, None, None] for tokens in (clean, other))
    gap = top - base
    return torch.where(gap.abs() > 1e-6, (patched - base) / gap, torch.nan)


def _check_shapes(clean: Tensor, other: Tensor) -> None:
    if clean.shape != other.shape:
        raise UserError(f"prompts of shapes {tuple(clean.shape)} and {tuple(other.shape)} cannot be patched together")
