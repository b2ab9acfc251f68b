"""Extension of mkdocstrings: examples in docstrings (`>>>`) are shown as code, wherever they stand."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


def fenced(docstring: str) -> str:
    """A docstring with its examples in fences.

    >>> fenced("Add.\\n\\n>>> 1 + 1\\n2\\n\\nArgs:").splitlines()
    ['Add.', '', '```pycon', '>>> 1 + 1', '2', '```', '', 'Args:']
    """
    return _EXAMPLE.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", docstring)


class Doctests(griffe.Extension):
    """Fences examples as modules are read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
