"""What a judgement says, in words that do not say more than it found."""

from __future__ import annotations

import numpy as np

from genlab.forecast.compare import Difference, overall
from genlab.forecast.intervals import words
from genlab.forecast.judge import Judgement
from genlab.forecast.roles import part
from genlab.forecast.scores import blocks_of
from genlab.forecast.targets import Kind

__all__ = ["MEASURE", "claim", "sentence", "suspects"]

MEASURE = {"yes/no": "AUROC", "furthest": "concordance", "number": "Spearman's correlation"}
"""What ranking is scored by, by the kind of the target."""
_NEW = {"random": "new runs", "setting": "unseen settings", "task": "unseen tasks", "length": "larger lengths"}
_ENOUGH_PAIRS = 100


def claim(found: Judgement, gap: Difference) -> str:
    """One sentence: does the signal add to a baseline, on what, and by how much?"""
    tasks = len(found.predictions.settings) if found.descriptive else None
    said = sentence(gap, found.predictions.kind, _NEW[found.by], tasks)
    known = found.reliability.get(found.signal or "")
    if known is None or not known.is_noise:
        return said
    return f"{said} (its values here are mostly reading noise: reliability {known.value:.2f})"


def sentence(gap: Difference, kind: Kind, new: str, tasks: int | None = None) -> str:
    """The sentence of a claim.

    Args:
        new: what the runs are new in, in words.
        tasks: how many tasks there are, where they are too few for a claim.

    >>> from genlab.forecast.intervals import Interval
    >>> gap = Difference("baselines + head", "baselines", Interval(0.12, 0.02, 0.22, "t"), 0.1, {}, None)
    >>> sentence(gap, "yes/no", "unseen settings")
    'head adds +0.120 (+0.020 to +0.220) AUROC over baselines on unseen settings'
    """
    measure = MEASURE[kind]
    what = f"{words(gap.interval)} {measure} over {gap.over} on {new}"
    whom = gap.of.removeprefix("baselines + ")
    low, high = gap.interval.low, gap.interval.high
    if tasks is not None:
        return f"{whom}: {words(gap.interval)} {measure} over {gap.over}; {tasks} tasks describe, they prove nothing"
    if low is None or high is None:
        return f"{whom}: whether it adds to {gap.over} cannot be said ({what}; {gap.interval.how})"
    if low > 0:
        return f"{whom} adds {what}"
    verb = "takes away" if high < 0 else "does not add detectably"
    return f"{whom} {verb}: {what}"


def suspects(found: Judgement) -> list[str]:
    """Signals that rank runs better than the target measured again does, or without a fault: look for a leak.

    A signal cannot know of a run what a second measurement of the same run does not.
    """
    table, values = found.population.table, found.population.values
    setting = found.predictions.setting[np.argsort(found.predictions.row, kind="stable")]
    blocks = blocks_of(found.population.kind, values.value, values.censored, setting, np.zeros(len(setting)))
    flat = 0.0 if found.population.kind == "number" else 1.0
    if sum(len(block.rows) ** 2 for block in blocks) < _ENOUGH_PAIRS:
        return []
    limit = min([0.9999, *found.ceiling.values()])
    names: list[str] = []
    for name, column in part(table, "signal").items():
        score = float(overall(blocks, column.fillna(column.median()).to_numpy(float))[0])
        if max(score, flat - score) > max(limit, 0.95):
            names.append(str(name))
    return names
