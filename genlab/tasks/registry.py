"""Registry of tasks by name: built in, from installed packages, or from a plugin file."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from genlab.errors import UserError, unknown
from genlab.spec import Scalar, TaskSpec
from genlab.tasks.base import Task

_LONGEST = 1_000_000
"""Upper limit of `max_len`. A typo should give an error rather than run out of memory."""

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
    """Register a task class under its `name`; can be used as a decorator. Raises `UserError` if the name is taken."""
    if _added.get(cls.name, cls) is not cls or cls.name in _built_in():
        raise UserError(f"a task named {cls.name!r} already exists; choose another name")
    _added[cls.name] = cls
    return cls


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers tasks. Raises `UserError` with the original error if it fails."""
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
    sys.modules[module_name] = module  # classes of the file are looked up by their module
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a file may call sys.exit
        del sys.modules[module_name]
        lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if Path(at.filename) == file]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else "?")
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"plugin {str(path)!r} cannot be imported: line {line}: {why}") from error
    _plugins.append(str(file.resolve()))


def plugins() -> list[str]:
    """Return the files loaded with `load_plugin`, so that other processes can load them too."""
    return list(_plugins)


def names() -> list[str]:
    """Return all task names, sorted."""
    return sorted({*_built_in(), *_added, *(point.name for point in _installed())})


def task_class(name: str) -> type[Task]:
    """Return the class of a task. Raises `UserError` for an unknown name, suggesting the nearest one."""
    if name in _added:
        return _added[name]
    if name in _built_in():
        return _built_in()[name]
    for point in _installed():
        if point.name == name:
            try:
                return point.load()
            except Exception as error:
                raise UserError(f"task {name!r} from {point.value!r} cannot be imported: {error}") from error
    raise unknown("task", name, names(), "lab tasks")


def spec(
    name: str,
    max_len: int,
    format: str | None = None,
    params: Mapping[str, Scalar] | None = None,
    start_token: bool = False,
) -> TaskSpec:
    """Return the full spec of a task, with the default format and all parameters filled in.

    Raises:
        UserError: If the task, format or a parameter is unknown, or the vocabulary is too small for `max_len`.
    """
    cls = task_class(name)
    chosen = format or next(iter(cls.formats))
    if chosen not in cls.formats:
        raise unknown(f"format of task {name!r}:", chosen, cls.formats)
    if not 1 <= max_len <= _LONGEST:
        raise UserError(f"max_len {max_len} is not allowed: it must be between 1 and {_LONGEST:,}")
    resolved = cls.resolve(chosen, max_len, params or {})
    return TaskSpec(
        name=name, version=cls.version, format=chosen, max_len=max_len, params=resolved, start_token=start_token
    )


def make(
    task: str | TaskSpec,
    max_len: int | None = None,
    format: str | None = None,
    params: Mapping[str, Scalar] | None = None,
    start_token: bool = False,
) -> Task:
    """Build a task from its spec, or from its name and `max_len`.

    >>> make("parity", max_len=20).chance(7)
    0.5
    """
    if isinstance(task, TaskSpec):
        return task_class(task.name)(task)
    if max_len is None:
        raise UserError(f"task {task!r} needs max_len, the longest length to support")
    resolved = spec(task, max_len, format, params, start_token)
    return task_class(task)(resolved)


def _installed():
    return entry_points(group="genlab.tasks")
