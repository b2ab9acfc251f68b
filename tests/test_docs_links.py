"""Links between pages lead somewhere, tables are whole, and the commands that pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs" / "contributing").glob("*.md"),
    *(ROOT / "docs" / "howto").glob("*.md"),
    *(ROOT / "docs" / "tutorials").glob("*.md"),
    *(ROOT / "docs" / "decisions").glob("*.md"),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_to_files_and_headings(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


def cells(line: str) -> int:
    """The number of cells of a row of a Markdown table."""
    return len(re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line).strip().strip("|")))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_rows_of_a_table_have_as_many_cells_as_its_heading(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        head, *rows = table.splitlines()
        assert {cells(row) for row in rows} <= {cells(head)}, f"{page.name}: {head[:60]}"


COMMANDS = ("README.md", "CONTRIBUTING.md", "docs/usage.md", "docs/forecast.md", "docs/start.md")
COMMANDS += tuple(name for name in NAMES if name.startswith(("docs/howto", "docs/tutorials")))


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_a_page_names_exist(name: str):
    import typer

    from genlab.cli import app

    known = set(typer.main.get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
    named = set(re.findall(r"(?:^    |`)(?:\$ )?lab ([a-z]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE))
    assert named <= known, f"{name} names lab {', lab '.join(sorted(named - known))}"


def test_the_python_of_the_user_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENLAB_STORE", str(tmp_path / "store"))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "usage.md").read_text("utf-8"), re.DOTALL)
    short = code.replace(
        "train_len=20, test_len=50, seeds=range(4)", "train_len=8, seeds=range(2), steps=2, d_model=16"
    )
    assert short != code
    space: dict[str, object] = {}
    exec(short, space)
    assert set(space["table"]["split"]) == {"id"}  # pyright: ignore
    assert space["examples"].tokens.shape[0] == 3  # pyright: ignore
