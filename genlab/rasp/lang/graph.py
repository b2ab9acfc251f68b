"""The computation graph of one run of a program: its operations in order, each with the source line it came from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError

Op = Literal["input", "foreign", "full", "indices", "tok_map", "seq_map", "select", "sel_width", "aggr"]
MAPS: tuple[Op, ...] = ("tok_map", "seq_map")
FREE: tuple[Op, ...] = ("input", "foreign")
"""Operations that a program does not compute itself."""

RUNNER = "run_program_body"
"""Name of the function that calls a program; frames outside it do not belong to the program."""
_LANGUAGE = (str(Path(__file__).parent), str(Path(np.__file__).parent))
"""Folders whose files do not belong to a program: the language itself, and numpy, which calls sequence operators."""


def is_language(filename: str) -> bool:
    """Whether a file is part of the language rather than of a program."""
    return filename.startswith(_LANGUAGE)


class ProgramError(UserError):
    """A program uses something that is not in the language. The message names the source line."""


@dataclass(frozen=True, slots=True)
class Place:
    """The source location of an operation.

    Attributes:
        file, line, function: the innermost frame outside the language.
        via: the library function that was called there and that ran the operation; empty if none.
        top: the line of the program itself, which differs from `line` inside a function that the program calls.
    """

    file: str
    line: int
    function: str = ""
    via: str = ""
    top: int = 0

    def __str__(self) -> str:
        inside = f" in {self.via}" if self.via else ""
        return f"{Path(self.file).name}:{self.line}{inside}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of a run.

    Attributes:
        id: its index in the run.
        op: the core operation; a numpy operator on sequences is recorded as the equivalent map.
        inputs: the operations whose results it reads, in the order of its arguments.
        func: the function of a map, or the predicate of a select.
        params: the constant of `full`; whether a select is causal; default and reduction of an aggregation.
        is_bool: whether its values have numpy's boolean type (`~` and `+` behave differently on booleans).
        place: its source location.
        short: whether it was written as a numpy operator.
    """

    id: int
    op: Op
    inputs: tuple[Node, ...]
    func: Callable[..., Any] | None
    params: tuple[Any, ...]
    is_bool: bool
    place: Place
    short: bool = False

    def __repr__(self) -> str:
        return f"Node({self.id}: {self.label} of {[parent.id for parent in self.inputs]})"

    @property
    def label(self) -> str:
        """A short description, such as `tok_map % 2`."""
        name = "" if self.func is None else getattr(self.func, "__name__", type(self.func).__name__)
        name = "function" if name == "<lambda>" else name
        if self.op == "full":
            return f"full {self.params[0]}"
        if self.op == "aggr":
            return f"aggr {self.params[1]}"
        return f"{self.op} {name}".strip()


@dataclass(eq=False)
class Graph:
    """The operations of one run, in order. Each one reads only earlier ones.

    Attributes:
        keep: whether the values of all operations are stored.
        nodes: all operations, including those whose result is never used.
        output: the operation that the program returned; None until it has returned.
        values: node id -> its values, int64 or bool [n, pos]; filled only if `keep` is set.
        hints_from: the smallest value of the input that is a hint; None if the input holds no hints.
    """

    keep: bool = False
    nodes: list[Node] = field(default_factory=list[Node])
    output: Node | None = None
    values: dict[int, NDArray[Any]] = field(default_factory=dict[int, NDArray[Any]])
    hints_from: int | None = None

    def add(
        self,
        op: Op,
        inputs: Iterable[Node] = (),
        func: Callable[..., Any] | None = None,
        params: tuple[Any, ...] = (),
        values: NDArray[Any] | None = None,
        short: bool = False,
    ) -> Node:
        """Record one operation."""
        is_bool = values is not None and values.dtype == np.bool_
        node = Node(len(self.nodes), op, tuple(inputs), func, params, is_bool, here(), short)
        self.nodes.append(node)
        if self.keep and values is not None:
            self.values[node.id] = values
        return node

    @property
    def live(self) -> list[Node]:
        """The operations that the output depends on, in order; all operations while there is no output."""
        if self.output is None:
            return list(self.nodes)
        wanted, queue = {self.output.id}, [self.output]
        while queue:
            for parent in queue.pop().inputs:
                if parent.id not in wanted:
                    wanted.add(parent.id)
                    queue.append(parent)
        return [node for node in self.nodes if node.id in wanted]


def here() -> Place:
    """The source location of the running program: the innermost frame outside the language.

    >>> here().via
    ''
    """
    frame, via = sys._getframe(1), ""  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and is_language(frame.f_code.co_filename):
        if frame.f_code.co_filename.endswith("library.py") and not frame.f_code.co_name.startswith("_"):
            via = frame.f_code.co_name
        frame = frame.f_back
    outer, top = frame, frame
    while outer is not None and outer.f_code.co_name != RUNNER:
        outer, top = outer.f_back, outer
    return Place(
        frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, via, top.f_lineno if outer is not None else 0
    )
