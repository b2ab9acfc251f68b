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
from typing import Annotated, Any, Literal, NoReturn, cast

import typer

from genlab import __version__, cli_forecast, cli_grid, cli_outside, cli_rasp, cli_reproduce
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


@app.command(cls=Command, epilog=examples("lab tasks", "lab tasks --json"))
def tasks(plugin: Plugin = None, as_json: AsJson = False) -> None:
    """List tasks by family: question, language class, formats, splits and paper."""
    from genlab.report.listing import task_list
    from genlab.report.output import show as show_result

    show_result(task_list(), as_json)


@app.command(
    cls=Command, epilog=examples("lab show addition --format reversed-hints", "lab show maze --png maze.png")
)
def show(
    task: Annotated[str, typer.Argument(help="a task (see: lab tasks)")],
    length: Annotated[
        int | None, typer.Option("--length", help="length of the examples (default: 8 or less)", rich_help_panel=TASK)
    ] = None,
    format: Annotated[str | None, typer.Option("--format", help="only this format", rich_help_panel=TASK)] = None,
    split: Annotated[str | None, typer.Option("--split", help="only this split", rich_help_panel=TASK)] = None,
    n: Annotated[int | None, typer.Option("-n", help="examples of each (default: 3 or fewer)")] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the examples")] = 0,
    max_len: Annotated[
        int | None, typer.Option("--max-len", help="length that the vocabulary supports", rich_help_panel=TASK)
    ] = None,
    param: Params = None,
    png: Annotated[
        Path | None,
        output("--png", help="also draw the first example to this file (mazes)", endings=FIGURE),
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Print examples with their answers marked, of every format and split or of the ones named."""
    from genlab.report.listing import Asked, example_list
    from genlab.report.output import show as show_result

    asked = Asked(task, length, format, split, n, seed, max_len, parse_params(param or []))
    show_result(example_list(asked, png), as_json)


@app.command(
    cls=Command,
    epilog=examples(
        "lab export copy --out copy.parquet -n 100000", "lab export sort --out sort.parquet --lengths 1:31"
    ),
)
def export(
    task: Annotated[str, typer.Argument(help="a task (see: lab tasks)")],
    out: Annotated[Path, output("--out", "-o", help="the .parquet file to write", endings=(".parquet",))],
    n: Annotated[int, typer.Option("-n", help="examples of each split")] = 10_000,
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths",
            help="1:31 is 1 to 30, equally likely (default: the training lengths, as drawn in training)",
            rich_help_panel=TASK,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="comma-separated splits to draw from", rich_help_panel=TASK)
    ] = "id",
    format: Format = None,
    param: Params = None,
    max_len: Annotated[
        int | None,
        typer.Option("--max-len", help="length that the vocabulary supports", rich_help_panel=TASK),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the examples")] = 0,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Write examples of a task to a Parquet file, for training elsewhere."""
    from genlab.report.output import show as show_result
    from genlab.runs.elsewhere import export as export_task

    result = export_task(
        task,
        out,
        n,
        splits=split.split(","),
        lengths=None if lengths is None else parse_range(lengths, "--lengths"),
        format=format,
        params=parse_params(param or []),
        max_len=max_len,
        seed=seed,
    )
    show_result(result, as_json)


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
        evals=Evals(longest if evals == "all" else 0, tuple(test_split.split(",")), eval_n, eval_seed, saved),
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
            split.split(","),
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


@app.command(
    cls=Command, epilog=examples('lab ask 3fa2 "7 3 5 >"', "lab ask 3fa2 --split id --length 30 --wrong-only")
)
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


@app.command(
    cls=Command,
    epilog=examples('lab runs --where "weight_decay = 0.01 and n_layers > 1"', "lab runs --sort lr --limit 5"),
)
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
    )
    from genlab.report.output import show as show_result
    from genlab.runs.diverged import left_out
    from genlab.runs.store import Store

    kept = Store(store)
    grid = None if grid is None else kept.named.resolve(grid)
    fields = by.split(",") if by is not None else []
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
        parquet.parent.mkdir(parents=True, exist_ok=True)
        result.rows.to_parquet(parquet, index=False)
        print(f"{len(result.rows)} rows: {parquet}")
    elif csv:
        result.rows.to_csv(sys.stdout, index=False)
    else:
        show_result(result, as_json)
    if by is not None and len(result.rows):
        drawn = figure or figure_folder(kept, grid) / f"by_{'_'.join(fields)}.png"
        draw_configurations(result.rows, fields, drawn)
        note(f"figure: {drawn}")


@app.command(cls=Command, epilog=examples("lab signals", "lab signals induction,confidence_msp"))
def signals(
    names: Annotated[str, typer.Argument(help="comma-separated names or families (default: all)")] = "all",
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """List signals: what each measures, its formula, range and source."""
    from genlab.probes.signal import chosen
    from genlab.report.listing import SignalList
    from genlab.report.output import show as show_result

    show_result(SignalList(chosen(names.split(","))), as_json)


@app.command(
    cls=Command,
    epilog=examples(
        "lab calibrate --task brackets", "lab calibrate --task brackets --noise 0,0.001 --seeds 0:3 --json"
    ),
)
def calibrate(
    task: Annotated[str, typer.Option("--task", help="a task with programs for its rules", rich_help_panel=TASK)],
    has: Annotated[str, typer.Option("--has", help="rule that signals should detect")] = "NESTED",
    lacks: Annotated[str, typer.Option("--lacks", help="comma-separated rules to tell it from")] = "EQUAL-COUNT",
    names: Annotated[str, typer.Option("--signals", help="comma-separated names or families")] = "brackets",
    max_len: Annotated[int, typer.Option("--max-len", help="longest length", rich_help_panel=TASK)] = 20,
    noise: Annotated[
        str, typer.Option("--noise", help="comma-separated standard deviations of weight noise")
    ] = "0,0.0001,0.001,0.01",
    seeds: Annotated[str, typer.Option("--seeds", help="seeds of rotation, decoys and noise; 0:5 is 0 to 4")] = "0:5",
    decoys: Annotated[int, typer.Option("--decoys", help="random heads and neurons per layer")] = 2,
    as_json: AsJson = False,
) -> None:
    """Measure signals in compiled models, whose mechanism is known: what each detects, and up to which noise."""
    from genlab.probes.signal import chosen
    from genlab.report.calibration import calibration, noises_of
    from genlab.report.output import show as show_result
    from genlab.tasks import make
    from genlab.tasks import spec as task_spec

    show_result(
        calibration(
            make(task_spec(task, max_len)),
            has,
            lacks.split(","),
            chosen(names.split(",")),
            noises_of(noise),
            parse_range(seeds, "--seeds"),
            decoys,
        ),
        as_json,
    )


@app.command(
    cls=Command, epilog=examples("lab probe last", "lab probe --grid NAME --signals induction_*,brackets --step all")
)
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
    wanted = chosen(names.split(",") if names else ())
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


@app.command(cls=Command, epilog=examples("lab notebook 3fa2", "lab notebook 3fa2 --output heads.ipynb"))
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


@app.command(
    cls=Command,
    epilog=examples("lab report --grid NAME -o report.html", "lab report --grid NAME -o r.html --by setting"),
)
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


cli_grid.add_to(app)
cli_outside.add_to(app)
cli_reproduce.add_to(app)
app.add_typer(cli_forecast.forecast_app, name="forecast")
app.add_typer(cli_rasp.rasp_app, name="rasp")


if __name__ == "__main__":
    main()
