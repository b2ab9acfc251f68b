"""Rerun the tour of the README, and write its output there.

    python -m tests.readme_tour     (minutes: it trains three seeds)

`tests/test_readme.py` holds the output to what the commands print: to the letter where no training is involved, else
with all numbers masked, from runs of a few steps.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"


@dataclass(frozen=True)
class Stop:
    """A command of the tour.

    Attributes:
        command: as it is printed.
        shown: whether a line of its output is shown; runs of other lines are shown as `...`.
        exact: whether the output is the same on every machine.
    """

    command: str
    shown: Callable[[str], bool]
    exact: bool = False


def _lengths(*lengths: int) -> Callable[[str], bool]:
    def shown(line: str) -> bool:
        words = line.split()
        return not words or not words[0].isdigit() or int(words[0]) in lengths

    return shown


def _all(_line: str) -> bool:
    return True


TOUR = {
    "show": Stop("lab show sort --length 6 --split nearly-sorted -n 2", _all, exact=True),
    "train": Stop(
        "lab train --task sort --train-len 8 --test-len 24 --steps 800 --seeds 0:3", _lengths(1, 8, 9, 12, 16, 20, 24)
    ),
    "eval": Stop("lab eval last --lengths 8:24:8 --split window", _all),
    "probe": Stop("lab probe last --signals duplicate_token,end_token,positional", _all),
    "rasp": Stop('lab rasp trace sort "7 3 5 > 3 5"', _all, exact=True),
}


def block(text: str, name: str) -> list[str]:
    """The lines of a block of the tour, command included."""
    found = re.search(rf"<!-- tour: {name} -->\n(.*?)<!-- end of tour -->", text, re.DOTALL)
    if not found:
        raise ValueError(f"README.md has no tour block {name!r}")
    return [line.removeprefix("    ") for line in found[1].splitlines() if line.strip()]


def written(stop: Stop, output: str) -> str:
    """A block: the command and what is shown of its output."""
    lines, left_out = [f"$ {stop.command}"], False
    for line in (line.rstrip() for line in output.splitlines()):
        if line and stop.shown(line):
            lines.append(line)
        elif line and not left_out:
            lines.append("...")
        left_out = bool(line) and not stop.shown(line)
    return "".join(f"    {line}\n" for line in lines)


def masked(line: str) -> str:
    """A line without what differs from run to run: numbers, run ids, digests, the store, spacing, verdicts on noise.

    >>> masked("   20  trained   0.861  1/3 (0.06-0.79)") == masked("20 trained 1.000 3/3 (0.44-1.00)")
    True
    >>> masked("SHA-256 " + "0a1b" * 16) == masked("SHA-256 " + "cdef" * 16)
    True
    """
    line = re.sub(r"\S*/groups/", "groups/", line)
    line = re.sub(r"[0-9a-f]{64}|[0-9a-f]{12}|-[0-9a-f]{6}\b", "ID", line).replace(": noise", "")
    return " ".join(re.sub(r"(?<![\w])-(?![\w])|nan|-?\d+(\.\d+)?", "#", line).split())


def _main() -> None:
    text = PAGE.read_text("utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "GENLAB_STORE": tempfile.mkdtemp()}
    for name, stop in TOUR.items():
        words = [w.strip('"') for w in re.findall(r'"[^"]*"|\S+', stop.command)][1:]
        done = subprocess.run(
            [sys.executable, "-m", "genlab.cli", *words], capture_output=True, text=True, env=env, check=True
        )
        shown = written(stop, done.stdout.replace(env["GENLAB_STORE"], "runs"))
        head, rest = text.split(f"<!-- tour: {name} -->\n")
        text = f"{head}<!-- tour: {name} -->\n{shown}{rest[rest.index('<!-- end of tour -->') :]}"
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    _main()
