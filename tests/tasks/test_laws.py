"""Laws that answers obey whatever is drawn: sorting, reversing, adding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from genlab.tasks import Task, make

NUMBERS = st.lists(st.integers(0, 39), min_size=1, max_size=20, unique=True)
LETTERS = st.lists(st.sampled_from("01234"), min_size=1, max_size=20)
DIGITS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def answer(task: Task, words: list[str]) -> list[str]:
    return list(task.solve([*words, ">"]))


@given(NUMBERS, LETTERS)
def test_sorting_is_idempotent(numbers: list[int], letters: list[str]):
    for task, words in ((make("sort", 20), list(map(str, numbers))), (make("bucket-sort", 20), letters)):
        once = answer(task, words)
        assert answer(task, once) == once
        assert sorted(once) == sorted(words)


@given(NUMBERS, LETTERS)
def test_reversing_twice_is_identity(numbers: list[int], letters: list[str]):
    unique = list(map(str, numbers))
    for task, words in ((make("copy", 40, "reverse"), unique), (make("reverse", 20), letters)):
        assert answer(task, answer(task, words)) == words


@given(DIGITS, DIGITS, st.integers(0, 7), st.sampled_from(["forward", "reversed"]))
def test_an_added_carry_never_shortens_a_sum(left: list[int], right: list[int], place: int, format: str):
    """A digit is raised until its place carries; numbers begin with a digit that is not 0, as they are drawn."""
    task = make("addition", 8, format, {"leading_zero": False})
    most = -1 if format == "forward" else 0  # where the least significant digit stands
    left, right = [
        [max(1, d) if i == (0 if most else len(n) - 1) else d for i, d in enumerate(n)] for n in (left, right)
    ]
    place %= min(len(left), len(right))
    at = -1 - place if format == "forward" else place

    def total(a: list[int], b: list[int]) -> list[str]:
        return answer(task, [*map(str, a), "+", *map(str, b)])

    raised = list(right)
    raised[at] = max(right[at], min(9, 10 - left[at]))
    before, after = total(left, right), total(left, raised)
    assert len(after) >= len(before)
    carries = left[at] + raised[at] >= 10 > left[at] + right[at]
    assert (after != before) or not carries
