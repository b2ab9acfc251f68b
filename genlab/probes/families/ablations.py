"""Causal signals: in-distribution performance lost when a head or MLP is ablated or patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.families.interventions import exact_match
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen
    from genlab.probes.patching import Measure

_ANY = float("inf")
PATCHING = "Heimersheim and Nanda 2024, How to use and interpret activation patching, arXiv 2404.15255"


def zero(x: Tensor) -> Tensor:
    """Zeros."""
    return x * 0


def mean(x: Tensor) -> Tensor:
    """The mean over examples and positions."""
    return x.mean((1, 2), keepdim=True).expand_as(x)


def resample(x: Tensor) -> Tensor:
    """The activations of another example of the same length."""
    return x.roll(1, dims=1)


def uniform(pattern: Tensor) -> Tensor:
    """Equal weights over the visible keys."""
    import torch

    seen = torch.ones_like(pattern[0, 0]).tril()
    return (seen / seen.sum(-1, keepdim=True)).expand_as(pattern)


KINDS = {"zero": zero, "mean": mean, "resample": resample}


def loss_of(seen: Seen) -> Tensor:
    """Mean cross-entropy at scored positions, float[run]."""
    from genlab.probes.patching import answer_log_prob

    return -answer_log_prob(seen.batch.targets, seen.batch.scored)(seen.logits)


def changes(given: ProbeInput, tap: Callable[[str, Tensor], Tensor], kind: str) -> tuple[Tensor, Tensor]:
    """Exact match lost and loss gained under a tap, float[run] each, averaged over examples.

    `resample` needs another example of the same length, so lengths with a single example are left out.
    """
    import torch

    read = [seen for seen in given.seen if kind != "resample" or len(seen.batch.tokens) > 1]
    if not read:
        raise NotApplicable("no two in-distribution examples have the same length")
    pairs = [(original, given.look(original.batch, tap)) for original in read]
    sizes = torch.tensor([float(len(seen.batch.tokens)) for seen in read], dtype=torch.float64)

    def mean(values: list[Tensor]) -> Tensor:
        return (torch.stack(values, dim=-1).double() * (sizes / sizes.sum()).to(values[0].device)).sum(-1)

    lost = mean([exact_match(original) - exact_match(ablated) for original, ablated in pairs])
    return lost, mean([loss_of(ablated) - loss_of(original) for original, ablated in pairs])


def head_tap(layer: int, head: int, kind: str) -> Callable[[str, Tensor], Tensor]:
    """A tap that ablates one head: its output, or its pattern for `uniform`."""
    name = f"blocks.{layer}.attn.hook_{'pattern' if kind == 'uniform' else 'z'}"

    def tap(here: str, x: Tensor) -> Tensor:
        if here != name:
            return x
        x = x.clone()
        if kind == "uniform":
            x[:, :, head] = uniform(x[:, :, head])
        else:
            x[..., head, :] = KINDS[kind](x[..., head, :])
        return x

    return tap


def mlp_tap(layer: int, kind: str) -> Callable[[str, Tensor], Tensor]:
    """A tap that ablates the output of an MLP."""
    return lambda here, x: KINDS[kind](x) if here == f"blocks.{layer}.hook_mlp_out" else x


def stacked(lists: dict[str, list[Tensor]], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Stack lists of values, each [run], to [run, *shape]."""
    import torch

    return {name: torch.stack(values, dim=1).unflatten(1, shape) for name, values in lists.items()}


@signal(
    "ablate_head",
    per="head",
    about="effect of ablating a head in distribution: exact match lost, loss gained",
    formula="exact match before - after, and loss after - before; the head's output is replaced by zero, its mean "
    "over examples and positions, or another example's (resample), or its attention is made uniform",
    blind="Backup heads can hide a loss, and a constant that later layers rely on can create one. Measured in "
    "distribution only; in Li et al. 2025 ablating a head raised accuracy beyond.",
    unit="fraction, nats",
    low=-_ANY,
    high=_ANY,
    source=PATCHING,
    null=False,
    slow=True,
)
def ablate_head(given: ProbeInput) -> dict[str, Tensor]:
    from genlab.probes.model import check_hooks

    layers, heads = given.cfg.n_layers, given.cfg.n_heads
    if not layers:
        raise NotApplicable("the model has no layers")
    check_hooks(given.model, "attn.hook_z", "attn.hook_pattern")
    values: dict[str, list[Tensor]] = {}
    for kind in (*KINDS, "uniform"):
        for layer in range(layers):
            for head in range(heads):
                lost, gained = changes(given, head_tap(layer, head, kind), kind)
                values.setdefault(f"{kind}.exact_match", []).append(lost)
                values.setdefault(f"{kind}.loss", []).append(gained)
    return stacked(values, (layers, heads))


@signal(
    "ablate_mlp",
    per="layer",
    about="effect of ablating an MLP in distribution: exact match lost, loss gained",
    formula="as ablate_head, for the MLP's output: zero, mean, resample",
    blind="Same as ablate_head, for a whole layer.",
    unit="fraction, nats",
    low=-_ANY,
    high=_ANY,
    source=PATCHING,
    slow=True,
)
def ablate_mlp(given: ProbeInput) -> dict[str, Tensor]:
    from genlab.probes.model import check_hooks

    if not given.cfg.n_layers or given.cfg.attn_only:
        raise NotApplicable("the model has no MLP")
    check_hooks(given.model, "hook_mlp_out")
    values: dict[str, list[Tensor]] = {}
    for kind in KINDS:
        for layer in range(given.cfg.n_layers):
            lost, gained = changes(given, mlp_tap(layer, kind), kind)
            values.setdefault(f"{kind}.exact_match", []).append(lost)
            values.setdefault(f"{kind}.loss", []).append(gained)
    return stacked(values, (given.cfg.n_layers,))


def pairs_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Rows of a batch, and another row for each: both have answers at the same positions, and the answers differ."""
    import torch

    rows = torch.arange(len(batch.tokens), device=batch.tokens.device)
    other = rows.roll(1)
    fits = (batch.scored == batch.scored[other]).all(1) & (batch.real == batch.real[other]).all(1)
    fits &= ((batch.targets != batch.targets[other]) & batch.scored).any(1)
    return rows[fits], other[fits]


def paired(given: ProbeInput, halves: bool = False) -> tuple[Tensor, Tensor, Measure, Tensor | None]:
    """Prompts, other prompts, the measure of the first ones' answers, and offsets, at the most common length.

    With `halves`, the measure has one value for each half of the pairs, float[run, 2].
    """
    import torch

    from genlab.probes.patching import answer_log_prob

    if not given.cfg.n_layers:
        raise NotApplicable("the model has no layers")
    batch = given.batches[given.commonest]
    rows, other = pairs_of(batch)
    if not len(rows):
        raise NotApplicable(
            "no two in-distribution examples of one length have different answers at the same positions"
        )
    measure = answer_log_prob(batch.targets[rows], batch.scored[rows])
    if halves:
        middle = len(rows) // 2
        if not middle:
            raise NotApplicable("one pair of in-distribution examples cannot be split into two halves")
        parts = [(some, answer_log_prob(batch.targets[rows[some]], batch.scored[rows[some]]))
                 for some in (slice(0, middle), slice(middle, None))]  # fmt: skip
        measure = lambda logits: torch.stack([of(logits[:, some]) for some, of in parts], dim=-1)  # noqa: E731
    return batch.tokens[rows], batch.tokens[other], measure, None if batch.offsets is None else batch.offsets[rows]


@signal(
    "patch_head",
    per="head",
    about="how much of the answer a single head carries into another prompt",
    formula="fraction of the difference in the answer's log probability that is restored when the head's output is "
    "patched into a pass over another prompt; pairs of in-distribution examples of the most common length (of "
    "several, the longest)",
    blind="One head at a time: an effect that needs two heads is missed.",
    unit="fraction",
    low=-_ANY,
    high=_ANY,
    source=PATCHING,
    null=False,
    slow=True,
)
def patch_head(given: ProbeInput) -> Tensor:
    from genlab.probes.patching import patch_heads

    clean, other, measure, offsets = paired(given)
    return patch_heads(given.model, clean, other, measure, offsets)


@signal(
    "path_patch_keys",
    per="head",
    about="what a head loses when its keys receive one earlier head's output from another prompt",
    formula="max over heads of earlier layers of the drop in the answer's log probability under path patching into "
    "keys; pairs as for patch_head, the earlier head chosen on one half of them and read on the other, both ways",
    blind="Keys of one head from one earlier head only; paths through MLPs are missed.",
    unit="nats",
    low=-_ANY,
    high=_ANY,
    source="Wang et al. 2022, arXiv 2211.00593; Goldowsky-Dill et al. 2023, arXiv 2304.05969",
    null=False,
    slow=True,
    version=2,
)
def path_patch_keys(given: ProbeInput) -> Tensor:
    import torch

    from genlab.probes.patching import path_patch
    from genlab.probes.probing import cross_fitted

    if given.cfg.n_layers < 2:
        raise NotApplicable("a path connects heads of two layers; the model has fewer")
    clean, other, measure, offsets = paired(given, halves=True)
    heads = range(given.cfg.n_heads)
    values = torch.full((given.model.n_runs, given.cfg.n_layers, len(heads)), float("nan"), dtype=torch.float64)
    for layer in range(1, given.cfg.n_layers):
        for head in heads:
            senders = [(earlier, h) for earlier in range(layer) for h in heads]
            lost = [path_patch(given.model, clean, other, measure, s, (layer, head), "k", offsets) for s in senders]
            first, second = cross_fitted(*torch.stack(lost, dim=-1).double().cpu().numpy().swapaxes(0, 1))
            values[:, layer, head] = torch.from_numpy((first + second) / 2)
    return values
