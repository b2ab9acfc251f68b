"""Rebuild the generated parts of docs/architecture.md from the code.

    python -m tests.architecture_page     (or: make docs)

The page holds three generated blocks between `<!-- NAME -->` and `<!-- end of NAME -->`: the imports of packages,
the calls from `lab train` to the gradient step, and the tree of modules. Everything else is written by hand.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "genlab"
PAGE = ROOT / "docs" / "architecture.md"
_COLUMN = 36
"""Width of the column of file names in the tree."""


def modules() -> list[Path]:
    """Every module of the package, packages by their `__init__.py`."""
    return sorted(PACKAGE.rglob("*.py"))


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.split("\n")[0].removesuffix(".")


def room(path: Path) -> str:
    """The top-level package or module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms() -> tuple[str, ...]:
    """All rooms, lowest first, as `tests/test_architecture.py` lists them."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ROOMS":
            return ast.literal_eval(node.value)
    raise ValueError("tests/test_architecture.py has no ROOMS")


def imports() -> dict[str, set[str]]:
    """Room -> the rooms that its files import from, imports inside functions included."""
    edges: dict[str, set[str]] = {name: set() for name in rooms()}
    for path in modules():
        if path.parent == PACKAGE and path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "genlab" and len(parts) > 1 and parts[1] in edges:
                    edges[room(path)].add(parts[1])
        edges[room(path)].discard(room(path))
    return edges


def picture() -> str:
    """The imports between rooms as a mermaid diagram: an arrow points to what is imported.

    Arrows that follow from others (a -> b -> c implies a -> c) are left out.
    """
    edges = imports()

    def reach(name: str) -> set[str]:
        return set().union(*({other} | reach(other) for other in edges[name])) if edges[name] else set()

    lines = ["```mermaid", "flowchart TB"]
    for name in reversed(rooms()):
        direct = {other for other in edges[name] if not any(other in reach(via) for via in edges[name])}
        lines += [f"    {name} --> {other}" for other in reversed(rooms()) if other in direct]
    return "\n".join([*lines, "```"])


def tree() -> str:
    """Every module with the first line of its docstring, room by room, lowest first."""
    lines = ["```text", "genlab/"]
    for name in rooms():
        folder, file = PACKAGE / name, PACKAGE / f"{name}.py"
        lines += (
            _folder(folder, 1) if (folder / "__init__.py").is_file() else [_entry(1, file.name, first_line(file))]
        )
    return "\n".join([*lines, "```"])


def _folder(folder: Path, depth: int) -> list[str]:
    lines = [_entry(depth, f"{folder.name}/", first_line(folder / "__init__.py"))]
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path.name != "__init__.py":
            lines.append(_entry(depth + 1, path.name, first_line(path)))
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").is_file():
            lines += _folder(path, depth + 1)
    return lines


def _entry(depth: int, name: str, text: str) -> str:
    return f"{'  ' * depth + name:<{_COLUMN}} {text}".rstrip()


def calls() -> str:
    """The functions of genlab on the stack when `lab train` takes its first gradient, outermost first."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--trace"], capture_output=True, text=True, env=env, check=False, cwd=ROOT
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    lines = ["```text"]
    for number, row in enumerate(done.stdout.splitlines(), start=1):
        place, name, text = row.split("\t")
        lines.append(f"{number:>2}  {place:<28}{name:<28}{text}".rstrip())
    return "\n".join([*lines, "```"])


def _trace() -> None:
    """Train one step through the command line, and print the stack at its gradient."""
    import tempfile
    import traceback

    import torch

    from genlab.cli import main

    def stop(*_args: object, **_kwargs: object) -> None:
        frames = [frame for frame, _ in traceback.walk_stack(None)][::-1]
        rows = [f for f in frames if f.f_code.co_filename.startswith(str(PACKAGE))]
        for frame in rows:
            path = Path(frame.f_code.co_filename)
            about = _about(path, frame.f_code.co_firstlineno)
            print(path.relative_to(PACKAGE), frame.f_code.co_qualname.replace(".<locals>", ""), about, sep="\t")
        sys.stdout.flush()
        os._exit(0)

    torch.autograd.grad = stop
    task = "--task sort --train-len 3 --test-len 4 --seeds 0:1 --eval-n 1"
    model = "--d-model 16 --n-layers 1 --steps 1 --device cpu --workers 1"
    sys.argv = ["lab", "train", *task.split(), *model.split(), "--store", tempfile.mkdtemp()]
    main()


def _about(path: Path, line: int) -> str:
    """The first sentence of the docstring of the function that starts at `line`, decorators included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if start == line:
                return (ast.get_docstring(node) or "").split("\n")[0].removesuffix(".")
    return ""


BLOCKS = {"imports": picture, "calls": calls, "tree": tree}


def block(text: str, name: str) -> str:
    """The present content of a generated block of the page."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", text, re.DOTALL)
    if not found:
        raise ValueError(f"docs/architecture.md has no block {name!r}")
    return found[1].rstrip("\n")


def rebuilt(text: str) -> str:
    """The page with all blocks generated again."""
    for name, make in BLOCKS.items():
        head, rest = text.split(f"<!-- {name} -->\n")
        tail = rest.split(f"<!-- end of {name} -->")[1]
        text = f"{head}<!-- {name} -->\n{make()}\n<!-- end of {name} -->{tail}"
    return text


if __name__ == "__main__":
    if "--trace" in sys.argv:
        _trace()
    else:
        PAGE.write_text(rebuilt(PAGE.read_text("utf-8")), "utf-8")
