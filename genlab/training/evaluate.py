"""How right a stack of models is: one teacher-forced pass a length, and free decoding where the task judges answers.

Teacher forcing is exact here. A model that is right at every scored position, each given the true tokens before
it, writes exactly that answer when it decodes greedily; one that is wrong somewhere does not. The same holds
without the end token, where `<end>` is taken out of the choice and the true length is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genlab.models import Model, SetModel, StackedModel
from genlab.models.stacked import Tap
from genlab.spec import Split
from genlab.tasks import Examples, Task, Vocab
from genlab.training.answers import is_read, judged, rules_followed
from genlab.training.batches import eval_offsets, widths
from genlab.training.decode import greedy_answers

__all__ = ["LengthResult", "eval_examples", "evaluate"]

_EVAL = 7
_NUMBERS_AT_ONCE = 32_000_000
"""Numbers in the largest tensor of a pass, so that a large stack does not run out of memory."""


@dataclass(frozen=True, slots=True)
class LengthResult:
    """One length of one split, for every run of a stack.

    Attributes:
        metrics: name -> (float[run], examples it is a mean over).
        correct: bool[run, example], exact match of each.
        answers: uint64[run, example], a hash of the tokens each run put at the scored positions.
    """

    length: int
    metrics: dict[str, tuple[np.ndarray, int]]
    correct: np.ndarray
    answers: np.ndarray


def eval_examples(task: Task, split: Split, length: int) -> Examples:
    """The fixed evaluation set of (task, split, length, seed): `split.n` examples."""
    name = crc32(split.name.encode())
    rng = np.random.default_rng([_EVAL, name, length, split.seed])
    return task.sample(rng, split, np.full(split.n, length))


def evaluate(
    model: Model, task: Task, split: Split, judge: bool = True, tap: Tap | None = None
) -> list[LengthResult]:
    """Score every run of a stack at `split.lengths`, on `split.n` examples each.

    Args:
        judge: also decode freely, for the metrics that the task's `judges` name and the shares of its `rules`.
        tap: changes activations on the way (of a model that reads tokens); what is decoded freely is left alone.
    """
    results: list[LengthResult] = []
    placed = model.cfg.model_copy(update={"offsets": split.offsets}) if split.offsets else model.cfg
    for length in split.lengths:
        examples = eval_examples(task, split, length)
        offsets = eval_offsets(task, examples, split.seed, placed)
        scores = _teacher_forced(model, examples, offsets, tap)
        metrics = {name: (values.mean(axis=1), split.n) for name, values in scores.per_example().items()}
        correct = scores.wrong == 0
        metrics |= _by_factor(correct, task.factors(examples))
        if judge and not isinstance(model, SetModel) and is_read(task, examples):
            metrics |= _read(model, task, examples, offsets)
        results.append(LengthResult(length, metrics, correct, scores.answers))
    return results


@dataclass(frozen=True, slots=True)
class _Scores:
    """Per run and example, `[run, example]`: wrong tokens, wrong without `<end>`, loss; and tokens an example."""

    wrong: np.ndarray
    wrong_no_end: np.ndarray
    loss: np.ndarray
    answers: np.ndarray
    tokens: np.ndarray

    def per_example(self) -> dict[str, np.ndarray]:
        return {
            "exact_match": self.wrong == 0,
            "exact_match_no_end": self.wrong_no_end == 0,
            "token_accuracy": 1 - self.wrong / self.tokens,
            "loss": self.loss / self.tokens,
        }


def _teacher_forced(model: Model, examples: Examples, offsets: np.ndarray, tap: Tap | None) -> _Scores:
    chunks = [_score(model, examples[rows], offsets[rows], tap) for rows in _chunks(model, examples)]
    columns = [np.concatenate(c, axis=1) for c in zip(*chunks, strict=True)]
    return _Scores(*columns, tokens=examples.scored.sum(axis=1))


def _chunks(model: StackedModel | SetModel, examples: Examples) -> list[slice]:
    """Rows that are scored together: as many as `_NUMBERS_AT_ONCE` allows, for logits and activations."""
    cfg = model.cfg
    logits = int(examples.scored.sum(axis=1).max()) * cfg.d_vocab
    activations = examples.tokens.shape[1] * max(cfg.d_mlp, 3 * cfg.n_heads * cfg.d_head, cfg.d_model)
    size = max(1, _NUMBERS_AT_ONCE // (model.n_runs * max(logits, activations)))
    return [slice(start, start + size) for start in range(0, len(examples), size)]


@torch.inference_mode()
def _score(model: Model, examples: Examples, offsets: np.ndarray, tap: Tap | None) -> tuple[np.ndarray, ...]:
    device, runs, n = model.flat.device, model.n_runs, len(examples)
    row, column = np.nonzero(examples.scored)
    place = torch.from_numpy(row * examples.tokens.shape[1] + column).to(device)
    target = torch.from_numpy(examples.targets[row, column]).to(device).expand(runs, -1)
    inputs = torch.from_numpy(np.ascontiguousarray(examples.inputs)).to(device)
    starts = torch.from_numpy(offsets).to(device).expand(runs, *offsets.shape)
    lengths = torch.from_numpy(examples.lengths).to(device).expand(runs, -1)
    inputs = inputs.expand(runs, *inputs.shape)
    logits = model(inputs, starts, at=place.expand(runs, -1), since=int(column.min()), lengths=lengths, tap=tap)
    loss = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    chosen = logits.argmax(-1)
    logits[..., Vocab.end] = float("-inf")
    without_end = (logits.argmax(-1) != target) & (target != Vocab.end)
    example = torch.from_numpy(row).to(device)
    multiplier = torch.from_numpy(_multipliers(examples.scored.sum(axis=1))).to(device)

    def total(x: Tensor, dtype: torch.dtype) -> np.ndarray:
        return torch.zeros(runs, n, dtype=dtype, device=device).index_add_(1, example, x.to(dtype)).cpu().numpy()

    return (
        total(chosen != target, torch.int64),
        total(without_end, torch.int64),
        total(loss, torch.float64),
        total((chosen + 1) * multiplier, torch.int64).view(np.uint64),
    )


def _multipliers(counts: np.ndarray) -> np.ndarray:
    """A fixed odd number for each place in an answer, int64[sum(counts)]: a polynomial hash modulo 2^64."""
    powers = np.cumprod(np.full(int(counts.max()), 0x9E3779B97F4A7C15, np.uint64))
    place = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return powers[place].view(np.int64)


def _by_factor(correct: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, int]]:
    """Exact match among the examples of each value of each factor: `exact_match|carry_chain=3`."""
    found: dict[str, tuple[np.ndarray, int]] = {}
    for name, values in factors.items():
        for value in np.unique(values):
            among = correct[:, values == value]
            found[f"exact_match|{name}={value}"] = (among.mean(axis=1), among.shape[1])
    return found


def _read(
    model: StackedModel, task: Task, examples: Examples, offsets: np.ndarray
) -> dict[str, tuple[np.ndarray, int]]:
    """What the task says of the answers that a model writes when it decodes freely."""
    written: list[list[np.ndarray]] = [[] for _ in range(model.n_runs)]
    longest = widths(task, examples.lengths)
    for rows in _chunks(model, examples):
        new_answers = greedy_answers(model, examples[rows], offsets[rows], longest[rows])
        for kept, new in zip(written, new_answers, strict=True):
            kept += new
    prompts = [task.read(examples, row)[0] for row in range(len(examples))]
    answers = [[task.vocab.decode(ids) for ids in of_run] for of_run in written]
    return judged(task, prompts, answers) | rules_followed(task, prompts, answers)
