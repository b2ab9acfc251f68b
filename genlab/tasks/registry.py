"""Registry of tasks by name: built in, from installed packages, or from a plugin file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType

from genlab.errors import UserError, unknown
from genlab.spec import Scalar, TaskSpec
from genlab.tasks.base import Task

_BUILT_IN = MappingProxyType(
    {
        "addition": "genlab.tasks.addition:Addition",
        "and-fixed-bits": "genlab.tasks.and_fixed_bits:AndFixedBits",
        "associative-recall": "genlab.tasks.recall:AssociativeRecall",
        "binary-multiplication": "genlab.tasks.chomsky_context_sensitive:BinaryMultiplication",
        "brackets": "genlab.tasks.brackets:Brackets",
        "bucket-sort": "genlab.tasks.chomsky_context_sensitive:BucketSort",
        "compare-occurrence": "genlab.tasks.chomsky_context_free:CompareOccurrence",
        "copy": "genlab.tasks.copy:Copy",
        "count": "genlab.tasks.counting:Count",
        "cycle-navigation": "genlab.tasks.chomsky_regular:CycleNavigation",
        "duplicate-string": "genlab.tasks.chomsky_duplicates:DuplicateString",
        "dyck": "genlab.tasks.dyck:Dyck",
        "dyck-next": "genlab.tasks.dyck_next:DyckNext",
        "even-pairs": "genlab.tasks.chomsky_regular:EvenPairs",
        "interlocked-pairing": "genlab.tasks.chomsky_duplicates:InterlockedPairing",
        "majority": "genlab.tasks.counting:Majority",
        "max-retrieval": "genlab.tasks.max_retrieval:MaxRetrieval",
        "maze": "genlab.tasks.mazes:Maze",
        "missing-duplicate": "genlab.tasks.chomsky_duplicates:MissingDuplicate",
        "mode": "genlab.tasks.counting:Mode",
        "modular": "genlab.tasks.modular:Modular",
        "modular-brackets": "genlab.tasks.expressions:ModularBrackets",
        "modular-chain": "genlab.tasks.modular_chain:ModularChain",
        "modular-icl": "genlab.tasks.modular_icl:ModularIcl",
        "needle": "genlab.tasks.recall:Needle",
        "odds-first": "genlab.tasks.chomsky_context_sensitive:OddsFirst",
        "parity": "genlab.tasks.parity:Parity",
        "question-formation": "genlab.tasks.question_formation:QuestionFormation",
        "repeats": "genlab.tasks.repeats:Repeats",
        "reverse": "genlab.tasks.reverse:Reverse",
        "solve-equation": "genlab.tasks.chomsky_context_free:SolveEquation",
        "sort": "genlab.tasks.sort:Sort",
        "square-root": "genlab.tasks.chomsky_context_sensitive:SquareRoot",
        "stack-manipulation": "genlab.tasks.chomsky_context_free:StackManipulation",
        "tense-reinflection": "genlab.tasks.tense_reinflection:TenseReinflection",
    }
)
"""Maps names to the location of the task class, imported on first use."""

_LONGEST = 1_000_000
"""Upper limit of `max_len`. A typo should give an error rather than run out of memory."""

_added: dict[str, type[Task]] = {}
_plugins: list[str] = []


def register(cls: type[Task]) -> type[Task]:
    """Register a task class under its `name`; can be used as a decorator. Raises `UserError` if the name is taken."""
    if _added.get(cls.name, cls) is not cls or cls.name in _BUILT_IN:
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
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"plugin {str(path)!r} cannot be imported: {type(error).__name__}: {error}") from error
    _plugins.append(str(file.resolve()))


def plugins() -> list[str]:
    """Return the files loaded with `load_plugin`, so that other processes can load them too."""
    return list(_plugins)


def names() -> list[str]:
    """Return all task names, sorted."""
    return sorted({*_BUILT_IN, *_added, *(point.name for point in _installed())})


def task_class(name: str) -> type[Task]:
    """Return the class of a task. Raises `UserError` for an unknown name, suggesting the nearest one."""
    if name in _added:
        return _added[name]
    if name in _BUILT_IN:
        module, _, cls = _BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(module), cls)
    for point in _installed():
        if point.name == name:
            try:
                return point.load()
            except Exception as error:
                raise UserError(f"task {name!r} from {point.value!r} cannot be imported: {error}") from error
    raise unknown("task", name, names())


def spec(name: str, max_len: int, format: str | None = None, params: Mapping[str, Scalar] | None = None) -> TaskSpec:
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
    return TaskSpec(name=name, version=cls.version, format=chosen, max_len=max_len, params=resolved)


def make(
    task: str | TaskSpec,
    max_len: int | None = None,
    format: str | None = None,
    params: Mapping[str, Scalar] | None = None,
) -> Task:
    """Build a task from its spec, or from its name and `max_len`.

    >>> make("parity", max_len=20).chance(7)
    0.5
    """
    if isinstance(task, TaskSpec):
        return task_class(task.name)(task)
    if max_len is None:
        raise UserError(f"task {task!r} needs max_len, the longest length to support")
    resolved = spec(task, max_len, format, params)
    return task_class(task)(resolved)


def _installed():
    return entry_points(group="genlab.tasks")
