"""The command `lab`: each command parses, calls one library function, and shows the result that it returns.

Heavy imports are inside the commands, so that `lab --help`, `tasks`, `show` and `signals` are there at once.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from genlab import __version__, cli_forecast, cli_grid, cli_outside, cli_rasp, cli_reproduce, cli_runs, cli_tasks
from genlab.errors import FailedRuns, Interrupted, UserError
from genlab.help import Command, Group
from genlab.loggers.record import chosen_loggers, log_runs
from genlab.options import (
    EVALUATION,
    FIGURE,
    OUTPUT,
    TASK,
    TRAINING,
    AsJson,
    Device,
    EvalN,
    EvalSeed,
    Format,
    Logger,
    Params,
    Plugin,
    Splits,
    StoreOption,
    examples,
    note,
    output,
    parse_params,
    spec_values,
    with_spec_flags,
)
from genlab.runs.gridfile import parse_range
from genlab.runs.recipes import RECIPES
from genlab.tasks import load_plugins_of_environment, plugin_fault
from genlab.text import parts_of

app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    help="Train small transformers on short inputs, and see whether they are right on inputs they have never seen.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=examples("lab train --task sort --train-len 20 --test-len 50 --seeds 0:4", "lab show parity"),
)

_INTERRUPTED = 130
"""Exit status after Ctrl-C."""

_CommandLineError: Any = typer.BadParameter.__mro__[2]
"""Base class of all errors of the command-line parser (typer has no public name for it)."""

_ENDINGS = (
    *(_CommandLineError, UserError, FailedRuns, Interrupted, KeyboardInterrupt, typer.Abort),
    *(OSError, MemoryError),
)
"""Exceptions that end a command with one line; any other is a bug in genlab or in a plugin."""


def main() -> None:
    """Run a command and exit.

    Status 2 for a user error, 1 for failed runs and operating-system errors (including memory), 130 for Ctrl-C; each
    with one line on standard error. Status 1 without a line if the output pipe was closed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know ASCII only
    try:
        status = app(standalone_mode=False) or 0
        message = "stopped" if status == _INTERRUPTED else ""  # typer may return it without a message
    except _ENDINGS as error:
        status, message = _status_of(error)
    except (Exception, SystemExit) as error:
        if not (message := plugin_fault(error)):
            raise
        status = 2
    _exit(status, message)


def _status_of(error: BaseException) -> tuple[int, str]:
    """The exit status after an error, and what to say."""
    if isinstance(error, _CommandLineError):
        return 2, cast(Any, error).format_message()  # empty if help was shown instead
    if isinstance(error, UserError):
        return 2, str(error)
    if isinstance(error, FailedRuns):
        return 1, str(error)
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return 1, f"{where}{error.strerror or error}"
    if isinstance(error, MemoryError):
        return 1, f"out of memory: {str(error) or 'no details'}"
    saved = isinstance(error, Interrupted)
    return _INTERRUPTED, "stopped; progress is saved, and the same command resumes" if saved else "stopped"


def _exit(status: int, message: str) -> NoReturn:
    """Print a message on standard error and exit; full or closed output is an error, too."""
    try:
        if message:
            print(f"lab: {message}", file=sys.stderr)
        if sys.stdout is not None:  # None if it was closed from the start
            sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), 1
            )  # otherwise the interpreter flushes again at exit, and complains
        status = 1
        if not isinstance(error, BrokenPipeError):
            print(f"lab: the output cannot be written: {error.strerror}", file=sys.stderr)
    sys.exit(status)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"genlab {__version__}")
        raise typer.Exit


class _Notes(logging.Handler):
    """Show log messages of the library as notes on standard error, each once."""

    def __init__(self):
        super().__init__()
        self._shown = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line not in self._shown:
            self._shown.add(line)
            note(line)


@app.callback()
def lab(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", callback=_show_version, is_eager=True)
    ] = False,
    plugin: Plugin = None,
) -> None:
    """Train small transformers on short inputs, and see whether they are right on inputs they have never seen."""
    load_plugins_of_environment()
    log = logging.getLogger("genlab")
    log.handlers, log.propagate = [_Notes()], False
    log.setLevel(logging.INFO)


@app.command(
    cls=Command,
    epilog=examples(
        "lab train --task sort --train-len 20 --test-len 50 --seeds 0:4",
        "lab train --task brackets --test-split id,matched-unnested --n-layers 1",
    ),
)
@with_spec_flags
def train(
    task: Annotated[str, typer.Option("--task", help="task to train on (see: lab tasks)", rich_help_panel=TASK)],
    train_len: Annotated[
        int | None,
        typer.Option(
            "--train-len", help="longest training length (default: depends on the task)", rich_help_panel=TASK
        ),
    ] = None,
    test_len: Annotated[
        int | None,
        typer.Option(
            "--test-len",
            help="longest test length (default: --train-len, or twice its default)",
            rich_help_panel=EVALUATION,
        ),
    ] = None,
    format: Format = None,
    param: Params = None,
    max_len: Annotated[
        int | None,
        typer.Option(
            "--max-len",
            help="length that vocabulary and context support (default: --test-len)",
            rich_help_panel=TASK,
        ),
    ] = None,
    start_token: Annotated[
        bool | None,
        typer.Option(
            "--start-token/--no-start-token",
            help="put a start token before every example (default: if the task supports it)",
            rich_help_panel=TASK,
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option("--recipe", help=f"training recipe: {', '.join(RECIPES)}", rich_help_panel=TRAINING),
    ] = "lab",
    seeds: Annotated[
        str, typer.Option("--seeds", help="0:4 is 0, 1, 2, 3; one run per seed", rich_help_panel=TRAINING)
    ] = "0:4",
    test_split: Annotated[
        str, typer.Option("--test-split", help="comma-separated splits to test", rich_help_panel=EVALUATION)
    ] = "id",
    evals: Annotated[
        str,
        typer.Option("--evals", help="all, or id: evaluate in distribution only", rich_help_panel=EVALUATION),
    ] = "all",
    eval_n: EvalN = 512,
    eval_seed: EvalSeed = 0,
    keep_steps: Annotated[
        str,
        typer.Option(
            "--keep-steps",
            help="steps at which weights are also saved: 100,200 or 100:1000:100",
            rich_help_panel=OUTPUT,
        ),
    ] = "",
    store: StoreOption = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option("--workers", help="CPU processes; 0: one per core")] = 0,
    again: Annotated[bool, typer.Option("--again", help="retrain runs that already exist")] = False,
    figure: Annotated[
        Path | None,
        output("--figure", help="file of the figure (default: in the group folder)", endings=FIGURE),
    ] = None,
    logger: Logger = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
    **options: Any,  # the flags of model and training
) -> None:
    """Train on short inputs, test on long ones, and plot exact match by length."""
    from genlab.runs.plan import Evals, default_lengths, defaults_of, plan

    if evals not in ("all", "id"):
        raise UserError(f"--evals {evals!r} is not allowed (allowed: all, id)")
    if eval_n < 1 or eval_seed < 0 or workers < 0:
        raise UserError("--eval-n must be at least 1, --eval-seed and --workers at least 0")
    loggers = chosen_loggers(logger)
    own = default_lengths(task, defaults_of(task, format))[1] if train_len is None else train_len
    longest = own if test_len is None else test_len
    saved = tuple(parse_range(keep_steps, "--keep-steps")) if keep_steps else ()
    planned = plan(
        task,
        train_len,
        longest,
        format=format,
        max_len=max_len,
        params=parse_params(param or []),
        start_token=start_token,
        recipe=recipe,
        seeds=parse_range(seeds, "--seeds"),
        evals=Evals(longest if evals == "all" else 0, tuple(parts_of(test_split)), eval_n, eval_seed, saved),
        **spec_values(options),
    )
    from rich.console import Console

    from genlab.report.display import Display
    from genlab.report.output import show as show_result
    from genlab.report.train import plan_notes, train_plan
    from genlab.runs.api import wanted_runs, without_steps
    from genlab.runs.sources import trained_otherwise
    from genlab.runs.store import Store

    kept, wanted = Store(store), wanted_runs([planned])
    note(*plan_notes(planned, device), trained_otherwise(kept, planned.specs))
    lacking = "" if again else without_steps(kept, wanted)
    note(lacking)
    names = {spec.run_id: f"seed {spec.train.init_seed}" for spec in planned.specs}
    with Display(names, Console(stderr=True)) as display:
        result = train_plan(planned, kept, device=device, workers=workers, again=again, figure=figure, report=display)
    note(*({without_steps(kept, wanted)} - {lacking}))
    if result.outcome is not None:
        show_result(result, as_json)
        note(*log_runs(loggers, kept, result.group, result.outcome.runs))
    if result.failed:
        raise result.failed


@app.command(
    "eval",
    cls=Command,
    epilog=examples("lab eval last --lengths 5:100:5", "lab eval --grid NAME --lengths 50 --split id,far --json"),
)
def evaluate(
    lengths: Annotated[str, typer.Option("--lengths", help="5:50:5 is 5, 10, ..., 50", rich_help_panel=EVALUATION)],
    run: Annotated[
        str | None, typer.Argument(help="a run id, a unique prefix of one, a group, grid or tag, or `last`")
    ] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="a whole grid, by its name")] = None,
    split: Splits = "id",
    eval_n: EvalN = 512,
    eval_seed: EvalSeed = 0,
    offsets: Annotated[
        str,
        typer.Option(
            "--offsets",
            help="offsets in the context: random, zero or batch (default: as in training)",
            rich_help_panel=EVALUATION,
        ),
    ] = "",
    attn_weights: Annotated[
        str,
        typer.Option(
            "--attn-weights",
            help="evaluate with these attention weights, such as adaptive (default: as in training)",
            rich_help_panel=EVALUATION,
        ),
    ] = "",
    store: StoreOption = None,
    device: Device = "auto",
    figure: Annotated[
        Path | None,
        output("--figure", help="also plot exact match by length to this file", endings=FIGURE),
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate trained runs at any lengths, on any split of their task."""
    wanted = tuple(parse_range(lengths, "--lengths", inclusive=True))
    if eval_n < 1 or eval_seed < 0:
        raise UserError("--eval-n must be at least 1 and --eval-seed at least 0")
    which = grid if run is None else run
    if which is None or (run is not None and grid is not None):
        raise UserError("lab eval takes either a run or --grid NAME")
    from rich.console import Console

    from genlab.report.display import Display
    from genlab.report.output import show as show_result
    from genlab.report.train import evaluate_at
    from genlab.runs.sources import edited
    from genlab.runs.store import Store

    kept = Store(store)
    runs = kept.find(which)
    if not runs:
        raise UserError(f"{which!r} has no finished runs yet; finish training first")
    note(edited(kept, runs))
    with Display({run: run for run in runs}, Console(stderr=True)) as display:
        result = evaluate_at(
            runs,
            parts_of(split),
            wanted,
            kept,
            n=eval_n,
            seed=eval_seed,
            offsets=offsets,
            attn_weights=attn_weights,
            device=device,
            figure=figure,
            report=display,
        )
    show_result(result, as_json)


cli_tasks.add_to(app)
cli_runs.add_to(app)
cli_grid.add_to(app)
cli_outside.add_to(app)
cli_reproduce.add_to(app)
app.add_typer(cli_forecast.forecast_app, name="forecast")
app.add_typer(cli_rasp.rasp_app, name="rasp")


if __name__ == "__main__":
    main()
