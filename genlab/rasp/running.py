"""Running a program: on values, with its graph, and token by token as a model would."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError
from genlab.rasp.lang.graph import Graph, Place, ProgramError, is_language
from genlab.rasp.lang.sequence import Seq, sequence

Ints = NDArray[np.int64]
Program = Callable[[Any], Any]
"""A function of one sequence, the tokens so far, that gives the next token at every position."""


def trace(program: Program, values: Any, keep: bool = False) -> Graph:
    """The graph of one run. `keep` keeps every intermediate sequence.

    Raises:
        ProgramError: what the program does is not in the language, or it fails; the message names its line.
    """
    graph = Graph(keep=keep)
    graph.output = run_program_body(program, sequence(values, graph)).node
    return graph


def predict(program: Program, values: Any) -> Ints:
    """The values that a program predicts to come next, at every position: int[n, pos]."""
    return run_program_body(program, sequence(values)).values.astype(np.int64)


def run_program_body(program: Program, x: Seq) -> Seq:
    """Call a program. `here` knows this function by its name."""
    try:
        out = program(x)
    except UserError:
        raise
    except Exception as error:
        lines = [line for line in traceback.extract_tb(error.__traceback__) if not is_language(line.filename)]
        place = Place(lines[-1].filename, lines[-1].lineno or 0)
        raise ProgramError(f"{place}: {type(error).__name__}: {error}") from error
    if isinstance(out, Seq) and out.graph is x.graph and out.shape == x.shape:
        return out
    name, given = getattr(program, "__name__", "the program"), type(out).__name__
    if isinstance(out, Seq) and out.graph is not x.graph:
        given = "a sequence of its own making"
    elif isinstance(out, np.ndarray | list | tuple):
        given = f"{np.shape(out)[-1] if np.shape(out) else 0} plain values"
    raise ProgramError(f"{name} returned {given}, not a sequence of {x.shape[1]} positions computed from its input")


def decode(program: Program, prompts: Ints, lengths: Ints, limit: int, end: int) -> tuple[Ints, Ints]:
    """Write answers token by token, each from the tokens so far.

    Args:
        prompts: int[n, pos], what stands beyond a row's own length is not read.
        lengths: tokens of each prompt, int[n].
        limit: the most tokens to write, `end` included.
        end: the value after which a row is done.

    Returns:
        What was written, int[n, limit], and how many tokens of each row, int[n], `end` included.
    """
    n, rows = len(prompts), np.arange(len(prompts))
    tape = np.concatenate([prompts, np.full((n, limit), end)], axis=1)
    tape[np.arange(tape.shape[1]) >= lengths[:, None]] = end
    written = np.zeros(n, np.int64)
    going = np.ones(n, bool)
    for _ in range(limit):
        here = lengths + written - 1
        reach = int(here[going].max()) + 1
        said = np.zeros(n, np.int64)
        said[going] = predict(program, tape[going, :reach])[np.arange(going.sum()), here[going]]
        tape[rows[going], here[going] + 1] = said[going]
        written += going
        going &= said != end
        if not going.any():
            break
    places = np.minimum(lengths[:, None] + np.arange(limit), tape.shape[1] - 1)
    return np.take_along_axis(tape, places, axis=1), written
