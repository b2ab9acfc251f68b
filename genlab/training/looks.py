"""Evaluations of a stack while it trains: each run's in-distribution check, and the splits that are watched."""

from __future__ import annotations

from collections.abc import Sequence

from genlab.models import Model
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, TrainingLaw, in_distribution, spread, training_law
from genlab.training.evaluate import evaluate

__all__ = ["check_law", "check_of", "looked_at"]

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
