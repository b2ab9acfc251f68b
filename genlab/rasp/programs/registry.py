"""The registry of programs, by task and format."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial, update_wrapper
from types import MappingProxyType
from typing import Any

from genlab.errors import UserError, nearest
from genlab.rasp.programs import addition, counts, english, modular, nesting, one_pass
from genlab.rasp.running import Program


@dataclass(frozen=True)
class Entry:
    """A program that is right at all lengths for a task in one format.

    Attributes:
        task, format: the task and format that it solves.
        program: a function of the tokens so far; its other arguments are parameters of the task.
        rules: the rule set under which it is the shortest program known: `strict`, `c-rasp`, or `library` if no
            strictly legal program is known.
        splits: the splits on which it is right; empty for all splits of the task.
    """

    task: str
    format: str
    program: Program
    rules: str = "strict"
    splits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.program.__name__

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.program) or "").split("\n")[0]


_LEVEL_LENGTHS = ("id", "balanced", "long-carry", "no-carry")
_SHALLOW = ("id", "far", "one-type")

PROGRAMS: tuple[Entry, ...] = (
    Entry("addition", "forward", addition.forward_plain, "library", splits=_LEVEL_LENGTHS),
    Entry("addition", "reversed", addition.reversed_plain, "library"),
    Entry("addition", "forward-hints", addition.forward_hints),
    Entry("addition", "reversed-hints", addition.reversed_hints),
    Entry("and-fixed-bits", "plain", one_pass.and_of_bits),
    Entry("associative-recall", "in-place", one_pass.value_of_this_key),
    Entry("associative-recall", "one-query", one_pass.value_of_key),
    Entry("associative-recall", "every-query", counts.values_in_order, "library"),
    Entry("brackets", "plain", nesting.nested),
    Entry("brackets", "published", nesting.nested),
    Entry("bucket-sort", "plain", counts.bucket_sort),
    Entry("compare-occurrence", "plain", counts.compare_occurrence),
    Entry("copy", "unique", one_pass.copy_unique),
    Entry("copy", "repeats", one_pass.copy_repeats, "library"),
    Entry("copy", "reverse", one_pass.reverse_unique),
    Entry("count", "plain", one_pass.count),
    Entry("cycle-navigation", "plain", modular.cycle_navigation, "library"),
    Entry("duplicate-string", "plain", counts.duplicate_string, "library"),
    Entry("dyck", "plain", nesting.dyck, "library"),
    Entry("dyck-next", "next", nesting.closing_next_bounded, splits=_SHALLOW),
    Entry("dyck-next", "next", nesting.closing_next_counting, "c-rasp", splits=_SHALLOW),
    Entry("dyck-next", "next", nesting.closing_next, "library"),
    Entry("dyck-next", "rest", nesting.closing_rest_bounded, splits=_SHALLOW),
    Entry("dyck-next", "rest", nesting.closing_rest_counting, "c-rasp", splits=_SHALLOW),
    Entry("dyck-next", "rest", nesting.closing_rest, "library"),
    Entry("even-pairs", "plain", one_pass.even_pairs),
    Entry("interlocked-pairing", "plain", counts.interlocked_pairing),
    Entry("majority", "plain", counts.majority),
    Entry("max-retrieval", "tokens", one_pass.value_of_largest),
    Entry("missing-duplicate", "plain", counts.missing_duplicate, "library"),
    Entry("mode", "plain", counts.mode),
    Entry("mode", "plain", counts.mode_of_counts, "c-rasp"),
    Entry("mode", "by-symbol", counts.mode_by_symbol, "library"),
    Entry("mode", "by-count", counts.mode_by_count, "library"),
    Entry("modular", "plain", one_pass.looked_up),
    Entry("modular", "bare", one_pass.looked_up),
    Entry("modular-chain", "sum", modular.chain_sum, "library"),
    Entry("modular-chain", "running", modular.chain_running, "library"),
    Entry("modular-chain", "left-to-right", modular.chain_left_to_right, "library"),
    Entry("modular-chain", "precedence", modular.chain_precedence, "library"),
    Entry("needle", "text", one_pass.value_of_key),
    Entry("odds-first", "plain", counts.odds_first, "library"),
    Entry("odds-first", "published", counts.evens_first, "library"),
    Entry("parity", "plain", one_pass.parity, "library"),
    Entry("parity", "running", one_pass.parity_running),
    Entry("parity", "scratchpad", one_pass.parity_scratchpad),
    Entry("question-formation", "plain", english.main_auxiliary_moves, "library"),
    Entry("repeats", "text", one_pass.next_of_context, "library"),
    Entry("reverse", "repeats", one_pass.reverse_repeats, "library"),
    Entry("reverse", "unique", one_pass.reverse_unique),
    Entry("solve-equation", "plain", modular.solve_equation, "library"),
    Entry("solve-equation", "published", modular.solve_signed_equation, "library"),
    Entry("sort", "plain", one_pass.sort),
    Entry("stack-manipulation", "plain", counts.stack, "library"),
    Entry("tense-reinflection", "plain", english.verb_agrees_with_subject, "library"),
)

_registered: list[Entry] = []


def program(
    task: str, format: str, rules: str = "strict", splits: tuple[str, ...] = ()
) -> Callable[[Program], Program]:
    """Register the function below as a program for a task in one format (arguments as in `Entry`)."""

    def register(function: Program) -> Program:
        entry = Entry(task, format, function, rules, splits)
        known = [e for e in _registered if (e.task, e.format, e.name) == (task, format, entry.name)]
        _registered[:] = [e for e in _registered if e not in known] + [entry]
        return function

    return register


def registered() -> tuple[Entry, ...]:
    """The programs registered by `program`: those of further files of this package, and of loaded files."""
    _declared()
    return tuple(_registered)


@cache
def _declared() -> None:
    """Import every file of this package, so that adding programs is adding a file."""
    package = importlib.import_module("genlab.rasp.programs")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


# These reasons are part of sealed.json: do not change their texts.
_MAZE = (
    "a shortest path needs as many steps as it is long; a program has a fixed depth, so that it could only follow "
    "paths of bounded length"
)
_FORMULA = (
    "evaluating a formula over a field is complete for NC1, which no program of fixed depth is believed to reach. "
    "Without products solve-equation's program does it"
)
_PRODUCT = "each digit of a product sums over pairs of digits, of which an attention sees one digit"

OPEN: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("binary-multiplication", "forward"): _PRODUCT,
        ("binary-multiplication", "reversed"): _PRODUCT,
        ("max-retrieval", "values"): "its items are real numbers, which no token shows; the language has integers. "
        "Format 'tokens' has a program",
        ("maze", "cells"): _MAZE,
        ("maze", "coordinates"): _MAZE,
        ("maze", "directions"): _MAZE,
        ("modular-brackets", "plain"): _FORMULA,
        ("modular-brackets", "published"): _FORMULA,
        ("modular-icl", "plain"): "one or two shots do not tell the task, so no program is right at all lengths; "
        "and which token of a triple it is at, a program only knows by the index modulo 3",
        ("square-root", "plain"): "long division by hand has as many steps as digits",
        (
            "tomita",
            "next",
        ): "its seven languages have no program in common: 1, 2 and 4 look at the symbols just "
        "before, 5 and 6 count as parity does",
    }
)
"""(task, format) without a program -> the reason."""


def entries(task: str, format: str) -> tuple[Entry, ...]:
    """All programs for a task in one format, the narrowest rule set first.

    Raises:
        UserError: there is none; the message gives the reason if one is known.
    """
    every = (*PROGRAMS, *registered())
    found = [entry for entry in every if (entry.task, entry.format) == (task, format)]
    if found:
        return tuple(sorted(found, key=lambda entry: ("strict", "c-rasp", "library").index(entry.rules)))
    known = OPEN.get((task, format))
    if known:
        raise UserError(f"no program for task {task!r}, format {format!r}: {known}")
    formats = sorted({entry.format for entry in every if entry.task == task})
    near = nearest(task, {entry.task for entry in every})
    hint = f"; formats with a program: {', '.join(formats)}" if formats else f"; nearest task: {near}" if near else ""
    raise UserError(f"no program for task {task!r}, format {format!r}{hint}")


def best(task: str, format: str) -> Entry:
    """The shortest strictly legal program, or the shortest one under wider rules if no legal one is known.

    Raises:
        UserError: there is no program.
    """
    return entries(task, format)[0]


def bind(program: Program, params: Mapping[str, Any]) -> Program:
    """Bind the parameters of a task that a program takes as arguments.

    >>> bind(addition.reversed_hints, {"base": 2, "leading_zero": True, "other": 3}).keywords
    {'base': 2, 'leading_zero': True}
    """
    wanted = list(inspect.signature(program).parameters)[1:]
    return update_wrapper(partial(program, **{name: params[name] for name in wanted if name in params}), program)
