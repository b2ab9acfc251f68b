"""The `lab rasp` commands: RASP-L programs and their predictions of length generalization."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genlab.errors import UserError
from genlab.help import Command, Group
from genlab.options import (
    FIGURE,
    TASK,
    AsJson,
    Format,
    Params,
    Plugin,
    StoreOption,
    examples,
    note,
    output,
    parse_params,
)
from genlab.runs.gridfile import parse_range
from genlab.spec import CompileSpec

if TYPE_CHECKING:
    from genlab.tasks import Task

rasp_app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    help="RASP-L programs, and the length generalization that they predict.",
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
    inputs = _inputs(100 if n is None else n)
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
    task: Annotated[str, typer.Option("--task", help="task to check it on", rich_help_panel=TASK)],
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

    requested, inputs = parse_range(lengths, "--lengths", inclusive=True), _inputs(n)
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
    epilog=examples(
        "lab rasp search --task sort --max-ops 3",
        "lab rasp search --task parity --max-ops 4 --grammar library --checkpoint parity.npz",
    ),
)
def search(
    task: Annotated[str, typer.Option("--task", help="task to search a program for", rich_help_panel=TASK)],
    max_ops: Annotated[int, typer.Option("--max-ops", help="maximum number of operations")],
    format: Format = None,
    grammar: Annotated[str, typer.Option("--grammar", help="rule set: strict, library or c-rasp")] = "strict",
    memory: Annotated[float, typer.Option("--memory", help="memory limit in gigabytes")] = 4.0,
    checkpoint: Annotated[
        Path | None,
        output(
            "--checkpoint", help="file to save progress in after each level, and to resume from", endings=(".npz",)
        ),
    ] = None,
    table: Annotated[
        Path | None, output("--table", help="JSON table to add the result to", endings=(".json",))
    ] = None,
    param: Params = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Search a finite grammar for the shortest program, or show that none has so few operations."""
    from genlab.rasp.search.run import LONGEST
    from genlab.report.output import show
    from genlab.report.rasp import search_program

    made = _task(task, LONGEST, format, param)
    show(search_program(made, max_ops, grammar, memory, checkpoint, table, note), as_json)


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


def _compile_option(name: str) -> Any:
    """A flag for a field of `CompileSpec`."""
    about = CompileSpec.model_fields[name].description
    flag = f"--{name}/--no-{name}" if name == "rotate" else f"--{name}"
    return typer.Option(flag, help=about, rich_help_panel="Weights")


@rasp_app.command(
    "compile",
    cls=Command,
    epilog=examples(
        "lab rasp compile sort --task sort --max-len 20",
        "lab rasp compile NESTED --task brackets --max-len 40 --beside EQUAL-COUNT --gate 0.7 --rotate",
    ),
)
def compile_(
    program: Annotated[str, typer.Argument(help="program or rule of the task, or a Python file")],
    task: Annotated[str, typer.Option("--task", help="its task", rich_help_panel=TASK)],
    max_len: MaxLen,
    format: Format = None,
    param: Params = None,
    gap: Annotated[float, _compile_option("gap")] = 40.0,
    beside: Annotated[str, _compile_option("beside")] = "",
    gate: Annotated[float, _compile_option("gate")] = 1.0,
    decoys: Annotated[int, _compile_option("decoys")] = 0,
    width: Annotated[int, _compile_option("width")] = 0,
    rotate: Annotated[bool, _compile_option("rotate")] = False,
    noise: Annotated[float, _compile_option("noise")] = 0.0,
    seed: Annotated[int, _compile_option("seed")] = 0,
    steps: Annotated[int, typer.Option("--steps", help="training steps to continue from these weights")] = 0,
    lr: Annotated[float, typer.Option("--lr", help="peak learning rate of these steps")] = 1e-3,
    n: Annotated[int, typer.Option("-n", help="inputs per length to compare with the program")] = 200,
    figure: Annotated[
        Path | None,
        output("--figure", help="file of the figure of margins (default: in the group folder)", endings=FIGURE),
    ] = None,
    plugin: Plugin = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Compile a program to transformer weights: a run in the store with a known mechanism."""
    from genlab.report.compiled import compile_run
    from genlab.report.output import show
    from genlab.runs.store import Store

    weights = {"gap": gap, "beside": beside, "gate": gate, "decoys": decoys, "width": width, "rotate": rotate}
    weights |= {"noise": noise, "seed": seed}
    made, inputs = _task(task, max_len, format, param), _inputs(n)
    show(compile_run(made, program, Store(store), steps=steps, lr=lr, n=inputs, figure=figure, **weights), as_json)


def _task(name: str, max_len: int, format: str | None, param: list[str] | None) -> Task:
    from genlab.rasp.reports import params_for
    from genlab.tasks import make

    return make(name, max_len, format, {**params_for(name, max_len), **parse_params(param or [])})


_MOST = 1_000_000


def _inputs(n: int) -> int:
    if not 1 <= n <= _MOST:
        raise UserError(f"-n {n} is not allowed: 1 to {_MOST:,} inputs per length")
    return n
