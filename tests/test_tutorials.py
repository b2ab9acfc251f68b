"""The tutorials: their commands run as printed, and print what the pages say, numbers aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import readme_tour as tour
import tutorials

PAGES = tutorials.PAGES


@pytest.mark.parametrize("name", PAGES)
def test_every_command_shows_its_output_and_every_figure_is_there(name: str):
    text = PAGES[name].read_text("utf-8")
    consoles = [block["text"].splitlines() for block in tutorials.blocks(text) if block["kind"] == "console"]
    assert consoles
    for lines in consoles:
        assert len(lines) > sum(line.startswith("$ ") for line in lines), f"{lines[0]}: python -m tests.tutorials"
    assert all(figure.is_file() for figure in tutorials.figures(PAGES[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_commands_print_what_the_page_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("GENLAB_STORE", raising=False)
    page = PAGES[name].read_text("utf-8")
    again = tutorials.run_page(page, tmp_path)
    for before, now in zip(tutorials.blocks(page), tutorials.blocks(again), strict=True):
        printed = {tour.masked(line) for line in now["text"].splitlines()}
        for line in before["text"].splitlines():
            assert tour.masked(line) in printed, f"{line!r} is out of date: python -m tests.tutorials {name}"
    for figure in tutorials.figures(PAGES[name]):
        assert (tmp_path / figure.name).stat().st_size > 5_000


def test_a_page_is_run_from_top_to_bottom(tmp_path: Path):
    file = "```python\n# one.py\nprint('a', 1)\nprint('b')\n```\n"
    page = f"{file}<!-- only: a -->\n```console\n$ python one.py\nold\n```\n"
    assert tutorials.run_page(page, tmp_path) == page.replace("old", "a 1")
    with pytest.raises(tutorials.CommandFailed, match="lab tusks: status 2"):
        tutorials.run_page("```console\n$ lab tusks\n```\n", tmp_path)
