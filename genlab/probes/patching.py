"""Interventions between two prompts: what of one run of a model, put into another, carries the answer over?

Prompts are batches of one shape, row by row: `clean` and `other`. A measure takes logits `[run, batch, pos, d_vocab]`
and gives a number a run, such as the log probability of the clean answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from genlab.errors import UserError
from genlab.probes.model import Probed

Measure = Callable[[Tensor], Tensor]


def answer_log_prob(targets: Tensor, scored: Tensor) -> Measure:
    """The mean log probability of the answers `targets` at the places `scored` (both [batch, pos])."""

    def of(logits: Tensor) -> Tensor:
        log_p = logits[:, scored].log_softmax(-1)
        return log_p.gather(-1, targets[scored].expand(len(log_p), -1)[..., None]).mean((1, 2))

    return of


@torch.no_grad()
def activations(
    model: Probed, tokens: Tensor, ends: tuple[str, ...], offsets: Tensor | None = None
) -> dict[str, Tensor]:
    """Activations whose hook names end so, of one pass."""
    kept: dict[str, Tensor] = {}

    def tap(name: str, x: Tensor) -> Tensor:
        if name.endswith(ends):
            kept[name] = x
        return x

    model(tokens, offsets, tap=tap)
    return kept


@torch.no_grad()
def patch_heads(
    model: Probed, clean: Tensor, other: Tensor, measure: Measure, offsets: Tensor | None = None
) -> Tensor:
    """Share of the difference that each head brings back: its output on `clean` put into a pass over `other`.

    (m(patched) - m(other)) / (m(clean) - m(other)), float[run, layer, head] (Heimersheim and Nanda 2024, arXiv
    2404.15255: denoising). 1: this head alone makes the answer; NaN where the two prompts measure the same.
    """
    _same_shape(clean, other)
    kept = activations(model, clean, ("attn.hook_z",), offsets)
    layers = []
    for layer in range(model.cfg.n_layers):
        heads = []
        for head in range(model.cfg.n_heads):
            tap = _writing({f"blocks.{layer}.attn.hook_z": kept[f"blocks.{layer}.attn.hook_z"]}, head)
            heads.append(measure(model(other, offsets, tap=tap)))
        layers.append(torch.stack(heads, dim=-1))
    return _restored(model, clean, other, measure, offsets, torch.stack(layers, dim=1))


@torch.no_grad()
def patch_residual(
    model: Probed, clean: Tensor, other: Tensor, measure: Measure, offsets: Tensor | None = None
) -> Tensor:
    """The same for the residual stream before each layer at each position, float[run, layer, pos]."""
    _same_shape(clean, other)
    kept = activations(model, clean, ("hook_resid_pre",), offsets)
    layers = []
    for layer in range(model.cfg.n_layers):
        name, places = f"blocks.{layer}.hook_resid_pre", []
        for place in range(clean.shape[1]):

            def tap(here: str, x: Tensor, name: str = name, place: int = place) -> Tensor:
                if here != name:
                    return x
                x = x.clone()
                x[:, :, place] = kept[name][:, :, place]
                return x

            places.append(measure(model(other, offsets, tap=tap)))
        layers.append(torch.stack(places, dim=-1))
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
    """m(clean) - m(patched), float[run]: the loss when one head hears of another prompt from one earlier head alone.

    The sender's output is that on `other`, all other heads stay as on `clean`; what this makes of the receiver's
    queries, keys or values goes into a last pass over `clean` (Wang et al. 2022, arXiv 2211.00593).

    Args:
        sender, receiver: (layer, head), the sender in an earlier layer.

    Raises:
        UserError: the sender is not in an earlier layer, or the prompts differ in shape.
    """
    _same_shape(clean, other)
    if sender[0] >= receiver[0]:
        raise UserError(f"the sender's layer {sender[0]} is not before the receiver's layer {receiver[0]}")
    frozen = activations(model, clean, ("attn.hook_z",), offsets)
    sent = activations(model, other, ("attn.hook_z",), offsets)[f"blocks.{sender[0]}.attn.hook_z"]
    name = f"blocks.{sender[0]}.attn.hook_z"
    frozen[name] = frozen[name].clone()
    frozen[name][..., sender[1], :] = sent[..., sender[1], :]
    heard: dict[str, Tensor] = {}
    wanted = f"blocks.{receiver[0]}.attn.hook_{into}"

    def with_frozen_heads(here: str, x: Tensor) -> Tensor:
        if here == wanted:
            heard[here] = x
        return frozen.get(here, x)

    model(clean, offsets, tap=with_frozen_heads)
    return measure(model(clean, offsets)) - measure(model(clean, offsets, tap=_writing(heard, receiver[1])))


def _writing(what: Mapping[str, Tensor], head: int) -> Callable[[str, Tensor], Tensor]:
    """A tap that puts one head's part of some activations in place of what is there."""

    def tap(name: str, x: Tensor) -> Tensor:
        if name not in what:
            return x
        x = x.clone()
        x[..., head, :] = what[name][..., head, :]
        return x

    return tap


def _restored(
    model: Probed, clean: Tensor, other: Tensor, measure: Measure, offsets: Tensor | None, patched: Tensor
) -> Tensor:
    top, base = (measure(model(tokens, offsets))[:, None, None] for tokens in (clean, other))
    gap = top - base
    return torch.where(gap.abs() > 1e-6, (patched - base) / gap, torch.nan)


def _same_shape(clean: Tensor, other: Tensor) -> None:
    if clean.shape != other.shape:
        raise UserError(f"prompts of shapes {tuple(clean.shape)} and {tuple(other.shape)} cannot be patched together")
