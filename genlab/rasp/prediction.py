"""Predict length generalization of a task with a fixed rule, based on legality, length, depth and positions.

The clauses of the rule, in order:

0. All examples of the task have the same length: there is nothing to predict.
1. No strictly legal program is known: not expected. The reason names the rules that the best other program breaks.
2. The shortest strictly legal program has more than `LONGEST` operations or is deeper than `DEEPEST` selects: not
   expected, since a shorter rule that fits the training lengths is then likely to be learned first.
3. Otherwise expected, for the position encodings that provide the positions the program needs:
   - it needs no positions: every encoding, including none;
   - it needs a fixed distance: encodings of distances (learned with a random offset, rotary, ALiBi);
   - it needs the beginning: encodings that identify it (learned, sinusoidal, and none, by counting);
   - it needs a position that it has computed: learned with a random offset only.
   The rule was designed for five encodings (`JUDGED`). For other encodings it makes no prediction if the program
   needs positions.
   To a softmax, a count over the whole input is a fraction whose resolution is 1 / length: the reason mentions
   whether a program needs counts. It also reports how far counts and indices grow. They can only grow in proportion
   to the length: anything that grows faster is not a move by a constant, and is rejected by clause 1.

The bounds were chosen with knowledge of the outcomes in `genlab.rasp.sealing`: for these the rule is a retrodiction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from genlab.rasp.analysis import Reading
from genlab.rasp.checker import Examination, examine, lengths_of, tokens_of
from genlab.rasp.lang.domain import COUNT, INDEX
from genlab.rasp.lang.graph import Node
from genlab.rasp.lang.sequence import Shorthand
from genlab.rasp.programs.registry import OPEN, PROGRAMS, bind, entries, registered
from genlab.rasp.running import Program, trace
from genlab.spec import ModelConfig
from genlab.tasks import Task, make

LONGEST, DEEPEST = 40, 4
_MAX_LEN = 31

JUDGED = ("none", "learned", "sinusoidal", "rotary", "alibi")
"""The position encodings that the rule was designed for."""
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
"""The positions that a program needs -> the encodings with which generalization is expected.

With any other encoding it is not expected if the encoding is in `JUDGED`, and unknown otherwise.
"""


@dataclass(frozen=True)
class Prediction:
    """The prediction of the rule for one task and format.

    Attributes:
        task, format: the task and its format.
        expected: whether length generalization is expected.
        encodings: the position encodings with which it is expected; empty if it is not expected.
        reason: the reason, as text.
        program: the name of the decisive program; empty if there is none.
        rules: the narrowest rule set under which that program is legal.
        length, depth: its size.
        unknown: the position encodings for which the rule makes no prediction. With all encodings that are neither in
            `encodings` nor in `unknown`, length generalization is not expected.
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
        """The prediction as plain data, for JSON."""
        plain = {**asdict(self), "encodings": list(self.encodings), "unknown": list(self.unknown)}
        return plain if self.unknown else {name: value for name, value in plain.items() if name != "unknown"}

    @property
    def verdict(self) -> str:
        """`expected`, `not expected`, or `nothing to expect` if the rule makes no prediction for any encoding."""
        if set(self.unknown) == set(ENCODINGS["nowhere"]):
            return "nothing to expect"
        return "expected" if self.expected else "not expected"

    def expects(self, positions: str) -> bool | None:
        """Whether generalization is expected with a position encoding; None if the rule makes no prediction."""
        if positions in self.unknown or positions not in ENCODINGS["nowhere"]:
            return None
        return self.expected and positions in self.encodings


def predict_task(task: str, format: str) -> Prediction:
    """Apply the rule to a task of the lab.

    Args:
        task: name of the task.
        format: its format.

    Raises:
        UserError: neither a program nor a reason against one is known for the task.
    """
    known = OPEN.get((task, format))
    if known is not None:
        return Prediction(task, format, False, (), f"no program is known: {known}")
    built = make(task, _MAX_LEN, format)
    if len(lengths_of(built, 1, _MAX_LEN)) == 1:
        why = "its examples have one length: there is no other to generalise to"
        return Prediction(task, format, False, (), why, unknown=ENCODINGS["nowhere"])
    predictions = [
        predict_program(bind(entry.program, built.params.model_dump()), built, entry.rules)
        for entry in entries(task, format)
    ]
    expected = [one for one in predictions if one.expected]
    # Another legal program may need other positions, and therefore work with other encodings.
    able = {encoding for one in expected for encoding in one.encodings}
    first = (expected or predictions)[0]
    undecided = {encoding for one in expected for encoding in one.unknown} - able
    reasons = [first.reason, *(f"{one.program}: {one.reason}" for one in expected[1:])]
    encodings = tuple(e for e in ENCODINGS["nowhere"] if e in able)
    unknown = tuple(e for e in ENCODINGS["nowhere"] if e in undecided)
    return replace(first, encodings=encodings, unknown=unknown, reason="; or by ".join(reasons))


def predict_program(program: Program, task: Task, rules: str = "strict") -> Prediction:
    """Apply the rule to one program, assumed to be the shortest known for its task.

    Args:
        program: the program.
        task: its task.
        rules: the narrowest rule set under which the program is legal.
    """
    examination = examine(program, task)
    sizes, name = examination.complexity, getattr(program, "__name__", "program")
    prediction = partial(Prediction, task.name, task.format)
    about = {"program": name, "rules": rules, "length": sizes.length, "depth": sizes.depth}
    if not examination.strict.legal:
        reason = f"no strictly legal program is known; {name} breaks {_broken_rules(examination)}"
        return prediction(False, (), reason, **about)
    if sizes.length > LONGEST or sizes.depth > DEEPEST:
        reason = f"the shortest legal program is too large: {sizes.length} operations, depth {sizes.depth}"
        return prediction(False, (), reason, **about)
    needed = needed_positions(program, task)
    encodings = tuple(e for e in ENCODINGS["nowhere"] if all(e in ENCODINGS[need] for need in needed))
    unknown = tuple(e for e in ENCODINGS["nowhere"] if e not in JUDGED and e not in encodings)
    return prediction(True, encodings, _reason(examination, needed), **about, unknown=unknown)


# The texts of reasons are part of sealed.json: do not change them.


def _broken_rules(examination: Examination) -> str:
    """Each rule that a program breaks, with the first fault."""
    first = {fault.rule: fault.reason for fault in reversed(examination.strict.faults)}
    return ", ".join(f"{rule} ({first[rule]})" for rule in examination.strict.broken)


def _reason(examination: Examination, needed: frozenset[str]) -> str:
    needs = [words for need, words in _NEEDS.items() if need in needed] or ["no places"]
    sizes = examination.complexity
    parts = [f"legal in {sizes.length} operations at depth {sizes.depth}, asks for {' and '.join(needs)}"]
    if examination.kinds.get("count"):
        parts.append("compares counts, whose shares of attention shrink as 1 / length")
    if examination.growing:
        length = max(examination.largest)
        grown = " and ".join(f"{kind} {examination.largest[length][kind]}" for kind in examination.growing)
        parts.append(f"its values grow as the length does (at length {length} to {grown})")
    if examination.verdicts["c-rasp"].legal:
        parts.append("a counting program (C-RASP) for any one alphabet")
    return "; ".join(parts)


_NEEDS = {
    "distance": "tokens at a fixed distance",
    "beginning": "the first tokens",
    "found": "places that it has found",
}


def needed_positions(program: Program, task: Task) -> frozenset[str]:
    """The position information that a program's selects need: any of `distance`, `beginning` and `found`.

    `found` stands for a position that the program has computed. The set is empty if no select uses positions.
    """
    length = lengths_of(task, 1, task.max_len)[-1]
    examples = task.sample(np.random.default_rng(0), "id", [length])
    tokens = tokens_of(task)
    graph = trace(program, tokens.encode(examples.tokens))
    reading = Reading(graph, tokens.domain)
    needed: set[str] = set()
    for select in (node for node in graph.live if node.op == "select"):
        key, query = select.inputs
        if INDEX in reading.of(key).scales:
            if not reading.of(query).scales & {INDEX, COUNT}:
                needed.add("beginning")
            else:
                needed.add("distance" if _is_own_index(query) else "found")
    return frozenset(needed)


def _is_own_index(node: Node) -> bool:
    """Whether an operation gives the index of its own position, plus or minus a constant."""
    if node.op == "tok_map" and isinstance(node.func, Shorthand) and node.func.ufunc in (np.add, np.subtract):
        return _is_own_index(node.inputs[0])
    return node.op == "indices"


def predict_all() -> list[Prediction]:
    """Apply the rule to every task and format for which a program, or a reason against one, is known."""
    judged = {(entry.task, entry.format) for entry in (*PROGRAMS, *registered())} | set(OPEN)
    return [predict_task(task, format) for task, format in sorted(judged)]
