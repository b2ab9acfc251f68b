"""The rooms of the package: a file imports only from rooms above it in the list, and its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "genlab"

ROOMS = (
    "errors",
    "text",
    "global_random",
    "spec",
    "tasks",
    "rasp",
    "models",
    "training",
    "runs",
    "probes",
    "forecast",
    "outside",
    "claims",
    "report",
    "view",
    "loggers",
    "help",
    "options",
    "cli_rasp",
    "cli_forecast",
    "cli_grid",
    "cli_outside",
    "cli_reproduce",
    "cli_runs",
    "cli_tasks",
    "cli",
    "start",
)
"""Lowest first."""

NUMPY_ONLY = ("tasks", "rasp")
HEAVY = ("torch", "transformer_lens", "maze_dataset", "matplotlib", "scipy", "pandas", "pyarrow")


def files() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path, top_only: bool = False) -> set[str]:
    """Full names of the modules that a file imports (those at its top level alone, if asked)."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_upwards_only(path: Path):
    own = ROOMS.index(room(path))
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "genlab" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= own, f"{path} imports {name}, which is below it"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def imports() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, anywhere in the file (for types alone too)."""
    modules = {module_of(path): path for path in ROOT.rglob("*.py")}

    def known(name: str) -> str:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    return {
        module: {known(name) for name in imported(path) if name.startswith("genlab.") and known(name)} - {module}
        for module, path in modules.items()
    }


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that can be reached from themselves."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for other in graph[waiting.pop()] - seen:
                seen.add(other)
                waiting.append(other)
        return seen

    return sorted(module for module in graph if module in reach(module))


def test_no_module_imports_itself_through_others_not_even_inside_functions():
    graph = {module: {other for other in others if other != "genlab"} for module, others in imports().items()}
    packages = {module_of(path) for path in ROOT.rglob("__init__.py")}
    # A package gives its modules' names; that a module imports its own package by name is Python's, not ours.
    plain = {
        module: {o for o in others if not (o in packages and (module.startswith(f"{o}.")))}
        for module, others in graph.items()
    }
    assert circles(plain) == []


def test_a_circle_would_be_noticed():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_numpy_rooms_stay_light():
    """At import; what a task needs beside numpy is imported where it is used."""
    for path in files():
        if room(path) in NUMPY_ONLY:
            heavy = {name.split(".")[0] for name in imported(path, top_only=True)} & set(HEAVY)
            assert not heavy, f"{path} imports {heavy}"


FED_BY_PYTHON = ("BufferReader", "PythonFile", "py_buffer", "read_feather", "read_parquet")
"""Ways of handing Arrow's readers the memory, or a file, of Python. `pd.read_parquet` is one: it opens the file."""


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_reader_of_arrow_is_fed_by_python(path: Path):
    """A thread of Arrow's may be the last to let go of it, while the interpreter ends: the process aborts (134)."""
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    found = sorted(names & set(FED_BY_PYTHON))
    assert not found, f"{path} reads through {found[0]}; runs.files.read_table and pyarrow's own read_table do not"


@pytest.mark.parametrize(
    "command",
    [["--help"], ["tasks"], ["show", "parity"], ["train", "--help"], ["signals"]],
    ids=lambda c: " ".join(c),
)
def test_light_commands_import_nothing_heavy(command: list[str]):
    code = (
        "import sys, contextlib, io\n"
        f"sys.argv = ['lab', *{command!r}]\n"
        "from genlab.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
