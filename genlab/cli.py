"""The command `lab`: each command parses, calls one library function, prints. Heavy imports are inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genlab import cli_forecast, cli_grid, cli_probe, cli_rasp, cli_tasks
from genlab.errors import FailedRuns, Interrupted, UserError
from genlab.options import StoreOption, parse_params, spec_values, with_spec_flags
from genlab.runs.gridfile import parse_range

app = typer.Typer(
    help="Train small transformers on short inputs, and see whether they are right on inputs they have never seen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = StoreOption
Plugin = Annotated[list[Path] | None, typer.Option("--plugin", help="a Python file that registers tasks")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, nothing else")]
Format = Annotated[str | None, typer.Option("--format", help="how the task is written (default: its first format)")]
Params = Annotated[list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="a parameter of the task")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]


_CommandLineError: Any = typer.BadParameter.__mro__[2]
"""What every error of the command line's own parser derives from (typer gives it no public name)."""


def main() -> None:
    """Run a command; one line and exit status 2 for a user's mistake, 1 for runs that failed, 130 for Ctrl-C."""
    try:
        sys.exit(app(standalone_mode=False))
    except _CommandLineError as error:
        if message := error.format_message():  # empty where help was shown instead
            print(f"lab: {message}", file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(2)
    except FailedRuns as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(1)
    except Interrupted:
        print("lab: stopped; what was reached is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(130)


@app.command()
@with_spec_flags
def train(
    task: Annotated[str, typer.Option("--task", help="what to learn (see: lab tasks)")],
    train_len: Annotated[
        int | None, typer.Option("--train-len", help="longest training length (default: the task's own)")
    ] = None,
    test_len: Annotated[
        int | None,
        typer.Option("--test-len", help="longest test length (default: --train-len, or twice the task's own)"),
    ] = None,
    format: Format = None,
    param: Params = None,
    max_len: Annotated[
        int | None,
        typer.Option("--max-len", help="length that vocabulary and context are made for (default: --test-len)"),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="0:4 is 0, 1, 2, 3; one run a seed")] = "0:4",
    test_split: Annotated[str, typer.Option("--test-split", help="splits to test, apart by commas")] = "id",
    evals: Annotated[str, typer.Option("--evals", help="all, or id: nothing out of distribution")] = "all",
    eval_n: Annotated[int, typer.Option("--eval-n", help="test examples a length")] = 512,
    eval_seed: Annotated[int, typer.Option("--eval-seed", help="seed of the test examples")] = 0,
    keep_steps: Annotated[
        str, typer.Option("--keep-steps", help="training steps whose weights are kept too: 100,200 or 100:1000:100")
    ] = "",
    store: Store = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option("--workers", help="processes on a CPU; 0: one a core")] = 0,
    again: Annotated[bool, typer.Option("--again", help="train anew what is there already")] = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="where the figure goes (default: in the group)")
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
    options: dict[str, Any] = {},  # noqa: B006 (filled by the flags of model and training)
) -> None:
    """Train on short inputs, test on long ones, and draw exact match by length."""
    _load_plugins(plugin)
    from genlab.runs.plan import Evals, default_lengths, defaults_of, plan

    if evals not in ("all", "id"):
        raise UserError(f"--evals {evals!r} is not allowed (allowed: all, id)")
    if eval_n < 1 or eval_seed < 0 or workers < 0:
        raise UserError("--eval-n must be at least 1, --eval-seed and --workers at least 0")
    own = default_lengths(task, defaults_of(task, format))[1] if train_len is None else train_len
    longest = own if test_len is None else test_len
    kept = tuple(parse_range(keep_steps, "--keep-steps")) if keep_steps else ()
    looked_at = Evals(longest if evals == "all" else 0, tuple(test_split.split(",")), eval_n, eval_seed, kept)
    made = plan(
        task,
        train_len,
        longest,
        format=format,
        max_len=max_len,
        params=parse_params(param or []),
        seeds=parse_range(seeds, "--seeds"),
        evals=looked_at,
        **spec_values(options),
    )
    from genlab.report.train import train_and_show

    train_and_show(made, store, device=device, workers=workers, again=again, figure=figure, as_json=as_json)


@app.command("eval")
def evaluate(
    lengths: Annotated[str, typer.Option("--lengths", help="5:50:5 is 5, 10, ..., 45")],
    run: Annotated[
        str | None, typer.Argument(help="a run id, a unique prefix of one, a group, grid or tag, or `last`")
    ] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="a whole grid, by its name")] = None,
    split: Annotated[str, typer.Option("--split", help="splits to test, apart by commas")] = "id",
    eval_n: Annotated[int, typer.Option("--eval-n", help="test examples a length")] = 512,
    eval_seed: Annotated[int, typer.Option("--eval-seed", help="seed of the test examples")] = 0,
    offsets: Annotated[
        str, typer.Option("--offsets", help="where examples stand: random, zero or batch (default: as in training)")
    ] = "",
    store: Store = None,
    device: Device = "auto",
    figure: Annotated[Path | None, typer.Option("--figure", help="also draw exact match by length there")] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate trained runs at any lengths, on any split of their task."""
    _load_plugins(plugin)
    wanted = tuple(parse_range(lengths, "--lengths"))
    if eval_n < 1 or eval_seed < 0:
        raise UserError("--eval-n must be at least 1 and --eval-seed at least 0")
    which = grid if run is None else run
    if which is None or (run is not None and grid is not None):
        raise UserError("lab eval takes a run, or --grid NAME")
    from genlab.report.train import evaluate_and_show

    evaluate_and_show(
        which, split.split(","), wanted, eval_n, eval_seed, store, device, figure, as_json, offsets=offsets
    )


@app.command()
def runs(
    task: Annotated[str | None, typer.Option("--task", help="only runs of this task")] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="only runs of a grid, group or tag")] = None,
    where: Annotated[str | None, typer.Option("--where", help='"weight_decay = 0.01 and n_layers > 1"')] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="sum up by these fields, apart by commas, with a figure")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="all fields, as CSV on standard output")] = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="all fields, into this file")] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="where the figure of --by goes")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List runs: task, model, seeds, steps, exact match in and out of distribution; filter, export, sum up."""
    from genlab.report.grid import show_runs

    show_runs(task, store, grid=grid, where=where, by=by, csv=csv, parquet=parquet, figure=figure, as_json=as_json)


cli_tasks.add_to(app)
cli_grid.add_to(app)
cli_forecast.add_to(app)
cli_probe.add_to(app)
app.add_typer(cli_rasp.rasp_app, name="rasp")


def _load_plugins(files: list[Path] | None) -> None:
    from genlab.tasks import load_plugin

    for file in files or []:
        load_plugin(file)


if __name__ == "__main__":
    main()
