"""The finite grammar of the search: which maps, predicates, reductions and constants a program may use.

The language itself lets a map be any Python function, so that there is no shortest program without a grammar. This
one has the comparisons of the published library, minimum and maximum, successor and predecessor, and choices by one
constant; a predicate compares key and query, or the key with a constant. Constants are 0, 1 and the tokens of the
task that are neither hints nor numerals above 1, at most `MOST_CONSTANTS` of them.

Every operation has one form for arrays, by which behaviors are computed, and one as Python text, by which the program
is rebuilt; `tests/rasp/test_rasp_search.py` compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from genlab.errors import unknown
from genlab.rasp.lang.domain import Scale, tokens
from genlab.rasp.lang.shapes import map_shape, relation
from genlab.rasp.tokens import END, LETTER, SEP, TokenMap

GRAMMARS = ("strict", "library", "c-rasp")
"""The rule sets that a search can be confined to (`genlab.rasp.analysis.rules`)."""
MOST_CONSTANTS = 6

Func = Callable[..., Any]


@dataclass(frozen=True)
class Function:
    """A map or predicate of the grammar.

    Attributes:
        text: its value for numbers `x` and `y` (a map), or for key `k` and query `q` (a predicate), as Python.
        func: the same for arrays, elementwise.
        symmetric: whether its two arguments may be exchanged.
    """

    text: str
    func: Func
    symmetric: bool = False


@dataclass(frozen=True)
class Grammar:
    """All operations that a program may use.

    Attributes:
        rules: the rule set that programs must be legal under.
        constants: the values that `full` gives.
        token_maps, sequence_maps: the functions of `tok_map` and of `seq_map`.
        key_predicates: predicates of the key alone.
        predicates: predicates of key and query.
        defaults: the results of an aggregation that selects no key.
        reductions: how `aggr` combines what is selected.
    """

    rules: str
    constants: tuple[int, ...]
    token_maps: tuple[Function, ...]
    sequence_maps: tuple[Function, ...]
    key_predicates: tuple[Function, ...]
    predicates: tuple[Function, ...]
    defaults: tuple[int, ...]
    reductions: tuple[str, ...] = ("mean", "max", "min")

    def lines(self) -> list[str]:
        """The grammar as text, a line per operation."""
        both = [f.text for f in (*self.key_predicates, *self.predicates)]
        return [
            f"full: {', '.join(map(str, self.constants))}",
            "indices",
            f"tok_map: {'; '.join(f.text for f in self.token_maps)}",
            f"seq_map: {'; '.join(f.text for f in self.sequence_maps)}",
            f"select: {'; '.join(both)}",
            f"aggr: {', '.join(self.reductions)}, with default {', '.join(map(str, self.defaults))}",
            "sel_width",
        ]


def grammar_of(rules: str, tokens: TokenMap, used: frozenset[int], answers: frozenset[int]) -> Grammar:
    """The grammar for a task.

    Args:
        rules: the rule set, one of `GRAMMARS`.
        tokens: the tokens of the task.
        used: the token values that occur in its examples.
        answers: the token values that occur in its answers.

    Raises:
        UserError: the rule set is unknown.
    """
    if rules not in GRAMMARS:
        raise unknown("grammar", rules, GRAMMARS)
    hint_base = {"letters": LETTER, "numerals": 0}.get(tokens.hints)
    plain = [v for v in sorted(used) if not (hint_base is not None and hint_base <= v < hint_base + LETTER)]
    special = [v for v in plain if v not in (0, 1, END, SEP) and not 1 < v < LETTER]
    common = [v for v in (0, 1, SEP) if v in used or v == 0]
    constants = [*common, *special[: MOST_CONSTANTS - len(common)]]
    outputs = [v for v in sorted(answers) if v in special]
    token_maps = [_moved(1), _moved(-1), *(_is(c) for c in dict.fromkeys([0, *constants]))]
    token_maps += [_replaced(c, END) for c in constants if c == SEP]
    if len(outputs) == 2:
        token_maps += [_chosen(*outputs), _chosen(*reversed(outputs))]
    sentinels = [c for c in dict.fromkeys((0, SEP, END)) if c in (0, END) or c in used]
    sequence_maps = [*COMPARISONS, *(f(c) for c in sentinels for f in (_filled, _kept)), _unless]
    if SEP in used:
        sequence_maps.append(_answer)
    if rules != "strict":
        sequence_maps += [_PLUS, _MINUS]
    if rules == "library":
        token_maps.append(Function("x % 2", lambda x: x % 2))
    return Grammar(
        rules,
        constants=tuple(dict.fromkeys((0, 1))),
        token_maps=tuple(token_maps),
        sequence_maps=tuple(sequence_maps),
        key_predicates=(_ALWAYS, _TRUE, *(_key_is(c) for c in dict.fromkeys([0, 1, *constants]))),
        predicates=PREDICATES,
        defaults=tuple(dict.fromkeys((0, 1, END, *([SEP] if SEP in used else [])))),
    )


def _moved(steps: int) -> Function:
    return Function(f"x {'+' if steps > 0 else '-'} {abs(steps)}", lambda x: x + steps)


def _is(c: int) -> Function:
    return Function(f"int(x == {c})", lambda x: x == c)


def _replaced(c: int, d: int) -> Function:
    return Function(f"{d} if x == {c} else x", lambda x: np.where(x == c, d, x))


def _chosen(yes: int, no: int) -> Function:
    return Function(f"{yes} if x else {no}", lambda x: np.where(x != 0, yes, no))


def _filled(c: int) -> Function:
    return Function(f"y if x == {c} else x", lambda x, y: np.where(x == c, y, x))


def _kept(c: int) -> Function:
    return Function(f"x if x == {c} else y", lambda x, y: np.where(x == c, x, y))


def _key_is(c: int) -> Function:
    return Function(f"k == {c}", lambda k, q: (k == c) & (q == q))


COMPARISONS = (
    Function("int(x == y)", lambda x, y: x == y, symmetric=True),
    Function("int(x < y)", lambda x, y: x < y),
    Function("int(x <= y)", lambda x, y: x <= y),
    Function("min(x, y)", lambda x, y: np.minimum(x, y), symmetric=True),
    Function("max(x, y)", lambda x, y: np.maximum(x, y), symmetric=True),
)
PREDICATES = (
    Function("k == q", lambda k, q: k == q),
    Function("k < q", lambda k, q: k < q),
    Function("k <= q", lambda k, q: k <= q),
    Function("k > q", lambda k, q: k > q),
    Function("k >= q", lambda k, q: k >= q),
    Function("k + 1 == q", lambda k, q: k + 1 == q),
)
_ALWAYS = Function("True", lambda k, q: (k == k) & (q == q))
_TRUE = Function("k != 0", lambda k, q: (k != 0) & (q == q))
_unless = Function("0 if x else y", lambda x, y: np.where(x != 0, 0, y))
_answer = Function(f"y if x == {SEP} else {END}", lambda x, y: np.where(x == SEP, y, END))
_PLUS = Function("x + y", lambda x, y: x + y, symmetric=True)
_MINUS = Function("x - y", lambda x, y: x - y)


# -- Kinds: what a rule set forbids whatever the tokens are
#
# A kind is a set of scales as bits, and UNDEFINED if it depends on a mean of a scale. It holds fewer scales than the
# sequence may take, never more, so that what is left out here is illegal. Whole programs are judged by `verdicts`.

HINT, INDEX, COUNT, UNDEFINED = 1, 2, 4, 8
SCALES = {HINT: "hint", INDEX: "index", COUNT: "count"}
ILLEGAL = -1


class Kinds:
    """The kind of every operation's result, from the kinds of its arguments, and the operations that are illegal.

    Kinds are tracked under the strict rules and for C-RASP; in the library everything is allowed and every kind is 0.
    """

    def __init__(self, grammar: Grammar, hints_from: int | None):
        self.grammar, self.hints_from = grammar, hints_from
        self.strict, self.counting = grammar.rules == "strict", grammar.rules == "c-rasp"
        self.tracked = self.strict or self.counting
        self._known: dict[tuple[Any, ...], int] = {}

    @property
    def of_input(self) -> int:
        """The kind of the input."""
        return HINT if self.strict and self.hints_from is not None else 0

    def scales(self, kind: int) -> list[Scale]:
        """The scales of a kind."""
        starts = {HINT: self.hints_from or 0}
        return [Scale(name, starts.get(bit, 0)) for bit, name in SCALES.items() if kind & bit]

    def of_map(self, function: Function, kinds: tuple[int, ...], seen: tuple[tuple[int, ...], ...]) -> int:
        """The kind of a map's result, or `ILLEGAL`.

        Args:
            function: the map.
            kinds: the kind of each argument.
            seen: tokens that each argument takes; only those of arguments without a scale matter.
        """
        if not any(kinds):
            return 0
        key = (function.text, kinds, seen)
        if key not in self._known:
            self._known[key] = self._map(function, kinds, seen)
        return self._known[key]

    def _map(self, function: Function, kinds: tuple[int, ...], seen: tuple[tuple[int, ...], ...]) -> int:
        undefined = int(np.bitwise_or.reduce(kinds)) & UNDEFINED
        domains = [
            replace_scales(values if not kind & ~UNDEFINED else (), self.scales(kind))
            for kind, values in zip(kinds, seen, strict=True)
        ]
        with np.errstate(all="ignore"):
            shape = map_shape(_as_elementwise(function.func), domains, [False] * len(kinds))
        if shape.faults and self.strict:
            return ILLEGAL
        bits = sum(bit for bit, name in SCALES.items() if name in {scale.kind for scale in shape.scales})
        if shape.faults:  # C-RASP adds counts
            bits |= int(np.bitwise_or.reduce(kinds)) & ~UNDEFINED if function.text in ("x + y", "x - y") else 0
        return bits | undefined

    def of_select(self, predicate: Function, key: int, query: int, unary: bool) -> tuple[int, bool]:
        """The kind of a selection, or `ILLEGAL`, and whether it is legal only for a query that is an extreme."""
        undefined = (key | query) & UNDEFINED
        if not (key | query) & ~UNDEFINED:
            return undefined, False
        cached = self._known.get((predicate.text, key, query, unary))
        if cached is None:
            cached = self._known[predicate.text, key, query, unary] = self._select(predicate, key, query, unary)
        return (ILLEGAL, False) if cached == ILLEGAL else (undefined, cached == 1)

    def _select(self, predicate: Function, key: int, query: int, unary: bool) -> int:
        """`ILLEGAL`, 0 if legal, or 1 if it is legal only for an extreme."""
        if predicate.text == "True":
            return 0
        keys, queries = self.scales(key), self.scales(query)
        if self.counting:
            return 0 if key & ~UNDEFINED == query & ~UNDEFINED == INDEX else ILLEGAL
        if unary:
            return ILLEGAL if key & COUNT else 0
        extreme = 0
        for one in keys:
            for other in queries:
                related = relation(_as_elementwise(predicate.func), one, other, [False, False])
                counts = "count" in (one.kind, other.kind)
                if related.fault or (counts and related.constant is None and not related.ordered):
                    return ILLEGAL
                if counts and related.constant is None:
                    extreme = 1
        return extreme

    def of_aggr(self, selected: int, values: int, reduction: str, one_key: bool) -> int:
        """The kind of an aggregation's result, or `ILLEGAL`. `one_key`: whether no query selects two keys."""
        if self.counting and values & (INDEX | COUNT):
            return ILLEGAL
        mean = reduction == "mean" and values & ~UNDEFINED and not one_key
        return values | selected | (UNDEFINED if mean and self.strict else 0)

    def may_be_written(self, kind: int) -> bool:
        """Whether an output of this kind can be legal."""
        return not self.tracked or not kind & (INDEX | COUNT | UNDEFINED)


def replace_scales(values: tuple[int, ...], scales: list[Scale]) -> Any:
    """A domain of these tokens and scales."""
    return type(tokens([]))(frozenset(values), frozenset(scales))


def _as_elementwise(func: Func) -> Func:
    def call(*columns: Any) -> Any:
        return func(*columns)

    call.__rasp_elementwise__ = True  # pyright: ignore[reportFunctionMemberAccess]
    return call
