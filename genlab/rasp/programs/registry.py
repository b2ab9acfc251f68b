"""Which programs there are, by task and format."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, update_wrapper
from types import MappingProxyType
from typing import Any

from genlab.errors import UserError, nearest
from genlab.rasp.programs import (
    addition_hints,
    addition_plain,
    counts,
    modular,
    nesting,
    parity,
    places,
    single,
    strings,
)
from genlab.rasp.running import Program

__all__ = ["OPEN", "PROGRAMS", "Entry", "best", "bind", "entries"]


@dataclass(frozen=True)
class Entry:
    """A program that is right for a task in one format, at all lengths.

    Attributes:
        task, format: what it answers.
        program: a function of the tokens so far; further arguments are parameters of the task.
        rules: the rule set within which it is the shortest known: strict, c-rasp, or library where no strictly
            legal one is known.
        splits: where it is right; none named: on every split of the task.
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
    Entry("addition", "forward", addition_plain.forward_plain, "library", splits=_LEVEL_LENGTHS),
    Entry("addition", "reversed", addition_plain.reversed_plain, "library"),
    Entry("addition", "forward-hints", addition_hints.forward_hints),
    Entry("addition", "reversed-hints", addition_hints.reversed_hints),
    Entry("and-fixed-bits", "plain", single.and_of_bits),
    Entry("associative-recall", "one-query", single.value_of_key),
    Entry("associative-recall", "every-query", places.values_in_order, "library"),
    Entry("brackets", "plain", nesting.nested),
    Entry("bucket-sort", "plain", counts.bucket_sort),
    Entry("compare-occurrence", "plain", counts.compare_occurrence),
    Entry("copy", "unique", strings.copy_unique),
    Entry("copy", "repeats", strings.copy_repeats, "library"),
    Entry("copy", "reverse", strings.reverse_unique),
    Entry("count", "plain", strings.count),
    Entry("cycle-navigation", "plain", modular.cycle_navigation, "library"),
    Entry("duplicate-string", "plain", places.duplicate_string, "library"),
    Entry("dyck", "plain", nesting.dyck, "library"),
    Entry("dyck-next", "next", nesting.closing_next_bounded, splits=_SHALLOW),
    Entry("dyck-next", "next", nesting.closing_next_counting, "c-rasp", splits=_SHALLOW),
    Entry("dyck-next", "next", nesting.closing_next, "library"),
    Entry("dyck-next", "rest", nesting.closing_rest_bounded, splits=_SHALLOW),
    Entry("dyck-next", "rest", nesting.closing_rest_counting, "c-rasp", splits=_SHALLOW),
    Entry("dyck-next", "rest", nesting.closing_rest, "library"),
    Entry("even-pairs", "plain", single.even_pairs),
    Entry("interlocked-pairing", "plain", counts.interlocked_pairing),
    Entry("majority", "plain", counts.majority),
    Entry("max-retrieval", "tokens", single.value_of_largest),
    Entry("missing-duplicate", "plain", places.missing_duplicate, "library"),
    Entry("mode", "plain", counts.mode),
    Entry("mode", "plain", counts.mode_of_counts, "c-rasp"),
    Entry("mode", "by-symbol", counts.mode_by_symbol, "library"),
    Entry("mode", "by-count", counts.mode_by_count, "library"),
    Entry("modular-chain", "sum", modular.chain_sum, "library"),
    Entry("modular-chain", "running", modular.chain_running, "library"),
    Entry("modular-chain", "left-to-right", modular.chain_left_to_right, "library"),
    Entry("modular-chain", "precedence", modular.chain_precedence, "library"),
    Entry("needle", "text", single.value_of_key),
    Entry("odds-first", "plain", places.odds_first, "library"),
    Entry("parity", "plain", parity.parity, "library"),
    Entry("parity", "running", parity.parity_running),
    Entry("parity", "scratchpad", parity.parity_scratchpad),
    Entry("repeats", "text", single.next_of_context, "library"),
    Entry("reverse", "repeats", strings.reverse_repeats, "library"),
    Entry("reverse", "unique", strings.reverse_unique),
    Entry("sort", "plain", strings.sort),
    Entry("stack-manipulation", "plain", places.stack, "library"),
)

OPEN: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("binary-multiplication", "*"): "each digit of a product sums over all pairs of digits: no program is known, "
        "and the sum of so many counts is no comparison",
        ("max-retrieval", "values"): "its items are real numbers; the language has integers. Format 'tokens' has a "
        "program",
        ("maze", "*"): "a shortest path needs as many steps as it is long; a program has a fixed depth, so it could "
        "only follow paths of bounded length or forkless ones by their scratchpad. None is written",
        ("modular", "*"): "one operation on two numbers is one finite table: a program says nothing about it, since "
        "nothing in it grows",
        ("modular-brackets", "*"): "evaluating a formula over a field is complete for NC1, which no counting program "
        "is believed to reach; modular-chain has programs",
        ("modular-icl", "*"): "a linear system over a field has to be solved in context: no program is known",
        ("question-formation", "*"): "the main auxiliary is found by the depth of clauses; no program is written",
        ("tense-reinflection", "*"): "the subject is found by the depth of clauses; no program is written",
        ("solve-equation", "*"): "the sign of a number is a parity of brackets around it: no legal program is known, "
        "for the reason that none is for parity",
        ("square-root", "*"): "long division by hand has as many steps as digits: no program is known",
    }
)
"""What is known where no program is given; `*` stands for all formats."""


def entries(task: str, format: str) -> tuple[Entry, ...]:
    """All programs for a task in one format, the narrowest rule set first.

    Raises:
        UserError: there is none; says what is known.
    """
    found = [entry for entry in PROGRAMS if (entry.task, entry.format) == (task, format)]
    if found:
        return tuple(sorted(found, key=lambda entry: ("strict", "c-rasp", "library").index(entry.rules)))
    known = OPEN.get((task, format)) or OPEN.get((task, "*"))
    if known:
        raise UserError(f"no program for task {task!r}, format {format!r}: {known}")
    formats = sorted({entry.format for entry in PROGRAMS if entry.task == task})
    near = nearest(task, {entry.task for entry in PROGRAMS})
    hint = f"; formats with a program: {', '.join(formats)}" if formats else f"; nearest task: {near}" if near else ""
    raise UserError(f"no program for task {task!r}, format {format!r}{hint}")


def best(task: str, format: str) -> Entry:
    """The shortest strictly legal program, or else the shortest that the library runs."""
    return entries(task, format)[0]


def bind(program: Program, params: Mapping[str, Any]) -> Program:
    """A program with those of a task's parameters that it asks for.

    >>> bind(addition_hints.reversed_hints, {"base": 2, "leading_zero": True, "other": 3}).keywords
    {'base': 2, 'leading_zero': True}
    """
    wanted = list(inspect.signature(program).parameters)[1:]
    return update_wrapper(partial(program, **{name: params[name] for name in wanted if name in params}), program)
