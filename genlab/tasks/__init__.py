"""Tasks: vocabularies, examples, splits and correct answers. Uses NumPy only."""

from genlab.tasks.base import Task, hint_names, split_map
from genlab.tasks.check import ContractError, check_task
from genlab.tasks.examples import Examples, Part, Vocab, assemble
from genlab.tasks.registry import (
    code_of,
    load_plugin,
    load_plugins_of_environment,
    make,
    names,
    plugin_fault,
    plugin_sources,
    plugins,
    register,
    spec,
    task_class,
)
from genlab.tasks.splits import (
    FIT,
    TrainingLaw,
    fitted,
    in_distribution,
    lengths_in_words,
    mean_over_lengths,
    place_in_words,
    split_in_words,
    spread,
    training_law,
)

__all__ = [
    "FIT",
    "ContractError",
    "Examples",
    "Part",
    "Task",
    "TrainingLaw",
    "Vocab",
    "assemble",
    "check_task",
    "code_of",
    "fitted",
    "hint_names",
    "in_distribution",
    "lengths_in_words",
    "load_plugin",
    "load_plugins_of_environment",
    "make",
    "mean_over_lengths",
    "names",
    "place_in_words",
    "plugin_fault",
    "plugin_sources",
    "plugins",
    "register",
    "spec",
    "split_in_words",
    "split_map",
    "spread",
    "task_class",
    "training_law",
]
