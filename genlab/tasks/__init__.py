"""What a model is asked: vocabulary, examples, splits and the true answer. numpy only."""

from genlab.tasks.base import Examples, Part, Task, Vocab, assemble, hint_names, split_map
from genlab.tasks.registry import load_plugin, make, names, register, spec, task_class

__all__ = [
    "Examples",
    "Part",
    "Task",
    "Vocab",
    "assemble",
    "hint_names",
    "load_plugin",
    "make",
    "names",
    "register",
    "spec",
    "split_map",
    "task_class",
]
