"""Every registered task, in every format, keeps the contract."""

import pytest

from genlab.tasks import check_task, make, names, task_class

MAX_LEN = 10
SLOW = {"maze": (3, {"train_blocks": 1, "test_blocks": 1})}
"""Tasks whose examples take seconds to make, with a shorter length and parameters."""


EVERY = [
    pytest.param(name, format, marks=pytest.mark.slow if name in SLOW else ())
    for name in names()
    for format in task_class(name).formats
]


@pytest.mark.parametrize(("name", "format"), EVERY)
def test_every_task_keeps_its_contract(name, format):
    max_len, params = SLOW.get(name, (MAX_LEN, {}))
    check_task(make(name, max_len, format, params))
