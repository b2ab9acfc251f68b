"""Commands that look inside trained models: signals, probe, notebook. Heavy imports are inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from genlab.errors import UserError
from genlab.options import StoreOption
from genlab.runs.gridfile import parse_range

Where = StoreOption
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, nothing else")]
Plugin = Annotated[
    list[Path] | None, typer.Option("--plugin", help="a Python file that registers tasks or declares signals")
]
Names = Annotated[
    str, typer.Option("--signals", help="names, families, patterns (`induction_*`) or all, apart by commas")
]


def add_to(app: typer.Typer) -> None:
    """Give a command line these commands."""
    for command in (signals, probe, notebook):
        app.command()(command)


def signals(
    names: Annotated[str, typer.Argument(help="names or families, apart by commas (default: all)")] = "all",
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """List the signals: what each measures, its formula, range and source."""
    from genlab.probes.signal import chosen
    from genlab.report.listing import show_signals

    _load(plugin)
    show_signals(chosen(names.split(",")), as_json)


def probe(
    runs: Annotated[list[str] | None, typer.Argument(help="runs, groups, grids, tags, or `last`")] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="a whole grid, by its name")] = None,
    names: Names = "",
    step: Annotated[
        str | None,
        typer.Option("--step", help="weights of this training step (0: initial), of several, or all (default: last)"),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="draw attention of the first run over growing length there")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--probe-n", help="probe examples, drawn as training's are; half in each half (default: 512)"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")] = "auto",
    store: Where = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Read signals inside trained models, on in-distribution inputs alone; what is there is not read again."""
    from genlab.probes.inputs import PROBE_N, check_probe_n
    from genlab.probes.signal import chosen

    examples = check_probe_n(PROBE_N if n is None else n)
    _load(plugin)
    wanted = chosen(names.split(",") if names else ())
    which = [*(runs or []), *([grid] if grid else [])]
    if not which or (runs and grid):
        raise UserError("lab probe takes runs, or --grid NAME")
    if figure is not None and figure.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"--figure {str(figure)!r} is not allowed (allowed: names that end in .png, .svg or .pdf)")
    steps: list[int] | Literal["all"] | None = None
    if step is not None:
        steps = "all" if step == "all" else sorted(set(parse_range(step, "--step")))
    if figure is not None and steps is not None and (steps == "all" or len(steps) > 1):
        raise UserError("--figure draws one step; give one --step")
    from genlab.report.probe import probe_and_show

    probe_and_show(which, wanted, steps, store, device, figure, as_json, examples)


def notebook(
    run: Annotated[str, typer.Argument(help="a run id, or a unique prefix of one")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="where the notebook goes (default: RUN.ipynb)")
    ] = None,
    store: Where = None,
    plugin: Plugin = None,
) -> None:
    """Write an executed notebook about a run: attention patterns, heads, sharpness curves, ablations."""
    _load(plugin)
    from genlab.report.notebook import write_notebook
    from genlab.runs.store import Store

    print(write_notebook(run, Store(store), output))


def _load(files: list[Path] | None) -> None:
    from genlab.tasks import load_plugin

    for file in files or []:
        load_plugin(file)
