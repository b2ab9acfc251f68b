"""RASP-L: a language of programs that predict what a transformer can learn.

This module exports the language: `from genlab.rasp import *` provides everything a published program needs. The
submodules contain the rest: `running` (run, trace, decode), `analysis` (legality and complexity), `checker` (exact
match against a task), `programs` (programs for the tasks of the lab), `prediction` and `sealing` (the rule and its
sealed predictions), `generating` and `plugin` (generated tasks), `own_files` and `reports` (used by `lab rasp`).
"""

from genlab.rasp import lang
from genlab.rasp.lang import *  # noqa: F403

__all__ = list(lang.__all__)  # pyright: ignore[reportUnsupportedDunderAll]
