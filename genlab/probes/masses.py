"""Attention mass on given query-key pairs, and the token patterns that head signals look for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from genlab.errors import NotApplicable

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen


def causal(pos: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """True where key <= query."""
    import torch

    return torch.ones(pos, pos, dtype=torch.bool, device=device).tril()


def earlier_same(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch query key"]:
    """Earlier keys that hold the query's token."""
    equal = tokens[:, :, None] == tokens[:, None, :]
    return equal & causal(tokens.shape[1], tokens.device).tril(-1)


def follows_same(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch query key"]:
    """Keys right after an earlier occurrence of the query's token: where an induction head attends.

    The key may be the query itself (if a token occurs twice in a row).
    """
    keys = earlier_same(tokens).roll(1, dims=-1)
    keys[:, :, 0] = False
    return keys


def masses(
    pattern: Float[Tensor, "run batch head query key"], masks: Bool[Tensor, "mask batch query key"]
) -> Float[Tensor, "mask run head"]:
    """Attention on each mask, summed over a batch."""
    wide = pattern.flatten(-2).transpose(1, 2).flatten(2)  # [run, head, batch * query * key]
    return (wide @ masks.flatten(1).to(pattern.dtype).T).permute(2, 0, 1)


def mass_on(
    pattern: Float[Tensor, "run batch head query key"], mask: Bool[Tensor, "batch query key"]
) -> Float[Tensor, "run head"]:
    """Attention on a mask, summed over a batch."""
    return (pattern.flatten(-2) @ mask.flatten(-2)[..., None].to(pattern.dtype))[..., 0].sum(1)


def per_head(given: ProbeInput, of: Callable[[Seen, int], tuple[Tensor, float]]) -> Float[Tensor, "run layer head"]:
    """Totals divided by counts, for every layer and head.

    Args:
        given: the probe input.
        of: `of(seen, layer)` returns a sum `[run, head]` and the number of terms in it.

    Raises:
        NotApplicable: all counts are zero, or the model has no layers.
    """
    import torch

    layers: list[Tensor] = []
    for layer in range(given.cfg.n_layers):
        parts = [of(seen, layer) for seen in given.seen]
        count = sum(count for _, count in parts)
        if not count:
            raise NotApplicable("no in-distribution example has such a position")
        layers.append(sum(total for total, _ in parts) / count)  # pyright: ignore[reportArgumentType]
    if not layers:
        raise NotApplicable("the model has no layers")
    return torch.stack(layers, dim=1)


def mean_mass(
    given: ProbeInput, mask_of: Callable[[Batch], Bool[Tensor, "batch query key"]]
) -> Float[Tensor, "run layer head"]:
    """Mean attention on a mask, over the queries that have at least one such key."""

    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        mask = mask_of(seen.batch) & seen.batch.real[:, :, None]
        return mass_on(seen.pattern(layer), mask), float(mask.any(-1).sum())

    return per_head(given, of)


def mass_fraction(
    given: ProbeInput, mask_of: Callable[[Batch], Bool[Tensor, "batch query key"]], first: bool = True
) -> Float[Tensor, "run layer head"]:
    """Fraction of all attention that falls on a mask, averaged over examples (TransformerLens `detect_head`, `mul`).

    Args:
        given: the probe input.
        mask_of: the mask of a batch.
        first: whether attention to the first token counts; False excludes it from both sums (`exclude_bos`).
    """
    start = 0 if first else 1

    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        pattern, real = seen.pattern(layer), seen.batch.real[:, None, :, None]
        mask = mask_of(seen.batch)[:, None] & real
        on, total = ((pattern * m)[..., start:].sum((-1, -2)) for m in (mask, real))  # [run, batch, head]
        return (on / total.clamp(min=1e-12)).sum(1), float(len(mask))

    return per_head(given, of)
