"""Heads that attend to an auxiliary of a sentence: that of the main verb, or that of the subject's relative clause.

In every training question the main auxiliary is also the first one. Sentences with a relative clause on the subject,
which distinguish the two, occur in training only to be repeated; attention at the start of the answer is read on them
too.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.masses import per_head
from genlab.probes.signal import signal
from genlab.tasks import Vocab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen
    from genlab.tasks.sentences import Parser

_SOURCE = "ours, after Li et al. 2025, arXiv 2507.06445; task of McCoy et al. 2020, arXiv 2001.03632"


@cache
def _parser() -> Parser:
    from genlab.tasks.sentences import Grammar, Parser

    return Parser(Grammar(auxiliaries=True))


def main_auxiliary_of(words: Sequence[str]) -> str:
    """The auxiliary of a sentence's main verb."""
    return words[_parser().read(words).verb]


def auxiliaries(batch: Batch, vocab: tuple[str, ...], start: int = 0) -> list[tuple[int, int, list[int]]]:
    """For each sentence, positions: main auxiliary, the one in the subject's relative clause (or -1), all of them.

    A sentence begins at position `start`.
    """
    rows: list[tuple[int, int, list[int]]] = []
    for row in batch.tokens.tolist():
        words = [vocab[i] for i in row[start : row.index(Vocab.sep) - 2]]  # without `. decl` or `. quest`
        parse = _parser().read(words)
        inside = [start + position for position in parse.subjects if position < parse.verb]
        every = [start + position for position in parse.subjects]
        rows.append((start + parse.verb, inside[0] if inside else -1, every))
    return rows


def fraction_largest(given: ProbeInput, which: int) -> Tensor:
    """The fraction of sentences in which, at `>`, the given auxiliary has the largest weight of all auxiliaries."""
    name, _, _ = given.task()
    if name != "question-formation":
        raise NotApplicable(f"only sentences of question-formation have auxiliaries, not those of {name}")
    parsed = given.once(
        "auxiliaries", lambda: [auxiliaries(batch, given.vocab, given.start) for batch in given.batches]
    )
    of_batch = {id(batch): rows for batch, rows in zip(given.batches, parsed, strict=True)}

    def of(seen: Seen, layer: int) -> tuple[Tensor, float]:
        import torch

        pattern, count = seen.pattern(layer), 0
        total = torch.zeros(pattern.shape[0], pattern.shape[2], device=pattern.device)
        for row, positions in enumerate(of_batch[id(seen.batch)]):
            target, every = positions[which], positions[2]
            if target < 0 or len(every) < 2:
                continue
            query = int((seen.batch.tokens[row] == Vocab.sep).nonzero()[0])
            others = [position for position in every if position != target]
            weights = pattern[:, row, :, query]
            # A tie does not count: a head that attends to no auxiliary would seem to attend to the first one.
            total += weights[..., target] > weights[..., others].amax(-1)
            count += 1
        return total, float(count)

    return per_head(given, of)


@signal(
    "main_auxiliary",
    per="head",
    about="main-auxiliary-detecting: where the answer begins, the main auxiliary has the largest weight",
    formula="fraction of sentences with at least two auxiliaries whose largest weight among them at `>` is on the "
    "main auxiliary",
    blind="Read on the few sentences with two auxiliaries. Blind to a program that finds the place by counting "
    "words.",
    unit="fraction of sentences",
    low=0,
    high=1,
    source=_SOURCE,
    version=2,
)
def main_auxiliary(given: ProbeInput) -> Tensor:
    return fraction_largest(given, 0)


@signal(
    "subject_auxiliary",
    per="head",
    about="subject-auxiliary-detecting: where the answer begins, the auxiliary inside the subject has the largest "
    "weight",
    formula="fraction of sentences with a relative clause on the subject whose largest weight among auxiliaries at "
    "`>` is on that of the clause",
    blind="Same as main_auxiliary. It is the first auxiliary, which heads that prefer early tokens find too: "
    "programs that move the main auxiliary have such heads, and this does not tell them from the others.",
    unit="fraction of sentences",
    low=0,
    high=1,
    source=_SOURCE,
    version=2,
)
def subject_auxiliary(given: ProbeInput) -> Tensor:
    return fraction_largest(given, 1)
