"""Distance of in-distribution outputs from the best constant answer, which outputs may fall back to elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput


@signal(
    "constant_distance",
    per="run",
    about="distance of the output from the marginal distribution of answers",
    formula="mean over examples and the places j of an answer of |p - q_j| / 2 (total variation), q_j the fraction "
    "of each token at place j of the probe examples' true answers",
    blind="In distribution it grows with confidence: it separates runs by how sure they are. If all answers are "
    "equally frequent, the constant is flat, far from every sure answer.",
    unit="distance",
    low=0,
    high=1,
    source="Kang et al. 2023, arXiv 2310.00873 (the optimal constant solution; distances there are of other kinds)",
)
def constant_distance(given: ProbeInput) -> Tensor:
    import torch

    places = [_places(batch) for batch in given.batches]
    targets = [batch.targets[batch.scored] for batch in given.batches]
    whole, tokens = torch.cat(places), torch.cat(targets)
    counts = torch.zeros(int(whole.max()) + 1, given.cfg.d_vocab, dtype=torch.float64, device=tokens.device)
    counts.index_put_((whole, tokens), torch.ones_like(tokens, dtype=torch.float64), accumulate=True)
    constant = counts / counts.sum(1, keepdim=True)
    means: list[Tensor] = []
    for seen, at in zip(given.seen, places, strict=True):
        p = seen.logits[:, seen.batch.scored].double().softmax(-1)
        off = (p - constant[at]).abs().sum(-1) / 2
        each = seen.batch.scored.sum(1)
        weight = 1 / each.repeat_interleave(each).double()
        means.append((off * weight).sum(1) / len(each))
    return given.mean(means)


def _places(batch: Batch) -> Tensor:
    """Place in its answer of each scored position, int[position]."""
    return (batch.scored.cumsum(1) - 1)[batch.scored]
