"""What single heads attend to: the previous token, the same token, the first token, the end of the prompt, a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.masses import causal, earlier_same, mass_fraction, mean_mass, per_head
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
    about="attention to the previous token",
    formula="mean over queries i >= 1 of A[i, i-1]",
    blind="A head that spreads over the last few tokens, or that finds the previous token only where an answer "
    "needs it, scores low. A high value says nothing of what the output carries.",
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
    about="fraction of all attention on the previous token",
    formula="sum_i A[i, i-1] / sum A",
    blind="Same as previous_token; short sequences raise it, since early queries have few keys.",
    unit="fraction",
    low=0,
    high=1,
    source=LENS,
)
def previous_token_mul(given: ProbeInput) -> Tensor:
    return mass_fraction(given, previous)


@signal(
    "duplicate_token",
    per="head",
    about="attention to earlier occurrences of the same token",
    formula="mean over queries whose token occurs earlier of sum_j A[i, j], j < i, x_j = x_i",
    blind="Averages over all queries whose token occurs earlier: a head that finds repeats only at answer positions "
    "scores low. With few symbols, uniform attention scores high; compare with the null.",
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
    about="fraction of all attention on earlier occurrences of the same token",
    formula="sum over j < i with x_j = x_i of A[i, j] / sum A",
    blind="Same as duplicate_token; also low where few tokens are repeated.",
    unit="fraction",
    low=0,
    high=1,
    source=LENS,
)
def duplicate_token_mul(given: ProbeInput) -> Tensor:
    return mass_fraction(given, lambda batch: earlier_same(batch.tokens))


@signal(
    "start_token",
    per="head",
    about="attention to the first token, where idle heads rest",
    formula="mean over queries i >= 1 of A[i, 0]",
    blind="Does not tell an idle head from one that uses the first token as a constant key, as compiled counting "
    "heads do, nor from a head with random weights, which may prefer the first token at every query.",
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
    about="attention to the token that ends the prompt (`>`, the end token of the published brackets models)",
    formula="mean over queries i at or after `>` of A[i, position of `>`]",
    blind="Fires for any head that reads the end of the prompt, whatever it reads there.",
    unit="weight",
    low=0,
    high=1,
    source="ours",
)
def end_token(given: ProbeInput) -> Tensor:
    if not any(bool((batch.tokens == Vocab.sep).any()) for batch in given.batches):
        raise NotApplicable("prompts of this format do not end with `>`")

    def separator(batch: Batch) -> Tensor:
        return (batch.tokens == Vocab.sep)[:, None, :] & causal(batch.tokens.shape[1], batch.tokens.device)

    return mean_mass(given, separator)


@signal(
    "same_hint",
    per="head",
    about="attention from an index hint, or the token it marks, to the same hint earlier",
    formula="mean over queries at a hint h that occurs earlier of sum_j A[i, j], j < i, x_j = h",
    blind="Only defined for formats with index hints. A head that matches hints by their distance rather than by "
    "content scores the same.",
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
    about="fraction of a head's pattern that is determined by position; the rest depends on content",
    formula="sum E[(A - U)(A' - U)] / sum E[(A - U)^2], A and A' two different examples of one length, U uniform "
    "over visible keys, averaged over examples; 1 for a head that ignores content, 0 for one driven by content only",
    blind="Content that is tied to position in the training data (the end token, the separator) counts as position. "
    "A head with uniform attention has the value 1.",
    unit="fraction",
    low=0,
    high=1,
    source="ours",
    version=2,
)
def positional(given: ProbeInput) -> Tensor:
    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        pattern, real = seen.pattern(layer), seen.batch.real.all(0)  # queries present in every example
        visible = causal(pattern.shape[-1], pattern.device).to(pattern.dtype)
        deviation = (pattern - visible / visible.sum(-1, keepdim=True)) * real[:, None]
        count = deviation.shape[1]
        if count < 2:
            return deviation.new_zeros(deviation.shape[0], deviation.shape[2]), 0.0
        squares = deviation.pow(2).sum((1, -1, -2))
        pairs = (deviation.sum(1).pow(2).sum((-1, -2)) - squares) / (count - 1)  # different examples: unbiased
        return count * ((pairs + 1e-9) / (squares + 1e-9)).clamp(0, 1), float(count)

    return per_head(given, of)
