"""The `lab rasp` commands: RASP-L programs and their predictions of length generalization."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genlab.errors import UserError
from genlab.help import Command, Group
from genlab.options import TASK, AsJson, Format, Params, Plugin, examples, output, parse_params
from genlab.runs.gridfile import parse_range

if TYPE_CHECKING:
    from genlab.tasks import Task

rasp_app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    help="RASP-L programs, which predict what a transformer can learn.",
    no_args_is_help=True,
    epilog=examples("lab rasp list --check", 'lab rasp trace sort "7 3 5 > 3 5"'),
)

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="name of a task (see lab tasks)")]
Prompt = Annotated[str, typer.Argument(help="space-separated tokens, ending with `>` if the task uses it")]
MaxLen = Annotated[
    int, typer.Option("--max-len", help="longest length the vocabulary supports", rich_help_panel=TASK)
]
Lengths = Annotated[str, typer.Option("--lengths", help="lengths to check; 1:100 means 1 to 100")]
Examples = Annotated[int, typer.Option("-n", help="number of inputs per length")]


@rasp_app.command("list", cls=Command, epilog=examples("lab rasp list", "lab rasp list --check --lengths 1:40 -n 50"))
def list_(
    check: Annotated[bool, typer.Option("--check", help="check every program on sampled inputs")] = False,
    lengths: Annotated[str | None, typer.Option("--lengths", help="lengths to check (default: 1:20)")] = None,
    n: Annotated[int | None, typer.Option("-n", help="inputs per length (default: 100)")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="list shortcuts and failed attempts instead")] = False,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """List programs with legality (or the rules broken), operations, depth, heads, and the longest correct length."""
    if not check and (lengths is not None or n is not None):
        raise UserError("--lengths and -n apply only to --check; add --check")
    if wrong and check:
        raise UserError("--wrong and --check cannot be combined: programs listed by --wrong are known to be wrong")
    inputs = _at_least_one(100 if n is None else n)
    from genlab.report.output import show
    from genlab.report.rasp import program_list, wrong_program_list

    if wrong:
        return show(wrong_program_list(), as_json)
    return show(
        program_list(parse_range(lengths or "1:20", "--lengths", inclusive=True) if check else (), inputs), as_json
    )


@rasp_app.command(
    cls=Command, epilog=examples('lab rasp run sort "7 3 5 >"', 'lab rasp run copy "c a b >" --format unique')
)
def run(
    task: TaskName,
    prompt: Prompt,
    format: Format = None,
    max_len: MaxLen = 100,
    param: Params = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt with the best program for the task, decoded token by token."""
    from genlab.report.output import show
    from genlab.report.rasp import program_answer

    show(program_answer(_task(task, max_len, format, param), prompt), as_json)


@rasp_app.command(
    cls=Command,
    epilog=examples('lab rasp trace sort "7 3 5 > 3 5"', 'lab rasp trace parity "a 1 b 0 >" --format scratchpad'),
)
def trace(
    task: TaskName,
    prompt: Prompt,
    format: Format = None,
    max_len: MaxLen = 100,
    param: Params = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Show the intermediate sequences of a run, one row per operation and one column per position."""
    from genlab.report.output import show
    from genlab.report.rasp import program_trace

    show(program_trace(_task(task, max_len, format, param), prompt), as_json)


@rasp_app.command(
    cls=Command,
    epilog=examples(
        "lab rasp check my_program.py --task sort",
        "lab rasp check my_program.py --task count --lengths 1:60 --decode",
    ),
)
def check(
    program: Annotated[Path, typer.Argument(help="Python file with a function of one sequence")],
    task: Annotated[str, typer.Option("--task", help="the task to check it on", rich_help_panel=TASK)],
    format: Format = None,
    lengths: Lengths = "1:20",
    n: Examples = 100,
    split: Annotated[str, typer.Option("--split", help="split of the task", rich_help_panel=TASK)] = "id",
    decode: Annotated[bool, typer.Option("--decode", help="decode token by token, like a model")] = False,
    param: Params = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Check your own program: legality with all reasons, size, and correctness at each length."""
    from genlab.rasp.own_files import check_file
    from genlab.report.output import show
    from genlab.report.rasp import ProgramCheck

    requested, inputs = parse_range(lengths, "--lengths", inclusive=True), _at_least_one(n)
    made = _task(task, max(*requested, 16), format, param)
    show(ProgramCheck(check_file(program, made, requested, inputs, split, decode)), as_json)


@rasp_app.command(cls=Command, epilog=examples("lab rasp predict", "lab rasp predict --no-reasons --json"))
def predict(
    reasons: Annotated[bool, typer.Option("--reasons/--no-reasons", help="print the reason for each")] = True,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Predict, for each task and format, whether length generalization is expected, and why."""
    from genlab.report.output import show
    from genlab.report.rasp import predictions

    show(predictions(reasons), as_json)


@rasp_app.command(
    cls=Command,
    epilog=examples("lab rasp generate --out pairs.py", "lab rasp generate --out p.py --pairs 20 --seed 1"),
)
def generate(
    out: Annotated[
        Path,
        output("--out", help="Python file to write, to be loaded with --plugin", endings=(".py",)),
    ],
    pairs: Annotated[int, typer.Option("--pairs", help="number of pairs of tasks")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="random seed")] = 0,
    as_json: AsJson = False,
) -> None:
    """Generate pairs of tasks whose programs differ in one legality rule, with a prediction for each task."""
    from genlab.report.output import show
    from genlab.report.rasp import generate_pairs

    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    show(generate_pairs(out, pairs, seed, today), as_json)


def _task(name: str, max_len: int, format: str | None, param: list[str] | None) -> Task:
    from genlab.rasp.reports import params_for
    from genlab.tasks import make

    return make(name, max_len, format, {**params_for(name, max_len), **parse_params(param or [])})


def _at_least_one(n: int) -> int:
    if n < 1:
        raise UserError(f"-n {n}: must be at least 1 input per length")
    return n
