"""`lab rasp compile`: a program compiled to a committed run, its size, and its agreement with the program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from genlab.errors import UserError
from genlab.models import StackedModel, count
from genlab.probes.compiled import Agreement, agreement
from genlab.rasp.compiler.runs import compiled, run_spec
from genlab.report.figures import save_figure
from genlab.report.output import print_lines
from genlab.runs.api import train
from genlab.runs.plan import Evals
from genlab.runs.store import Store
from genlab.spec import RunSpec, TrainConfig, build
from genlab.tasks import Task
from genlab.text import columns_of, counted

FIGURE = "margin_by_length.png"
_INPUT_SEED = 0x1A9
"""Seed of the inputs on which a compiled run is compared with its program."""


@dataclass(frozen=True)
class CompiledRun:
    """A compiled run: its size, and how it agrees with its program.

    Attributes:
        spec: of the run; status: as committed.
        heads: of each layer, the operations that its heads compute; units: of each layer, how many steps its MLP has.
        parameters: number of parameters.
        largest: largest absolute weight, as compiled.
        rows: agreement at each length.
        figure: where the margins were drawn.
    """

    spec: RunSpec
    status: str
    heads: list[list[str]]
    units: list[int]
    parameters: int
    largest: float
    rows: list[Agreement]
    figure: Path | None

    @property
    def exact(self) -> bool:
        """Whether all compared tokens are equal."""
        return not any(row.wrong_tokens for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """One document."""
        model = self.spec.model
        return {
            "run_id": self.spec.run_id,
            "status": self.status,
            "compiled": None if self.spec.compiled is None else self.spec.compiled.model_dump(mode="json"),
            "layers": model.n_layers,
            "heads": model.n_heads,
            "d_model": model.d_model,
            "d_head": model.d_head,
            "d_mlp": model.d_mlp,
            "parameters": self.parameters,
            "largest_weight": self.largest,
            "heads_by_layer": self.heads,
            "units_by_layer": self.units,
            "exact": self.exact,
            "by_length": [asdict(row) for row in self.rows],
            "figure": str(self.figure) if self.figure else None,
        }

    def print(self, console: Console) -> None:
        """Print the size, one line per layer, one row per length, and the run id."""
        model, spec = self.spec.model, self.spec.compiled
        assert spec is not None
        lines = [
            f"{spec.program}{f' and {spec.beside}' if spec.beside else ''} for {self.spec.task.name} "
            f"({self.spec.task.format}), max_len {self.spec.task.max_len}: {counted(model.n_layers, 'layer')}, "
            f"{counted(model.n_heads, 'head')} of width {model.d_head}, d_model {model.d_model}, "
            f"d_mlp {model.d_mlp}, positions {model.positions}",
            f"{self.parameters:,} parameters, largest weight {self.largest:,.1f}, score gap {spec.gap:g}",
        ]
        for layer, (heads, units) in enumerate(zip(self.heads, self.units, strict=True)):
            lines.append(f"layer {layer}: {', '.join(heads) or 'no heads'}; {units} units")
        head = ("length", "inputs", "tokens", "wrong inputs", "wrong tokens", "logit margin", "reading margin")
        rows = [
            (
                *map(str, (r.length, r.inputs, r.tokens, r.wrong_inputs, r.wrong_tokens)),
                f"{r.logit_margin:.4g}",
                "-" if np.isnan(r.reading_margin) else f"{r.reading_margin:.2g}",
            )
            for r in self.rows
        ]
        inputs, wrong = sum(r.inputs for r in self.rows), sum(r.wrong_inputs for r in self.rows)
        verdict = "all tokens equal those of the program" if self.exact else f"{wrong:,} of {inputs:,} inputs differ"
        lines += [*columns_of(head, rows), f"{inputs:,} inputs: {verdict}"]
        lines += [f"figure: {self.figure}"] if self.figure else []
        print_lines(console, [*lines, f"run {self.spec.run_id}, status {self.status}"])


def compile_run(
    task: Task,
    program: str,
    store: Store,
    *,
    steps: int = 0,
    lr: float = 1e-3,
    n: int = 200,
    figure: Path | None = None,
    **options: Any,
) -> CompiledRun:
    """Compile a program to a run, commit it, and compare it with the program at each length.

    Args:
        task: the task; its longest length is that of the model.
        program: its name (`genlab.rasp.compiler.runs.find_program`).
        store: the store to commit it to.
        steps: number of training steps from the compiled weights.
        lr: their peak learning rate.
        n: inputs per length, drawn with a fixed seed.
        figure: file of the figure of margins (default: in the group folder).
        options: other fields of `CompileSpec`.

    Raises:
        UserError: an unknown program, or operations that cannot be compiled (all are listed).
    """
    lengths = task.lengths_between("id", 1, task.max_len).tolist()
    if not lengths:
        raise UserError(f"task {task.name!r} has no example of at most {task.max_len} {task.length_unit}")
    training = {"train_len": lengths[-1], "min_len": lengths[0], "steps": steps, "lr": lr}
    spec = run_spec(task.spec, build(TrainConfig, training), program=program, **options)
    (run,) = train(spec, Evals(test_len=lengths[-1]), store=store, device="cpu")
    model = run.model
    assert isinstance(model, StackedModel)
    assert spec.compiled is not None
    rows = agreement(model, spec, lengths, n, np.random.default_rng(_INPUT_SEED))
    place = figure or store.last_folder() / FIGURE
    draw_margins(rows, task.length_unit, place)
    made = compiled(spec.task, spec.compiled)
    return CompiledRun(spec, run.status, made.heads, made.units, count(spec.model), made.largest, rows, place)


def draw_margins(rows: Sequence[Agreement], unit: str, path: Path) -> None:
    """Plot margins against length: of the logits, and of the numbers that attention computes.

    The latter are shown with half the distance between 1 / (n + 1) and 1 / (n + 2), where n + 1 is the number of
    positions: an upper bound for any weights, if all positions are counted.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lengths = [row.length for row in rows]
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    logits, readings = figure.subplots(1, 2)
    logits.plot(lengths, [row.logit_margin for row in rows], color="#1b4965", marker="o", ms=3)
    logits.axhline(0, color="#b3541e", lw=1, ls="--")
    logits.set_title("logit margin", fontsize=11, loc="left")
    if any(not np.isnan(row.reading_margin) for row in rows):
        n = np.array([row.positions for row in rows]) - 1
        readings.plot(
            lengths, [row.reading_margin for row in rows], color="#1b4965", marker="o", ms=3, label="measured"
        )
        readings.plot(
            lengths, 0.5 / ((n + 1) * (n + 2)), color="#b3541e", lw=1.2, ls="--", label="if all are counted"
        )
        readings.set_yscale("log")
        readings.legend(frameon=False, fontsize=9)
    else:
        readings.text(0.5, 0.5, "the program counts nothing", ha="center", va="center", transform=readings.transAxes)
    readings.set_title("margin of attention outputs", fontsize=11, loc="left")
    for panel in (logits, readings):
        panel.set_xlabel(f"length ({unit})")
        panel.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
