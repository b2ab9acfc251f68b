"""`lab calibrate`: signals in compiled models that have a mechanism, against others that lack it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console

from genlab.errors import UserError, unknown
from genlab.probes.calibration import Specimen, specimens
from genlab.probes.families.confidence import auroc
from genlab.probes.signal import Signal
from genlab.rasp.programs.shortcuts import RULES
from genlab.report.output import print_lines
from genlab.tasks import Task
from genlab.text import columns_of


@dataclass(frozen=True)
class Calibration:
    """Values of signals in compiled models.

    Attributes:
        has: the rule that the signals should detect.
        lacks: the rules to tell it from.
        signals: names of the signals.
        models: one per program, noise and seed.
    """

    has: str
    lacks: list[str]
    signals: list[str]
    models: list[Specimen]

    def _of(self, program: str, noise: float) -> list[Specimen]:
        return [one for one in self.models if one.program == program and one.noise == noise]

    def auroc(self, signal: str, program: str, noise: float) -> float:
        """AUROC of a signal: models of one construction against all models without the mechanism, at one noise."""
        having = self._of(program, noise)
        models = [*having, *(m for m in self.models if m.rule in self.lacks and m.noise == noise)]
        values, has = np.array([m.values[signal] for m in models]), np.arange(len(models)) < len(having)
        read = np.isfinite(values)
        return auroc(values[read], has[read])

    @property
    def programs(self) -> dict[str, str]:
        """Program -> rule."""
        return {one.program: one.rule for one in self.models}

    @property
    def noises(self) -> list[float]:
        return sorted({one.noise for one in self.models})

    def as_json(self) -> dict[str, Any]:
        """Return AUROC by signal, construction and noise, and all models."""
        own = [program for program, rule in self.programs.items() if rule == self.has]
        rows = [
            {"signal": signal, "program": program, "noise": noise, "auroc": self.auroc(signal, program, noise)}
            for signal in self.signals
            for program in own
            for noise in self.noises
        ]
        return {"has": self.has, "lacks": self.lacks, "auroc": rows, "models": [asdict(one) for one in self.models]}

    def print(self, console: Console) -> None:
        """Print values and effects of ablation at the least noise; then AUROC and accuracy by noise."""
        least = self.noises[0]
        lines = [
            f"maximum over heads (range over seeds), and fraction of answers kept without that head; noise {least:g}"
        ]
        head = ("program", "rule", "right", *(f"{name}: value, kept" for name in self.signals))
        rows = [
            (
                *(program, rule, f"{np.mean([m.right for m in self._of(program, least)]):.2f}"),
                *(self._cell(program, name, least) for name in self.signals),
            )
            for program, rule in self.programs.items()
        ]
        lines += [*columns_of(head, rows), "", f"AUROC of {self.has} against {', '.join(self.lacks)}, by noise"]
        columns = ("signal", "program", *(f"{noise:g}" for noise in self.noises))
        own = [program for program, rule in self.programs.items() if rule == self.has]
        table = [
            (name, program, *(f"{self.auroc(name, program, noise):.2f}" for noise in self.noises))
            for name in self.signals
            for program in own
        ]
        table += [
            ("(right)", program, *(f"{np.mean([m.right for m in self._of(program, x)]):.2f}" for x in self.noises))
            for program in self.programs
        ]
        print_lines(console, [*lines, *columns_of(columns, table)])

    def _cell(self, program: str, signal: str, noise: float) -> str:
        models = self._of(program, noise)
        values, kept = [m.values[signal] for m in models], [m.kept[signal] for m in models]
        return f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f}), {np.median(kept):.2f}"


def calibration(
    task: Task,
    has: str,
    lacks: Sequence[str],
    signals: Sequence[Signal],
    noises: Sequence[float],
    seeds: Sequence[int],
    decoys: int = 2,
    report: Callable[[], object] = lambda: None,
) -> Calibration:
    """Compile every construction of the rules, and measure signals in them.

    Args:
        task: a task with programs for its rules.
        has: the rule that the signals should detect.
        lacks: the rules to tell it from.
        signals: signals with one value per head.
        noises: standard deviations of weight noise.
        seeds: seeds of rotation, decoys and noise.
        decoys: number of random heads and neurons per layer.
        report: called after each model.

    Raises:
        UserError: the task has no such rule, or a signal has no value per head.
    """
    rules = {rule: programs for (name, rule), programs in RULES.items() if name == task.name}
    if not rules:
        known = sorted({name for name, _ in RULES})
        raise UserError(f"task {task.name!r} has no programs for its rules (allowed: {', '.join(known)})")
    for rule in (has, *lacks):
        if rule not in rules:
            raise unknown(f"rule of task {task.name!r}:", rule, rules)
    whole = [one.name for one in signals if one.per != "head"]
    if whole:
        raise UserError(f"calibration needs signals with one value per head; {', '.join(whole)} has none")
    if has in lacks:
        raise UserError(f"rule {has!r} is given in both --has and --lacks")
    programs = [(rule, program.__name__) for rule in (has, *lacks) for program in rules[rule]]
    models = specimens(task, programs, signals, noises, seeds, decoys, report=report)
    return Calibration(has, list(lacks), [one.name for one in signals], models)


def noises_of(text: str) -> list[float]:
    """Parse comma-separated noises.

    Raises:
        UserError: one of them is not a number of at least 0.
    """
    try:
        noises = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--noise {text!r} is not allowed (comma-separated numbers, such as 0,0.01)") from None
    if not all(0 <= one < np.inf for one in noises):
        raise UserError(f"--noise {text!r} is not allowed (numbers of at least 0)")
    return noises
