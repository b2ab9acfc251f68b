"""How right a stack of models is: one teacher-forced pass a length, and free decoding where the task judges answers.

Teacher forcing is exact here. A model that is right at every scored position, each given the true tokens before
it, writes exactly that answer when it decodes greedily; one that is wrong somewhere does not. The same holds
without the end token, where `<end>` is taken out of the choice and the true length is given.
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

# -- Greedy decoding: the model writes the answer itself, token by token


@torch.inference_mode()
def greedy(
    model: StackedModel,
    prompts: Int[Tensor, "batch prompt"],
    max_new: int,
    offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"] | None = None,
    may_end: bool = True,
    lengths: Int[Tensor, "run batch"] | None = None,
) -> Int[Tensor, "run batch new"]:
    """The most likely next token, again and again, for prompts of one length.

    Rows that wrote `<end>` are filled with pads; all stop once every row has, or after `max_new` tokens.

    Args:
        offsets: position of each example's first token, or of every token that may be read.
        may_end: False takes the end token out of the choice (the true length is given).
        lengths: each example's own length.
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
    """What each run writes after each prompt, up to its end token: `[run][example]` -> ids.

    An answer that never ends is cut where a true sequence has ended. Before its end an answer may hold any token: a
    `<pad>` in it is one that the model chose.

    Args:
        longest: int[n], positions of the longest input of each example's length, prompt and answer (`widths`).
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


# -- Answers that models wrote by themselves, read by their task: scored, and told by the rules that they foll

RULE = "rule|"
"""How the name of a metric begins that is the share of answers a rule gives, as in `rule|NESTED`."""

Text = Sequence[str]
Metrics = dict[str, tuple[np.ndarray, int]]


def is_read(task: Task, examples: Examples) -> bool:
    """Whether the task has more to say of a written answer than that it is exact."""
    return bool(task.judges or task.rules(task.read(examples, 0)[0]))


def judged(task: Task, prompts: Sequence[Text], answers: Sequence[Sequence[Text]]) -> Metrics:
    """The scores that the task's `judges` name.

    Args:
        answers: `[run][example]`, as token strings without the end token.

    Returns:
        name -> (float[run], examples).
    """
    scores = [[task.judge(*pair) for pair in zip(prompts, of_run, strict=True)] for of_run in answers]
    return {
        name: (np.array([np.mean([score[name] for score in of_run]) for of_run in scores]), len(prompts))
        for name in task.judges
    }


def rules_followed(task: Task, prompts: Sequence[Text], answers: Sequence[Sequence[Text]]) -> Metrics:
    """The share of answers that each of the task's `rules` gives, and of those that none gives (`rule|none`).

    Where two rules give one answer it counts for both, so that the shares add up to one only on splits that tell
    all rules apart. Arguments and result are those of `judged`.
    """
    said = [task.rules(prompt) for prompt in prompts]
    names = dict.fromkeys(name for rules in said for name in rules)
    if not names:
        return {}
    given = [[tuple(answer) for answer in of_run] for of_run in answers]

    def share(follows: list[list[bool]]) -> tuple[np.ndarray, int]:
        return np.array([np.mean(of_run) for of_run in follows]), len(prompts)

    found = {
        f"{RULE}{name}": share([[rules.get(name) == a for rules, a in zip(said, run, strict=True)] for run in given])
        for name in names
    }
    none = [[a not in rules.values() for rules, a in zip(said, run, strict=True)] for run in given]
    return found | {f"{RULE}none": share(none)}


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


# -- Evaluations of a stack while it trains: each run's in-distribution check, and the splits that are watched

_ID_LENGTHS, _ID_EXAMPLES = 8, 64
"""The in-distribution check while training: how many lengths, examples at each."""
TRACED = ("exact_match", "exact_match_no_end", "token_accuracy", "loss")
"""Metrics that are kept of every evaluation while training."""

TraceRow = dict[str, int | float | str]


def check_of(task: Task, spec: RunSpec) -> Split:
    """What says, while a run trains, whether it has learned its training lengths."""
    inside = in_distribution(task, spec.train)
    lengths = task.lengths_between(inside, spec.train.min_len, spec.train.train_len)
    return inside.at(spread(lengths, _ID_LENGTHS), _ID_EXAMPLES)


def check_law(task: Task, spec: RunSpec) -> TrainingLaw:
    """How the check of a run weighs its lengths: as training draws them.

    Only where `until` ends the run is that part of what the run is, and its spec says which: runs from before there
    was a choice weighed all lengths alike, and end at the same step again.
    """
    law = training_law(task, spec.train)
    if spec.train.until is None or spec.train.until_weights == "law":
        return law
    return law.flat()


def looked_at(
    model: Model, task: Task, splits: Sequence[Sequence[Split]], laws: Sequence[TrainingLaw]
) -> tuple[list[float], list[list[TraceRow]]]:
    """Evaluate each run of a stack at its own splits, the first of which is its check.

    Runs whose splits differ in lengths alone share the passes.

    Args:
        laws: how the check of each run weighs its lengths (`check_law`).

    Returns:
        Mean exact match of each run's check, and rows (split, length, n, metric, value) for each run.
    """
    rows: list[list[TraceRow]] = [[] for _ in splits]
    inside: list[list[float]] = [[] for _ in splits]
    for number in range(max(len(own) for own in splits)):
        for together, runs in _alike([own[number] if number < len(own) else None for own in splits]):
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


def _alike(splits: Sequence[Split | None]) -> list[tuple[Split, list[int]]]:
    """Splits that differ in lengths alone as one split of all their lengths, with the runs that have it."""
    found: dict[str, list[int]] = {}
    for run, split in enumerate(splits):
        if split is not None:
            found.setdefault(split.at((), split.n, split.seed).model_dump_json(), []).append(run)
    joined: list[tuple[Split, list[int]]] = []
    for runs in found.values():
        owned = [split for run in runs if (split := splits[run]) is not None]
        lengths = sorted({length for split in owned for length in split.lengths})
        joined.append((owned[0].at(tuple(lengths), owned[0].n, owned[0].seed), runs))
    return joined
