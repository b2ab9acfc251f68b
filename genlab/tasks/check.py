"""`check_task`: hold a task against its contract, all clauses at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from genlab.tasks.base import Task
from genlab.tasks.contract import answers, chances, form, places

__all__ = ["CLAUSES", "ContractError", "check_task"]

CLAUSES: tuple[Callable[[Task], Iterator[str]], ...] = (
    form.describes_itself,
    form.depends_on_the_generator_alone,
    form.leaves_global_randomness_alone,
    form.writes_sequences,
    form.scores_the_answer,
    form.fits_its_width,
    form.makes_longer_examples_at_longer_lengths,
    form.refuses_what_it_cannot_make,
    places.places_tokens_by_the_prompt_alone,
    answers.answers_as_solved,
    answers.judges_true_answers_right,
    answers.factors_example_by_example,
    chances.draws_tokens_as_it_says,
    chances.mixes_lengths_without_bias,
    chances.knows_its_chance,
    chances.keeps_test_from_training,
)
"""The contract: each clause yields what breaks it, a line each; its docstring is what a task promises."""


class ContractError(AssertionError):
    """A task breaks its contract. `violations` are lines of `clause: what is wrong`."""

    def __init__(self, task: Task, violations: Sequence[str]):
        self.violations = tuple(violations)
        about = f"task {task.name!r}, format {task.format!r}, max_len {task.max_len}, breaks its contract:"
        super().__init__("\n  ".join([about, *violations]))


def check_task(task: Task) -> None:
    """Hold a task against its contract, for authors of tasks: call it in a test, for every format.

    The seeds are fixed, so that a task passes always or never. A `max_len` between 6 and 20 tells most: short
    enough for examples to meet by chance, long enough for lengths to differ.

    >>> from genlab.tasks import make
    >>> check_task(make("parity", max_len=8))

    Raises:
        ContractError: all violations, each with the clause that it breaks.
    """
    violations = [f"{clause.__name__}: {violation}" for clause in CLAUSES for violation in _violations(clause, task)]
    if violations:
        raise ContractError(task, violations)


def _violations(clause: Callable[[Task], Iterator[str]], task: Task) -> list[str]:
    found: list[str] = []
    try:
        found.extend(clause(task))
    except Exception as error:  # whatever a broken task raises is a finding, and the next clause still runs
        found.append(f"raised {type(error).__name__}: {error}")
    return found
