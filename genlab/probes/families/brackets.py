"""Depth-tracking heads for brackets (Li et al. 2025): which brackets the answer position attends to most.

All signals are read at the query `>` (`<end>` in the published models), over bracket keys, on strings whose depth is
below 0 at some brackets and at least 0 at others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.masses import per_head
from genlab.probes.signal import signal
from genlab.tasks import Vocab

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen

LI = "Li et al. 2025, Can interpretation predict behavior on unseen data?, arXiv 2507.06445"
_DEPTH = "d_i is the depth after bracket i, NEG the brackets with d < 0, NONNEG the rest"


def depths(batch: Batch, vocab: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Depth after each position, int[batch, pos], and the positions of brackets in the prompt, bool[batch, pos]."""
    import torch

    signs = torch.tensor([(t == "(") - (t == ")") for t in vocab], device=batch.tokens.device)
    step = signs[batch.tokens]
    is_prompt = (batch.tokens == Vocab.sep).long().cumsum(1) == 0
    return (step * is_prompt).cumsum(1), (step != 0) & is_prompt


def fraction_of_strings(given: ProbeInput, kind: str) -> Tensor:
    """The fraction of strings for which a head's weights at `>` are ordered as `kind` says."""
    name, _, _ = given.task()
    if name != "brackets":
        raise NotApplicable(f"the strings of {name} are not brackets of one kind with a label")

    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        depth, bracket = depths(seen.batch, given.vocab)
        below, above = bracket & (depth < 0), bracket & (depth >= 0)
        both = below.any(1) & above.any(1)
        row = (seen.batch.tokens == Vocab.sep).long().argmax(1)
        strings = both.nonzero()[:, 0]
        weights = seen.pattern(layer)[:, strings, :, row[strings]]  # [string, run, head, key]
        weights = weights.permute(1, 2, 0, 3)
        low, high = _extremes(weights, below[strings]), _extremes(weights, above[strings])
        neg, nonneg = low[0] > high[1], high[0] > low[1]  # [run, head, string]
        final = depth[strings, row[strings]] < 0
        hit = {"neg": neg, "nonneg": nonneg, "ambi": neg | nonneg, "sign": neg & final | nonneg & ~final}[kind]
        return hit.sum(-1).to(weights.dtype), float(len(strings))

    return per_head(given, of)


def _extremes(weights: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest weight over the selected keys."""
    inf = float("inf")
    return weights.masked_fill(~among, inf).amin(-1), weights.masked_fill(~among, -inf).amax(-1)


@signal(
    "bracket_neg",
    per="head",
    about="violation-detecting: more attention to every position below depth 0 than to any other",
    formula=f"fraction of strings with min over NEG > max over NONNEG; {_DEPTH}",
    blind="Blind to nesting that is computed at the brackets and only copied to the end. Strings with violations at "
    "several depths fail the rule for a head that attends to the lowest depth.",
    unit="fraction of strings",
    low=0,
    high=1,
    source=LI,
)
def bracket_neg(given: ProbeInput) -> Tensor:
    return fraction_of_strings(given, "neg")


@signal(
    "bracket_nonneg",
    per="head",
    about="the reverse of bracket_neg: more attention to every position at depth 0 or above",
    formula="fraction of strings with min over NONNEG > max over NEG",
    blind="Fires for idle heads that happen to prefer the beginning of a string; in compiled models its largest "
    "value is not causal.",
    unit="fraction of strings",
    low=0,
    high=1,
    source=LI,
)
def bracket_nonneg(given: ProbeInput) -> Tensor:
    return fraction_of_strings(given, "nonneg")


@signal(
    "bracket_ambi",
    per="head",
    about="depth-tracking: bracket_neg or bracket_nonneg, string by string",
    formula="bracket_neg + bracket_nonneg",
    blind="A head that is sorted by violations and one that is sorted against them score the same; its reliability "
    "on few strings is low.",
    unit="fraction of strings",
    low=0,
    high=1,
    source=LI,
)
def bracket_ambi(given: ProbeInput) -> Tensor:
    return fraction_of_strings(given, "ambi")


@signal(
    "bracket_sign",
    per="head",
    about="sign-matching: more attention to the positions whose sign is that of the final depth",
    formula="fraction of strings ordered as in bracket_neg if the final depth is below 0, else as in bracket_nonneg",
    blind="A violation head scores about half of its maximum, since violations and a negative final depth go "
    "together.",
    unit="fraction of strings",
    low=0,
    high=1,
    source=LI,
)
def bracket_sign(given: ProbeInput) -> Tensor:
    return fraction_of_strings(given, "sign")
