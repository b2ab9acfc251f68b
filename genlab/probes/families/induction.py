"""Induction heads: after A B ... A, attend to B. Several published definitions, on training and on random text.

On training sequences the signals are admissible; on the standard repeated random tokens they are not, since the model
may never have seen such text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genlab.errors import NotApplicable
from genlab.probes.families.heads import LENS, OLSSON
from genlab.probes.masses import follows_same, mass_fraction, mean_mass
from genlab.probes.signal import signal
from genlab.tasks import Vocab

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from genlab.probes.inputs import Batch, ProbeInput, Seen

SONG = "Song et al. 2024, Out-of-distribution generalization via composition, arXiv 2408.09503"
_PERIOD, _COPIES, _TEXTS, _SEED = 25, 4, 8, 12
_TEXTS_OF_SONG, _EPSILON = 50, 1e-6
_RANDOM = "reads repeated random tokens, which are not training sequences"


def latest(batch: Batch) -> Tensor:
    """The key right after the latest earlier occurrence of the query's token."""
    after = follows_same(batch.tokens)
    return after & (after.long().flip(-1).cumsum(-1).flip(-1) == 1)


@signal(
    "induction_latest",
    per="head",
    about="attention to the token that followed the latest earlier occurrence of the query's token",
    formula="mean over queries whose token occurs earlier of A[i, j], j right after its latest occurrence; on two "
    "copies this is the diagonal -(period - 1)",
    blind="Blind to induction that averages over all earlier occurrences. Undefined where no token occurs twice. "
    "Where no symbol repeats in the prompt, a head that copies by index attends to the same tokens and scores "
    "the same.",
    unit="weight",
    low=0,
    high=1,
    source="ours, after " + SONG,
)
def induction_latest(given: ProbeInput) -> Tensor:
    return mean_mass(given, latest)


@signal(
    "induction_prefix",
    per="head",
    about="attention to all tokens that followed earlier occurrences of the query's token (prefix matching)",
    formula="mean over queries whose token occurs earlier of the sum of A[i, j] over all j right after an occurrence",
    blind="Attention only: a head can match prefixes and copy nothing, or copy by index and match nothing. Uniform "
    "attention scores the number of matches over the number of keys; compare with the null.",
    unit="weight",
    low=0,
    high=1,
    source="after " + OLSSON + " (there on random text)",
)
def induction_prefix(given: ProbeInput) -> Tensor:
    return mean_mass(given, lambda batch: follows_same(batch.tokens))


@signal(
    "induction_mul",
    per="head",
    about="fraction of all attention on tokens that followed earlier occurrences of the query's token",
    formula="sum of A[i, j] over j right after an earlier occurrence of x_i / sum A",
    blind="Lower for heads that rest on the first token when there is nothing to match; see induction_mul_no_first. "
    "Same for copying by index as induction_latest.",
    unit="fraction",
    low=0,
    high=1,
    source=LENS,
)
def induction_mul(given: ProbeInput) -> Tensor:
    return mass_fraction(given, lambda batch: follows_same(batch.tokens))


@signal(
    "induction_mul_no_first",
    per="head",
    about="induction_mul without attention to the first token, where idle heads rest",
    formula="induction_mul, with the first key excluded from both sums (exclude_bos)",
    blind="A head with almost all attention on the first token is judged by what little is left. Same for copying "
    "by index as induction_latest.",
    unit="fraction",
    low=0,
    high=1,
    source=LENS,
)
def induction_mul_no_first(given: ProbeInput) -> Tensor:
    return mass_fraction(given, lambda batch: follows_same(batch.tokens), first=False)


@signal(
    "induction_scored",
    per="head",
    about="attention, at answer positions, to the correct next token after an earlier occurrence of the query's "
    "token",
    formula="mean over scored queries of the sum of A[i, j] with x_(j-1) = x_i and x_j the target of i",
    blind="Counts any head that attends to the right source token at the answer, also by position; it does not test "
    "prefix matching.",
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
    """The models on `_TEXTS` texts of distinct random symbols, each repeated `_COPIES` times."""
    import numpy as np

    def repeats() -> Seen:
        period, symbols = room_for(given, _COPIES)
        period = min(period, symbols)
        if period < 4:
            raise NotApplicable(f"{_COPIES} copies of 4 different symbols do not fit into vocabulary and context")
        rng = np.random.default_rng(_SEED)
        once = np.stack([rng.permutation(symbols)[:period] for _ in range(_TEXTS)])
        return repeats_of(given, once, _COPIES)

    return given.once("random repeats", repeats)


def random_pairs(given: ProbeInput) -> Seen:
    """The models on `_TEXTS_OF_SONG` texts of independently drawn symbols, each repeated twice."""
    import numpy as np

    def pairs() -> Seen:
        period, symbols = room_for(given, 2)
        if period < 4:
            raise NotApplicable("2 copies of 4 symbols do not fit into the context")
        rng = np.random.default_rng([_SEED, 2])
        return repeats_of(given, rng.integers(symbols, size=(_TEXTS_OF_SONG, period)), 2)

    return given.once("random pairs", pairs)


def room_for(given: ProbeInput, copies: int) -> tuple[int, int]:
    """The number of tokens that fit when repeated that often (at most `_PERIOD`), and the number of symbols."""
    if getattr(given.cfg, "needs_ids", False):
        raise NotApplicable("its positions are random or given by the task, which random text does not have")
    return min(
        _PERIOD, (given.cfg.n_ctx or _PERIOD * copies) // copies
    ), given.cfg.d_vocab - Vocab.first - given.start


def repeats_of(given: ProbeInput, once: np.ndarray, copies: int) -> Seen:
    """The models on texts given as symbol numbers, int[text, period], each repeated `copies` times."""
    import numpy as np
    import torch

    from genlab.probes.inputs import Batch

    every = torch.from_numpy(Vocab.first + np.tile(once, copies)).to(given.batches[0].tokens.device)
    tokens = given.alternate(every)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    return given.look(Batch(once.shape[1], tokens, tokens.roll(-1, 1), everywhere, everywhere, None))


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
    about="attention to the token one period ago plus one, on repeated random tokens",
    formula="mean of the diagonal -(period - 1) of A' except its first entry; A' is A without the first token, rows "
    f"rescaled to sum to 1; {_TEXTS_OF_SONG} texts of {_PERIOD} independent random tokens, each twice (fewer tokens "
    "if the context requires it)",
    blind="Random text is far from most training distributions here: a low value may mean that the model breaks on "
    "it, not that it has no induction. Blind to a match that is made only with what stands before `>`.",
    unit="weight",
    low=0,
    high=1,
    source=SONG,
    why_not=_RANDOM,
    version=2,
    reads="random text",
)
def random_induction_diagonal(given: ProbeInput) -> Tensor:
    import torch

    if not given.cfg.n_layers:
        raise NotApplicable("the model has no layers")
    seen = random_pairs(given)

    def of(layer: int) -> Tensor:
        rest = seen.pattern(layer)[..., 1:, 1:].double()  # without the first token, where idle heads rest
        scaled = rest / (rest + _EPSILON).sum(-1, keepdim=True)
        # Row and column 0 are removed, so this diagonal starts at the first query of the second copy.
        return scaled.diagonal(1 - seen.batch.length, -2, -1).mean((1, 3))

    return torch.stack([of(layer) for layer in range(given.cfg.n_layers)], dim=1)


@signal(
    "random_induction_prefix",
    per="head",
    about="prefix matching on repeated random tokens",
    formula="induction_prefix on 25 random tokens repeated 4 times",
    blind="Same as random_induction_diagonal.",
    unit="weight",
    low=0,
    high=1,
    source="after " + OLSSON + " (there with a start token)",
    why_not=_RANDOM,
    reads="random text",
)
def random_induction_prefix(given: ProbeInput) -> Tensor:
    return induction_prefix(on_repeats(given))


@signal(
    "random_induction_mul",
    per="head",
    about="fraction of all attention on tokens that followed the query's token before, on repeated random tokens",
    formula="induction_mul on 25 random tokens repeated 4 times",
    blind="Same as random_induction_diagonal; also lower for heads that rest on the first token.",
    unit="fraction",
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
    about="random_induction_mul without attention to the first token",
    formula="random_induction_mul, with the first key excluded from both sums (exclude_bos)",
    blind="Same as random_induction_diagonal; a head that rests on the first token is judged by what is left.",
    unit="fraction",
    low=0,
    high=1,
    source=LENS,
    why_not=_RANDOM,
    reads="random text",
)
def random_induction_mul_no_first(given: ProbeInput) -> Tensor:
    return induction_mul_no_first(on_repeats(given))
