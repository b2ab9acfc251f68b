"""Run a program: trace its graph, predict the next tokens, or decode token by token like a model."""

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
"""A function of one sequence, the tokens so far, that returns the next token at every position."""


def trace(program: Program, values: Any, keep: bool = False) -> Graph:
    """The graph of one run.

    Args:
        program: the program.
        values: its input, int[pos] or int[n, pos].
        keep: whether to store the values of every operation in the graph.

    Raises:
        ProgramError: the program uses something that is not in the language, or fails; the message names the line.
    """
    graph = Graph(keep=keep)
    graph.output = run_program_body(program, sequence(values, graph)).node
    return graph


def predict(program: Program, values: Any) -> Ints:
    """The next value that a program predicts at every position: int[n, pos]."""
    return run_program_body(program, sequence(values)).values.astype(np.int64)


def run_program_body(program: Program, x: Seq) -> Seq:
    """Call a program and check its result. `genlab.rasp.lang.graph.here` identifies this function by its name."""
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
        given = "a sequence of another run"
    elif isinstance(out, np.ndarray | list | tuple):
        given = f"{np.shape(out)[-1] if np.shape(out) else 0} plain values"
    raise ProgramError(f"{name} returned {given}, not a sequence of {x.shape[1]} positions computed from its input")


def decode(program: Program, prompts: Ints, lengths: Ints, limit: int, end: int) -> tuple[Ints, Ints]:
    """Decode answers token by token.

    Args:
        program: the program.
        prompts: int[n, pos]; values beyond the length of a row are ignored.
        lengths: number of tokens of each prompt, int[n].
        limit: the maximum number of tokens to decode, including `end`.
        end: the value that ends an answer.

    Returns:
        The decoded tokens, int[n, limit], and the number of tokens of each row, int[n], including `end`.
    """
    n, rows = len(prompts), np.arange(len(prompts))
    tape = np.concatenate([prompts, np.full((n, limit), end)], axis=1)
    tape[np.arange(tape.shape[1]) >= lengths[:, None]] = end
    written = np.zeros(n, np.int64)
    active = np.ones(n, bool)
    for _ in range(limit):
        last = lengths + written - 1
        width = int(last[active].max()) + 1
        next_values = np.zeros(n, np.int64)
        next_values[active] = predict(program, tape[active, :width])[np.arange(active.sum()), last[active]]
        tape[rows[active], last[active] + 1] = next_values[active]
        written += active
        active &= next_values != end
        if not active.any():
            break
    positions = np.minimum(lengths[:, None] + np.arange(limit), tape.shape[1] - 1)
    return np.take_along_axis(tape, positions, axis=1), written
