"""Evaluation of a stack of models: one teacher-forced pass per length, and free decoding where tasks judge answers.

Teacher forcing is exact for exact match. A model that is right at every scored position, given the true tokens before
it, produces exactly that answer by greedy decoding; one that is wrong somewhere does not. The same holds without the
end token, when `<end>` is excluded from the argmax and the true length is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from genlab.models import Model, Past, SetModel, StackedModel
from genlab.models.stacked import Tap
from genlab.spec import RunSpec, Split
from genlab.tasks import Examples, Task, TrainingLaw, Vocab, in_distribution, spread, training_law
from genlab.training.batches import eval_offsets, widths

# -- Greedy decoding


@torch.inference_mode()
def greedy(
    model: StackedModel,
    prompts: Int[Tensor, "batch prompt"],
    max_new: int,
    offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"] | None = None,
    may_end: bool = True,
    lengths: Int[Tensor, "run batch"] | None = None,
) -> Int[Tensor, "run batch new"]:
    """Greedy decoding of prompts of one length.

    Rows that have produced `<end>` are filled with padding; decoding stops once every row has, or after `max_new`
    tokens.

    Args:
        model: the stack of models.
        prompts: token ids.
        max_new: maximum number of tokens to generate.
        offsets: position of each example's first token, or of every token that may be read.
        may_end: False excludes the end token from the argmax (when the true length is given).
        lengths: the length of each example.
    """
    runs, batch = model.n_runs, len(prompts)
    past, read = Past(), prompts.expand(runs, -1, -1)
    ended = torch.zeros(runs, batch, dtype=torch.bool, device=prompts.device)
    written: list[Tensor] = []
    for _ in range(max_new):
        last = torch.arange(1, batch + 1, device=prompts.device) * read.shape[-1] - 1
        at = last.expand(runs, -1)
        logits = model(read, offsets, at=at, since=read.shape[-1] - 1, past=past, lengths=lengths)
        if not may_end:
            logits[..., Vocab.end] = float("-inf")
        token = logits.argmax(-1).masked_fill(ended, Vocab.pad)
        written.append(token)
        ended = ended | (token == Vocab.end)
        if bool(ended.all()):
            break
        read = token[..., None]
    return torch.stack(written, dim=-1)


def greedy_answers(
    model: StackedModel, examples: Examples, offsets: np.ndarray, longest: np.ndarray
) -> list[list[np.ndarray]]:
    """The tokens that each run generates after each prompt, up to its end token: `[run][example]` -> ids.

    An answer without an end token is cut at the longest possible sequence. An answer may contain any token before its
    end, including `<pad>` if the model predicted it.

    Args:
        model: the stack of models.
        examples: the examples whose prompts are completed.
        offsets: their positions.
        longest: int[n], number of input positions of the longest example of each length (`widths`).
    """
    device = model.flat.device
    prompt_lens = examples.scored.argmax(axis=1) + 1
    answers: list[list[np.ndarray]] = [[np.empty(0, np.int64)] * len(examples) for _ in range(model.n_runs)]
    for prompt_len, reach in np.unique(np.stack([prompt_lens, longest], axis=1), axis=0):
        rows = np.flatnonzero((prompt_lens == prompt_len) & (longest == reach))
        prompts = torch.from_numpy(examples.tokens[rows, :prompt_len]).to(device)
        starts, lengths = (
            torch.from_numpy(x[rows]).to(device).expand(model.n_runs, *x[rows].shape)
            for x in (offsets, examples.lengths)
        )
        written = greedy(model, prompts, int(reach - prompt_len) + 1, starts, lengths=lengths).cpu().numpy()
        for run in range(model.n_runs):
            for row, ids in zip(rows, written[run], strict=True):
                stop = np.flatnonzero(ids == Vocab.end)
                answers[run][row] = ids[: stop[0]] if len(stop) else ids
    return answers


# -- Generated answers: the task's scores, and the rules they follow

RULE = "rule|"
"""Prefix of metrics that are the fraction of answers given by a rule, as in `rule|NESTED`."""

Text = Sequence[str]
Metrics = dict[str, tuple[np.ndarray, int]]


def is_read(task: Task, examples: Examples) -> bool:
    """Whether the task has more to say about a generated answer than exact match."""
    return bool(task.judges or task.rules(task.read(examples, 0)[0]))


def judged(task: Task, prompts: Sequence[Text], answers: Sequence[Sequence[Text]]) -> Metrics:
    """The scores of the task's `judges`.

    Args:
        task: the task.
        prompts: one per example, as token strings.
        answers: `[run][example]`, as token strings without the end token.

    Returns:
        Name -> (float[run], number of examples).
    """
    scores = [[task.judge(*pair) for pair in zip(prompts, of_run, strict=True)] for of_run in answers]
    return {
        name: (np.array([np.mean([score[name] for score in of_run]) for of_run in scores]), len(prompts))
        for name in task.judges
    }


def rules_followed(task: Task, prompts: Sequence[Text], answers: Sequence[Sequence[Text]]) -> Metrics:
    """The fraction of answers given by each of the task's `rules`, and by none of them (`rule|none`).

    Where two rules give the same answer it counts for both, so the fractions sum to one only on splits where all
    rules differ. Arguments and return value are those of `judged`.
    """
    predicted = [task.rules(prompt) for prompt in prompts]
    names = dict.fromkeys(name for rules in predicted for name in rules)
    if not names:
        return {}
    given = [[tuple(answer) for answer in of_run] for of_run in answers]

    def fraction(follows: list[list[bool]]) -> tuple[np.ndarray, int]:
        return np.array([np.mean(of_run) for of_run in follows]), len(prompts)

    metrics = {
        f"{RULE}{name}": fraction(
            [[rules.get(name) == a for rules, a in zip(predicted, run, strict=True)] for run in given]
        )
        for name in names
    }
    none = [[a not in rules.values() for rules, a in zip(predicted, run, strict=True)] for run in given]
    return metrics | {f"{RULE}none": fraction(none)}


_EVAL = 7
_NUMBERS_AT_ONCE = 32_000_000
"""Numbers in the largest tensor of a pass, a bound that keeps large stacks within memory."""


@dataclass(frozen=True, slots=True)
class LengthResult:
    """The results of a stack at one length of one split.

    Attributes:
        length: the length.
        metrics: name -> (float[run], number of examples averaged over).
        correct: bool[run, example], exact match.
        answers: uint64[run, example], a hash of the tokens that each run predicts at the scored positions.
    """

    length: int
    metrics: dict[str, tuple[np.ndarray, int]]
    correct: np.ndarray
    answers: np.ndarray


def eval_examples(task: Task, split: Split, length: int) -> Examples:
    """The fixed evaluation set of (task, split, length, seed), `split.n` examples."""
    name = crc32(split.name.encode())
    rng = np.random.default_rng([_EVAL, name, length, split.seed])
    return task.sample(rng, split, np.full(split.n, length))


def evaluate(
    model: Model, task: Task, split: Split, judge: bool = True, tap: Tap | None = None
) -> list[LengthResult]:
    """Evaluate every run of a stack at each of `split.lengths`, on `split.n` examples each.

    Args:
        model: the stack of models.
        task: the task.
        split: what to evaluate on.
        judge: whether to decode freely as well, for the task's `judges` and `rules`.
        tap: changes activations during the teacher-forced pass (for models that read tokens), not during decoding.
    """
    results: list[LengthResult] = []
    placed = model.cfg.model_copy(update={"offsets": split.offsets}) if split.offsets else model.cfg
    for length in split.lengths:
        examples = eval_examples(task, split, length)
        offsets = eval_offsets(task, examples, split.seed, placed)
        scores = _teacher_forced(model, examples, offsets, tap)
        metrics = {name: (values.mean(axis=1), split.n) for name, values in scores.per_example().items()}
        correct = scores.wrong == 0
        metrics |= _metrics_by_factor(correct, task.factors(task.bare(examples)))
        if judge and not isinstance(model, SetModel) and is_read(task, examples):
            metrics |= _decoded_metrics(model, task, examples, offsets)
        results.append(LengthResult(length, metrics, correct, scores.answers))
    return results


@dataclass(frozen=True, slots=True)
class _Scores:
    """Wrong tokens (with and without `<end>`), loss and answer hash, `[run, example]`; and the tokens per example."""

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
    parts = [_score(model, examples[rows], offsets[rows], tap) for rows in chunks(model, examples)]
    columns = [np.concatenate(c, axis=1) for c in zip(*parts, strict=True)]
    return _Scores(*columns, tokens=examples.scored.sum(axis=1))


def chunks(model: StackedModel | SetModel, examples: Examples) -> list[slice]:
    """Rows that are scored together: as many as `_NUMBERS_AT_ONCE` allows for logits and activations."""
    cfg = model.cfg
    logits = int(examples.scored.sum(axis=1).max()) * cfg.d_vocab
    activations = examples.tokens.shape[1] * max(cfg.d_mlp, 3 * cfg.n_heads * cfg.d_head, cfg.d_model)
    size = max(1, _NUMBERS_AT_ONCE // (model.n_runs * max(logits, activations)))
    return [slice(start, start + size) for start in range(0, len(examples), size)]


@torch.inference_mode()
def _score(model: Model, examples: Examples, offsets: np.ndarray, tap: Tap | None) -> tuple[np.ndarray, ...]:
    device, runs, n = model.flat.device, model.n_runs, len(examples)
    row, column = np.nonzero(examples.scored)
    index = torch.from_numpy(row * examples.tokens.shape[1] + column).to(device)
    target = torch.from_numpy(examples.targets[row, column]).to(device).expand(runs, -1)
    inputs = torch.from_numpy(np.ascontiguousarray(examples.inputs)).to(device)
    starts = torch.from_numpy(offsets).to(device).expand(runs, *offsets.shape)
    lengths = torch.from_numpy(examples.lengths).to(device).expand(runs, -1)
    inputs = inputs.expand(runs, *inputs.shape)
    logits = model(inputs, starts, at=index.expand(runs, -1), since=int(column.min()), lengths=lengths, tap=tap)
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
    """A fixed odd number for each token of an answer, int64[sum(counts)], for a polynomial hash modulo 2^64."""
    powers = np.cumprod(np.full(int(counts.max()), 0x9E3779B97F4A7C15, np.uint64))
    index = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return powers[index].view(np.int64)


def _metrics_by_factor(correct: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, int]]:
    """Exact match among the examples with each value of each factor, such as `exact_match|carry_chain=3`."""
    metrics: dict[str, tuple[np.ndarray, int]] = {}
    for name, values in factors.items():
        for value in np.unique(values):
            selected = correct[:, values == value]
            metrics[f"exact_match|{name}={value}"] = (selected.mean(axis=1), selected.shape[1])
    return metrics


def _decoded_metrics(
    model: StackedModel, task: Task, examples: Examples, offsets: np.ndarray
) -> dict[str, tuple[np.ndarray, int]]:
    """The metrics that the task computes from freely decoded answers."""
    written: list[list[np.ndarray]] = [[] for _ in range(model.n_runs)]
    longest = widths(task, examples.lengths)
    for rows in chunks(model, examples):
        new_answers = greedy_answers(model, examples[rows], offsets[rows], longest[rows])
        for known, new in zip(written, new_answers, strict=True):
            known += new
    prompts = [task.read(examples, row)[0] for row in range(len(examples))]
    answers = [[task.vocab.decode(ids) for ids in of_run] for of_run in written]
    return judged(task, prompts, answers) | rules_followed(task, prompts, answers)


# -- Evaluation during training

_ID_LENGTHS, _ID_EXAMPLES = 8, 64
"""The in-distribution check during training: number of lengths, examples per length."""
TRACED = ("exact_match", "exact_match_no_end", "token_accuracy", "loss")
"""Metrics that are recorded at every evaluation during training."""

TraceRow = dict[str, int | float | str]


def check_of(task: Task, spec: RunSpec) -> Split:
    """The in-distribution check of a run during training: has it learned its training lengths?"""
    inside = in_distribution(task, spec.train)
    lengths = task.lengths_between(inside, spec.train.min_len, spec.train.train_len)
    return inside.at(spread(lengths, _ID_LENGTHS), _ID_EXAMPLES)


def check_law(task: Task, spec: RunSpec) -> TrainingLaw:
    """How a run's check weights its lengths: as training draws them.

    If `until` can end the run, the weighting is part of the run and given in its spec (`until_weights`): runs made
    before the option existed weighted all lengths equally, and still end at the same step.
    """
    law = training_law(task, spec.train)
    if spec.train.until is None or spec.train.until_weights == "law":
        return law
    return law.flat()


def evaluate_stack(
    model: Model, task: Task, splits: Sequence[Sequence[Split]], laws: Sequence[TrainingLaw]
) -> tuple[list[float], list[list[TraceRow]]]:
    """Evaluate each run of a stack on its own splits, the first of which is its in-distribution check.

    Runs whose splits differ only in lengths share forward passes.

    Args:
        model: the stack of models.
        task: the task.
        splits: the splits of each run.
        laws: how each run's check weights its lengths (`check_law`).

    Returns:
        The mean exact match of each run's check, and rows (split, length, n, metric, value) for each run.
    """
    rows: list[list[TraceRow]] = [[] for _ in splits]
    inside: list[list[float]] = [[] for _ in splits]
    for number in range(max(len(own) for own in splits)):
        for together, runs in _merge_splits([own[number] if number < len(own) else None for own in splits]):
            for result in evaluate(model, task, together, judge=False):
                about = {"split": together.name, "length": result.length, "n": together.n}
                for run in runs:
                    if result.length not in splits[run][number].lengths:
                        continue
                    values = {name: float(result.metrics[name][0][run]) for name in TRACED}
                    rows[run] += [{**about, "metric": name, "value": value} for name, value in values.items()]
                    if number == 0:
                        inside[run].append(values["exact_match"])
    checks = zip(laws, inside, (own[0].lengths for own in splits), strict=True)
    return [law.mean(values, lengths) for law, values, lengths in checks], rows


def _merge_splits(splits: Sequence[Split | None]) -> list[tuple[Split, list[int]]]:
    """Merge splits that differ only in lengths, and list the runs that have each."""
    groups: dict[str, list[int]] = {}
    for run, split in enumerate(splits):
        if split is not None:
            groups.setdefault(split.at((), split.n, split.seed).model_dump_json(), []).append(run)
    joined: list[tuple[Split, list[int]]] = []
    for runs in groups.values():
        owned = [split for run in runs if (split := splits[run]) is not None]
        lengths = sorted({length for split in owned for length in split.lengths})
        joined.append((owned[0].at(tuple(lengths), owned[0].n, owned[0].seed), runs))
    return joined
