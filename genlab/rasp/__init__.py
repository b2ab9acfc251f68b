"""RASP-L: programs that say what a transformer can learn.

This module holds the language: `from genlab.rasp import *` gives what a published program needs. The rest stands in
the modules below it: `running` (run, trace, decode), `examine` (legality and size), `checker` (right or not),
`programs` (those of the lab's tasks), `prediction`, `generating`, `reports` (what `lab rasp` shows).
"""

from genlab.rasp import lang
from genlab.rasp.lang import *  # noqa: F403

__all__ = list(lang.__all__)  # pyright: ignore[reportUnsupportedDunderAll]
