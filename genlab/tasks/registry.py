"""Registry of tasks by name: built in, from installed packages, or from a plugin file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from genlab.errors import UserError, unknown
from genlab.spec import ModelConfig, Scalar, TaskSpec, registered_values
from genlab.tasks.base import Task
from genlab.tasks.check import ContractError, quick_check

_LONGEST = 1_000_000
"""Upper limit of `max_len`. A typo should give an error rather than run out of memory."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names of tasks, formats and splits: they become names of files and groups, and parts of comma-separated lists."""

_DIGEST = 12
"""Hexadecimal digits of a source's hash."""

_added: dict[str, type[Task]] = {}
_plugins: dict[str, str] = {}
"""Plugin file -> hash of its source when it was loaded."""
_sources: dict[str, str] = {}
"""Task, position encoding or normalizer that a plugin registered -> hash of that plugin's source."""


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
    """Register a task class under its `name`; can be used as a decorator.

    Raises:
        UserError: the name is taken, or it or that of a format or split has a character that is not allowed.
    """
    for kind, name in [
        ("name", cls.name),
        *(("format", f) for f in cls.formats),
        *(("split", s) for s in cls.splits),
    ]:
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{kind} {name!r} of a task is not allowed (up to 64 letters, digits, '_', '.' and '-'; first a "
                "letter or digit)"
            )
    if _added.get(cls.name, cls) is not cls or cls.name in _built_in():
        raise UserError(f"a task named {cls.name!r} already exists; choose another name")
    _added[cls.name] = cls
    return cls


def load_plugin(path: str | Path, check: bool = True) -> None:
    """Run a Python file that registers tasks.

    Args:
        path: the file.
        check: whether the tasks' contract is tested in part (`genlab.tasks.check.quick_check`).

    Raises:
        UserError: the file fails (with its own error and line), a task breaks its contract, or the file was loaded
            before and has been edited since.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"plugin {str(path)!r} is not a file")
    place, source = str(file.resolve()), _hash_of(file)
    if place in _plugins:
        if _plugins[place] != source:
            raise UserError(f"plugin {str(path)!r} was edited since it was loaded; start a new process")
        return
    tasks, values = dict(_added), registered_values()
    try:
        _run(file, str(path))
        for name in _added.keys() - tasks.keys() if check else ():
            _check(_added[name], file, str(path))
    except UserError:
        _added.clear()
        _added.update(tasks)
        raise
    _plugins[place] = source
    for name in [*(_added.keys() - tasks.keys()), *(registered_values() - values)]:
        _sources.setdefault(name, source)


def _hash_of(file: Path) -> str:
    """The hash of a source; line ends do not count."""
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:_DIGEST]


def _run(file: Path, shown: str) -> None:
    place = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:_DIGEST]
    module_name = f"genlab_plugin_{file.stem}_{place}"  # two files of one name are two modules
    module_spec = importlib.util.spec_from_file_location(module_name, file)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"plugin {shown!r} is not a Python file (.py)")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # classes of the file are looked up by their module
    try:
        module_spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may call sys.exit
        del sys.modules[module_name]
        raise UserError(f"plugin {shown!r} cannot be imported: {_where_and_why(error, [str(file)])}") from error


def plugin_fault(error: BaseException) -> str:
    """Return a line on an error that a plugin raised while it was used, with its file and line; '' for any other."""
    files = [at.filename for at in traceback.extract_tb(error.__traceback__)]
    inside = [file for file in files if str(Path(file).resolve()) in _plugins]
    return f"plugin {inside[-1]!r} failed: {_where_and_why(error, inside)}" if inside else ""


def _where_and_why(error: BaseException, files: Sequence[str]) -> str:
    """The last line of the files that an error came through, and what it says, in one line."""
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename in files]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    why = f"{type(error).__name__}: {error}".splitlines()[0]
    return why if line is None else f"line {line}: {why}"


def _check(cls: type[Task], file: Path, shown: str) -> None:
    """Test each format of a task, at the length that `lab show` shows. A format that has no such length is passed."""
    for format in cls.formats:
        try:
            task = cls(spec(cls.name, cls.shown_length, format))
            quick_check(task)
        except ContractError as error:
            first, *more = error.violations
            rest = f" (and {len(more)} more: genlab.tasks.check_task lists them)" if more else ""
            raise UserError(
                f"plugin {shown!r}: task {cls.name!r}, format {format!r}, breaks its contract: {first}{rest}"
            ) from None
        except UserError:
            continue
        except (Exception, SystemExit) as error:
            why = _where_and_why(error, [str(file)])
            raise UserError(f"plugin {shown!r}: task {cls.name!r}, format {format!r}, fails: {why}") from error


def load_plugins_of_environment() -> None:
    """Load the files that `GENLAB_PLUGINS` names, separated as in `PATH`. Raises `UserError` as `load_plugin`."""
    for path in os.environ.get("GENLAB_PLUGINS", "").split(os.pathsep):
        if path:
            load_plugin(path)


def plugins() -> list[str]:
    """Return the files loaded with `load_plugin`, so that other processes can load them too."""
    return list(_plugins)


def plugin_sources() -> dict[str, str]:
    """Return the files loaded with `load_plugin`, each with the hash of its source."""
    return dict(_plugins)


def code_of(task: TaskSpec, model: ModelConfig) -> str:
    """Return the source of what plugins bring to a run, as in `RunSpec.code`; '' if that is nothing."""
    names = dict.fromkeys((task.name, model.positions, model.attn_weights))
    return ", ".join(f"{name}:{_sources[name]}" for name in names if name in _sources)


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
