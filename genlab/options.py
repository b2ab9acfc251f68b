"""Command-line flags made from the fields of the specs, so that an option is declared once."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from genlab.errors import UserError
from genlab.help import Command
from genlab.runs.plan import DERIVED
from genlab.spec import Frozen, ModelConfig, Scalar, TrainConfig

# -- options that several commands share, by the panel of the help that they stand in


def _use_store(store: Path | None) -> Path | None:
    """Make this the store of the whole process, so that maze pools are kept in it, too."""
    if store is not None:
        os.environ["GENLAB_STORE"] = str(store.absolute())
    return store


def _load_plugins(files: list[Path] | None) -> list[Path] | None:
    from genlab.tasks import load_plugin

    for file in files or []:
        load_plugin(file)
    return files


_WIDEST = 76
"""Characters of an example on one line."""

_WIDEST_CHOICE = 40
"""Maximum width of a list of choices next to its flag; a longer one goes into the help text."""

TASK, MODEL, TRAINING, EVALUATION, OUTPUT = "Task", "Model", "Training", "Evaluation", "Output"

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="store directory (default: $GENLAB_STORE, or runs)",
        callback=_use_store,
        rich_help_panel=OUTPUT,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead", rich_help_panel=OUTPUT)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="format of the task (default: its first)", rich_help_panel=TASK),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="a parameter of the task", rich_help_panel=TASK),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="Python file that registers tasks, signals, encodings, normalizers, programs or predictors",
        callback=_load_plugins,
        is_eager=True,
        rich_help_panel=TASK,
    ),
]
Logger = Annotated[
    str | None,
    typer.Option(
        "--logger", help="log finished runs to tensorboard, wandb (offline), or both", rich_help_panel=OUTPUT
    ),
]
Splits = Annotated[str, typer.Option("--split", help="comma-separated splits to test", rich_help_panel=EVALUATION)]
EvalN = Annotated[int, typer.Option("--eval-n", help="test examples per length", rich_help_panel=EVALUATION)]
EvalSeed = Annotated[int, typer.Option("--eval-seed", help="seed of the test examples", rich_help_panel=EVALUATION)]


FIGURE = (".png", ".svg", ".pdf")
"""File suffixes of figures."""
_STORED = (".json", ".parquet", ".safetensors", "")
"""File suffixes in a store."""


def output(*flags: str, help: str, endings: tuple[str, ...], panel: str = OUTPUT) -> Any:
    """An option that names an output file, validated before the command does any work.

    Args:
        flags: names of the option.
        help: its help text.
        endings: allowed suffixes of the file.
        panel: panel of the help.
    """

    def check(path: Path | None) -> Path | None:
        if path is not None:
            check_output(path, flags[0], endings)
        return path

    return typer.Option(*flags, help=help, callback=check, rich_help_panel=panel)


def check_output(path: Path, flag: str, endings: tuple[str, ...]) -> None:
    """Check that a file can be written and is not part of a store.

    Raises:
        UserError: the suffix is not allowed, the file belongs to a store, or its folder is not writable.
    """
    asked = f"{flag} {str(path)!r}"
    if path.suffix.lower() not in endings:
        allowed = ", ".join(endings[:-1]) + (" or " if endings[1:] else "") + endings[-1]
        raise UserError(f"{asked} is not allowed (allowed: names that end in {allowed})")
    if path.is_dir():
        raise UserError(f"{asked} is a folder")
    place = path.resolve()  # a link may lead into a store
    for root in place.parents:
        below = place.relative_to(root).parts
        own = place.suffix in _STORED or (len(below) > 1 and below[0] != "groups")
        if own and (root / "store.json").is_file():
            raise UserError(f"{asked} is inside the store {str(root)!r}; choose a different place")
    there = next(folder for folder in place.parents if folder.exists())
    if not there.is_dir():
        raise UserError(f"{asked} cannot be written: {str(there)!r} is not a folder")
    if not os.access(place if place.exists() else there, os.W_OK):
        raise UserError(f"{asked} cannot be written: permission denied")


def note(*lines: str) -> None:
    """Print non-empty lines on standard error: remarks that are not part of the result."""
    for line in lines:
        if line:
            print(line, file=sys.stderr)


def examples(*lines: str) -> str:
    """The end of a command's help: examples, one per line, long ones folded."""
    return "\n".join(["Examples:", *(f"  {_folded(line)}" for line in lines)])


def _folded(command: str) -> str:
    if len(command) <= _WIDEST:
        return command
    cut = command.rindex(" --", 0, _WIDEST)
    return f"{command[:cut]} \\\n      {command[cut + 1 :]}"


def register(app: typer.Typer, command: Callable[..., Any], *lines: str) -> None:
    """Add a command to a command line; its help ends with these examples."""
    app.command(cls=Command, epilog=examples(*lines))(command)


# -- flags made from the fields of a spec

_PANELS: tuple[tuple[type[Frozen], str], ...] = ((ModelConfig, MODEL), (TrainConfig, TRAINING))


def with_spec_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command a flag for every field of the model and training specs, passed as `**options`.

    typer reads the flags from the signature set here; flags that are not given are None.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    fields = [
        _flag(name, field, panel, cls.planned().get(name)) for cls, panel in _PANELS for name, field in _fields(cls)
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *fields]]
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _fields(cls: type[Frozen]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in cls.model_fields.items() if name not in DERIVED]


def _flag(name: str, field: FieldInfo, panel: str, planned: Scalar | None) -> inspect.Parameter:
    kind, metavar = _kind(field.annotation)
    flag = name.replace("_", "-")
    spelled = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
    default = field.default if planned is None else planned
    about = field.description or ""
    if metavar is not None and len(metavar) > _WIDEST_CHOICE:
        about, metavar = f"{about}: {metavar.replace('|', ', ')}", "NAME"
    about += "" if default in (None, "") else f" (default {_shown(default)})"
    option = typer.Option(spelled, help=about, metavar=metavar, rich_help_panel=panel)
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kind(annotation: Any) -> tuple[type, str | None]:
    """The type of a flag, and its metavar in the help (choices are validated by the spec)."""
    if get_origin(annotation) is Literal:
        return str, "|".join(get_args(annotation))
    if get_origin(annotation) is tuple:
        return str, "A,B"
    for kind in (bool, int, float):
        if annotation is kind or annotation == kind | None:
            return kind, None
    return str, None


def _shown(default: Any) -> str:
    return ",".join(str(part) for part in default) if isinstance(default, tuple) else str(default)


def spec_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert flags to field values: pairs written `A,B` become tuples of numbers."""
    values = {name: value for name, value in options.items() if value is not None}
    for cls, _ in _PANELS:
        for name, field in _fields(cls):
            if get_origin(field.annotation) is tuple and isinstance(values.get(name), str):
                values[name] = tuple(_number(part, f"--{name}") for part in values[name].split(","))
    return values


def parse_params(pairs: list[str], flag: str = "--param") -> dict[str, Scalar]:
    """Parse NAME=VALUE pairs, such as the parameters of a task.

    >>> parse_params(["base=2", "leading_zero=false"])
    {'base': 2, 'leading_zero': False}
    """
    found: dict[str, Scalar] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name and value):
            raise UserError(f"{flag} {pair!r} is not NAME=VALUE")
        found[name] = _scalar(value)
    return found


def _scalar(text: str) -> Scalar:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _number(text: str, flag: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{flag}: {text!r} is not a number") from None
