"""Commands that read trained runs: ask, runs, signals, calibrate, probe, notebook, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from genlab.errors import UserError
from genlab.options import (
    FIGURE,
    OUTPUT,
    TASK,
    AsJson,
    Device,
    Plugin,
    StoreOption,
    note,
    output,
    register,
)
from genlab.runs.gridfile import parse_range
from genlab.text import parts_of


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    register(app, ask, 'lab ask 3fa2 "7 3 5 >"', "lab ask 3fa2 --split id --length 30 --wrong-only")
    register(app, runs, 'lab runs --where "weight_decay = 0.01 and n_layers > 1"', "lab runs --sort lr --limit 5")
    register(app, signals, "lab signals", "lab signals induction,confidence_msp")
    register(
        app,
        calibrate,
        "lab calibrate --mechanism previous-token",
        "lab calibrate --mechanism induction,copying --noise 0.001 --seeds 0:2 --json",
    )
    register(app, probe, "lab probe last", "lab probe --grid NAME --signals induction_*,brackets --step all")
    register(app, notebook, "lab notebook 3fa2", "lab notebook 3fa2 --output heads.ipynb")
    register(app, report, "lab report --grid NAME -o report.html", "lab report --grid NAME -o r.html --by setting")


def ask(
    run: Annotated[str, typer.Argument(help="a run id, or a unique prefix of one")],
    prompts: Annotated[
        list[str] | None, typer.Argument(help='quoted prompts: "7 3 5 >" (default: examples of --split)')
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="draw prompts from this split (default: id)", rich_help_panel=TASK)
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length", help="length of the examples (default: longest training length)", rich_help_panel=TASK
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="how many examples (default: 5)", rich_help_panel=TASK)] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="seed of the examples (default: 0, as in lab eval)", rich_help_panel=TASK),
    ] = None,
    wrong_only: Annotated[
        bool, typer.Option("--wrong-only", help="show only wrong answers, among 512 examples", rich_help_panel=TASK)
    ] = False,
    offset: Annotated[int, typer.Option("--offset", help="position of the first token in the context")] = 0,
    png: Annotated[
        Path | None,
        output("--png", help="draw the first maze with true and generated path", endings=FIGURE),
    ] = None,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run generates after a prompt, token by token with probabilities, next to the true answer."""
    of_split = {"split": split, "length": length, "n": n, "seed": seed}
    given = [name for name, value in of_split.items() if value is not None] + ["wrong_only"] * wrong_only
    if prompts and given:
        flag = "-n" if given[0] == "n" else f"--{given[0].replace('_', '-')}"
        raise UserError(f"{flag} applies to examples of a split and cannot be combined with prompts")
    from genlab.report.ask import ask as ask_prompts
    from genlab.report.ask import ask_split
    from genlab.report.output import show as show_result

    if prompts:
        result = ask_prompts(run, prompts, store=store, offset=offset, figure=png)
    else:
        count = 5 if n is None else n
        result = ask_split(
            run,
            split or "id",
            length,
            count,
            seed=seed or 0,
            wrong_only=wrong_only,
            store=store,
            offset=offset,
            figure=png,
        )
    show_result(result, as_json)


def runs(
    task: Annotated[str | None, typer.Option("--task", help="only runs of this task")] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="only runs of a grid, group or tag")] = None,
    where: Annotated[str | None, typer.Option("--where", help='"lr > 0.01 and induction_prefix.max > 0.5"')] = None,
    by: Annotated[str | None, typer.Option("--by", help="group by these comma-separated fields, and plot")] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", help="sort by this field; -FIELD: descending (default: by age)")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="maximum number of runs (default: the latest 200)")
    ] = None,
    csv: Annotated[
        bool, typer.Option("--csv", help="print all fields and signals as CSV", rich_help_panel=OUTPUT)
    ] = False,
    parquet: Annotated[
        Path | None, output("--parquet", help="write all fields and signals to this file", endings=(".parquet",))
    ] = None,
    figure: Annotated[Path | None, output("--figure", help="file of the figure of --by", endings=FIGURE)] = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """List runs with their ID and OOD accuracy and signals; filter, sort, export, group."""
    if figure and by is None:
        raise UserError("--figure requires --by")
    from genlab.report.grid import (
        Configurations,
        RunList,
        configurations,
        draw_configurations,
        figure_folder,
        none_match,
        run_list,
        write_rows,
    )
    from genlab.report.output import show as show_result
    from genlab.runs.diverged import left_out
    from genlab.runs.store import Store

    kept = Store(store)
    grid = None if grid is None else kept.named.resolve(grid)
    fields = parts_of(by) if by is not None else []
    whole = csv or as_json or parquet is not None
    listed = run_list(
        kept, task=task, grid=grid, where=where, sort=sort, limit=limit, signals=whole and not fields, fields=fields
    )
    note(*listed.failures, none_match(listed.of) if listed.runs.empty and (whole or fields) else "")
    result: RunList | Configurations = listed
    if by is not None:
        result = configurations(listed, fields)
        note(left_out(result.diverged, result.count))
    if parquet:
        show_result(write_rows(result.rows, parquet), as_json)
    elif csv:
        result.rows.to_csv(sys.stdout, index=False)
    else:
        show_result(result, as_json)
    if by is not None and len(result.rows):
        drawn = figure or figure_folder(kept, grid) / f"by_{'_'.join(fields)}.png"
        draw_configurations(result.rows, fields, drawn)
        note(f"figure: {drawn}")


def signals(
    names: Annotated[str, typer.Argument(help="comma-separated names or families (default: all)")] = "all",
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """List signals: what each measures, its formula, range and source."""
    from genlab.probes.signal import chosen
    from genlab.report.listing import SignalList
    from genlab.report.output import show as show_result

    show_result(SignalList(chosen(parts_of(names))), as_json)


def calibrate(
    mechanism: Annotated[
        str, typer.Option("--mechanism", help="comma-separated mechanisms (default: all; docs/calibration.md)")
    ] = "",
    names: Annotated[str, typer.Option("--signals", help="comma-separated names or families")] = "all",
    noise: Annotated[
        str, typer.Option("--noise", help="comma-separated standard deviations of weight noise (in RMS of a matrix)")
    ] = "0.0001,0.0003,0.001,0.003",
    decoys: Annotated[
        str, typer.Option("--decoys", help="random heads and neurons per layer, at least; the first is the reference")
    ] = "2,6",
    width: Annotated[
        str, typer.Option("--width", help="d_model in superposition, as fractions of the number of directions")
    ] = "0.99",
    length: Annotated[
        str, typer.Option("--length", help="longest inputs, as fractions of those of the mechanism")
    ] = "0.5",
    seeds: Annotated[
        str, typer.Option("--seeds", help="seeds of rotation, decoys, superposition and noise; 0:3 is 0 to 2")
    ] = "0:3",
    csv: Annotated[
        Path | None,
        output(
            "--csv", help="write the rows to this file; those of other mechanisms there are kept", endings=(".csv",)
        ),
    ] = None,
    figure: Annotated[
        Path | None, output("--figure", help="draw AUROC by signal and condition", endings=FIGURE)
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Measure what signals detect, in compiled models that have a mechanism and in models that lack it."""
    from genlab.probes.calibrated import read_rows
    from genlab.probes.mechanisms import find_mechanisms
    from genlab.probes.signal import chosen

    if csv is not None and csv.exists():
        read_rows(csv)  # refuses another table before any work
    mechanisms = find_mechanisms(parts_of(mechanism) if mechanism else ())
    signals = chosen(parts_of(names))
    from rich.console import Console

    from genlab.report.calibration import Axes, calibration
    from genlab.report.display import Count
    from genlab.report.output import show as show_result
    from genlab.runs.gridfile import levels_of

    axes = Axes(
        levels_of(noise, "--noise", 0),
        [int(n) for n in levels_of(decoys, "--decoys", 0, 100)] or [0],
        levels_of(width, "--width", 0.01, 1),
        levels_of(length, "--length", 0.25, 1),
        parse_range(seeds, "--seeds"),
    )
    with Count("compiled models", Console(stderr=True)) as count:
        result = calibration(mechanisms, signals, axes, count)
    if csv is not None:
        result.write_csv(csv)
    if figure is not None:
        result.draw(figure)
    show_result(result, as_json)
    note(*(f"{kind}: {path}" for kind, path in (("rows", csv), ("figure", figure)) if path is not None))


def probe(
    runs: Annotated[list[str] | None, typer.Argument(help="runs, groups, grids, tags, or `last`")] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="a whole grid, by its name")] = None,
    names: Annotated[
        str,
        typer.Option("--signals", help="comma-separated names, families, patterns (`induction_*`), or all"),
    ] = "",
    step: Annotated[
        str | None,
        typer.Option("--step", help="training steps to read (0: initial weights), or all (default: last)"),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--probe-n", help="probe examples, drawn as in training (default: 512)"),
    ] = None,
    per_run: Annotated[bool, typer.Option("--per-run", help="one row per run: value, head, null, noise")] = False,
    device: Device = "auto",
    store: StoreOption = None,
    figure: Annotated[
        Path | None,
        output("--figure", help="plot attention of the first run at growing lengths", endings=FIGURE),
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Measure signals in trained models, on in-distribution inputs only; stored values are reused."""
    from genlab.probes.inputs import PROBE_N, check_probe_n
    from genlab.probes.signal import chosen

    count = check_probe_n(PROBE_N if n is None else n)
    wanted = chosen(parts_of(names) if names else ())
    which = [*(runs or []), *([grid] if grid else [])]
    if not which or (runs and grid):
        raise UserError("lab probe takes either runs or --grid NAME")
    steps: list[int] | Literal["all"] | None = None
    if step is not None:
        steps = "all" if step == "all" else sorted(set(parse_range(step, "--step")))
    if per_run and steps is not None and (steps == "all" or len(steps) > 1):
        raise UserError("--per-run shows a single step; give one --step")
    if figure is not None and steps is not None and (steps == "all" or len(steps) > 1):
        raise UserError("--figure shows a single step; give one --step")
    from rich.console import Console

    from genlab.report.output import show as show_result
    from genlab.report.probe import probe_runs
    from genlab.runs.sources import edited
    from genlab.runs.store import Store

    kept = Store(store)
    with Console(stderr=True).status("probing") as status:
        result = probe_runs(
            which,
            wanted,
            steps,
            kept,
            device=device,
            n=count,
            per_run=per_run,
            figure=figure,
            report=status.update,
        )
    show_result(result, as_json)
    note(edited(kept, result.runs) if result.probing.read else "", result.left_out if as_json else "")


def notebook(
    run: Annotated[str, typer.Argument(help="a run id, or a unique prefix of one")],
    output: Annotated[
        Path | None,
        output("--output", "-o", help="file to write (default: RUN.ipynb)", endings=(".ipynb",)),
    ] = None,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Write an executed notebook about a run: attention patterns, heads, sharpness curves, ablations."""
    from genlab.report.notebook import write_notebook
    from genlab.report.output import show as show_result
    from genlab.runs.store import Store

    show_result(write_notebook(run, Store(store), output), as_json)


def report(
    grid: Annotated[str, typer.Option("--grid", help="a grid, group or tag of the store")],
    out: Annotated[Path, output("--out", "-o", help="the .html file to write", endings=(".html",))],
    target: Annotated[
        str | None,
        typer.Option("--target", help="what to forecast (default: exact match on the first shifted split)"),
    ] = None,
    signal: Annotated[str | None, typer.Option("--signal", help="the signal of interest")] = None,
    by: Annotated[str, typer.Option("--by", help="what to hold out: setting, random or task")] = "random",
    all_runs: Annotated[bool, typer.Option("--all-runs", help="include runs that did not fit")] = False,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained page: what was trained, how far it generalizes, what predicts it."""
    from genlab.report.html import write_report
    from genlab.report.output import show as show_result
    from genlab.runs.store import Store

    show_result(write_report(Store(store), grid, out, target, signal, cast(Any, by), not all_runs), as_json)
