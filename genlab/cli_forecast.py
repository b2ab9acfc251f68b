"""`lab forecast`, `score`, `rules` and `report`: will it generalise? Each command parses, calls, prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from genlab.errors import UserError
from genlab.options import StoreOption

Where = StoreOption
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, nothing else")]
GridName = Annotated[str | None, typer.Option("--grid", help="a grid, group, tag or run of the store")]


def add_to(app: typer.Typer) -> None:
    """Give a command line these commands."""
    app.command()(forecast)
    app.command()(score)
    app.command()(rules)
    app.command()(report)


def forecast(
    grid: GridName = None,
    target: Annotated[
        str, typer.Option("--target", help='"exact_match@length=50", "exact_match@split=S>=0.5", furthest@0.9')
    ] = "",
    by: Annotated[
        str, typer.Option("--by", help="what is held out: setting, random, task, length, or few (labelled runs)")
    ] = "setting",
    signal: Annotated[str | None, typer.Option("--signal", help="the signal that is asked about")] = None,
    factors: Annotated[
        str | None, typer.Option("--factors", help="settings that make a setting, apart by commas (default: all)")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="of the baselines: linear, forest or boosting")] = "linear",
    longest: Annotated[int | None, typer.Option("--longest", help="with --by length: train up to this")] = None,
    all_runs: Annotated[bool, typer.Option("--all-runs", help="also runs that did not fit in distribution")] = False,
    keep_twins: Annotated[
        bool, typer.Option("--keep-twins", help="train on runs that share seeds with test runs, as in print")
    ] = False,
    inadmissible: Annotated[
        bool, typer.Option("--inadmissible", help="also signals that read more than training-like inputs")
    ] = False,
    causal: Annotated[
        bool, typer.Option("--causal", help="take out the head that --signal reads, and measure the target again")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="of splits, trees, bootstrap and permutations")] = 0,
    save: Annotated[str | None, typer.Option("--save", help="keep the forecaster under this name")] = None,
    with_model: Annotated[str | None, typer.Option("--with", help="a forecaster that --save kept")] = None,
    lock: Annotated[
        bool,
        typer.Option("--lock", help="seal forecasts (with --with), or the plan of this analysis, before looking"),
    ] = False,
    table: Annotated[Path | None, typer.Option("--table", help="a CSV or Parquet file in place of a grid")] = None,
    setting: Annotated[
        str | None, typer.Option("--setting", metavar="A,B", help="columns of --table that are settings")
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="A,B", help="columns that are seeds")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="A,B", help="columns measured in distribution")
    ] = None,
    confidence: Annotated[
        str | None, typer.Option("--confidence", metavar="A,B", help="columns of output confidence")
    ] = None,
    attention: Annotated[
        str | None, typer.Option("--attention", metavar="A,B", help="columns of attention statistics")
    ] = None,
    signals: Annotated[str | None, typer.Option("--signals", metavar="A,B", help="columns that are signals")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", metavar="A,B", help="columns that are outcomes")] = None,
    store: Where = None,
    as_json: AsJson = False,
) -> None:
    """Forecast behaviour out of distribution from signals, and score that as a sceptic would; or seal it first."""
    declared = {"setting": setting, "seed": seeds, "metric": metric, "confidence": confidence}
    declared |= {"attention": attention, "signal": signals, "outcome": outcome}
    columns = {role: names.split(",") for role, names in declared.items() if names}
    if (grid is None) == (table is None):
        raise UserError("lab forecast takes --grid NAME, or --table FILE with its columns declared")
    if table is None and columns:
        raise UserError(f"--{next(iter(columns))} declares columns of a file; it goes with --table")
    if with_model is not None and not lock:
        raise UserError("--with goes with --lock: forecasts are sealed before the outcomes are seen, then lab score")
    if (lock or save) and table is not None:
        raise UserError("of a file it is not known when its outcomes were seen; --lock and --save go with --grid")
    if not target and with_model is None:
        raise UserError('--target is missing; for example --target "exact_match@length=50"')
    if causal and (table is not None or signal is None):
        raise UserError("--causal takes heads out of the runs of a --grid, those that --signal NAME reads best")
    from genlab.forecast import read_table
    from genlab.forecast import table as grid_table
    from genlab.forecast.commands import (
        causal_lines,
        diverged_line,
        judge_lines,
        learning,
        lock_forecasts,
        lock_plan,
        save_forecaster,
    )

    if grid is not None:
        _tell(diverged_line(store, grid))
    if with_model is not None:
        told = lock_forecasts(store, cast(str, grid), with_model)
        return _print(told, as_json)
    found = (
        read_table(table, columns) if table is not None else grid_table(store, cast(str, grid), None, inadmissible)
    )
    asked: dict[str, Any] = {"signal": signal, "fit_only": not all_runs, "seed": seed}
    chosen = factors.split(",") if factors else None
    if lock:
        return _print(lock_plan(store, found, cast(str, grid), target, by, chosen, asked), as_json)
    if causal:
        return _print(causal_lines(store, found, target, asked), as_json)
    if by == "few":
        return _print(learning(found, target, asked), as_json)
    asked |= {"factors": chosen, "model": model, "longest": longest, "keep_twins": keep_twins}
    told = judge_lines(store if grid else None, found, grid, target, by, asked)
    _print(told, as_json)
    if save is not None:
        _print(save_forecaster(store, found, target, signal, cast(Any, model), not all_runs, seed, save), False)
    return None


def score(
    which: Annotated[str | None, typer.Argument(help="a lock (default: all of them)")] = None,
    store: Where = None,
    as_json: AsJson = False,
) -> None:
    """Compare sealed forecasts with what came out, and keep the score; the history is shown."""
    from genlab.forecast.commands import score_locks

    _print(score_locks(store, which), as_json)


def rules(
    grid: Annotated[str, typer.Option("--grid", help="a grid, group, tag or run of the store, of one task")],
    split: Annotated[str, typer.Option("--split", help="a split that tells the candidate rules apart")],
    cut: Annotated[
        float, typer.Option("--cut", min=0, max=1, help="runs are alike up to this mean share of different answers")
    ] = 0.2,
    store: Where = None,
    as_json: AsJson = False,
) -> None:
    """Which rule did each run learn? Clusters of runs that answer alike, and the share of answers each rule gives."""
    from genlab.forecast.commands import diverged_line, rule_lines

    _tell(diverged_line(store, grid))
    _print(rule_lines(store, grid, split, cut), as_json)


def report(
    grid: Annotated[str, typer.Option("--grid", help="a grid, group or tag of the store")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the .html file to write")],
    target: Annotated[
        str | None, typer.Option("--target", help="what is forecast (default: exact match on the first other split)")
    ] = None,
    signal: Annotated[str | None, typer.Option("--signal", help="the signal that is asked about")] = None,
    by: Annotated[str, typer.Option("--by", help="what is held out: setting, random or task")] = "random",
    all_runs: Annotated[bool, typer.Option("--all-runs", help="forecast also runs that did not fit")] = False,
    store: Where = None,
) -> None:
    """One self-contained page: what was trained, how far it generalises, what predicts it."""
    from genlab.report.html import write_report
    from genlab.runs.store import Store

    typer.echo(write_report(Store(store), grid, out, target, signal, cast(Any, by), not all_runs))


def _tell(line: str) -> None:
    """Print a line, if there is one, where it is in no document's way."""
    if line:
        print(line, file=sys.stderr)


def _print(told: tuple[list[str], Any], as_json: bool) -> None:
    """Lines for a person, or the document for a program."""
    lines, document = told
    print(json.dumps(document, indent=1) if as_json else "\n".join(lines))
