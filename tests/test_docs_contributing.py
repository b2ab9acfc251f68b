"""The worked examples of docs/contributing/: each page's files are written out as printed, and its tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "contributing"
_INSERTED = re.compile(r"# (genlab/\S+\.py), in (?:class|def) \w+, before `(.+)`\n")


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text("utf-8"), re.DOTALL)


def write_files(page: str, folder: Path) -> None:
    """Each block that begins with a file name, as that file; the file name stays as a comment."""
    for block in blocks(page):
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (folder / name[1]).write_text(block, "utf-8")


def changed_package(page: str, folder: Path) -> Path:
    """A copy of the package with the blocks of a page inserted where they say."""
    inserted = [(match, block) for block in blocks(page) if (match := _INSERTED.match(block))]
    shutil.copytree(ROOT / "genlab", folder / "genlab", ignore=shutil.ignore_patterns("__pycache__"))
    for match, block in inserted:
        file = folder / match[1]
        lines = file.read_text("utf-8").splitlines(keepends=True)
        places = [i for i, line in enumerate(lines) if line.strip().startswith(match[2])]
        assert len(places) == 1, f"{match[1]} has {len(places)} lines that begin with {match[2]!r}"
        lines.insert(places[0], block[match.end() :])
        file.write_text("".join(lines), "utf-8")
    return folder


def run_tests(folder: Path, package: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", "GENLAB_STORE": str(folder / "store")}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "--rootdir", str(folder), str(folder)]
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, cwd=folder, check=False)


PAGES_WITH_CODE = sorted(p.stem for p in PAGES.glob("*.md") if p.stem != "README")
OWN_PACKAGE = [page for page in PAGES_WITH_CODE if any(_INSERTED.match(block) for block in blocks(page))]


def test_the_examples_work_as_printed(tmp_path: Path):
    """All pages whose files are loaded into the package as it is, in one process, for speed."""
    for page in PAGES_WITH_CODE:
        if page not in OWN_PACKAGE:
            before = len(list(tmp_path.glob("test_*.py")))
            write_files(page, tmp_path)
            assert len(list(tmp_path.glob("test_*.py"))) == before + 1, f"{page} shows no test of its own"
    done = run_tests(tmp_path, ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]


@pytest.mark.parametrize("page", OWN_PACKAGE)
def test_the_example_of_a_change_to_the_package_works_as_printed(page: str, tmp_path: Path):
    files = tmp_path / "files"
    files.mkdir()
    write_files(page, files)
    assert list(files.glob("test_*.py")), f"{page} shows no test"
    done = run_tests(files, changed_package(page, tmp_path))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_the_overview_lists_every_page():
    text = (PAGES / "README.md").read_text("utf-8")
    for page in PAGES.glob("*.md"):
        assert page.stem == "README" or f"({page.name})" in text
