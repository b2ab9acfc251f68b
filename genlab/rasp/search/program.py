"""The text of a program that was found, and the program as the language runs it."""

from __future__ import annotations

from typing import Any

from genlab.rasp import lang
from genlab.rasp.running import Program
from genlab.rasp.search.engine import INPUT
from genlab.rasp.search.grammar import Grammar

Derivation = list[tuple[int, tuple[Any, ...], tuple[int, ...]]]


def program_text(steps: Derivation, grammar: Grammar, name: str) -> str:
    """A program as a Python function, an operation per line.

    Args:
        steps: node, operation and arguments of each step (`Enumeration.derivations`).
        grammar: the grammar whose functions the operations name by number.
        name: the name of the function.
    """
    names = {INPUT: "x"}
    lines = [f"def {name}(x):"]
    for node, label, arguments in steps:
        names[node] = _LETTERS[len(names) - 1]
        lines.append(f"    {names[node]} = {_call(label, [names[each] for each in arguments], grammar)}")
    return "\n".join([*lines, f"    return {names[steps[-1][0]]}", ""])


_LETTERS = "abcdefghijklmnopqrs"


def _call(label: tuple[Any, ...], names: list[str], grammar: Grammar) -> str:
    """One operation as text."""
    match label:
        case ("indices",):
            return "indices(x)"
        case ("full", constant):
            return f"full(x, {constant})"
        case ("tok_map", number):
            return f"tok_map({names[0]}, lambda x: {grammar.token_maps[number].text})"
        case ("seq_map", number, swapped):
            first, second = names[::-1] if swapped else names
            return f"seq_map({first}, {second}, lambda x, y: {grammar.sequence_maps[number].text})"
        case ("key_select", number):
            return f"select({names[0]}, x, lambda k, q: {grammar.key_predicates[number].text})"
        case ("select", number, swapped):
            first, second = names[::-1] if swapped else names
            return f"select({first}, {second}, lambda k, q: {grammar.predicates[number].text})"
        case ("sel_width",):
            return f"sel_width({names[0]})"
        case ("aggr", reduction, default):
            return f'aggr({names[0]}, {names[1]}, default={default}, reduction="{reduction}")'
        case _:
            raise AssertionError(label)


def program_from(text: str) -> Program:
    """The function of a program's text."""
    space: dict[str, Any] = {name: getattr(lang, name) for name in lang.__all__}
    exec(compile(text, "<found>", "exec"), space)
    return next(value for name, value in space.items() if name == text[4 : text.index("(")])
