"""The help of every command, as it is read on a terminal of 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import genlab
from genlab.cli import app


def commands(of: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, of
    for name, one in getattr(of, "commands", {}).items():
        yield from commands(one, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def help_of():
    runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"})
    return lambda path: runner.invoke(app, [*path, "--help"]).output


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_fits_80_columns_and_cuts_no_flag(help_of, path: tuple[str, ...]):
    text = help_of(path)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    flags = {flag for p in ALL[path].params for flag in (*p.opts, *p.secondary_opts) if flag.startswith("--")}
    shown = set(re.findall(r"--[a-z][a-z0-9-]*", text))
    assert flags <= shown, f"cut off or left out: {sorted(flags - shown)}"


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_ends_with_two_examples_of_the_command(help_of, path: tuple[str, ...]):
    text = help_of(path)
    end = " ".join(text[text.rindex("Examples:") :].replace("\\\n", "").split())
    assert end.count(" ".join(["lab", *path])) == 2, end


@pytest.mark.parametrize("path", [p for p in ALL if p and not getattr(ALL[p], "commands", None)], ids=" ".join)
def test_the_examples_name_flags_that_exist(path: tuple[str, ...]):
    flags = {flag for p in ALL[path].params for flag in (*p.opts, *p.secondary_opts)}
    used = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", ALL[path].epilog))
    assert used <= flags, sorted(used - flags)


def test_options_of_training_stand_in_groups(help_of):
    text = help_of(("train",))
    order = [text.index(f"\n{name}:") for name in ("Task", "Evaluation", "Training", "Model", "Output")]
    assert len(set(order)) == 5


def test_version_and_completion():
    runner = CliRunner()
    assert runner.invoke(app, ["--version"]).output == f"genlab {genlab.__version__}\n"
    assert "--install-completion" in runner.invoke(app, ["--help"]).output
