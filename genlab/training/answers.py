"""Answers that models wrote by themselves, read by their task: scored, and told by the rules that they follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genlab.tasks import Examples, Task

__all__ = ["RULE", "is_read", "judged", "rules_followed"]

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
