"""What a Python function does to a scale, determined by calling it rather than from its source.

A legal map of one scale returns a constant or moves by a constant number of steps. A legal map of two scales does so
in each case that a comparison can distinguish (x below y, x equal to y, x above y by one, ...). The function is
called on values that represent the whole scale and must treat all of them the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.domain import SMALL, STEP, Domain, Raised, Scale, pairs, scalar

Ints = NDArray[np.int64]
Func = Callable[..., Any]
Case = tuple[str, int]
"""The result of a map in one case: ("const", value), or the first or second argument moved: ("x" or "y", steps)."""


@dataclass
class MapShape:
    """The results of a map on a domain.

    Attributes:
        tokens: the results that lie on no scale.
        scales: the scales of the other results.
        faults: the reasons why it is not a legal map of its scales; empty if it is legal.
        steps: the most steps by which it moves a value on a scale.
    """

    tokens: set[int] = field(default_factory=set[int])
    scales: set[Scale] = field(default_factory=set[Scale])
    faults: list[str] = field(default_factory=list[str])
    steps: int = 0

    def add(self, case: Case, scales: dict[str, Scale]) -> None:
        """Add the result of one case."""
        if case[0] == "const":
            self.tokens.add(case[1])
        else:
            self.scales.add(scales[case[0]])
            self.steps = max(self.steps, abs(case[1]))


def map_shape(func: Func, domains: list[Domain], as_bool: list[bool]) -> MapShape:
    """The results and faults of a map of one or two sequences.

    Args:
        func: the function of the map.
        domains: the domain of each argument.
        as_bool: for each argument, whether the function receives booleans.
    """
    shape = MapShape()
    parts = [_parts(domain) for domain in domains]
    for chosen in product(*parts):
        try:
            _map_part(shape, scalar(func, as_bool), chosen)
        except Raised as raised:
            shape.faults.append(f"raises {raised}: it has no value there")
    return shape


def _parts(domain: Domain) -> list[frozenset[int] | Scale]:
    """The tokens of a domain (one part) and each of its scales."""
    return ([domain.tokens] if domain.tokens else []) + sorted(domain.scales)


def _map_part(shape: MapShape, call: Func, chosen: tuple[frozenset[int] | Scale, ...]) -> None:
    scales = {name: part for name, part in zip("xy", chosen, strict=False) if isinstance(part, Scale)}
    if not scales:
        columns = [np.array(sorted(part)) for part in chosen if not isinstance(part, Scale)]
        shape.tokens |= set(call(*pairs(columns)).tolist())
        return
    if len(scales) == len(chosen) == 2:
        _map_two_scales(shape, call, scales)
        return
    fixed = next((part for part in chosen if not isinstance(part, Scale)), None)
    (name,) = scales
    for token in [None] if fixed is None else sorted(fixed):

        def one(values: Ints, token: int | None = token) -> Ints:
            if token is None:
                return call(values)
            constant = np.full_like(values, token)
            return call(values, constant) if name == "x" else call(constant, values)

        _map_one_scale(shape, one, name, scales)


def _map_one_scale(shape: MapShape, call: Func, name: str, scales: dict[str, Scale]) -> None:
    scale = scales[name]
    case = _case(call(scale.far), {name: scale.far})
    if case is None:
        shape.faults.append(_beyond(scale))
        return
    shape.add(case, scales)
    for value, given in zip(scale.near.tolist(), call(scale.near).tolist(), strict=True):
        if case != (name, given - value):
            shape.tokens.add(given)


def _map_two_scales(shape: MapShape, call: Func, scales: dict[str, Scale]) -> None:
    first, second = scales["x"], scales["y"]
    if not first.comparable(second):
        x, y = pairs(_crossing(first, second))
        case = _case(call(x, y), {"x": x, "y": y})
        if case is None:
            shape.faults.append(f"compares or combines {with_article(first.kind)} with {with_article(second.kind)}")
        else:
            shape.add(case, scales)
        return
    x, y = pairs([first.far, second.far])
    given, apart = call(x, y), np.clip(x - y, -STEP - 1, STEP + 1)
    cases = {int(gap): _case(given[apart == gap], {"x": x[apart == gap], "y": y[apart == gap]}) for gap in set(apart)}
    for case in cases.values():
        if case is None:
            kinds = f"{with_article(first.kind)} and {with_article(second.kind)}"
            shape.faults.append(f"does more with {kinds} than compare them or move one by a constant")
            return
    for case in filter(None, cases.values()):
        shape.add(case, scales)
    constants = any(case is not None and case[0] == "const" for case in cases.values())
    for name, other in (("x", second), ("y", first)):
        for token in other.near.tolist():
            case = _beside(call, name, scales[name], token)
            if case is None:
                shape.faults.append(_beyond(scales[name]))
                return
            if case[0] != "const" or constants:
                shape.add(case, scales)
    if constants:
        shape.tokens |= {v for v in call(*pairs([first.near, second.near])).tolist() if abs(v) <= SMALL + STEP}


def _beside(call: Func, name: str, scale: Scale, token: int) -> Case | None:
    """The result of a map of two scales where one has the value `token` and the other is far above it."""
    values = scale.far[scale.far > token + STEP]
    constant = np.full_like(values, token)
    given = call(values, constant) if name == "x" else call(constant, values)
    return _case(given, {name: values})


def _crossing(first: Scale, second: Scale) -> list[Ints]:
    """Values of two incomparable scales, chosen to expose a function that compares them.

    Hints keep their values; indices and counts, which are unbounded, extend past them.
    """
    both = np.concatenate([first.far, second.far])
    return [scale.far if scale.kind == "hint" else both for scale in (first, second)]


def _case(given: Ints, arguments: dict[str, Ints]) -> Case | None:
    """The single case that explains all of these results, or None."""
    if (given == given[0]).all():
        return ("const", int(given[0]))
    moves = [(name, given - values) for name, values in arguments.items()]
    constant = [(name, int(steps[0])) for name, steps in moves if (steps == steps[0]).all()]
    # If x - y is constant, y is x moved by a constant: take the shorter move.
    name, steps = min(constant, key=lambda case: abs(case[1]), default=("", STEP + 1))
    return (name, steps) if abs(steps) <= STEP else None


@dataclass(frozen=True)
class Relation:
    """How a predicate relates keys and queries on two scales, or on a scale and a token.

    Attributes:
        fault: why it is not a comparison; empty if it is one.
        constant: its value if it is the same for all keys and queries, else None.
        ordered: whether it only compares the order (by a constant margin).
        single: whether it holds at exactly one distance, so that of distinct keys at most one matches a query.
    """

    fault: str = ""
    constant: bool | None = None
    ordered: bool = False
    single: bool = False


def relation(pred: Func, key: Scale | int, query: Scale | int, as_bool: list[bool]) -> Relation:
    """The relation that a predicate tests between a key and a query.

    Args:
        pred: pred(key, query).
        key, query: a scale, or a single token; at least one is a scale.
        as_bool: for the key and the query, whether the predicate receives booleans.
    """
    call = scalar(pred, as_bool)
    if isinstance(key, Scale) and isinstance(query, Scale):
        columns = [key.far, query.far] if key.comparable(query) else _crossing(key, query)
    else:
        columns = [
            np.concatenate([part.near, part.far]) if isinstance(part, Scale) else np.array([part])
            for part in (key, query)
        ]
    x, y = pairs(columns)
    try:
        met = (call(x, y) != 0).astype(np.int64)
    except Raised as raised:
        return Relation(fault=f"raises {raised}")
    if (met == met[0]).all():
        return Relation(constant=bool(met[0]))
    if not (isinstance(key, Scale) and isinstance(query, Scale)):
        return _to_a_token(met, key if isinstance(key, Scale) else query)
    if not key.comparable(query):
        return Relation(fault=f"compares {with_article(key.kind)} with {with_article(query.kind)}")
    return _by_distance(met, x - y, key, query)


def _by_distance(met: Ints, apart: Ints, key: Scale, query: Scale) -> Relation:
    apart = np.clip(apart, -STEP - 1, STEP + 1)
    pattern: list[int] = []
    for gap in range(-STEP - 1, STEP + 2):
        values = met[apart == gap]
        if (values != values[0]).any():
            return Relation(
                fault=f"does more with {with_article(key.kind)} and {with_article(query.kind)} than compare them"
            )
        pattern.append(int(values[0]))
    changes = sum(a != b for a, b in pairwise(pattern))
    return Relation(ordered=changes == 1, single=sum(pattern) == 1 and not pattern[0] and not pattern[-1])


def _to_a_token(met: Ints, scale: object) -> Relation:
    """The relation of a scale to one constant; `met` is for the near values followed by the far ones, int[value]."""
    if not isinstance(scale, Scale):
        raise TypeError("at least one side of a relation must be a scale")
    far = met[len(scale.near) :]
    if not (far == far[0]).all():
        return Relation(fault=f"does more with {with_article(scale.kind)} than compare it with a small constant")
    return Relation(ordered=int(np.count_nonzero(np.diff(met))) <= 1, single=int(met.sum()) == 1)


def _beyond(scale: Scale) -> str:
    return f"does more with {with_article(scale.kind)} than compare it or move it by a constant"


def with_article(kind: str) -> str:
    """The name of a kind with its indefinite article."""
    return f"an {kind}" if kind == "index" else f"a {kind}"
