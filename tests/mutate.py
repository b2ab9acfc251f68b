"""Mutation testing: small faults are planted in a copy of the package, one at a time; do the tests notice?

    python -m tests.mutate --n 200 --seed 0 --csv mutants.csv

A mutant is one change of one expression: a comparison, an arithmetic sign, a number, a truth value, a returned value
or the end of a range. A sample with a fixed seed is drawn from all mutants of `PACKAGES`. Each is run against the
tests that execute its line, the fastest first, until one fails: those of the files that import its module, then those
of its package, then all others. Which tests those are comes from one run of each test file under `coverage`, made
when it is first needed and kept in `--map`. The table is appended to, so that a sample that was stopped goes on where
it was, as long as the code is the same. `--quick` comes first and needs no such run: it tries the tests that name the
function that is changed, and leaves what they do not notice to a second call without it.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import csv
import importlib
import json
import os
import py_compile
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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
_MOST_SECONDS, _MOST_TESTS, _NAMING = 60.0, 80, 8
"""Bounds of what is run against one mutant: by the durations of the run under coverage, and of `--quick`."""


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


# -- Which tests are run


def nearness(mutant: Mutant, file: str, text: str) -> int:
    """How likely the tests of a file notice: 0 if it imports the module, 1 if it is of its package, 2 otherwise."""
    module = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    parent, _, name = module.rpartition(".")
    if re.search(rf"{re.escape(module)}\b|from {re.escape(parent)} import [^\n]*\b{name}\b", text):
        return 0
    return 1 if file.split("/")[1] == mutant.file.split("/")[1] else 2


class Naming:
    """The tests that name what a mutant is in, themselves or through helpers and fixtures of their file.

    Quick to find, since nothing is run. A function counts as named where another one of its module is that calls it.
    """

    def __init__(self, place: Path):
        self._place = place
        self._tests: dict[str, dict[str, set[str]]] = {}
        self._texts = {p.relative_to(place).as_posix(): p.read_text("utf-8") for p in _test_files(place)}
        for file, text in self._texts.items():
            words = _reachable(_words(ast.parse(text)))
            self._tests[file] = {test: said for test, said in words.items() if test.startswith("test_")}

    def tests(self, mutant: Mutant) -> list[str]:
        """At most `_NAMING`, of the nearest files first, of these those that name the function itself."""
        words = _words(ast.parse((self._place / mutant.file).read_bytes()))
        level = {name for name, lines in _lines(self._place / mutant.file).items() if mutant.line in lines}
        levels = list[set[str]]()
        while level and len(levels) < _NAMING:
            levels.append({name for name in level if not name.startswith("__")})
            level = {name for name, said in words.items() if said & level} - set[str]().union(*levels)
        found: dict[str, tuple[int, int, int, str]] = {}
        for file, tests in self._tests.items():
            near = nearness(mutant, file, self._texts[file])
            for test, said in tests.items():
                if (hops := next((i for i, names in enumerate(levels) if names & said), None)) is not None:
                    found[f"{file}::{test}"] = (near, hops, len(said), test)
        return sorted(found, key=lambda test: found[test])[:_NAMING]


def _test_files(root: Path) -> list[Path]:
    """Those of `SUITE`."""
    paths = [path for name in SUITE for path in sorted((root / "tests" / name).rglob("test_*.py"))]
    return paths + [root / "tests" / name for name in SUITE if name.endswith(".py")]


def _words(tree: ast.Module) -> dict[str, set[str]]:
    """Top-level definition -> the words in it: names, attributes, and those of its texts."""
    return {
        node.name: set(re.findall(r"\w+", ast.unparse(node))) - {node.name}
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def _reachable(words: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same, with the words of the definitions of the file that each one names, directly or not."""
    while True:
        grown = {name: said.union(*(words[other] for other in said & words.keys())) for name, said in words.items()}
        if grown == words:
            return words
        words = grown


def _lines(path: Path) -> dict[str, range]:
    """The lines of each definition: functions, classes and their methods, and names that are assigned."""
    found: dict[str, range] = {}
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.col_offset == 0:
            found[node.targets[0].id] = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return found


class Reached:
    """The tests that execute each line, and how long they take.

    Each test file is run once under `coverage`, in `place`, when a mutant needs it for the first time.

    Args:
        folder: where what was found is kept, so that it is there when the sample goes on.
        place: the copy of the checkout.
    """

    def __init__(self, folder: Path, place: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._place = folder, place
        self._files: dict[str, FileLines] = {}
        texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in _test_files(ROOT)}
        self._texts = dict(sorted(texts.items(), key=lambda item: len(item[1])))

    def files(self, mutant: Mutant) -> list[str]:
        """All test files, the nearest first, of these the shortest."""
        return sorted(self._texts, key=lambda file: nearness(mutant, file, self._texts[file]))

    def tests(self, mutant: Mutant, file: str) -> dict[str, float]:
        """Seconds of each test of a file that executes the line of a mutant, the fastest first."""
        if file not in self._files:
            self._files[file] = self._found(file)
        lines, seconds = self._files[file]
        reached = {t for line in (mutant.line, mutant.statement) for t in lines.get(f"{mutant.file}:{line}", [])}
        return {test: seconds[test] for test in sorted(reached, key=lambda t: (seconds[t], t))}

    def _found(self, file: str) -> FileLines:
        kept = self._folder / f"{file.replace('/', '.')}.json"
        if not kept.exists():
            ended, _ = run_tests(self._place, [file], _MOST_SECONDS * 10, self._folder)
            found = ({}, {}) if ended == "timeout" else _reached(self._folder, self._place, file)
            kept.write_text(json.dumps(found))
        lines, seconds = json.loads(kept.read_text())
        return lines, seconds


FileLines = tuple[dict[str, list[str]], dict[str, float]]
"""Of one test file: the tests that execute each `file:line`, and the seconds of each test."""


def _reached(folder: Path, place: Path, file: str) -> FileLines:
    """What one run under coverage found."""
    from coverage import CoverageData

    data = CoverageData(str(folder / "coverage"))
    data.read()
    seconds: dict[str, float] = {}
    for case in ElementTree.parse(folder / "tests.xml").iter("testcase"):
        test = f"{file}::{case.get('name', '').partition('[')[0]}"
        seconds[test] = seconds.get(test, 0.0) + float(case.get("time", 0))
    lines: dict[str, list[str]] = {}
    for measured in data.measured_files():
        for line, contexts in data.contexts_by_lineno(measured).items():
            tests = {f"{file}::{c.rpartition('.')[2]}" for c in contexts} & set(seconds)
            if len(tests) < len(contexts):  # by a fixture too, or as a module was imported: for any of the tests
                tests = set(seconds)
            lines[f"{Path(measured).relative_to(place).as_posix()}:{line}"] = sorted(tests)
    return lines, seconds


# -- Running them


def run_tests(place: Path, tests: Sequence[str], seconds: float, measured: Path | None = None) -> tuple[str, str]:
    """Run tests of a copy of the checkout in a child of this process, which has the heavy imports already.

    Args:
        place: the copy.
        tests: files, or names of tests.
        seconds: of processor time, before it counts as a timeout; or ten times as many on the clock.
        measured: a folder for what `coverage` finds, and for the durations; all tests are run then.

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
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
            os.environ["PYTHONPATH"] = str(place)
            sys.path[:] = [str(place), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
            status = _pytest(tests) if measured is None else _measured(tests, place, measured)
        finally:
            sys.stdout.flush()
            os._exit(status)
    deadline = time.monotonic() + 10 * seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout", ""
        time.sleep(0.05)
    said = log.read_text(errors="replace")
    failed = [line.split()[1] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    status = os.waitstatus_to_exitcode(ended[1])
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "timeout", ""
    return ("passed" if status in (0, _NO_TESTS) else "failed"), (failed[0] if failed else f"status {status}")


def _pytest(words: Sequence[str]) -> int:
    import pytest

    return int(pytest.main(["-q", "-rfE", "-x", "-p", "no:cacheprovider", *words]))


def _measured(tests: Sequence[str], place: Path, folder: Path) -> int:
    """Run all tests under coverage, by test function."""
    import coverage

    packages = [str(place / "genlab" / package) for package in PACKAGES]
    found = coverage.Coverage(data_file=str(folder / "coverage"), source=packages, config_file=False, messages=False)
    found.set_option("run:dynamic_context", "test_function")
    found.start()
    status = _pytest(["--maxfail=1000", f"--junitxml={folder}/tests.xml", *tests])
    found.stop()
    found.save()
    return status


class Copy:
    """A copy of the checkout in which mutants are planted, one after the other."""

    def __init__(self, place: Path):
        self.place = place
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, place / name)
        by_hash = py_compile.PycInvalidationMode.CHECKED_HASH  # a mutant may have the size and time of another
        compileall.compile_dir(place / "genlab", quiet=1, force=True, invalidation_mode=by_hash)
        self.broken: set[str] = set()
        """Tests that fail here without any mutant."""

    def judge_quickly(self, mutant: Mutant, naming: Naming, seconds: float) -> tuple[str, str, int]:
        """The same by the tests that name what it is in; `untested` if they pass or take too long."""
        tests = naming.tests(mutant)
        result, by = self._tried(self.place / mutant.file, mutant, [mutant.file, *tests], seconds)
        return ("killed" if result == "killed" else "untested"), by, len(tests)

    def judge(self, mutant: Mutant, reached: Reached, seconds: float, most_files: int) -> tuple[str, str, int]:
        """What became of a mutant.

        Returns:
            `killed`, `survived`, `timeout`, or `untested` if no test executes its line; the test that noticed it; how
            many tests were run.
        """
        file = self.place / mutant.file
        left, ran, own = _MOST_SECONDS, 0, [mutant.file]
        for name in reached.files(mutant)[:most_files]:
            found = reached.tests(mutant, name)
            tests = _within(found, self.broken, left, _MOST_TESTS - ran)
            if not tests and not own:
                continue
            left, ran = left - sum(found[test] for test in tests), ran + len(tests)
            result, by = self._tried(file, mutant, [*own, *tests], seconds)
            own = []  # its doctests have been run
            if result != "passed":
                return result, by, ran
        return ("survived" if ran else "untested"), "", ran

    def _tried(self, file: Path, mutant: Mutant, tests: Sequence[str], seconds: float) -> tuple[str, str]:
        """Plant it and run tests: `passed`, `killed` or `timeout`, and the test that noticed it."""
        source = file.read_bytes()
        while tests := [test for test in tests if test not in self.broken]:
            try:
                file.write_bytes(mutant.apply(source))
                result, by = run_tests(self.place, tests, seconds)
            finally:
                file.write_bytes(source)
            if result != "failed":
                return result, ""
            test = by.partition("[")[0]
            blamed = [test] if "::" in test else tests  # without a name it may be none's fault
            if run_tests(self.place, blamed, seconds)[0] == "passed":
                return "killed", by
            self.broken.update([t for t in blamed if run_tests(self.place, [t], seconds)[0] != "passed"] or blamed)
        return "passed", ""


def _within(found: Mapping[str, float], broken: set[str], seconds: float, most: int) -> list[str]:
    """The first tests that pass, up to bounds of time and number, but at least one if there is any time."""
    chosen: list[str] = []
    for test, takes in found.items():
        if test in broken:
            continue
        if len(chosen) >= most or (takes > seconds and (chosen or seconds <= 0)):
            break
        chosen.append(test)
        seconds -= takes
    return chosen


_NO_TESTS = 5
"""Exit status of pytest where a module has no doctest and there is nothing else to run."""
FIELDS = ["number", "key", "line", "kind", "before", "after", "result", "by", "tests", "seconds", "note"]
"""Columns of the table. `note` is for whoever judges a survivor: `equivalent`, or `mended` and how."""


def main() -> None:
    """Run a sample of mutants and append what became of each to a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--n", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", type=int, nargs="+", help="only these of the sample")
    parser.add_argument("--list", action="store_true", help="show the sample and run nothing")
    parser.add_argument("--limit", type=float, default=150.0, help="processor seconds of the tests of one file")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "results" / "mutants.csv", help="the table")
    parser.add_argument("--quick", action="store_true", help="only tests that name the function that is changed")
    parser.add_argument("--files", type=int, default=1000, help="how many test files to try, the likeliest first")
    parser.add_argument(
        "--map", type=Path, default=ROOT / "build" / "reached", help="which tests execute which lines"
    )
    asked = parser.parse_args()
    chosen = list(enumerate(sample(asked.n, asked.seed)))
    if asked.list:
        for number, m in chosen:
            print(f"{number:4} {m.file}:{m.line} {m.kind}: {m.before!r} -> {m.after!r}")
        return
    done: set[str] = set()
    if asked.csv.exists() and asked.only is None:
        with asked.csv.open(newline="") as file:
            done = {row["key"] for row in csv.DictReader(file) if asked.quick or row["result"] != "untested"}
    sys.dont_write_bytecode = False  # or each child compiles all modules
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        there = Copy(Path(folder))
        naming, reached = Naming(there.place), Reached(asked.map.resolve(), there.place)
        for number, mutant in chosen:
            if mutant.key in done or number not in (asked.only or [number]):
                continue
            start = time.monotonic()
            if asked.quick:
                result, by, tests = there.judge_quickly(mutant, naming, asked.limit)
            else:
                result, by, tests = there.judge(mutant, reached, asked.limit, asked.files)
            row = [number, mutant.key, mutant.line, mutant.kind, mutant.before, mutant.after, result, by, tests]
            _append(asked.csv, [*row, round(time.monotonic() - start, 1), ""])
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
        results = list({row["key"]: row["result"] for row in csv.DictReader(file)}.values())  # the last one counts
    print(", ".join(f"{results.count(name)} {name}" for name in ("killed", "timeout", "survived", "untested")))


if __name__ == "__main__":
    main()
