"""The search for the shortest program: enumeration on a batch that grows by counterexamples.

Two behaviors that agree on the batch are one node, although they may differ elsewhere. No right program is lost to
that: the program with one behavior in place of the other is right on the batch too, so it is found; it is wrong on
some other input, and with that input in the batch the two behaviors differ. The search starts again with it, until
the first program that is right is one that stays right.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError
from genlab.rasp.checker import check, examine, lengths_of, tokens_of
from genlab.rasp.running import Program, predict
from genlab.rasp.search.engine import Batch, Enumeration
from genlab.rasp.search.grammar import Grammar, grammar_of
from genlab.rasp.search.program import program_from, program_text
from genlab.tasks import Task

Ints = NDArray[np.int64]
Say = Callable[[str], None]

LONGEST = 100
"""The length up to which a program that was found is checked."""
INPUTS = 1000
"""Inputs per length of that check."""
_BATCH_LENGTHS, _BATCH_ROWS = 5, 4
_TRIED, _TRIED_INPUTS = 20, 64
_MATCHES, _DERIVATIONS, _COUNTEREXAMPLES = 64, 8, 6
_GIGABYTE = 1 << 30


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Attributes:
        task, format, grammar: what was searched for, and within which rule set.
        max_ops: the most operations asked for.
        program: the shortest program as Python; empty if there is none of at most `max_ops` operations.
        operations: its length, 0 if there is none.
        excluded: no program of at most this many operations is in the grammar.
        behaviors: distinct behaviors on the last batch, selections among them; by level from one operation up.
        candidates: operations computed, over all batches.
        batches: how often the search started again with counterexamples, plus one.
        inputs: inputs of the last batch.
        illegal: programs that were right but broke the rule set when examined as a whole.
        checked: the lengths at which the program was right on `INPUTS` inputs each.
        seconds: time taken by the search, of all its parts.
        operations_allowed: the grammar, a line per operation.
    """

    task: str
    format: str
    grammar: str
    max_ops: int
    program: str
    operations: int
    excluded: int
    behaviors: tuple[int, ...]
    candidates: int
    batches: int
    inputs: int
    illegal: int
    checked: tuple[int, ...]
    seconds: float
    operations_allowed: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        plain = asdict(self)
        return {**plain, "seconds": round(self.seconds, 1)}


@dataclass
class _Examples:
    """Examples as token values: one array per input, with the targets and the scored positions."""

    values: list[Ints] = field(default_factory=list[Ints])
    targets: list[Ints] = field(default_factory=list[Ints])
    scored: list[Ints] = field(default_factory=list[Ints])

    def add(self, values: Ints, targets: Ints, scored: Ints) -> None:
        """Add one input, if it is not there already."""
        if not any(np.array_equal(values, other) for other in self.values):
            self.values.append(values)
            self.targets.append(targets)
            self.scored.append(scored)

    def batch(self) -> Batch:
        """All of it, one input after another."""
        lengths = np.array([len(v) for v in self.values])
        starts = np.cumsum(lengths) - lengths
        scored = np.concatenate([s + start for s, start in zip(self.scored, starts, strict=True)])
        target = np.concatenate([t[s] for t, s in zip(self.targets, self.scored, strict=True)])
        return Batch(np.concatenate(self.values), starts, target, scored)


def drawn(task: Task, rng: np.random.Generator, length: int, n: int) -> _Examples:
    """Distinct examples of one length, as token values without padding."""
    tokens, out = tokens_of(task), _Examples()
    examples = task.sample(rng, "id", np.full(n, length))
    for row in range(len(examples)):
        scored = np.flatnonzero(examples.scored[row])
        stop = int(scored[-1]) + 1
        out.values.append(tokens.encode(examples.tokens[row, :stop]))
        out.targets.append(tokens.encode(examples.targets[row, :stop]))
        out.scored.append(scored)
    return out


def failures(program: Program, examples: _Examples) -> list[int]:
    """The examples that a program answers wrongly, shortest first."""
    by_width: dict[int, list[int]] = {}
    for row, values in enumerate(examples.values):
        by_width.setdefault(len(values), []).append(row)
    wrong: list[int] = []
    for width in sorted(by_width):
        rows = by_width[width]
        given = predict(program, np.stack([examples.values[row] for row in rows]))
        for answer, row in zip(given, rows, strict=True):
            scored = examples.scored[row]
            if not np.array_equal(answer[scored], examples.targets[row][scored]):
                wrong.append(row)
    return wrong


def _silent(line: str) -> None:
    del line


class Search:
    """A search for the shortest program of one task.

    Args:
        task: the task; its answers must be fixed.
        max_ops: the most operations.
        rules: the rule set that the program must be legal under.
        memory: the most memory, in gigabytes.
        checkpoint: a file where the search stands after each level, and from which it goes on; None for none.
        say: what to do with a line about the progress.
    """

    def __init__(
        self,
        task: Task,
        max_ops: int,
        rules: str = "strict",
        memory: float = 4,
        checkpoint: Path | None = None,
        say: Say = _silent,
    ):
        _check_task(task)
        if not 1 <= max_ops <= _MOST_OPS:
            raise UserError(f"--max-ops {max_ops} is not allowed: 1 to {_MOST_OPS} operations")
        self.task, self.max_ops, self.rules, self.memory = task, max_ops, rules, memory
        self.checkpoint, self.say = checkpoint, say
        self.lengths = lengths_of(task, 1, LONGEST)
        rng = np.random.default_rng(0)
        self.examples = _Examples()
        for length in self.lengths[:_BATCH_LENGTHS]:
            few = drawn(task, rng, length, _BATCH_ROWS)
            for each in zip(few.values, few.targets, few.scored, strict=True):
                self.examples.add(*each)
        tried = sorted({*self.lengths[:_TRIED], *[n for n in self.lengths if n in (30, 50, LONGEST)]})
        self.tries = [drawn(task, rng, length, _TRIED_INPUTS) for length in tried]
        self.grammar = self._grammar(rules)
        self.candidates, self.batches, self.illegal, self.seconds = 0, 1, 0, 0.0
        self.enumeration = self._enumeration()

    def _grammar(self, rules: str) -> Grammar:
        seen = [v for examples in (self.examples, *self.tries) for v in examples.values]
        answers = [t[s] for e in (self.examples, *self.tries) for t, s in zip(e.targets, e.scored, strict=True)]
        used, written = (frozenset(np.unique(np.concatenate(each)).tolist()) for each in (seen, answers))
        return grammar_of(rules, tokens_of(self.task), used, written)

    def _enumeration(self) -> Enumeration:
        hints = [scale.start for scale in tokens_of(self.task).domain.scales]
        return Enumeration(self.grammar, hints[0] if hints else None, self.examples.batch(), self.max_ops)

    def run(self) -> SearchResult:
        """Search, level by level, and return the shortest program or the bound.

        Raises:
            UserError: the levels that must be stored would not fit into memory.
        """
        began = time.monotonic() - self._resume()
        if self.max_ops > _PROBED + 1 and len(self.enumeration.levels) < _PROBED:
            probe = self._enumeration()
            for _ in range(_PROBED):
                probe.grow()
            self._estimate(probe, 0)
        while True:
            size = len(self.enumeration.levels) + 1
            before, level_began = self.enumeration.candidates, time.monotonic()
            self.enumeration.ticker = self._ticker()
            found, wrong = self._look(size)
            self.candidates += self.enumeration.candidates - before
            self.seconds = time.monotonic() - began
            if found:
                return self._result(found, size - 1)
            if wrong:
                self.batches += 1
                self.say(f"{size} operations: {wrong} new counterexamples; {len(self.examples.values)} inputs")
                self.enumeration = self._enumeration()
                continue
            taken = time.monotonic() - level_began
            self.say(f"no program of {size} operations ({taken:.0f} s)")
            if size == self.max_ops:
                return self._result("", size)
            if size > _PROBED:
                self._estimate(self.enumeration, size)
            before = self.enumeration.candidates
            level = self.enumeration.grow()
            self.candidates += self.enumeration.candidates - before
            self.say(
                f"{size} operations: {level.behaviors:,} behaviors, {level.supports:,} ways to compute them "
                f"({level.seconds:.0f} s)"
            )
            self.seconds = time.monotonic() - began
            self._save()

    def _look(self, size: int) -> tuple[str, int]:
        """The program of the next level that is right and legal (or ""), and the number of new counterexamples."""
        known = len(self.examples.values)
        for match in islice(self.enumeration.matches(), _MATCHES):
            for steps in islice(self.enumeration.derivations(match), _DERIVATIONS):
                text = program_text(steps, self.grammar, "found")
                program = program_from(text)
                if self._counterexample(program):
                    break
                examination = examine(program, self.task)
                if examination.complexity.length > size:
                    continue  # a map by several steps: it counts at a later level
                if not examination.verdicts[self.rules].legal:
                    self.illegal += 1
                    continue
                if self._is_right(program):
                    return text, 0
                break
            if len(self.examples.values) - known >= _COUNTEREXAMPLES:
                break
        return "", len(self.examples.values) - known

    def _counterexample(self, program: Program) -> bool:
        """Whether the program fails on one of the inputs that are tried; the first such joins the batch."""
        return any(self._fails(program, examples) for examples in self.tries)

    def _fails(self, program: Program, examples: _Examples) -> bool:
        wrong = failures(program, examples)
        if wrong:
            row = wrong[0]
            self.examples.add(examples.values[row], examples.targets[row], examples.scored[row])
        return bool(wrong)

    def _is_right(self, program: Program) -> bool:
        """Whether the program is right at all lengths that are checked; if not, a counterexample joins the batch."""
        for score in check(program, self.task, self._checked(), INPUTS, np.random.default_rng(2)):
            if score.right < score.n:
                rng = np.random.default_rng(3)
                while not self._fails(program, drawn(self.task, rng, score.length, INPUTS)):
                    pass  # such inputs exist, and another draw of as many has one sooner or later
                return False
        return True

    def _checked(self) -> list[int]:
        wanted = {*self.lengths[:_TRIED], *(n for n in self.lengths if n in (30, 50, 75)), self.lengths[-1]}
        return sorted(wanted)

    def _result(self, program: str, excluded: int) -> SearchResult:
        levels = self.enumeration.levels
        return SearchResult(
            task=self.task.name,
            format=self.task.format,
            grammar=self.rules,
            max_ops=self.max_ops,
            program=program,
            operations=excluded + 1 if program else 0,
            excluded=excluded,
            behaviors=tuple(level.behaviors for level in levels),
            candidates=self.candidates,
            batches=self.batches,
            inputs=len(self.examples.values),
            illegal=self.illegal,
            checked=tuple(self._checked()) if program else (),
            seconds=self.seconds,
            operations_allowed=tuple(self.grammar.lines()),
        )

    # -- Estimates and checkpoints

    def _estimate(self, enumeration: Enumeration, excluded: int) -> None:
        """Say what the levels to come need, from those that there are; refuse what memory cannot hold."""
        ahead = forecast(enumeration.levels, self.max_ops, len(enumeration.batch.values))
        if ahead.gigabytes > self.memory:
            raise UserError(
                f"--max-ops {self.max_ops} would need about {ahead.gigabytes:.1f} GB of memory "
                f"({ahead.behaviors:,} behaviors), and --memory allows {self.memory:g}"
                + (f"; there is no program of at most {excluded} operations" if excluded else "")
            )
        self.say(
            f"up to {self.max_ops} operations: about {ahead.behaviors:,} behaviors, {ahead.gigabytes:.2f} GB, "
            f"{ahead.seconds:.0f} s"
        )

    def _ticker(self) -> Callable[[], None]:
        """Says every ten seconds how far a level is."""
        last = time.monotonic()

        def tick() -> None:
            nonlocal last
            if time.monotonic() - last > _EVERY:
                last = time.monotonic()
                self.say(f"    {self.enumeration.candidates:,} candidates, {self.enumeration.count:,} behaviors")

        return tick

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        rows = {f"{name}{i}": a for name in _PARTS for i, a in enumerate(getattr(self.examples, name))}
        about = {**self._about(), "candidates": self.candidates, "batches": self.batches, "illegal": self.illegal}
        about |= {"seconds": self.seconds, "inputs": len(self.examples.values)}
        partial = self.checkpoint.with_name(f"{self.checkpoint.name}.{os.getpid()}.part")
        with partial.open("wb") as file:
            np.savez(
                file, allow_pickle=False, **{"about": np.array(json.dumps(about))}, **rows, **self.enumeration.state()
            )
        partial.replace(self.checkpoint)

    def _resume(self) -> float:
        """Go on from the checkpoint if there is one; the seconds that were spent before."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return 0.0
        try:
            saved = np.load(self.checkpoint, allow_pickle=False)
            about = json.loads(str(saved["about"]))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(
                f"--checkpoint {str(self.checkpoint)!r} is not a checkpoint of a search: {error}"
            ) from None
        asked = self._about()
        if {name: about.get(name) for name in asked} != asked:
            theirs = ", ".join(f"{name} {about.get(name)}" for name in asked if name != "allowed")
            raise UserError(f"--checkpoint {str(self.checkpoint)!r} belongs to another search ({theirs})")
        self.examples = _Examples()
        for i in range(about["inputs"]):
            self.examples.add(*(saved[f"{name}{i}"] for name in _PARTS))
        self.candidates, self.batches, self.illegal = about["candidates"], about["batches"], about["illegal"]
        self.enumeration = self._enumeration()
        self.enumeration.restore(saved)
        self.say(f"goes on after {len(self.enumeration.levels)} operations")
        return float(about["seconds"])

    def _about(self) -> dict[str, Any]:
        """What a checkpoint must agree in."""
        params = self.task.params.model_dump()
        return {
            "task": self.task.name,
            "format": self.task.format,
            "params": json.loads(json.dumps(params)),
            "grammar": self.rules,
            "bits": int(np.dtype(self.enumeration.dtype).itemsize * 8),
            "allowed": self.grammar.lines(),
        }


_PARTS = ("values", "targets", "scored")
_MOST_OPS, _PROBED, _EVERY = 12, 3, 10.0


@dataclass(frozen=True)
class Forecast:
    """What a search will need: behaviors that it stores, memory, and time from now."""

    behaviors: int
    gigabytes: float
    seconds: float


def forecast(levels: Sequence[Any], max_ops: int, positions: int) -> Forecast:
    """What storing all levels below `max_ops` takes, from how the first levels grew.

    The growth from one level to the next itself grows; its last increase, to the power 2/3, is taken to go on.
    """

    def grown(counts: list[float]) -> list[float]:
        counts = list(counts)
        while len(counts) < max_ops - 1:
            last, before = counts[-1] / counts[-2], counts[-2] / counts[-3]
            counts.append(counts[-1] * last * max(1.0, last / before) ** (2 / 3))
        return counts

    done = len(levels)
    nodes, supports = (grown([float(getattr(x, n)) for x in levels]) for n in ("behaviors", "supports"))
    # Tables double; the supports of a level are gathered in parts, joined, sorted and looked up.
    size = 2 * nodes[-1] * (2 * positions + 20) + 5 * supports[-1] * 4 * (max_ops + 1)
    rate = sum(x.seconds for x in levels) / max(1, levels[-1].supports)
    return Forecast(int(nodes[-1]), size / _GIGABYTE, rate * (supports[-1] - supports[done - 1]))


def _check_task(task: Task) -> None:
    """Raise `UserError` for a task whose answers are not fixed, or not tokens."""
    if task.d_values:
        raise UserError(f"task {task.name!r}, format {task.format!r} has real numbers; a program works on tokens")
    if type(task).accepts is not Task.accepts:
        raise UserError(
            f"task {task.name!r} has several right answers to one prompt: there is no fixed one to search for"
        )
