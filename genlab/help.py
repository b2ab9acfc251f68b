"""Layout of the help of `lab`: options by panel, full flag names, examples last, 80 columns."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

_ARGUMENTS, _OPTIONS = "Arguments", "Options"


def _write_panels(command: Any, context: Any, formatter: Any) -> None:
    """Write the parameters of a command under the headings of their panels; those without a panel come first."""
    panels: dict[str, list[tuple[str, str]]] = {_ARGUMENTS: [], _OPTIONS: []}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            usual = _ARGUMENTS if isinstance(parameter, TyperArgument) else _OPTIONS
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
    for name, rows in panels.items():
        if rows:
            with formatter.section(name):
                formatter.write_dl(rows)


def _write_epilog(command: Any, formatter: Any) -> None:
    """Write examples without wrapping, so that they can be copied."""
    if command.epilog:
        formatter.write_paragraph()
        formatter.write(command.epilog + "\n")


class Command(TyperCommand):
    """A command whose help has panels and examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options and arguments by panel."""
        _write_panels(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Examples."""
        del ctx
        _write_epilog(self, formatter)


class Group(TyperGroup):
    """Commands whose help has panels and examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options by panel, then the commands."""
        _write_panels(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Examples."""
        del ctx
        _write_epilog(self, formatter)
