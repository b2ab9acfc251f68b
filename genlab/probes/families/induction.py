"""Induction heads: after A B ... A, attend to B. Read in three ways that differ, on two kinds of sequences.

On training sequences the readings are admissible; on the standard repeated random tokens they are not, since the
model may never have seen such text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.probes.families.heads import LENS, OLSSON
from genlab.probes.masses import follows_same, mean_mass, of_all
from genlab.probes.signal import NotApplicable, signal
from genlab.tasks import Vocab

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen

SONG = "Song et al. 2024, Out-of-distribution generalization via composition, arXiv 2408.09503"
_PERIOD, _COPIES, _TEXTS, _SEED = 25, 4, 8, 12
_RANDOM = "reads repeated random tokens, which are no training sequences"


def latest(batch: Batch) -> Tensor:
    """The key right after the latest earlier place of the query's token."""
    after = follows_same(batch.tokens)
    return after & (after.long().flip(-1).cumsum(-1).flip(-1) == 1)


@signal(
    "induction_latest",
    per="head",
    about="attention to what followed the token the last time",
    formula="mean over queries whose token stands earlier of A[i, j], j right after the latest such place; on two "
    "copies this is the diagonal -(period - 1)",
    unit="weight",
    low=0,
    high=1,
    source=SONG,
)
def induction_latest(given: ProbeInput) -> Tensor:
    return mean_mass(given, latest)


@signal(
    "induction_prefix",
    per="head",
    about="attention to whatever has followed the token before (prefix matching)",
    formula="mean over queries whose token stands earlier of the sum of A[i, j] over all j right after such a place",
    unit="weight",
    low=0,
    high=1,
    source=OLSSON,
)
def induction_prefix(given: ProbeInput) -> Tensor:
    return mean_mass(given, lambda batch: follows_same(batch.tokens))


@signal(
    "induction_mul",
    per="head",
    about="share of all attention that goes to whatever has followed the token before",
    formula="sum of A[i, j] over j right after an earlier place of x_i / sum A",
    unit="share",
    low=0,
    high=1,
    source=LENS,
)
def induction_mul(given: ProbeInput) -> Tensor:
    return of_all(given, lambda batch: follows_same(batch.tokens))


@signal(
    "induction_mul_no_first",
    per="head",
    about="the same without attention to the first token, where a head with nothing to do rests",
    formula="induction_mul, the first key left out of both sums (exclude_bos)",
    unit="share",
    low=0,
    high=1,
    source=LENS,
)
def induction_mul_no_first(given: ProbeInput) -> Tensor:
    return of_all(given, lambda batch: follows_same(batch.tokens), first=False)


@signal(
    "induction_scored",
    per="head",
    about="attention, at places of the answer, to the right next token behind the same token",
    formula="mean over scored queries of the sum of A[i, j], x_(j-1) = x_i and x_j the target of i",
    unit="weight",
    low=0,
    high=1,
    source="ours",
)
def induction_scored(given: ProbeInput) -> Tensor:
    def right(batch: Batch) -> Tensor:
        is_target = batch.tokens[:, None, :] == batch.targets[:, :, None]
        return follows_same(batch.tokens) & is_target & batch.scored[:, :, None]

    return mean_mass(given, right)


def random_repeats(given: ProbeInput) -> Seen:
    """`_TEXTS` texts of random symbols, each `_COPIES` times in a row, as the models see them."""
    import numpy as np
    import torch

    from genlab.probes.inputs import Batch

    def made() -> Seen:
        if getattr(given.cfg, "needs_ids", False):
            raise NotApplicable("positions are the task's own or random ones, which random text does not have")
        symbols = given.cfg.d_vocab - Vocab.first
        room = given.cfg.n_ctx if given.cfg.n_ctx else _PERIOD * _COPIES
        period = min(_PERIOD, symbols, room // _COPIES)
        if period < 4:
            raise NotApplicable(f"{_COPIES} copies of 4 different symbols do not fit into vocabulary and context")
        rng = np.random.default_rng(_SEED)
        once = np.stack([rng.permutation(symbols)[:period] for _ in range(_TEXTS)])
        every = torch.from_numpy(Vocab.first + np.tile(once, _COPIES)).to(given.batches[0].tokens.device)
        tokens = given.alternate(every)
        everywhere = torch.ones_like(tokens, dtype=torch.bool)
        return given.look(Batch(period, tokens, tokens.roll(-1, 1), everywhere, everywhere, None))

    return given.once("random repeats", made)


def on_repeats(given: ProbeInput) -> ProbeInput:
    """A probe input whose only batch is the repeated random tokens."""
    from dataclasses import replace

    seen = random_repeats(given)
    other = replace(given, batches=(seen.batch,), _memo={}, _of=None, _rows=(), _half=None)
    other.__dict__["seen"] = (seen,)
    return other


@signal(
    "random_induction_diagonal",
    per="head",
    about="attention to what followed the token one period ago, on repeated random tokens",
    formula="mean of the diagonal -(period - 1) of A; 25 tokens 4 times, less where vocabulary or context ask for it",
    unit="weight",
    low=0,
    high=1,
    source=SONG,
    why_not=_RANDOM,
    reads="random text",
)
def random_induction_diagonal(given: ProbeInput) -> Tensor:
    import torch

    seen = random_repeats(given)
    offset = 1 - seen.batch.length
    layers = [seen.pattern(i).diagonal(offset, -2, -1).mean((1, 3)) for i in range(given.cfg.n_layers)]
    return torch.stack(layers, dim=1)


@signal(
    "random_induction_prefix",
    per="head",
    about="prefix matching on repeated random tokens",
    formula="induction_prefix of 25 random tokens 4 times",
    unit="weight",
    low=0,
    high=1,
    source=OLSSON,
    why_not=_RANDOM,
    reads="random text",
)
def random_induction_prefix(given: ProbeInput) -> Tensor:
    return induction_prefix(on_repeats(given))


@signal(
    "random_induction_mul",
    per="head",
    about="share of all attention that goes to what followed the token before, on repeated random tokens",
    formula="induction_mul of 25 random tokens 4 times",
    unit="share",
    low=0,
    high=1,
    source=LENS,
    why_not=_RANDOM,
    reads="random text",
)
def random_induction_mul(given: ProbeInput) -> Tensor:
    return induction_mul(on_repeats(given))


@signal(
    "random_induction_mul_no_first",
    per="head",
    about="the same without attention to the first token",
    formula="random_induction_mul, the first key left out of both sums (exclude_bos)",
    unit="share",
    low=0,
    high=1,
    source=LENS,
    why_not=_RANDOM,
    reads="random text",
)
def random_induction_mul_no_first(given: ProbeInput) -> Tensor:
    return induction_mul_no_first(on_repeats(given))
