"""Commands about behavior outside the training distribution: monitor, lines, items, constants, dispersion,
ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genlab.options import (
    EVALUATION,
    FIGURE,
    AsJson,
    Device,
    EvalSeed,
    Plugin,
    StoreOption,
    note,
    output,
    register,
)
from genlab.runs.gridfile import levels_of, parse_range
from genlab.text import parts_of

Runs = Annotated[list[str], typer.Argument(help="runs, groups, grids, tags, or `last`")]
EvaluatedSplits = Annotated[
    str | None,
    typer.Option("--split", help="comma-separated splits (default: all evaluated)", rich_help_panel=EVALUATION),
]
OutsideSplits = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="comma-separated splits (default: the training split, at longer lengths)",
        rich_help_panel=EVALUATION,
    ),
]
OutsideLengths = Annotated[
    str | None,
    typer.Option(
        "--lengths", help="5:50:5 is 5, 10, ..., 50 (default: 8 lengths outside)", rich_help_panel=EVALUATION
    ),
]
Figure = Annotated[Path | None, output("--figure", help="also plot to this file", endings=FIGURE)]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    register(app, monitor, "lab monitor last", "lab monitor GRID --split reversed --lengths 6:12:2")
    register(app, lines, "lab lines GRID", "lab lines GRID --at 30 --figure lines.png")
    register(app, items, "lab items GRID", "lab items GRID --split matched-unnested --per-length 64")
    register(app, constants, "lab constants GRID", "lab constants GRID --lengths 10:40:10 --figure constants.png")
    register(app, ensemble, "lab ensemble GRID", "lab ensemble GRID --split matched-unnested --sizes 3,5")
    register(app, dispersion, "lab dispersion GRID", "lab dispersion GRID --lengths 20:80:20 --figure dispersion.png")


def _names(text: str | None) -> list[str]:
    return parts_of(text) if text else []


def _show(result: Any, figure: Path | None, as_json: bool) -> None:
    """Draw the figure, if requested, and show the result."""
    from genlab.report.output import show

    if figure is not None:
        result.draw(figure)
    show(result, as_json)
    note(f"figure: {figure}" if figure else "")


def monitor(
    runs: Runs,
    split: OutsideSplits = None,
    lengths: OutsideLengths = None,
    scores: Annotated[
        str | None,
        typer.Option(
            "--scores",
            help="comma-separated scores (default: all but blood and blood_last, which are slow)",
            rich_help_panel=EVALUATION,
        ),
    ] = None,
    eval_n: Annotated[int, typer.Option("--eval-n", help="answers per length", rich_help_panel=EVALUATION)] = 256,
    eval_seed: EvalSeed = 0,
    store: StoreOption = None,
    device: Device = "auto",
    figure: Figure = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Test whether scores fitted in distribution detect wrong answers outside it, or only unusual inputs."""
    wanted = None if lengths is None else parse_range(lengths, "--lengths", inclusive=True)
    from rich.console import Console

    from genlab.report.monitor import monitor as read

    with Console(stderr=True).status("monitoring") as status:
        options = {"n": eval_n, "seed": eval_seed, "device": device, "report": status.update}
        result = read(runs, _names(split), wanted, _names(scores), store, **options)
    _show(result, figure, as_json)


def lines(
    runs: Runs,
    split: EvaluatedSplits = None,
    at: Annotated[
        int | None,
        typer.Option("--at", help="length outside (default: mean over all)", rich_help_panel=EVALUATION),
    ] = None,
    store: StoreOption = None,
    figure: Figure = None,
    as_json: AsJson = False,
) -> None:
    """Relate OOD to ID accuracy over runs and over training, and to agreement without labels."""
    from genlab.report.lines import lines as read

    result = read(runs, _names(split), store, at=at)
    _show(result, figure, as_json)


def items(
    runs: Runs,
    split: EvaluatedSplits = None,
    dims: Annotated[int, typer.Option("--dims", help="dimensions of the space of runs and items")] = 2,
    per_length: Annotated[
        int, typer.Option("--per-length", help="items per split and length", rich_help_panel=EVALUATION)
    ] = 32,
    seed: Annotated[int, typer.Option("--seed", help="seed of starting points and of held-out cells")] = 0,
    store: StoreOption = None,
    figure: Figure = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Fit item response models to stored answers: difficulty and kind of inputs, abilities of runs."""
    from rich.console import Console

    from genlab.report.items import items as read

    with Console(stderr=True).status("fitting") as status:
        options = {"dims": dims, "per_length": per_length, "seed": seed, "report": status.update}
        result = read(runs, _names(split), store, **options)
    _show(result, figure, as_json)


def constants(
    runs: Runs,
    split: EvaluatedSplits = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths", help="5:50:5 is 5, 10, ..., 50 (default: all evaluated)", rich_help_panel=EVALUATION
        ),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            "--noise", help="noise on token embeddings, relative to them: 0,0.5,1", rich_help_panel=EVALUATION
        ),
    ] = "0",
    eval_n: Annotated[int, typer.Option("--eval-n", help="examples per length", rich_help_panel=EVALUATION)] = 256,
    eval_seed: EvalSeed = 0,
    store: StoreOption = None,
    device: Device = "auto",
    figure: Figure = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Measure the distance of outputs from the best constant answer, and whether it predicts accuracy."""
    wanted = None if lengths is None else parse_range(lengths, "--lengths", inclusive=True)
    from rich.console import Console

    from genlab.report.constant import constants as read

    noises = levels_of(noise, "--noise", 0) or [0.0]
    with Console(stderr=True).status("reading") as status:
        options = {"n": eval_n, "seed": eval_seed, "device": device, "report": status.update}
        result = read(runs, _names(split), wanted, noises, store, **options)
    _show(result, figure, as_json)


def dispersion(
    runs: Runs,
    split: OutsideSplits = None,
    lengths: OutsideLengths = None,
    eval_n: Annotated[int, typer.Option("--eval-n", help="examples per length", rich_help_panel=EVALUATION)] = 128,
    eval_seed: EvalSeed = 0,
    store: StoreOption = None,
    device: Device = "auto",
    figure: Figure = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Read the sharpness of attention inside and outside, and test whether its trend over training lengths holds."""
    wanted = None if lengths is None else parse_range(lengths, "--lengths", inclusive=True)
    from rich.console import Console

    from genlab.report.dispersion import dispersion as read

    with Console(stderr=True).status("reading") as status:
        options = {"n": eval_n, "seed": eval_seed, "device": device, "report": status.update}
        result = read(runs, _names(split), wanted, store, **options)
    _show(result, figure, as_json)


def ensemble(
    runs: Runs,
    split: EvaluatedSplits = None,
    sizes: Annotated[
        str | None, typer.Option("--sizes", help="comma-separated numbers of members (default: 3,5,8)")
    ] = None,
    store: StoreOption = None,
    figure: Figure = None,
    as_json: AsJson = False,
) -> None:
    """Let runs vote on stored test inputs: what several seeds gain over one, inside and outside."""
    from genlab.report.ensemble import ensemble as read

    wanted = [] if sizes is None else parse_range(sizes, "--sizes", inclusive=True)
    _show(read(runs, _names(split), wanted, store), figure, as_json)
