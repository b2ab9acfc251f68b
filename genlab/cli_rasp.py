"""`lab rasp`: programs that say what a transformer can learn. Each command parses, calls, prints."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from genlab.errors import UserError
from genlab.options import parse_params
from genlab.runs.gridfile import parse_range

rasp_app = typer.Typer(help="RASP-L: programs that say what a transformer can learn.", no_args_is_help=True)

Task = Annotated[str, typer.Argument(help="a task (see: lab tasks)")]
Prompt = Annotated[str, typer.Argument(help="tokens apart by spaces, `>` last where the task has one")]
Format = Annotated[str | None, typer.Option("--format", help="how the task is written (default: its first format)")]
MaxLen = Annotated[int, typer.Option("--max-len", help="longest length that the vocabulary is made for")]
Params = Annotated[list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="a parameter of the task")]
Lengths = Annotated[str, typer.Option("--lengths", help="lengths to check: 1:100 is 1 to 99")]
Examples = Annotated[int, typer.Option("-n", help="inputs a length")]


@rasp_app.command("list")
def list_(
    check: Annotated[bool, typer.Option("--check", help="check every program on sampled inputs")] = False,
    lengths: Annotated[str | None, typer.Option("--lengths", help="lengths to check (default: 1:21)")] = None,
    n: Annotated[int | None, typer.Option("-n", help="inputs a length (default: 100)")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="shortcuts and failed attempts instead")] = False,
) -> None:
    """List the programs: task, legal or why not, operations, depth, heads, right up to which length."""
    if not check and (lengths is not None or n is not None):
        raise UserError("--lengths and -n say what --check is to check; give --check too")
    if wrong and check:
        raise UserError("--wrong lists programs that are known to be wrong; --check has nothing to check there")
    inputs = _at_least_one(100 if n is None else n)
    _print_table(
        _wrong_rows() if wrong else _rows(parse_range(lengths or "1:21", "--lengths") if check else (), inputs)
    )
    if not wrong:
        typer.echo(_without_program())


def _rows(lengths: Sequence[int], n: int) -> list[tuple[str, ...]]:
    from genlab.rasp.reports import list_programs
    from genlab.tasks import make

    head = ("task", "format", "program", "legal", "ops", "depth", "heads", "right to")
    cells = [
        (r.task, r.format, r.program, r.legal, *map(str, (r.operations, r.depth, r.heads)), _or_dash(r.right_up_to))
        for r in list_programs(make, lengths, n)
    ]
    return [head, *cells]


def _wrong_rows() -> list[tuple[str, ...]]:
    from genlab.rasp.reports import list_wrong
    from genlab.tasks import make

    head = ("task", "format", "program", "what", "ops", "wrong on")
    return [head, *((r.task, r.format, r.program, r.what, str(r.operations), r.fails) for r in list_wrong(make))]


def _without_program() -> str:
    from genlab.rasp.programs.registry import OPEN

    names = ", ".join(f"{task} ({format})" for task, format in sorted(OPEN))
    return f"no program: {names}; lab rasp predict says what is known"


@rasp_app.command()
def run(task: Task, prompt: Prompt, format: Format = None, max_len: MaxLen = 100, param: Params = None) -> None:
    """Answer a prompt with the best program, decoded to the end token."""
    from genlab.rasp.reports import run_program

    typer.echo(" ".join(run_program(_task(task, max_len, format, param), prompt)))


@rasp_app.command()
def trace(task: Task, prompt: Prompt, format: Format = None, max_len: MaxLen = 100, param: Params = None) -> None:
    """Show every intermediate sequence of a run: a row an operation, a column a position."""
    from genlab.rasp.reports import trace_program

    typer.echo(trace_program(_task(task, max_len, format, param), prompt))


@rasp_app.command()
def check(
    program: Annotated[Path, typer.Argument(help="a Python file with a function of one sequence")],
    task: Annotated[str, typer.Option("--task", help="the task that it is to answer")],
    format: Format = None,
    lengths: Lengths = "1:21",
    n: Examples = 100,
    split: Annotated[str, typer.Option("--split", help="a split of the task")] = "id",
    decode: Annotated[bool, typer.Option("--decode", help="decode token by token, as a model would")] = False,
    param: Params = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", help="a Python file that registers tasks")] = None,
) -> None:
    """Check your own program: legal or not with all reasons, its size, and at which lengths it is right."""
    from genlab.rasp.own_files import check_file
    from genlab.tasks import load_plugin

    for file in plugin or []:
        load_plugin(file)
    wanted = parse_range(lengths, "--lengths")
    report = check_file(
        program, _task(task, max(*wanted, 16), format, param), wanted, _at_least_one(n), split, decode
    )
    typer.echo("\n".join(report.lines))


@rasp_app.command()
def predict(
    reasons: Annotated[bool, typer.Option("--reasons/--no-reasons", help="say why, a line each")] = True,
) -> None:
    """For each task and format: does the conjecture expect length generalisation, and why."""
    from genlab.rasp.prediction import predict_all
    from genlab.rasp.sealing import changed_since, misses, score, sealed
    from genlab.tasks import make

    rows, document = predict_all(make), sealed()
    for row in rows:
        encodings = f" with positions {', '.join(row.encodings)}" if row.encodings else ""
        unknown = f"; not known with {', '.join(row.unknown)}" if row.unknown and row.encodings else ""
        typer.echo(f"{row.task} ({row.format}): {row.verdict}{encodings}{unknown}")
        if reasons:
            typer.echo(f"    {row.reason}")
    told = score(rows)
    typer.echo(f"sealed on {document['date']}, SHA-256 {document['hash']}")
    for task, format in changed_since(document, rows):
        typer.echo(f"changed since: {task} ({format})")
    typer.echo(f"retrodictions (outcome known when sealed): {told['right']} right, {told['wrong']} wrong")
    for outcome in misses(rows):
        typer.echo(f"wrong: {outcome}")


@rasp_app.command()
def generate(
    out: Annotated[Path, typer.Option("--out", help="the Python file to write, for --plugin")],
    pairs: Annotated[int, typer.Option("--pairs", help="how many pairs of tasks")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="seed of the drawing")] = 0,
) -> None:
    """Draw pairs of tasks whose programs differ in one rule of legality, with predictions for each."""
    import numpy as np

    from genlab.rasp.generating import draw_pairs
    from genlab.rasp.plugin import pair_predictions, plugin_text
    from genlab.rasp.sealing import sealed

    if out.exists():
        raise UserError(f"{str(out)!r} is there already; predictions are not overwritten")
    if not out.parent.is_dir():
        raise UserError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    if pairs < 1 or seed < 0:
        raise UserError(f"--pairs {pairs} --seed {seed}: at least 1 pair, and a seed of at least 0")
    drawn = draw_pairs(pairs, np.random.default_rng(seed), prefix=f"rasp-{seed}")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = f"lab rasp generate --pairs {pairs} --seed {seed}"
    out.write_text(plugin_text(drawn, sealed()["hash"], today, command), "utf-8")
    rows = [("task", "rule", "operations", "expected")]
    for pair, *said in pair_predictions(drawn):
        for one, rule in zip(said, ("", pair.rule), strict=True):
            rows.append((one.task, f"breaks {rule}" if rule else "legal", str(one.length), _yes(one.expected)))
    _print_table(rows)


def _task(name: str, max_len: int, format: str | None, param: list[str] | None) -> Any:
    from genlab.rasp.reports import room_for
    from genlab.tasks import make

    return make(name, max_len, format, {**room_for(name, max_len), **parse_params(param or [])})


def _at_least_one(n: int) -> int:
    if n < 1:
        raise UserError(f"-n {n}: at least 1 input a length")
    return n


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
