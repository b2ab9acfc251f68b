"""Every registered task, in every format, keeps the contract."""

import pytest

from genlab.tasks import check_task, make, names, task_class

MAX_LEN = 10


@pytest.mark.parametrize(
    ("name", "format"), [(name, format) for name in names() for format in task_class(name).formats]
)
def test_every_task_keeps_its_contract(name, format):
    check_task(make(name, MAX_LEN, format))
