"""The `lab rasp` commands: RASP-L programs and their predictions of length generalization."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genlab.errors import UserError
from genlab.options import parse_params
from genlab.runs.gridfile import parse_range

if TYPE_CHECKING:
    from genlab.tasks import Task

rasp_app = typer.Typer(help="RASP-L programs, which predict what a transformer can learn.", no_args_is_help=True)

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="name of a task (see lab tasks)")]
Prompt = Annotated[str, typer.Argument(help="space-separated tokens, ending with `>` if the task uses it")]
Format = Annotated[str | None, typer.Option("--format", help="format of the task (default: its first)")]
MaxLen = Annotated[int, typer.Option("--max-len", help="longest length the vocabulary supports")]
Params = Annotated[list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="a task parameter")]
Lengths = Annotated[str, typer.Option("--lengths", help="lengths to check; 1:100 means 1 to 99")]
Examples = Annotated[int, typer.Option("-n", help="number of inputs per length")]


@rasp_app.command("list")
def list_(
    check: Annotated[bool, typer.Option("--check", help="check every program on sampled inputs")] = False,
    lengths: Annotated[str | None, typer.Option("--lengths", help="lengths to check (default: 1:21)")] = None,
    n: Annotated[int | None, typer.Option("-n", help="inputs per length (default: 100)")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="list shortcuts and failed attempts instead")] = False,
) -> None:
    """List programs with legality (or the rules broken), operations, depth, heads, and the longest correct length."""
    if not check and (lengths is not None or n is not None):
        raise UserError("--lengths and -n apply only to --check; add --check")
    if wrong and check:
        raise UserError("--wrong and --check cannot be combined: programs listed by --wrong are known to be wrong")
    inputs = _at_least_one(100 if n is None else n)
    _print_table(
        _wrong_rows() if wrong else _rows(parse_range(lengths or "1:21", "--lengths") if check else (), inputs)
    )
    if not wrong:
        typer.echo(_tasks_without_program())


def _rows(lengths: Sequence[int], n: int) -> list[tuple[str, ...]]:
    from genlab.rasp.reports import list_programs

    head = ("task", "format", "program", "legal", "ops", "depth", "heads", "right to")
    cells = [
        (r.task, r.format, r.program, r.legal, *map(str, (r.operations, r.depth, r.heads)), _or_dash(r.right_up_to))
        for r in list_programs(lengths, n)
    ]
    return [head, *cells]


def _wrong_rows() -> list[tuple[str, ...]]:
    from genlab.rasp.reports import list_wrong

    head = ("task", "format", "program", "what", "ops", "wrong on")
    return [head, *((r.task, r.format, r.program, r.what, str(r.operations), r.fails) for r in list_wrong())]


def _tasks_without_program() -> str:
    from genlab.rasp.programs.registry import OPEN

    names = ", ".join(f"{task} ({format})" for task, format in sorted(OPEN))
    return f"no program: {names}; see lab rasp predict for the reasons"


@rasp_app.command()
def run(task: TaskName, prompt: Prompt, format: Format = None, max_len: MaxLen = 100, param: Params = None) -> None:
    """Answer a prompt with the best program for the task, decoded token by token."""
    from genlab.rasp.reports import run_program

    typer.echo(" ".join(run_program(_task(task, max_len, format, param), prompt)))


@rasp_app.command()
def trace(task: TaskName, prompt: Prompt, format: Format = None, max_len: MaxLen = 100, param: Params = None) -> None:
    """Show the intermediate sequences of a run, one row per operation and one column per position."""
    from genlab.rasp.reports import trace_program

    typer.echo(trace_program(_task(task, max_len, format, param), prompt))


@rasp_app.command()
def check(
    program: Annotated[Path, typer.Argument(help="Python file with a function of one sequence")],
    task: Annotated[str, typer.Option("--task", help="the task to check it on")],
    format: Format = None,
    lengths: Lengths = "1:21",
    n: Examples = 100,
    split: Annotated[str, typer.Option("--split", help="split of the task")] = "id",
    decode: Annotated[bool, typer.Option("--decode", help="decode token by token, like a model")] = False,
    param: Params = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers tasks")] = None,
) -> None:
    """Check your own program: legality with all reasons, size, and correctness at each length."""
    from genlab.rasp.own_files import check_file
    from genlab.tasks import load_plugin

    for file in plugin or []:
        load_plugin(file)
    requested = parse_range(lengths, "--lengths")
    report = check_file(
        program, _task(task, max(*requested, 16), format, param), requested, _at_least_one(n), split, decode
    )
    typer.echo("\n".join(report.lines))


@rasp_app.command()
def predict(
    reasons: Annotated[bool, typer.Option("--reasons/--no-reasons", help="print the reason for each")] = True,
) -> None:
    """Predict, for each task and format, whether length generalization is expected, and why."""
    from genlab.rasp.prediction import predict_all
    from genlab.rasp.sealing import changed_since, misses, score, sealed

    rows, document = predict_all(), sealed()
    for row in rows:
        encodings = f" with positions {', '.join(row.encodings)}" if row.encodings else ""
        unknown = f"; unknown with {', '.join(row.unknown)}" if row.unknown and row.encodings else ""
        typer.echo(f"{row.task} ({row.format}): {row.verdict}{encodings}{unknown}")
        if reasons:
            typer.echo(f"    {row.reason}")
    scores = score(rows)
    typer.echo(f"sealed on {document['date']}, SHA-256 {document['hash']}")
    for task, format in changed_since(document, rows):
        typer.echo(f"changed since: {task} ({format})")
    typer.echo(f"retrodictions (outcome known when sealed): {scores['right']} right, {scores['wrong']} wrong")
    for outcome in misses(rows):
        typer.echo(f"wrong: {outcome}")


@rasp_app.command()
def generate(
    out: Annotated[Path, typer.Option("--out", help="Python file to write, to be loaded with --plugin")],
    pairs: Annotated[int, typer.Option("--pairs", help="number of pairs of tasks")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="random seed")] = 0,
) -> None:
    """Generate pairs of tasks whose programs differ in one legality rule, with a prediction for each task."""
    import numpy as np

    from genlab.rasp.generating import draw_pairs
    from genlab.rasp.plugin import pair_predictions, plugin_text
    from genlab.rasp.sealing import sealed

    if out.exists():
        raise UserError(f"--out {str(out)!r} already exists; predictions are not overwritten")
    if not out.parent.is_dir():
        raise UserError(f"--out {str(out)!r}: folder {str(out.parent)!r} does not exist")
    if pairs < 1 or seed < 0:
        raise UserError(f"--pairs {pairs} --seed {seed}: --pairs must be at least 1, and --seed at least 0")
    drawn = draw_pairs(pairs, np.random.default_rng(seed), prefix=f"rasp-{seed}")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = f"lab rasp generate --pairs {pairs} --seed {seed}"
    out.write_text(plugin_text(drawn, sealed()["hash"], today, command), "utf-8")
    rows = [("task", "rule", "operations", "expected")]
    for pair, *predictions in pair_predictions(drawn):
        for one, rule in zip(predictions, ("", pair.rule), strict=True):
            rows.append((one.task, f"breaks {rule}" if rule else "legal", str(one.length), _yes(one.expected)))
    _print_table(rows)


def _task(name: str, max_len: int, format: str | None, param: list[str] | None) -> Task:
    from genlab.rasp.reports import params_for
    from genlab.tasks import make

    return make(name, max_len, format, {**params_for(name, max_len), **parse_params(param or [])})


def _at_least_one(n: int) -> int:
    if n < 1:
        raise UserError(f"-n {n}: must be at least 1 input per length")
    return n


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
