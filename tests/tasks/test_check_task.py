"""Each clause of the contract can fail: sound toy tasks pass, and each way to break them is caught by its clause."""

import broken_answers
import broken_form
import pytest
from broken_answers import SolvesBackwards
from toys import BROKEN, SOUND

from genlab.spec import TaskSpec
from genlab.tasks import ContractError, Task, check_task
from genlab.tasks.check import CLAUSES

__all__ = ["broken_answers", "broken_form"]  # imported so that their toys are on the list


def make_toy(cls: type[Task]) -> Task:
    return cls(TaskSpec(name="toy", version=1, format="plain", max_len=8))


@pytest.mark.parametrize("toy", SOUND)
def test_sound_tasks_pass(toy):
    check_task(make_toy(toy))


@pytest.mark.parametrize(("clause", "message", "toy"), BROKEN, ids=[toy.__name__ for _, _, toy in BROKEN])
def test_each_break_is_caught_by_its_clause(clause, message, toy):
    by_name = {check.__name__: check for check in CLAUSES}
    assert [violation for violation in by_name[clause](make_toy(toy)) if message in violation]


def test_every_clause_is_broken_once():
    assert {clause for clause, _, _ in BROKEN} == {clause.__name__ for clause in CLAUSES}


def test_all_violations_come_in_one_error():
    class Hopeless(SolvesBackwards):
        source = ""

        def chance(self, length):
            raise ZeroDivisionError("no chance")

    with pytest.raises(ContractError) as caught:
        check_task(make_toy(Hopeless))
    clauses = [line.split(": ")[0] for line in caught.value.violations]
    assert {"describes_itself", "agrees_with_solve", "states_chance_correctly"} <= set(clauses)
    assert "states_chance_correctly: raised ZeroDivisionError: no chance" in caught.value.violations
    assert all(line in str(caught.value) for line in caught.value.violations)
