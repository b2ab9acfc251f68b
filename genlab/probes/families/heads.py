"""What single heads attend to: the token before, the same token, the first one, the end of the prompt, a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.masses import causal, earlier_same, mean_mass, of_all, per_head
from genlab.probes.signal import signal
from genlab.tasks import Vocab
from genlab.tasks.base import hint_names

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen

OLSSON = "Olsson et al. 2022, In-context learning and induction heads, arXiv 2209.11895"
LENS = "TransformerLens, detect_head, error_measure 'mul'"
_HINTED = {
    ("parity", "running"),
    ("parity", "scratchpad"),
    ("addition", "forward-hints"),
    ("addition", "reversed-hints"),
}


def previous(batch: Batch) -> Tensor:
    """The key right before each query."""
    pos = batch.tokens.shape[1]
    return causal(pos, batch.tokens.device).tril(-1).triu(-1).expand(len(batch.tokens), -1, -1)


@signal(
    "previous_token",
    per="head",
    about="attention to the token before",
    formula="mean over queries i >= 1 of A[i, i-1]",
    unit="weight",
    low=0,
    high=1,
    source=OLSSON,
)
def previous_token(given: ProbeInput) -> Tensor:
    return mean_mass(given, previous)


@signal(
    "previous_token_mul",
    per="head",
    about="share of all attention that goes to the token before",
    formula="sum_i A[i, i-1] / sum A",
    unit="share",
    low=0,
    high=1,
    source=LENS,
)
def previous_token_mul(given: ProbeInput) -> Tensor:
    return of_all(given, previous)


@signal(
    "duplicate_token",
    per="head",
    about="attention to earlier places of the same token",
    formula="mean over queries whose token x stands earlier of sum_j A[i, j], j < i, x_j = x_i",
    unit="weight",
    low=0,
    high=1,
    source="Wang et al. 2022, Interpretability in the wild, arXiv 2211.00593",
)
def duplicate_token(given: ProbeInput) -> Tensor:
    return mean_mass(given, lambda batch: earlier_same(batch.tokens))


@signal(
    "duplicate_token_mul",
    per="head",
    about="share of all attention that goes to earlier places of the same token",
    formula="sum over j < i with x_j = x_i of A[i, j] / sum A",
    unit="share",
    low=0,
    high=1,
    source=LENS,
)
def duplicate_token_mul(given: ProbeInput) -> Tensor:
    return of_all(given, lambda batch: earlier_same(batch.tokens))


@signal(
    "start_token",
    per="head",
    about="attention to the first token, where a head with nothing to do rests",
    formula="mean over queries i >= 1 of A[i, 0]",
    unit="weight",
    low=0,
    high=1,
    source="ours, after Xiao et al. 2023, attention sinks, arXiv 2309.17453",
)
def start_token(given: ProbeInput) -> Tensor:
    def first(batch: Batch) -> Tensor:
        keys = causal(batch.tokens.shape[1], batch.tokens.device).tril(-1)
        keys[:, 1:] = False
        return keys.expand(len(batch.tokens), -1, -1)

    return mean_mass(given, first)


@signal(
    "end_token",
    per="head",
    about="attention to the token that ends the prompt (`>`, the published brackets models' end token)",
    formula="mean over queries i at or after `>` of A[i, place of `>`]",
    unit="weight",
    low=0,
    high=1,
    source="ours",
)
def end_token(given: ProbeInput) -> Tensor:
    if not any(bool((batch.tokens == Vocab.sep).any()) for batch in given.batches):
        raise NotApplicable("no `>` ends a prompt of this format")

    def separator(batch: Batch) -> Tensor:
        return (batch.tokens == Vocab.sep)[:, None, :] & causal(batch.tokens.shape[1], batch.tokens.device)

    return mean_mass(given, separator)


@signal(
    "same_hint",
    per="head",
    about="attention of an index hint, or of what it marks, to the same hint earlier",
    formula="mean over queries at a hint h that stands earlier of sum_j A[i, j], j < i, x_j = h",
    unit="weight",
    low=0,
    high=1,
    source="ours, for the formats of Zhou et al. 2023, arXiv 2310.16028",
)
def same_hint(given: ProbeInput) -> Tensor:
    import torch

    name, form, _ = given.task()
    if (name, form) not in _HINTED:
        raise NotApplicable(f"format {form!r} of {name} has no index hints")
    hints = set(hint_names(len(given.vocab)))
    is_hint = torch.tensor([token in hints for token in given.vocab], device=given.batches[0].tokens.device)
    return mean_mass(given, lambda batch: earlier_same(batch.tokens) & is_hint[batch.tokens][:, :, None])


@signal(
    "positional",
    per="head",
    about="share of a head's pattern that position alone decides; the rest depends on content",
    formula="sum E[(A - U)(A' - U)] / sum E[(A - U)^2], A and A' two different examples of one length, U uniform "
    "over the keys seen, a mean over examples; 1 for a head that sees no content, 0 for one of content alone",
    unit="fraction",
    low=0,
    high=1,
    source="ours",
    version=2,
)
def positional(given: ProbeInput) -> Tensor:
    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        pattern, real = seen.pattern(layer), seen.batch.real.all(0)  # queries that every example has
        seen_keys = causal(pattern.shape[-1], pattern.device).to(pattern.dtype)
        away = (pattern - seen_keys / seen_keys.sum(-1, keepdim=True)) * real[:, None]
        count = away.shape[1]
        if count < 2:
            return away.new_zeros(away.shape[0], away.shape[2]), 0.0
        squares = away.pow(2).sum((1, -1, -2))
        pairs = (away.sum(1).pow(2).sum((-1, -2)) - squares) / (count - 1)  # of different examples: no bias of 1 / n
        return count * ((pairs + 1e-9) / (squares + 1e-9)).clamp(0, 1), float(count)

    return per_head(given, of)
