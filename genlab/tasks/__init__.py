"""What a model is asked: vocabulary, examples, splits and the true answer. numpy only."""

from genlab.tasks.base import Examples, Part, Task, Vocab, assemble, hint_names, split_map
from genlab.tasks.check import ContractError, check_task
from genlab.tasks.registry import load_plugin, make, names, plugins, register, spec, task_class
from genlab.tasks.splits import in_distribution, spread

__all__ = [
    "ContractError",
    "Examples",
    "Part",
    "Task",
    "Vocab",
    "assemble",
    "check_task",
    "hint_names",
    "in_distribution",
    "load_plugin",
    "make",
    "names",
    "plugins",
    "register",
    "spec",
    "split_map",
    "spread",
    "task_class",
]
