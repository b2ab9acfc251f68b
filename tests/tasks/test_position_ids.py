"""Position ids that tasks give: for every task and format that does, and word by word for addition and copy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.tasks import Task, Vocab, make, names, task_class

GIVING = [
    (name, format, kind, params)
    for name in names()
    for kind in task_class(name).id_kinds
    for format in task_class(name).formats
    for params in ([{}, {"leading_zero": False}] if name == "addition" else [{}])
    if name != "addition" or params == {} or format.startswith("reversed")
]


def drawn(task: Task, split: str = "id"):
    lengths = [n for n in (2, 3, 5, 7) if n >= task.min_len(task.split(split))] * 20
    return task.sample(np.random.default_rng(3), split, lengths)


def test_addition_and_copy_are_among_those_that_give_them() -> None:
    assert {(name, kind) for name, _, kind, _ in GIVING} >= {
        ("addition", "abacus"),
        ("addition", "coupled"),
        ("copy", "coupled"),
    }


@pytest.mark.parametrize(("name", "format", "kind", "params"), GIVING)
def test_ids_lie_between_0_and_their_reach_and_do_not_depend_on_the_answer(
    name: str, format: str, kind: str, params: dict[str, bool]
) -> None:
    task = make(name, max_len=8, format=format, params=params)
    batch = drawn(task)
    ids = task.placed(batch, kind, task.n_ctx).position_ids
    assert ids is not None
    assert ids.shape == (len(batch), task.n_ctx)
    assert ids.min() >= 0
    inside = np.arange(task.n_ctx) < (batch.targets != Vocab.pad).sum(axis=1)[:, None]
    for length in np.unique(batch.lengths):
        assert ids[batch.lengths == length].max() <= task.id_reach(kind, int(length))
    longest = np.array([ids[batch.lengths == n][inside[batch.lengths == n]].max() for n in (2, 3, 5, 7)])
    assert (np.diff(longest) > 0).all()
    # Any other tokens in the place of the answer: the same ids.
    answer = np.pad(batch.scored, ((0, 0), (1, 0)))[:, :-1]
    other = np.random.default_rng(0).integers(0, len(task.vocab), batch.tokens.shape)
    changed = replace(batch, tokens=np.where(answer, other, batch.tokens))
    assert np.array_equal(task.placed(changed, kind, task.n_ctx).position_ids, ids)
    # Nor on the width that is asked for.
    assert np.array_equal(task.placed(batch, kind, 9).position_ids, ids[:, :9])


@pytest.mark.parametrize("split", ["id", "unequal"])
@pytest.mark.parametrize("format", ["forward", "reversed", "forward-hints", "reversed-hints"])
def test_ids_of_addition_are_place_values(format: str, split: str) -> None:
    """Read from the text: a digit's place is the number of digits after it in its number, whichever way it runs."""
    task = make("addition", max_len=8, format=format)
    batch = drawn(task, split)
    abacus, coupled = (task.placed(batch, kind).position_ids for kind in ("abacus", "coupled"))
    assert abacus is not None
    assert coupled is not None
    for row in range(0, len(batch), 7):
        prompt, answer = task.read(batch, row)
        plus = prompt.index("+")
        numbers = [prompt[:plus], prompt[plus + 1 : -1], answer]
        digits = [[t for t in number if t.isdigit()] for number in numbers]
        longer = max(len(digits[0]), len(digits[1]))
        places: list[tuple[int, int]] = []
        for which, (number, own) in enumerate(zip(numbers, digits, strict=True)):
            seen = 0
            for token in number:
                rising = which == 2 and format.startswith("reversed")
                value = seen + 1 if rising else len(own) - seen
                places.append((value if token.isdigit() else 0, longer + 1 - value))
                seen += token.isdigit()
            if which < 2:
                places.append((0, longer + 1))
        assert abacus[row, : len(places)].tolist() == [a for a, _ in places]
        assert coupled[row, : len(places)].tolist() == [c for _, c in places]


@pytest.mark.parametrize("format", ["unique", "repeats", "reverse"])
def test_an_item_and_its_copy_share_an_id(format: str) -> None:
    task = make("copy", max_len=8, format=format)
    batch = drawn(task)
    ids = task.placed(batch, "coupled").position_ids
    assert ids is not None
    for row, n in enumerate(batch.lengths):
        items, sep, copies = ids[row, :n], ids[row, n], ids[row, n + 1 : 2 * n + 1]
        assert (np.diff(items) == 1).all()
        assert copies.tolist() == (items[::-1] if format == "reverse" else items).tolist()
        assert sep == (items[-1] + 1 if format == "reverse" else items[0] - 1)


def test_a_forward_sum_without_leading_zeros_has_no_such_ids() -> None:
    task = make("addition", max_len=8, format="forward", params={"leading_zero": False})
    with pytest.raises(UserError, match=r"depends on the answer; set leading_zero=true or use a reversed format$"):
        task.placed(drawn(task), "abacus")


def test_a_task_without_ids_names_what_it_gives() -> None:
    copy = make("copy", max_len=8)
    with pytest.raises(UserError, match=r"gives no position ids .* 'abacus' \(it gives those of coupled\)"):
        copy.placed(drawn(copy), "abacus")
