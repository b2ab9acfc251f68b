"""Fourier signals for modular addition: does the model use few frequencies? Spectra in float64.

Frequency k turns k times around the circle of numbers 0 to p - 1. The constant (k = 0) is not counted as a frequency:
spectra exclude it, and losses keep it (Nanda et al. 2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genlab.errors import NotApplicable
from genlab.probes.signal import signal
from genlab.tasks import Vocab

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput

NANDA = "Nanda et al. 2023, Progress measures for grokking, arXiv 2301.05217"
_AFTER = "after " + NANDA + " (key frequencies are those of fourier_key_frequencies)"
_FRACTION = 0.9
_SIGNS = {"a+b": 1, "a-b": -1}


def modulus(given: ProbeInput) -> tuple[int, int]:
    """p, and 1 for a + b or -1 for a - b."""
    name, _, params = given.task()
    if name != "modular" or params["op"] not in _SIGNS:
        raise NotApplicable("the numbers of this task are not added or subtracted modulo p")
    return int(params["p"]), _SIGNS[str(params["op"])]


def powers(given: ProbeInput) -> Tensor:
    """Fraction of the embeddings' power at each frequency 1 to p // 2, float64[run, frequency]."""
    import torch

    def spectrum() -> Tensor:
        p, _ = modulus(given)
        numbers = given.model.weights().W_E[:, Vocab.first : Vocab.first + p].double()
        power = torch.fft.rfft(numbers, dim=1).abs().pow(2).sum(-1)[:, 1:]
        return power / power.sum(-1, keepdim=True).clamp(min=1e-30)

    return given.once("fourier powers", spectrum)


def key_frequencies(fractions: Tensor) -> Tensor:
    """The smallest set of frequencies that holds 0.9 of the power, bool[run, frequency]."""
    import torch

    order = fractions.argsort(dim=-1, descending=True)
    before = fractions.gather(-1, order).cumsum(-1) - fractions.gather(-1, order)
    return torch.zeros_like(fractions, dtype=torch.bool).scatter(-1, order, before < _FRACTION)


@signal(
    "fourier_gini",
    per="run",
    about="whether the number embeddings use few frequencies",
    formula="Gini coefficient of the embeddings' power over frequencies 1 to p // 2",
    blind="Only modular tasks. Sparse frequencies can be there before the answers are right.",
    unit="Gini",
    low=0,
    high=1,
    source="after " + NANDA + " (there of W_E's and W_L's components)",
    reads="weights",
)
def fourier_gini(given: ProbeInput) -> Tensor:
    import torch

    rising = powers(given).sort(-1).values
    n = rising.shape[-1]
    rank = torch.arange(1, n + 1, dtype=rising.dtype, device=rising.device)
    return ((2 * rank - n - 1) * rising).sum(-1) / n


@signal(
    "fourier_key_frequencies",
    per="run",
    about="number of frequencies that the number embeddings use",
    formula=f"size of the smallest set of frequencies that holds {_FRACTION} of the embeddings' power (without the "
    "constant)",
    blind="Depends on a threshold on the energy of frequencies.",
    unit="frequencies",
    low=1,
    high=float("inf"),
    source="ours, after " + NANDA + " (there the frequencies that best explain the neurons)",
    reads="weights",
)
def fourier_key_frequencies(given: ProbeInput) -> Tensor:
    return key_frequencies(powers(given)).sum(-1)


def numbers_of(given: ProbeInput, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of each example."""
    first, second = _number_columns(given)
    return tokens[:, first] - Vocab.first, tokens[:, second] - Vocab.first


def _number_columns(given: ProbeInput) -> tuple[int, int]:
    """The positions of a and b in a prompt."""
    _, form, _ = given.task()
    return given.start, given.start + (2 if form == "plain" else 1)


def basis(total: Tensor, p: int, keys: Tensor) -> Tensor:
    """1, and cos and sin of each key frequency times a + b, float64[example, 1 + 2 keys]."""
    import torch

    angles = 2 * np.pi * total[:, None].double() * (keys.nonzero()[:, 0] + 1) / p
    return torch.cat([torch.ones_like(total[:, None], dtype=torch.float64), angles.cos(), angles.sin()], dim=1)


def answer_logits(given: ProbeInput, tokens: Tensor, offsets: Tensor | None) -> Tensor:
    """Logits of the numbers at the answer position, float64[run, example, p]."""
    p, _ = modulus(given)
    position = int((tokens[0] == Vocab.sep).nonzero()[0])
    return given.model(tokens, offsets)[:, :, position, Vocab.first : Vocab.first + p].double()


def loss_with(given: ProbeInput, tokens: Tensor, offsets: torch.Tensor | None, keep: bool) -> Tensor:
    """Loss when logits keep only the key frequencies and the constant, or lose the key frequencies, float64[run]."""
    import torch

    p, sign = modulus(given)
    a, b = numbers_of(given, tokens)
    total = (a + sign * b) % p
    losses: list[Tensor] = []
    for logits, keys in zip(answer_logits(given, tokens, offsets), key_frequencies(powers(given)), strict=True):
        columns = basis(total, p, keys)
        if len(columns) < 2 * columns.shape[1]:
            raise NotApplicable("too few pairs for so many key frequencies")
        weights = torch.linalg.lstsq(columns, logits).solution
        part = columns @ weights if keep else logits - columns[:, 1:] @ weights[1:]
        losses.append(torch.nn.functional.cross_entropy(part, total))
    return torch.stack(losses)


@signal(
    "excluded_loss",
    per="run",
    about="how much the answers to training pairs rely on the key frequencies: high once the rotation does the work",
    formula="loss on training pairs after projecting cos and sin of w(a + b), w the key frequencies, out of the "
    "logits",
    blind="Key frequencies are read from the embeddings: frequencies that only later layers use are not excluded.",
    unit="nats",
    low=0,
    high=float("inf"),
    source=_AFTER,
)
def excluded_loss(given: ProbeInput) -> Tensor:
    modulus(given)
    batch = given.batches[0]
    return loss_with(given, batch.tokens, batch.offsets, keep=False)


@signal(
    "restricted_loss",
    per="run",
    about="how well the key frequencies alone answer: falls before the test loss does",
    formula="loss over all pairs when the logits keep only the constant and cos and sin of w(a + b)",
    blind="Same as excluded_loss. Reads all pairs, held-out ones included, so it may not enter a forecast.",
    unit="nats",
    low=0,
    high=float("inf"),
    source=_AFTER,
    why_not="reads all pairs, including held-out ones",
    version=2,
    reads="all pairs",
)
def restricted_loss(given: ProbeInput) -> Tensor:
    import torch

    p, _ = modulus(given)
    tokens = given.batches[0].tokens[:1].expand(p * p, -1).clone()
    number = torch.arange(p, device=tokens.device) + Vocab.first
    first, second = _number_columns(given)
    tokens[:, first], tokens[:, second] = number.repeat_interleave(p), number.repeat(p)
    offsets = given.batches[0].offsets
    offsets = None if offsets is None else offsets[:1].expand(len(tokens), *offsets.shape[1:])
    return loss_with(given, tokens, offsets, keep=True)
