"""Clauses on answers: they are those of `solve`, and every score of a true answer is right."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from genlab.tasks.base import Examples, Task
from genlab.tasks.contract.batches import cycle, draw, splits_of

__all__ = ["answers_as_solved", "factors_example_by_example", "judges_true_answers_right"]


def answers_as_solved(task: Task) -> Iterator[str]:
    """On 1,000 examples of mixed lengths the drawn answer is that of `solve`, or one that `accepts` takes."""
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, -(-1000 // len(splits_of(task)))))
        for row in range(len(examples)):
            if fault := _fault(task, examples, row):
                yield f"split {split!r}: {fault}"
                break
        if type(task).accepts is not Task.accepts and not _refuses_something(task, examples):
            yield f"split {split!r}: `accepts` takes the answers to all other prompts"


def _fault(task: Task, examples: Examples, row: int) -> str:
    prompt, answer = task.read(examples, row)
    solved = tuple(task.solve_example(examples, row))
    if type(task).accepts is Task.accepts:
        both = f"was drawn with {' '.join(answer)!r}, solved {' '.join(solved)!r}"
        return "" if answer == solved else f"{' '.join(prompt)!r} {both}"
    refused = [" ".join(given) for given in (answer, solved) if not task.accepts(prompt, given)]
    return f"`accepts` refuses {refused} to {' '.join(prompt)!r}" if refused else ""


def _refuses_something(task: Task, examples: Examples) -> bool:
    read = [task.read(examples, row) for row in range(len(examples))]
    return any(not task.accepts(prompt, other) for (prompt, _), (_, other) in pairwise(read))


def judges_true_answers_right(task: Task) -> Iterator[str]:
    """Each score of `judges` is true of the true answer and given for an ill-formed one; a rule gives the former."""
    expected = set(task.judges)
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, 50))
        for row in range(len(examples)):
            prompt, answer = task.read(examples, row)
            scores = task.judge(prompt, answer)
            if scores != dict.fromkeys(expected, True):
                yield f"split {split!r}: the true answer to {' '.join(prompt)!r} is judged {scores}"
                break
            if any(
                set(task.judge(prompt, given)) != expected for given in ((), answer[:-1], ("<pad>", ">", "<end>"))
            ):
                yield f"split {split!r}: an ill-formed answer to {' '.join(prompt)!r} lacks scores"
                break
            said = task.rules(prompt)
            if said and answer not in said.values():
                yield f"split {split!r}: no rule gives the true answer to {' '.join(prompt)!r}"
                break


def factors_example_by_example(task: Task) -> Iterator[str]:
    """`factors` gives one integer an example, which does not depend on the rest of the batch."""
    for split in splits_of(task):
        examples = draw(task, split, cycle(task, split, 60))
        some = np.arange(0, 60, 7)
        alone = task.factors(examples[some])
        for name, values in task.factors(examples).items():
            if values.shape != (60,) or not np.issubdtype(values.dtype, np.integer):
                yield f"split {split!r}: factor {name!r} is not one integer an example"
            elif not np.array_equal(values[some], alone[name]):
                yield f"split {split!r}: factor {name!r} of an example depends on the batch"
