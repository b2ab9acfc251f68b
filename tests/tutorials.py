"""Rerun the commands of the tutorials, and write what they print, and their figures, into the pages.

    python -m tests.tutorials [PAGE ...]     (minutes: they train; start, encodings, induction, rasp, forecast)

A page is run from top to bottom in an empty folder. A `toml` or `python` block whose first line is `# NAME` is a file
there; each line of a `console` block that begins with `$` is a command. `<!-- only: REGEX -->` before a block keeps
the lines that match. A figure that a page shows is the file of the same name that its commands wrote.
`tests/test_tutorials.py` runs the same, and holds the pages to it, with all numbers masked.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    "start": DOCS / "start.md",
    **{name: DOCS / "tutorials" / f"{name}.md" for name in ("encodings", "induction", "rasp", "forecast")},
}
_BLOCK = re.compile(
    r"(?:<!-- only: (?P<only>.*?) -->\n)?```(?P<kind>console|toml|python)\n(?P<text>.*?)```", re.DOTALL
)
_FIGURE = re.compile(r"!\[[^\]]*\]\((\S+?\.png)\)")
_MOST, _HEAD, _TAIL = 34, 22, 10
"""Longest output that is shown whole, and what is shown of a longer one."""


class CommandFailed(Exception):
    """A command of a page did not end with status 0."""


def blocks(text: str) -> list[re.Match[str]]:
    """The blocks of a page that are run or written as files."""
    return list(_BLOCK.finditer(text))


def run_page(text: str, folder: Path) -> str:
    """Run a page in a folder; returns it with the output of every command.

    Raises:
        CommandFailed: with the command and what it said.
    """
    with contextlib.chdir(folder):
        return _BLOCK.sub(_run_block, text)


def _run_block(found: re.Match[str]) -> str:
    text = found["text"]
    if found["kind"] != "console":
        if name := re.match(r"# (\S+\.\w+)\n", text):
            Path(name[1]).write_text(text, "utf-8")
        return found[0]
    commands = [line for line in text.splitlines() if line.startswith("$ ")]
    shown = "".join(f"{line}\n{_shown(_output(line[2:]), found['only'])}" for line in commands)
    return found[0].replace(text, shown)


def _output(command: str) -> str:
    """What a command prints on standard output; it runs in this process."""
    program, *words = shlex.split(command, comments=True)
    out, err, status = io.StringIO(), io.StringIO(), 0
    before = sys.argv
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            if program == "python":
                runpy.run_path(words[0], run_name="__main__")
            else:
                from genlab.cli import main

                sys.argv = ["lab", *words]
                main()
    except SystemExit as left:
        status = left.code
    finally:
        sys.argv = before
    if status:
        raise CommandFailed(f"{command}: status {status}: {err.getvalue()[-500:]}")
    return out.getvalue()


def _shown(output: str, only: str | None) -> str:
    lines = [
        line.rstrip() for line in output.splitlines() if line.strip() and (only is None or re.search(only, line))
    ]
    if len(lines) > _MOST:
        lines = [*lines[:_HEAD], "...", *lines[-_TAIL:]]
    return "".join(f"{line}\n" for line in lines)


def figures(page: Path) -> list[Path]:
    """The files of the figures that a page shows."""
    return [(page.parent / target).resolve() for target in _FIGURE.findall(page.read_text("utf-8"))]


def _main(names: list[str]) -> None:
    os.environ["COLUMNS"] = "100"
    os.environ.pop("GENLAB_STORE", None)
    for name in names or list(PAGES):
        page = PAGES[name]
        with tempfile.TemporaryDirectory() as folder:
            text = run_page(page.read_text("utf-8"), Path(folder))
            page.write_text(text, "utf-8")
            for figure in figures(page):
                figure.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(folder) / figure.name, figure)


if __name__ == "__main__":
    _main(sys.argv[1:])
