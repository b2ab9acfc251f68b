"""Every registered task, in every format, keeps the contract."""

import pytest

from genlab.tasks import check_task, make, names, task_class

MAX_LEN = 10
POOLED = {"maze": (4, {"train_blocks": 1, "test_blocks": 1})}
"""Tasks with examples that are slow to make the first time: longest length and params."""


@pytest.mark.parametrize(
    ("name", "format"), [(name, format) for name in names() for format in task_class(name).formats]
)
def test_every_task_keeps_its_contract(name, format):
    max_len, params = POOLED.get(name, (MAX_LEN, None))
    check_task(make(name, max_len, format, params))
