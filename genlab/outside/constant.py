"""The best constant answer: do outputs move towards it as inputs move away from the training distribution?

The constant that minimizes the training loss is, at each place of an answer, the marginal distribution of training
answers there (Kang et al. 2023, arXiv 2310.00873: the optimal constant solution). Distances are total variation, from
0 to 1. Inputs move away by length, by the shift of a split, or by noise on their embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genlab.errors import NotApplicable
from genlab.models import Model, SetModel
from genlab.spec import RunSpec, Split
from genlab.tasks import Examples, Task, training_law
from genlab.training.batches import eval_offsets
from genlab.training.evaluate import chunks, eval_examples

DRAWN = 8192
"""Training examples that the marginals are counted on."""
_SEED = 15
"""First word of the seed of these examples."""
_NOISE_SEED = 17
"""First word of the seed of noise."""


@dataclass(frozen=True, eq=False)
class Marginals:
    """Distribution of the training answers.

    Attributes:
        at: float64[place, vocab], at each place of an answer, counted from its first token.
        overall: float64[vocab], over all places: what stands for places that no training answer has.
    """

    at: np.ndarray
    overall: np.ndarray

    def of(self, places: np.ndarray) -> np.ndarray:
        """The best constant at these places, float64[position, vocab]."""
        whole = np.concatenate([self.at, self.overall[None]])
        return whole[np.minimum(places, len(self.at))]


def marginals(spec: RunSpec, task: Task, drawn: int = DRAWN) -> Marginals:
    """Count tokens at each place of answers that are drawn as training draws them."""
    law, rng = training_law(task, spec.train), np.random.default_rng([_SEED])
    lengths = np.sort(rng.choice(law.lengths, size=drawn, p=law.probabilities))
    return counted(task.sample(rng, spec.train.train_split, lengths), spec.model.d_vocab)


def counted(examples: Examples, vocab: int) -> Marginals:
    """The fraction of each token at each place of the answers of examples."""
    rows, columns = np.nonzero(examples.scored)
    places, tokens = _places(rows), examples.targets[rows, columns]
    counts = np.zeros((int(places.max()) + 1, vocab))
    np.add.at(counts, (places, tokens), 1.0)
    return Marginals(counts / counts.sum(1, keepdims=True), counts.sum(0) / counts.sum())


def _places(rows: np.ndarray) -> np.ndarray:
    """Place in its answer of each scored position, given the sorted rows that they are in.

    >>> _places(np.array([0, 0, 0, 1, 2, 2])).tolist()
    [0, 1, 2, 0, 0, 1]
    """
    starts = np.searchsorted(rows, rows)
    return np.arange(len(rows)) - starts


@dataclass(frozen=True, eq=False)
class Distances:
    """Outputs of one run on the examples of one split and length.

    Attributes:
        own: float64[example], mean over the places of an answer of the distance of the output from the best constant.
        true: float64[example], that of an output which is certain of the true token.
        mean_output: distance of the mean output over examples from the constant, averaged over places.
        right: bool[example], exact match.
        msp: float64[example], the largest over places of 1 - max p.
    """

    own: np.ndarray
    true: np.ndarray
    mean_output: float
    right: np.ndarray
    msp: np.ndarray


def distances(
    spec: RunSpec, model: Model, task: Task, split: Split, length: int, known: Marginals, noise: float = 0.0
) -> Distances:
    """Read the outputs of one run on the fixed evaluation set of a split at a length, after the true tokens.

    Args:
        spec: the run; model: its weights, a stack of one; task: its task.
        split, length: the evaluation set.
        known: the constant.
        noise: standard deviation of normal noise on every token embedding, in units of the root mean square of the
            embedding matrix; the same draw at every level of noise and for every run.

    Raises:
        NotApplicable: noise for a model that does not embed tokens.
    """
    if noise and isinstance(model, SetModel):
        raise NotApplicable("noise is added to token embeddings; a set model has none")
    examples = eval_examples(task, split, length)
    offsets = eval_offsets(task, examples, split.seed, spec.model)
    word = int(np.random.default_rng([_NOISE_SEED, split.seed, length]).integers(2**62))
    rng = torch.Generator().manual_seed(word)
    parts = [_outputs(model, examples[rows], offsets[rows], noise, rng) for rows in chunks(model, examples)]
    p = torch.cat(parts)  # [position, vocab]
    rows, columns = np.nonzero(examples.scored)
    places, targets = _places(rows), examples.targets[rows, columns]
    q, counts = torch.from_numpy(known.of(places)), np.bincount(rows, minlength=len(examples))
    off = (p - q).abs().sum(1).numpy() / 2
    true = 1 - q[torch.arange(len(rows)), torch.from_numpy(targets)].numpy()
    own, of_true = (np.bincount(rows, weights=x, minlength=len(examples)) / counts for x in (off, true))
    wrong = np.bincount(rows, weights=p.argmax(1).numpy() != targets, minlength=len(examples)) > 0
    unsure = np.zeros(len(examples))
    np.maximum.at(unsure, rows, 1 - p.amax(1).numpy())
    return Distances(own, of_true, _of_mean(p, places, known), ~wrong, unsure)


@torch.inference_mode()
def _outputs(
    model: Model, examples: Examples, offsets: np.ndarray, noise: float = 0.0, rng: torch.Generator | None = None
) -> Tensor:
    """The softmax at every scored position, float64[position, vocab], example by example."""

    def tap(name: str, x: Tensor) -> Tensor:
        if name != "hook_embed":
            return x
        drawn = torch.randn(x.shape, generator=rng).to(x)
        return x + noise * model.params["embed.W_E"].pow(2).mean().sqrt() * drawn

    device = model.flat.device
    rows, columns = np.nonzero(examples.scored)
    at = torch.from_numpy(rows * examples.tokens.shape[1] + columns).to(device)[None]
    inputs, starts, lengths = (
        torch.from_numpy(np.ascontiguousarray(x)).to(device)[None]
        for x in (examples.inputs, offsets, examples.lengths)
    )
    return (
        model(inputs, starts, at=at, since=int(columns.min()), lengths=lengths, tap=tap if noise else None)[0]
        .double()
        .softmax(-1)
        .cpu()
    )


def _of_mean(p: Tensor, places: np.ndarray, known: Marginals) -> float:
    index = torch.from_numpy(places)
    count = torch.bincount(index).double()
    means = torch.zeros(len(count), p.shape[1], dtype=p.dtype).index_add_(0, index, p) / count[:, None]
    off = (means - torch.from_numpy(known.of(np.arange(len(count))))).abs().sum(1) / 2
    return float((off * count).sum() / count.sum())
