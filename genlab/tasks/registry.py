"""Tasks by name: those built in, those of installed packages, and a user's own file."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from genlab.errors import UserError, unknown
from genlab.spec import Scalar, TaskSpec
from genlab.tasks.base import Task

_LONGEST = 1_000_000
"""No task is made for longer examples: a slip of the keyboard is told, not tried until memory ends."""

_added: dict[str, type[Task]] = {}
_plugins: list[str] = []


@cache
def _built_in() -> dict[str, type[Task]]:
    """Name -> class of every task in this package: each `Task` subclass that a module defines and names."""
    package = importlib.import_module("genlab.tasks")
    names = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    return {
        cls.name: cls
        for module in map(importlib.import_module, names)
        for cls in vars(module).values()
        if isinstance(cls, type)
        and issubclass(cls, Task)
        and cls.__module__ == module.__name__
        and "name" in vars(cls)
    }


def register(cls: type[Task]) -> type[Task]:
    """Add a task class under its `name` (usable as a decorator). Raises `UserError` if the name is taken."""
    if _added.get(cls.name, cls) is not cls or cls.name in _built_in():
        raise UserError(f"a task named {cls.name!r} is there already; give yours another name")
    _added[cls.name] = cls
    return cls


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers tasks. Raises `UserError` with the file's own error if it fails."""
    file = Path(path)
    if not file.is_file():
        raise UserError(f"plugin {str(path)!r} is not a file")
    if str(file.resolve()) in _plugins:
        return
    module_name = f"genlab_plugin_{file.stem}"
    module_spec = importlib.util.spec_from_file_location(module_name, file)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"plugin {str(path)!r} is not a Python file (.py)")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # so that classes of the file can be found by their module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"plugin {str(path)!r} does not import: {type(error).__name__}: {error}") from error
    _plugins.append(str(file.resolve()))


def plugins() -> list[str]:
    """The files loaded by `load_plugin`, so that another process can load them too."""
    return list(_plugins)


def names() -> list[str]:
    """All task names, sorted."""
    return sorted({*_built_in(), *_added, *(point.name for point in _installed())})


def task_class(name: str) -> type[Task]:
    """The class of a task. Raises `UserError` with the nearest name for an unknown one."""
    if name in _added:
        return _added[name]
    if name in _built_in():
        return _built_in()[name]
    for point in _installed():
        if point.name == name:
            try:
                return point.load()
            except Exception as error:
                raise UserError(f"task {name!r} of {point.value!r} does not import: {error}") from error
    raise unknown("task", name, names())


def spec(name: str, max_len: int, format: str | None = None, params: Mapping[str, Scalar] | None = None) -> TaskSpec:
    """The full spec of a task: default format, all parameters resolved.

    Raises:
        UserError: unknown task, format or parameter, or a vocabulary too small for `max_len`.
    """
    cls = task_class(name)
    chosen = format or next(iter(cls.formats))
    if chosen not in cls.formats:
        raise unknown(f"format of task {name!r}:", chosen, cls.formats)
    if not 1 <= max_len <= _LONGEST:
        raise UserError(f"max_len {max_len} is not allowed: lengths are from 1 to {_LONGEST:,}")
    resolved = cls.resolve(chosen, max_len, params or {})
    return TaskSpec(name=name, version=cls.version, format=chosen, max_len=max_len, params=resolved)


def make(
    task: str | TaskSpec,
    max_len: int | None = None,
    format: str | None = None,
    params: Mapping[str, Scalar] | None = None,
) -> Task:
    """A task from its spec, or from its name and `max_len`.

    >>> make("parity", max_len=20).chance(7)
    0.5
    """
    if isinstance(task, TaskSpec):
        return task_class(task.name)(task)
    if max_len is None:
        raise UserError(f"task {task!r} needs max_len, the longest length it is to make")
    resolved = spec(task, max_len, format, params)
    return task_class(task)(resolved)


def _installed():
    return entry_points(group="genlab.tasks")
