"""How much of a head's attention falls on given pairs of query and key; the places that head signals ask about."""

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
    """Keys before a query that hold the query's token."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return same & causal(tokens.shape[1], tokens.device).tril(-1)


def follows_same(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch query key"]:
    """Keys right after an earlier place of the query's token: where an induction head looks.

    The key may be the query itself (a token that stands twice in a row).
    """
    found = earlier_same(tokens).roll(1, dims=-1)
    found[:, :, 0] = False
    return found


def masses(
    pattern: Float[Tensor, "run batch head query key"], masks: Bool[Tensor, "mask batch query key"]
) -> Float[Tensor, "mask run head"]:
    """Attention that falls on each mask, summed over a batch."""
    wide = pattern.flatten(-2).transpose(1, 2).flatten(2)  # [run, head, batch * query * key]
    return (wide @ masks.flatten(1).to(pattern.dtype).T).permute(2, 0, 1)


def mass_on(
    pattern: Float[Tensor, "run batch head query key"], mask: Bool[Tensor, "batch query key"]
) -> Float[Tensor, "run head"]:
    """Attention that falls on a mask, summed over a batch."""
    return (pattern.flatten(-2) @ mask.flatten(-2)[..., None].to(pattern.dtype))[..., 0].sum(1)


def per_head(given: ProbeInput, of: Callable[[Seen, int], tuple[Tensor, float]]) -> Float[Tensor, "run layer head"]:
    """Totals over counts: `of(seen, layer)` gives a sum `[run, head]` and what it is a sum over.

    Raises:
        NotApplicable: the counts are zero, or the model has no layers.
    """
    import torch

    layers: list[Tensor] = []
    for layer in range(given.cfg.n_layers):
        parts = [of(seen, layer) for seen in given.seen]
        count = sum(count for _, count in parts)
        if not count:
            raise NotApplicable("no in-distribution example has such a place")
        layers.append(sum(total for total, _ in parts) / count)  # pyright: ignore[reportArgumentType]
    if not layers:
        raise NotApplicable("the model has no layers")
    return torch.stack(layers, dim=1)


def mean_mass(
    given: ProbeInput, mask_of: Callable[[Batch], Bool[Tensor, "batch query key"]]
) -> Float[Tensor, "run layer head"]:
    """Attention on a mask, as a mean over the queries that have any such key."""

    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        mask = mask_of(seen.batch) & seen.batch.real[:, :, None]
        return mass_on(seen.pattern(layer), mask), float(mask.any(-1).sum())

    return per_head(given, of)


def of_all(
    given: ProbeInput, mask_of: Callable[[Batch], Bool[Tensor, "batch query key"]], first: bool = True
) -> Float[Tensor, "run layer head"]:
    """Attention on a mask as a share of all attention, a mean over examples: `mul` of `detect_head`.

    Args:
        first: whether attention to the first token counts (`exclude_bos` leaves it out of both sums).
    """
    start = 0 if first else 1

    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        pattern, real = seen.pattern(layer), seen.batch.real[:, None, :, None]
        mask = mask_of(seen.batch)[:, None] & real
        on, total = ((pattern * m)[..., start:].sum((-1, -2)) for m in (mask, real))  # [run, batch, head]
        return (on / total.clamp(min=1e-12)).sum(1), float(len(mask))

    return per_head(given, of)
