"""`lab forecast`: each command parses, calls one function of `forecast.commands`, and shows its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from genlab.errors import UserError
from genlab.help import Command, Group
from genlab.options import AsJson, Plugin, StoreOption, examples, note
from genlab.text import parts_of

if TYPE_CHECKING:
    import pandas as pd

    from genlab.runs.store import Store

forecast_app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    help="Forecast out-of-distribution behavior from in-distribution measurements, and score the forecasts.",
    no_args_is_help=True,
    epilog=examples(
        'lab forecast evaluate --grid NAME --target "exact_match@length=50" --signal induction_prefix.max',
        "lab forecast rules --grid NAME --split matched-unnested",
    ),
)

TABLE, METHOD = "Own table", "Method"

Grid = Annotated[str, typer.Option("--grid", help="a grid, group, tag or run of the store")]
GridOrNone = Annotated[str | None, typer.Option("--grid", help="a grid, group, tag or run of the store")]
Target = Annotated[
    str, typer.Option("--target", help='"exact_match@length=50", "exact_match@split=S>=0.5", furthest@0.9')
]
Signal = Annotated[str | None, typer.Option("--signal", help="the signal of interest")]
By = Annotated[
    str,
    typer.Option(
        "--by",
        help="what to hold out: setting, random, task, length, or few (labeled runs)",
        rich_help_panel=METHOD,
    ),
]
Factors = Annotated[
    str | None,
    typer.Option(
        "--factors", help="comma-separated fields that define a setting (default: all)", rich_help_panel=METHOD
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", help="model of the baselines: linear, forest or boosting", rich_help_panel=METHOD)
]
AllRuns = Annotated[bool, typer.Option("--all-runs", help="include runs that did not fit", rich_help_panel=METHOD)]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,
        help="seed of splits, trees, bootstrap and permutations",
        rich_help_panel=METHOD,
    ),
]
Inadmissible = Annotated[
    bool,
    typer.Option(
        "--inadmissible", help="include signals that read more than training inputs", rich_help_panel=METHOD
    ),
]


def _columns(flag: str, what: str) -> Any:
    return typer.Option(flag, metavar="A,B", help=f"columns that are {what}", rich_help_panel=TABLE)


@forecast_app.command(
    cls=Command,
    epilog=examples(
        'lab forecast evaluate --grid NAME --target "exact_match@length=50" --by random',
        "lab forecast evaluate --table runs.csv --signals ambi --outcome ood --target ood",
    ),
)
def evaluate(
    grid: GridOrNone = None,
    target: Target = "",
    by: By = "setting",
    signal: Signal = None,
    factors: Factors = None,
    model: ModelOption = "linear",
    longest: Annotated[
        int | None,
        typer.Option("--longest", help="with --by length: longest training length", rich_help_panel=METHOD),
    ] = None,
    all_runs: AllRuns = False,
    keep_twins: Annotated[
        bool,
        typer.Option(
            "--keep-twins",
            help="also train on runs that share seeds with test runs",
            rich_help_panel=METHOD,
        ),
    ] = False,
    inadmissible: Inadmissible = False,
    seed: Seed = 0,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="a CSV or Parquet file in place of a grid", rich_help_panel=TABLE),
    ] = None,
    setting: Annotated[str | None, _columns("--setting", "settings")] = None,
    seeds: Annotated[str | None, _columns("--seeds", "seeds")] = None,
    metric: Annotated[str | None, _columns("--metric", "measured in distribution")] = None,
    confidence: Annotated[str | None, _columns("--confidence", "output confidence")] = None,
    attention: Annotated[str | None, _columns("--attention", "attention statistics")] = None,
    signals: Annotated[str | None, _columns("--signals", "signals")] = None,
    outcome: Annotated[str | None, _columns("--outcome", "outcomes")] = None,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Cross-validate forecasts of known outcomes against baselines, with intervals."""
    roles = {"setting": setting, "seed": seeds, "metric": metric, "confidence": confidence}
    roles |= {"attention": attention, "signal": signals, "outcome": outcome}
    columns = {role: parts_of(names) for role, names in roles.items() if names}
    if (grid is None) == (table is None):
        raise UserError("lab forecast evaluate takes either --grid NAME, or --table FILE with declared columns")
    if table is None and columns:
        raise UserError(f"--{next(iter(columns))} declares columns of a file and requires --table")
    _needs_target(target)
    from genlab.forecast import commands, read_table
    from genlab.report.output import show

    kept = None
    if grid is not None:
        kept, grid, runs = _runs_of(store, grid, inadmissible)
    else:
        runs = read_table(cast(Path, table), columns)
    common: dict[str, Any] = {"signal": signal, "fit_only": not all_runs, "seed": seed}
    if by == "few":
        return show(commands.evaluate_with_few_labels(runs, target, **common), as_json)
    common |= {"model": model, "longest": longest, "keep_twins": keep_twins, "factors": _split(factors)}
    return show(commands.evaluate_forecasts(kept, runs, grid, target, by, **common), as_json)


@forecast_app.command(
    cls=Command,
    epilog=examples(
        'lab forecast fit --grid OLD --target "exact_match@length=50" --signal induction_prefix.max --save first',
        'lab forecast fit --grid OLD --target "exact_match@length=50" --model forest --save second',
    ),
)
def fit(
    grid: Grid,
    target: Target,
    save: Annotated[str, typer.Option("--save", help="name of the forecaster")],
    signal: Signal = None,
    model: ModelOption = "linear",
    all_runs: AllRuns = False,
    inadmissible: Inadmissible = False,
    seed: Seed = 0,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Fit a forecaster to runs with known outcomes, and save it."""
    _needs_target(target)
    from genlab.forecast import commands
    from genlab.report.output import show

    kept, grid, runs = _runs_of(store, grid, inadmissible)
    options: dict[str, Any] = {"signal": signal, "model": model, "fit_only": not all_runs, "seed": seed}
    show(commands.fit_forecaster(kept, runs, target, save, **options), as_json)


@forecast_app.command(
    cls=Command,
    epilog=examples(
        "lab forecast seal --grid NEW --with first",
        'lab forecast seal --grid NEW --target "exact_match@length=50" --by setting --signal induction_prefix.max',
    ),
)
def seal(
    grid: Grid,
    with_model: Annotated[
        str | None, typer.Option("--with", help="saved forecaster whose forecasts of unseen runs are sealed")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="without --with: target of the analysis plan to seal")] = "",
    by: By = "setting",
    signal: Signal = None,
    factors: Factors = None,
    all_runs: AllRuns = False,
    inadmissible: Inadmissible = False,
    seed: Seed = 0,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Seal forecasts of runs, or an analysis plan, before outcomes are seen."""
    if (with_model is None) == (not target):
        raise UserError("lab forecast seal takes either --with NAME (forecasts) or --target T (an analysis plan)")
    from genlab.forecast import commands
    from genlab.report.output import show

    if with_model is not None:
        return show(commands.seal_forecasts(*_store_of(store, grid), with_model), as_json)
    kept, grid, runs = _runs_of(store, grid, inadmissible)
    options: dict[str, Any] = {"signal": signal, "fit_only": not all_runs, "seed": seed, "factors": _split(factors)}
    return show(commands.seal_plan(kept, runs, grid, target, by, **options), as_json)


@forecast_app.command(cls=Command, epilog=examples("lab forecast score", "lab forecast score 1 --json"))
def score(
    which: Annotated[str | None, typer.Argument(help="a lock (default: all of them)")] = None,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Score sealed forecasts against outcomes, save the scores, and show the history."""
    from genlab.forecast import commands
    from genlab.report.output import show
    from genlab.runs.store import Store

    result = commands.score_locks(Store(store), which)
    show(result, as_json)
    if as_json:
        note(*(one.problem for one in result.scored))


@forecast_app.command(
    cls=Command,
    epilog=examples(
        'lab forecast causal --grid NAME --target "exact_match@length=50" --signal induction_prefix.max',
        "lab forecast causal --grid NAME --target exact_match@split=far --signal previous_token.max --json",
    ),
)
def causal(
    grid: Grid,
    target: Target,
    signal: Annotated[str, typer.Option("--signal", help="head signal that selects the head to ablate")],
    all_runs: AllRuns = False,
    inadmissible: Inadmissible = False,
    seed: Seed = 0,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Ablate the head with the largest signal in each run, and measure the target again."""
    _needs_target(target)
    from genlab.forecast import commands
    from genlab.report.output import show

    kept, grid, runs = _runs_of(store, grid, inadmissible)
    show(commands.check_causally(kept, runs, target, signal, fit_only=not all_runs, seed=seed), as_json)


@forecast_app.command(
    cls=Command,
    epilog=examples(
        "lab forecast rules --grid NAME --split matched-unnested",
        "lab forecast rules --grid NAME --split first-symbol --cut 0.1 --json",
    ),
)
def rules(
    grid: Annotated[str, typer.Option("--grid", help="a grid, group, tag or run of the store, of one task")],
    split: Annotated[str, typer.Option("--split", help="split on which the candidate rules differ")],
    cut: Annotated[
        float,
        typer.Option(
            "--cut",
            min=0,
            max=1,
            help="maximum mean fraction of different answers in a cluster",
            rich_help_panel=METHOD,
        ),
    ] = 0.2,
    store: StoreOption = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Show which rule each run learned: clusters of runs with similar answers, and their agreement with each rule."""
    from genlab.forecast import commands
    from genlab.report.output import show

    show(commands.learned_rules(*_store_of(store, grid), split, cut), as_json)


def _store_of(path: Path | None, grid: str) -> tuple[Store, str]:
    """The store, and the grid with `last` resolved.

    Diverged runs of the grid, which all commands leave out, are named on standard error.
    """
    from genlab.forecast.commands import diverged_line
    from genlab.runs.store import Store

    kept = Store(path)
    name = kept.named.resolve(grid)
    note(diverged_line(kept, name))
    return kept, name


def _runs_of(path: Path | None, grid: str, inadmissible: bool) -> tuple[Store, str, pd.DataFrame]:
    from genlab.forecast import table

    kept, name = _store_of(path, grid)
    return kept, name, table(kept, name, None, inadmissible)


def _needs_target(target: str) -> None:
    if not target:
        raise UserError('--target is missing; for example --target "exact_match@length=50"')


def _split(names: str | None) -> list[str] | None:
    return parts_of(names) if names else None
