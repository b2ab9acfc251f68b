"""The documentation site: its pages are made, its links are checked, and a dead one fails the build."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from genlab.tasks import make, names

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import make_pages  # pyright: ignore[reportMissingImports]
import make_site  # pyright: ignore[reportMissingImports]

ROOT = make_site.ROOT


def test_the_page_on_grid_files_shows_the_example_that_the_command_prints(lab):
    text = make_site.GRID_FILES.read_text("utf-8")
    assert make_site.with_example(text) == text, "run: python docs/make_site.py --example"
    status, out, _ = lab("grid", "--example")
    assert status == 0
    assert out in text


def test_the_example_has_every_key_of_a_grid_file():
    from genlab.runs.gridfile import _EVALS, _OWN, _TABLES, read_grid, read_toml

    toml = read_toml(ROOT / "recipes" / "example.toml")
    assert set(toml.values) == set(_TABLES)
    assert set(toml.values["evals"]) == set(_EVALS)
    assert set(_OWN) <= set(toml.values["base"])
    assert len(read_grid("example").plans) == 6  # two by two by two, two left out


@pytest.mark.parametrize("name", ["sort", "addition", "max-retrieval"])
def test_the_page_of_a_task(name: str):
    page = make_pages.task_page(name)[f"tasks/{name}.md"]
    cls = type(make(name, 8))
    for word in (*cls.formats, *cls.splits, cls.source.split(",")[0], "RASP", "Exact match"):
        assert word in page
    rows = pd.read_csv(make_site.DOCS / "tasks-learnability.csv").query("task == @name")
    own = rows[(rows["format"] == rows["format"].iloc[0]) & (rows["options"] == rows["options"].iloc[0])]
    reached = list(own["result"]).count("reached")
    assert f"| {own['format'].iloc[0]} | `{own['options'].iloc[0]}` | {len(own)} | {reached} |" in page


def test_every_page_is_in_the_navigation():
    listed = [
        p for part in make_pages.NAVIGATION.values() for p in ([part] if isinstance(part, str) else part.values())
    ]
    assert len(set(listed)) == len(listed)
    assert {f"tasks/{name}.md" for name in names()} <= set(listed)
    own = {str(p.relative_to(make_site.DOCS)) for p in make_site.DOCS.rglob("*.md")}
    left = {page for page in own if not page.startswith(("decisions/", "contributing/"))} - set(listed)
    assert left == set()


def test_links_out_of_docs_lead_to_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    docs, pages = tmp_path / "docs", tmp_path / "pages"
    docs.mkdir()
    pages.mkdir()
    (tmp_path / "LICENSE.md").write_text("# License\n\n[back](docs/a.md#a-b)\n")
    (tmp_path / "run.toml").write_text("x = 1\n")
    (pages / "a.md").write_text("# A b\n\n[l](../LICENSE.md) [t](../run.toml) [u](https://a.b) [g](gone.md)\n")
    monkeypatch.setattr(make_site, "ROOT", tmp_path)
    monkeypatch.setattr(make_site, "DOCS", docs)
    text = make_site._for_site(pages / "a.md", pages)
    assert "[l](repository/LICENSE.md) [t](repository/run.toml.md) [u](https://a.b) [g](gone.md)" in text
    assert "x = 1" in (pages / "repository" / "run.toml.md").read_text()
    assert "[back](../a.md#a-b)" in make_site._for_site(pages / "repository" / "LICENSE.md", pages)


def test_dead_links_and_what_comes_from_elsewhere_are_told(tmp_path: Path):
    (tmp_path / "a.html").write_text('<h1 id="top"></h1><a href="b.html#here">b</a><a href="a.html#top">a</a>')
    (tmp_path / "b.html").write_text(
        '<h1 id="there"></h1><img src="gone.png"><script src="https://cdn.x/y.js"></script>'
    )
    assert list(make_site.dead_links(tmp_path)) == [
        "a.html refers to b.html#here, which has no such heading",
        "b.html refers to gone.png, which is not there",
    ]
    assert list(make_site.loaded_from_elsewhere(tmp_path)) == ["b.html loads https://cdn.x/y.js"]


@pytest.mark.slow
def test_the_site_builds_and_a_dead_link_fails_it(tmp_path: Path):
    words = [sys.executable, "docs/make_site.py"]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == 0
    page = ROOT / "docs" / "howto" / "gpu.md"
    before = page.read_text("utf-8")
    try:
        page.write_text(f"{before}\n[nowhere](../scaling.md#no-such-heading)\n", "utf-8")
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        page.write_text(before, "utf-8")
    assert done.returncode == 2
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)  # colors part the words
    assert "no-such-heading" in plain
