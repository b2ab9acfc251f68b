"""Does the conjecture expect a task to generalise in length? A stated rule, from legality, length, depth and growth.

The rule, in the order of its clauses:

0. The examples of the task have one length: there is nothing to expect.
1. No strictly legal program is known: not expected. The reason names the rules that the shortest wider one breaks.
2. The shortest strictly legal program is longer than `LONGEST` operations or deeper than `DEEPEST` selects: not
   expected, since a shorter rule that fits the training lengths is then likely to be learned first.
3. Otherwise expected, for the position encodings that give the program the places it asks for:
   - it asks for no place: every encoding there is, none included;
   - it asks for a fixed distance: encodings that tell distances (learned at a random offset, rotary, ALiBi);
   - it asks for the beginning: encodings that tell it (learned, sinusoidal, and none, by counting);
   - it asks for a place that it has found: learned at a random offset alone.
   The rule was made for five encodings (`JUDGED`). Of others it says nothing where places are asked for: there
   generalisation is neither expected nor not expected.
   Counts over the whole input are shares to a softmax, of size 1 / length: where a program needs counts the reason
   says so. It also says how far counts and indices grow. They can only grow as the length does: what grows faster
   is no longer moved by a constant, and clause 1 refuses it.

The bounds were set with the outcomes of `genlab.rasp.sealing` in sight: for these the rule is a retrodiction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from genlab.rasp.analysis import Reading
from genlab.rasp.analysis.domain import COUNT, INDEX
from genlab.rasp.checker import Examination, examine, lengths_of, tokens_of
from genlab.rasp.lang.graph import Node
from genlab.rasp.lang.sequence import Shorthand
from genlab.rasp.programs.registry import OPEN, PROGRAMS, bind, entries, registered
from genlab.rasp.running import Program, trace
from genlab.spec import ModelConfig

LONGEST, DEEPEST = 40, 4
_MAX_LEN = 31

JUDGED = ("none", "learned", "sinusoidal", "rotary", "alibi")
"""The position encodings that the rule was made for."""
_EVERY: tuple[str, ...] = (
    *JUDGED,
    *(one for one in get_args(ModelConfig.model_fields["positions"].annotation) if one not in JUDGED),
)
ENCODINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "nowhere": _EVERY,
        "distance": ("learned", "rotary", "alibi"),
        "beginning": ("none", "learned", "sinusoidal"),
        "found": ("learned",),
    }
)
"""What a program asks for -> the encodings with which generalisation is expected.

An encoding that is not there is one with which it is not expected if it is in `JUDGED`, and unknown otherwise.
"""


@dataclass(frozen=True)
class Prediction:
    """What the rule says of one task and format.

    Attributes:
        task, format: what is predicted.
        expected: whether generalisation in length is expected.
        encodings: the position encodings for which it is; empty where it is not expected.
        unknown: those of which the rule says nothing; for all others generalisation is not expected.
        reason: why, in words.
        program: the program that decides, or empty.
        rules: the narrowest rule set that it is legal under.
        length, depth: its size.
    """

    task: str
    format: str
    expected: bool
    encodings: tuple[str, ...]
    reason: str
    program: str = ""
    rules: str = ""
    length: int = 0
    depth: int = 0
    unknown: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """As plain data."""
        plain = {**asdict(self), "encodings": list(self.encodings), "unknown": list(self.unknown)}
        return plain if self.unknown else {name: value for name, value in plain.items() if name != "unknown"}

    @property
    def verdict(self) -> str:
        """`expected`, `not expected`, or `nothing to expect`, where the rule says nothing whatever the positions."""
        if set(self.unknown) == set(ENCODINGS["nowhere"]):
            return "nothing to expect"
        return "expected" if self.expected else "not expected"

    def expects(self, positions: str) -> bool | None:
        """Whether generalisation is expected with a position encoding; None where the rule does not say."""
        if positions in self.unknown or positions not in ENCODINGS["nowhere"]:
            return None
        return self.expected and positions in self.encodings


def predict_task(task: str, format: str, make: Callable[..., Any]) -> Prediction:
    """The rule for a task of the lab. `make(name, max_len, format)` builds the task.

    Raises:
        UserError: neither a program nor anything else is known of the task.
    """
    known = OPEN.get((task, format))
    if known is not None:
        return Prediction(task, format, False, (), f"no program is known: {known}")
    made = make(task, _MAX_LEN, format)
    if len(lengths_of(made, 1, _MAX_LEN)) == 1:
        why = "its examples have one length: there is no other to generalise to"
        return Prediction(task, format, False, (), why, unknown=ENCODINGS["nowhere"])
    said = [
        predict_program(bind(entry.program, made.params.model_dump()), made, entry.rules)
        for entry in entries(task, format)
    ]
    expected = [one for one in said if one.expected]
    # Another legal program may ask for other places, and so do with other encodings.
    able = {encoding for one in expected for encoding in one.encodings}
    first = (expected or said)[0]
    unsaid = {encoding for one in expected for encoding in one.unknown} - able
    reasons = [first.reason, *(f"{one.program}: {one.reason}" for one in expected[1:])]
    encodings = tuple(e for e in ENCODINGS["nowhere"] if e in able)
    unknown = tuple(e for e in ENCODINGS["nowhere"] if e in unsaid)
    return replace(first, encodings=encodings, unknown=unknown, reason="; or by ".join(reasons))


def predict_program(program: Program, task: Any, rules: str = "strict") -> Prediction:
    """The rule for one program, taken as the shortest known for its task."""
    found = examine(program, task)
    sizes, name = found.complexity, getattr(program, "__name__", "program")
    say = partial(Prediction, str(getattr(task, "name", "")), str(getattr(task, "format", "")))
    about = {"program": name, "rules": rules, "length": sizes.length, "depth": sizes.depth}
    if not found.strict.legal:
        return say(False, (), f"no strictly legal program is known; {name} breaks {_broken(found)}", **about)
    if sizes.length > LONGEST or sizes.depth > DEEPEST:
        reason = f"the shortest legal program is too large: {sizes.length} operations, depth {sizes.depth}"
        return say(False, (), reason, **about)
    asked = places_asked_for(program, task)
    encodings = tuple(e for e in ENCODINGS["nowhere"] if all(e in ENCODINGS[place] for place in asked))
    unknown = tuple(e for e in ENCODINGS["nowhere"] if e not in JUDGED and e not in encodings)
    return say(True, encodings, _reason(found, asked), **about, unknown=unknown)


def _broken(found: Examination) -> str:
    """Each rule that a program breaks, with the first operation that breaks it."""
    first = {fault.rule: fault.reason for fault in reversed(found.strict.faults)}
    return ", ".join(f"{rule} ({first[rule]})" for rule in found.strict.broken)


def _reason(found: Examination, asked: frozenset[str]) -> str:
    wants = [words for place, words in _PLACES.items() if place in asked] or ["no places"]
    sizes = found.complexity
    parts = [f"legal in {sizes.length} operations at depth {sizes.depth}, asks for {' and '.join(wants)}"]
    if found.kinds.get("count"):
        parts.append("compares counts, whose shares of attention shrink as 1 / length")
    if found.growing:
        length = max(found.largest)
        grown = " and ".join(f"{kind} {found.largest[length][kind]}" for kind in found.growing)
        parts.append(f"its values grow as the length does (at length {length} to {grown})")
    if found.verdicts["c-rasp"].legal:
        parts.append("a counting program (C-RASP) for any one alphabet")
    return "; ".join(parts)


_PLACES = {
    "distance": "tokens at a fixed distance",
    "beginning": "the first tokens",
    "found": "places that it has found",
}


def places_asked_for(program: Program, task: Any) -> frozenset[str]:
    """What a program's selects ask of positions: `distance`, `beginning`, `found`; empty for nothing."""
    length = lengths_of(task, 1, getattr(task, "max_len", _MAX_LEN))[-1]
    examples = task.sample(np.random.default_rng(0), "id", [length])
    tokens = tokens_of(task)
    graph = trace(program, tokens.encode(examples.tokens))
    reading = Reading(graph, tokens.domain)
    asked: set[str] = set()
    for select in (node for node in graph.live if node.op == "select"):
        key, query = select.inputs
        if INDEX in reading.of(key).scales:
            if not reading.of(query).scales & {INDEX, COUNT}:
                asked.add("beginning")
            else:
                asked.add("distance" if _is_own_place(query) else "found")
    return frozenset(asked)


def _is_own_place(node: Node) -> bool:
    """Whether this is the query's own index, moved by a constant."""
    if node.op == "tok_map" and isinstance(node.func, Shorthand) and node.func.ufunc in (np.add, np.subtract):
        return _is_own_place(node.inputs[0])
    return node.op == "indices"


def predict_all(make: Callable[..., Any]) -> list[Prediction]:
    """The rule for every task and format that has a program, or of which is known why it has none."""
    told = {(entry.task, entry.format) for entry in (*PROGRAMS, *registered())} | set(OPEN)
    return [predict_task(task, format, make) for task, format in sorted(told)]
