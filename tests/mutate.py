"""Mutation testing: small faults are planted in a copy of the package, one at a time; do the tests notice?

    python -m tests.mutate --n 200 --seed 0 --csv mutants.csv

A mutant is one change of one expression: a comparison, an arithmetic sign, a number, a truth value, a returned value
or the end of a range. A sample with a fixed seed is drawn from all mutants of `PACKAGES`. Each is run against the
tests that execute its line, the fastest first, until one fails. Which tests those are comes from one run of the tests
under `coverage`, which is made if `--map` has none yet. The table is appended to, so that a sample that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import copy
import csv
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PACKAGES = ("training", "runs", "probes", "forecast")
SUITE = (*PACKAGES, "report", "claims", "test_cli.py", "test_cli_grid.py", "test_cli_variants.py")
"""Tests that may execute lines of the packages, in this folder."""
COPIED = ("genlab", "tests", "recipes", "docs", "notebooks", "pyproject.toml", "README.md", "CHANGELOG.md")
HEAVY = ("matplotlib.pyplot", "pyarrow.parquet", "pytest", "scipy.stats", "sklearn.ensemble", "torch", "typer")
"""What is imported once, for all runs of tests."""
_MOST_SECONDS, _MOST_TESTS = 60.0, 80
"""Bounds of what is run against one mutant, by the durations of the run under coverage."""


# -- Mutants

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A change of one expression of a file.

    Attributes:
        file: the file, relative to the checkout.
        line: first line of the expression.
        statement: first line of the statement that it is in.
        kind: `comparison`, `arithmetic`, `number`, `boolean`, `return` or `range`.
        span: where the expression begins and ends, in bytes of the file.
        before, after: its text.
    """

    file: str
    line: int
    statement: int
    kind: str
    span: tuple[int, int]
    before: str
    after: str

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.file}:{self.span[0]}-{self.span[1]}:{self.kind}"

    def apply(self, source: bytes) -> bytes:
        """The text of the file with this change."""
        return source[: self.span[0]] + self.after.encode() + source[self.span[1] :]


def changes(node: ast.AST) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """The kind of each change of a node, the expression that is changed, and what stands in its place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
        changed = copy.deepcopy(node)
        changed.ops[0] = _COMPARED[type(node.ops[0])]()
        yield "comparison", node, changed
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        yield "arithmetic", node, ast.BinOp(node.left, _COMPUTED[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "boolean", node, ast.BoolOp(other, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "boolean", node, node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "boolean", node, ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "number", node, ast.Constant(node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "return", node.value, ast.Constant(None)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and node.args:
        end = min(len(node.args), 2) - 1
        args = [ast.BinOp(a, ast.Sub(), ast.Constant(1)) if i == end else a for i, a in enumerate(node.args)]
        yield "range", node, ast.Call(node.func, args, [])


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def mutants(path: Path, root: Path = ROOT) -> list[Mutant]:
    """All mutants of a file, in the order of its text."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Mutant] = []

    def visit(node: ast.AST, statement: int) -> None:
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            return
        if isinstance(node, ast.stmt):
            statement = node.lineno
        for kind, old, new in changes(node):
            assert old.end_lineno is not None
            assert old.end_col_offset is not None
            span = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
            after = ast.unparse(ast.fix_missing_locations(ast.Expression(new)))
            plain = isinstance(new, ast.Constant | ast.Call) and not after.startswith("-")
            name = path.relative_to(root).as_posix()
            text = source[slice(*span)].decode()
            found.append(Mutant(name, old.lineno, statement, kind, span, text, after if plain else f"({after})"))
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, statement)

    visit(ast.parse(source), 1)
    return sorted(found, key=lambda m: (m.span, m.kind))


def sample(n: int, seed: int, root: Path = ROOT) -> list[Mutant]:
    """`n` mutants of all packages, in a random order that depends on the seed and the code alone."""
    files = sorted(path for package in PACKAGES for path in (root / "genlab" / package).rglob("*.py"))
    every = [mutant for path in files for mutant in mutants(path, root)]
    return random.Random(seed).sample(every, min(n, len(every)))


# -- Which tests execute a line


class Reached:
    """The tests that execute each line, and how long they take, from a run under `coverage`.

    Args:
        folder: where that run is kept; it is made if it is not there.
        suite: the tests of it, as files and folders of the tests.
    """

    def __init__(self, folder: Path, suite: Sequence[str] = SUITE):
        if not (folder / "tests.xml").exists():
            _run_under_coverage(folder, suite)
        from coverage import CoverageData

        self._data = CoverageData(str(folder / "coverage"))
        self._data.read()
        self._files = {path.stem: path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
        self.seconds: dict[str, float] = {}
        for case in ElementTree.parse(folder / "tests.xml").iter("testcase"):
            name = case.get("name", "").partition("[")[0]
            stem = case.get("classname", "").rpartition(".")[2]
            if stem in self._files:
                test = f"{self._files[stem]}::{name}"
                self.seconds[test] = self.seconds.get(test, 0.0) + float(case.get("time", 0))

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that execute the line of a mutant, the fastest first, within the bounds of this module."""
        lines = self._data.contexts_by_lineno(str(ROOT / mutant.file))
        contexts = {c for line in (mutant.line, mutant.statement) for c in lines.get(line, []) if c}
        found: dict[str, float] = {}
        for context in contexts:
            stem, _, name = context.rpartition(".")
            if (file := self._files.get(stem.rpartition(".")[2])) is not None:
                test = f"{file}::{name}"
                found[test] = self.seconds.get(test, 1.0)
        chosen: list[str] = []
        total = 0.0
        for test in sorted(found, key=lambda t: (found[t], t))[:_MOST_TESTS]:
            if chosen and total + found[test] > _MOST_SECONDS:
                break
            chosen.append(test)
            total += found[test]
        return chosen


class Importing:
    """The test files that import the module of a mutant, the shortest first: less exact, but there at once."""

    def __init__(self) -> None:
        texts = {path: path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))}
        self._texts = dict(sorted(texts.items(), key=lambda item: len(item[1])))

    def tests(self, mutant: Mutant) -> list[str]:
        """At most four files."""
        module = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        named = re.compile(rf"(from|import) {re.escape(module)}\b")
        return [p.relative_to(ROOT).as_posix() for p, text in self._texts.items() if named.search(text)][:4]


def _run_under_coverage(folder: Path, suite: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    source = ",".join(f"genlab/{package}" for package in PACKAGES)
    settings = folder / "settings"
    settings.write_text(f"[run]\nsource = {source}\ndata_file = {folder}/coverage\ndynamic_context = test_function\n")
    words = ["-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest", "-p", "no:cacheprovider"]
    tests = [f"tests/{name}" for name in suite]
    subprocess.run([sys.executable, *words, f"--junitxml={folder}/tests.xml", *tests], cwd=ROOT, check=False)


# -- Running them


def run_tests(place: Path, tests: Sequence[str], seconds: float) -> tuple[str, str]:
    """Run tests of a copy of the checkout in a child of this process, which has the heavy imports already.

    Returns:
        `passed`, `failed` or `timeout`, and the first test that failed.
    """
    log = place / "log"
    child = os.fork()
    if child == 0:
        os.setsid()
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = 70
        try:
            os.chdir(place)
            os.environ["PYTHONPATH"] = str(place)
            sys.path[:] = [str(place), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
            import pytest

            status = int(pytest.main(["-x", "-q", "-rf", "-p", "no:cacheprovider", *tests]))
        finally:
            sys.stdout.flush()
            os._exit(status)
    deadline = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout", ""
        time.sleep(0.05)
    said = log.read_text(errors="replace")
    failed = [line.split()[1] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    status = os.waitstatus_to_exitcode(ended[1])
    return ("passed" if status == 0 else "failed"), (failed[0] if failed else f"status {status}")


class Copy:
    """A copy of the checkout in which mutants are planted, one after the other."""

    def __init__(self, place: Path):
        self.place = place
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, place / name)
        self.broken: set[str] = set()
        """Tests that fail here without any mutant."""

    def judge(self, mutant: Mutant, tests: Sequence[str], seconds: float) -> tuple[str, str]:
        """`killed`, `survived`, `timeout` or `untested`, and the test that noticed it."""
        file = self.place / mutant.file
        source = file.read_bytes()
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            compiled.unlink()  # its time and size may be those of the mutant
        while tests := [test for test in tests if test not in self.broken]:
            try:
                file.write_bytes(mutant.apply(source))
                result, by = run_tests(self.place, [mutant.file, *tests], seconds)
            finally:
                file.write_bytes(source)
            if result != "failed":
                return {"passed": "survived"}.get(result, result), by
            test = by.partition("[")[0]
            if (
                test.partition("::")[0] not in {name.partition("::")[0] for name in tests}
                or run_tests(self.place, [test], seconds)[0] == "passed"
            ):
                return "killed", by
            self.broken.add(test)
        return "untested", ""


FIELDS = ["number", "key", "line", "kind", "before", "after", "result", "by", "tests", "seconds"]


def main() -> None:
    """Run a sample of mutants and append what became of each to a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--n", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", type=int, nargs="+", help="only these of the sample")
    parser.add_argument("--list", action="store_true", help="show the sample and run nothing")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds for one mutant")
    parser.add_argument("--csv", type=Path, default=Path("mutants.csv"), help="the table")
    parser.add_argument("--suite", nargs="+", default=SUITE, help="tests of the run under coverage, in tests/")
    parser.add_argument("--quick", action="store_true", help="run the test files that import the module; no coverage")
    parser.add_argument("--map", type=Path, default=ROOT / "build" / "coverage", help="the run under coverage")
    asked = parser.parse_args()
    chosen = list(enumerate(sample(asked.n, asked.seed)))
    if asked.list:
        for number, m in chosen:
            print(f"{number:4} {m.file}:{m.line} {m.kind}: {m.before!r} -> {m.after!r}")
        return
    done: set[str] = set()
    if asked.csv.exists() and asked.only is None:
        with asked.csv.open(newline="") as file:
            done = {row["key"] for row in csv.DictReader(file)}
    reached = Importing() if asked.quick else Reached(asked.map, asked.suite)
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    for name in HEAVY:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        there = Copy(Path(folder))
        for number, mutant in chosen:
            if mutant.key in done or number not in (asked.only or [number]):
                continue
            tests, start = reached.tests(mutant), time.monotonic()
            result, by = there.judge(mutant, tests, asked.limit)
            row = [number, mutant.key, mutant.line, mutant.kind, mutant.before, mutant.after, result, by, len(tests)]
            _append(asked.csv, [*row, round(time.monotonic() - start, 1)])
            change = f"{mutant.file}:{mutant.line} {mutant.before!r} -> {mutant.after!r}"
            print(f"{number:4} {result:9} {change}  {by}", flush=True)
    _count(asked.csv)


def _append(table: Path, row: list[object]) -> None:
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(FIELDS)
        writer.writerow(row)


def _count(table: Path) -> None:
    with table.open(newline="") as file:
        results = [row["result"] for row in csv.DictReader(file)]
    print(", ".join(f"{results.count(name)} {name}" for name in ("killed", "timeout", "survived", "untested")))


if __name__ == "__main__":
    main()
