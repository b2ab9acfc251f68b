"""Tasks by name: nearest names, plugins, specs in full."""

import pytest

from genlab.errors import UserError
from genlab.spec import TaskSpec
from genlab.tasks import load_plugin, make, names, plugins, register, registry, spec, task_class

PLUGIN = """
from genlab.tasks import register, task_class

@register
class Twin(task_class("parity")):
    name = "twin"
"""


@pytest.fixture(autouse=True)
def _no_trace(monkeypatch):
    monkeypatch.setattr(registry, "_added", {})
    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(registry, "_sources", {})


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="twin.py"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_every_built_in_task_is_found_under_its_own_name():
    assert [task_class(name).name for name in names()] == names()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("partiy", 5), "unknown task 'partiy'; did you mean 'parity'"),
        (("parity", 5, "plane"), "did you mean 'plain'?"),
        (("sort", 5, None, {"symbol": 12}), "unknown option 'symbol'; did you mean 'symbols'?"),
        (("sort", 0), "max_len 0 is not allowed"),
        (("sort",), "task 'sort' needs max_len"),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest(asked, message):
    with pytest.raises(UserError) as error:
        make(*asked)
    assert message in str(error.value)


def test_a_spec_is_full_and_makes_the_same_task_again():
    full = spec("addition", 6)
    assert full == TaskSpec(
        name="addition", version=1, format="forward", max_len=6, params={"base": 10, "leading_zero": True}
    )
    assert make(TaskSpec.model_validate_json(full.model_dump_json())).spec == full


def test_a_spec_of_another_version_is_refused():
    with pytest.raises(UserError, match="is at version 1, but the spec asks for version 2"):
        make(spec("parity", 6).model_copy(update={"version": 2}))


def test_a_plugin_adds_its_tasks_once(plugin):
    path = plugin(PLUGIN)
    load_plugin(path)
    load_plugin(path)
    assert "twin" in names()
    assert make("twin", 4).solve(["1", ">"]) == ("1",)
    assert plugins() == [str(path.resolve())]


def test_faulty_plugins_are_refused_with_their_own_error(plugin, tmp_path):
    with pytest.raises(UserError, match=r"cannot be imported: line 1: ZeroDivisionError: division by zero"):
        load_plugin(plugin("1 / 0"))
    with pytest.raises(UserError, match="is not a file"):
        load_plugin(tmp_path / "absent.py")
    with pytest.raises(UserError, match="is not a Python file"):
        load_plugin(plugin(PLUGIN, "twin.txt"))
    with pytest.raises(UserError, match="a task named 'parity' already exists"):
        load_plugin(plugin(PLUGIN.replace('"twin"', '"parity"'), "parity_again.py"))
    assert plugins() == []


def test_a_name_is_taken_once():
    class Other(task_class("parity")):
        name = "other"

    assert register(Other) is register(Other)
    with pytest.raises(UserError, match="'other' already exists"):
        register(type("Another", (Other,), {}))
