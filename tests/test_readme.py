"""The README: its length, its figure, its tour and its figures, each held to the code or to committed rows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import readme_tour as tour
from PIL import Image

sys.path.insert(0, str(tour.ROOT / "benchmarks"))

import readme_figure

TEXT = tour.PAGE.read_text("utf-8")
DOCS = tour.ROOT / "docs"
BRIEFLY = {
    "train": ["--steps", "2", "--d-model", "16", "--eval-n", "8", "--workers", "1", "--device", "cpu"],
    "eval": ["--eval-n", "8", "--device", "cpu"],
    "probe": ["--probe-n", "32"],
}
"""Options that make a command of the tour short; of an option given twice the last counts."""


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 160


def test_the_tour_shows_what_the_commands_print(lab):
    for name, stop in tour.TOUR.items():
        first, *lines = tour.block(TEXT, name)
        assert first == f"$ {stop.command}"
        words = stop.command.replace("7 3 5 > 3 5", "@").replace('"', "").split()[1:]
        status, out, err = lab(*(word.replace("@", "7 3 5 > 3 5") for word in words), *BRIEFLY.get(name, ()))
        assert status == 0, err
        squeezed = (lambda line: " ".join(line.split())) if stop.exact else tour.masked
        printed = {squeezed(line) for line in out.splitlines()}
        for line in lines:
            assert line == "..." or squeezed(line) in printed, f"{line!r} is out of date: python -m tests.readme_tour"


def test_numbers_of_the_tour_are_those_of_a_run_that_learned():
    rows = [line.split() for line in tour.block(TEXT, "train") if "trained" in line]
    assert len(rows) >= 2
    assert all(float(row[2]) >= 0.99 for row in rows)  # the median at training lengths


def test_the_figure_was_drawn_from_the_committed_rows():
    assert "docs/figures/question.png" in TEXT
    with Image.open(readme_figure.FIGURE) as image:
        assert image.info["Source"] == readme_figure.source(), "run: python benchmarks/readme_figure.py"


def test_the_figure_draws_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from matplotlib.axes import Axes

    drawn: list[list[float]] = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *a, **k: drawn.append(list(y)) or plot(self, x, y, *a, **k))
    rows = pd.read_csv(readme_figure.ROWS)
    readme_figure.draw(rows, tmp_path / "figure.png")
    assert sorted(y for y in drawn if len(y) == 2) == sorted(rows[["id", "matched-unnested"]].to_numpy().tolist())


def _row(question: str) -> str:
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {question}")]
    return line


def test_the_bracket_result_is_that_of_the_committed_rows():
    medians = pd.read_csv(DOCS / "brackets-small.csv").groupby("n_layers")["matched-unnested"].median()
    assert f"medians {medians[2]:.3f} and {medians[1]:.3f}" in _row("Do two layers learn nesting")


def test_the_results_of_copying_are_those_of_the_judged_seeds():
    rows = pd.read_csv(DOCS.parent / "benchmarks" / "results" / "learning-judged.csv").query("task == 'copy'")
    beyond = rows[rows["length"] > 50].groupby("seed")["exact_match"].mean()
    assert len(beyond) == 5
    told = f"{beyond.median():.3f} on 51 to 100 (median of five seeds, the lowest {beyond.min():.3f}"
    assert told in _row("Does copying")


def test_the_results_of_position_encodings_are_those_of_the_committed_rows():
    rows = pd.read_csv(DOCS / "models.csv")

    def values(task: str, variant: str, length: int) -> list[float]:
        own = rows.query("group == 'positions' and task == @task and variant == @variant and length == @length")
        assert len(own) == 3
        return sorted(own["exact_match"])

    low, _, high = values("sort", "learned", 24)
    assert f"{values('sort', 'learned', 16)[1]:.2f} at 16, {low:.2f} to {high:.2f} at 24" in _row("Does sorting")
    inside, outside = (values("copy", "rotary", length)[1] for length in (8, 12))
    assert f"{inside:.2f} at 8 and {outside:.2f} at 12" in _row("Does copying")
    beyond = rows[rows["task"].str.startswith("addition") & (rows["length"] >= 6)]
    assert len(beyond) > 0
    assert (beyond["exact_match"] < 0.9).all()


def test_the_verdicts_are_those_of_the_page_on_reproductions():
    page = (DOCS / "reproductions.md").read_text("utf-8")
    judged, passed = re.search(r"(\d+) claims judged: (\d+) pass", page).groups()  # pyright: ignore
    written = len(list((DOCS.parent / "recipes" / "claims").glob("*.toml")))
    row = _row("Which published findings")
    assert f"{passed} of {judged} claims judged so far pass" in row
    assert f"{written - int(judged)} are written and not yet run" in row


def test_the_counts_of_what_is_learned_are_those_of_the_page_on_tasks():
    table = (DOCS / "tasks.md").read_text("utf-8").split("## What else was tried")[0].splitlines()
    rows = [[field.strip() for field in line.strip("|").split("|")] for line in table if line.startswith("| ")][1:]
    tasks = {row[0].split(",")[0] for row in rows}
    assert f"{len(tasks)} tasks with exact generators" in TEXT
    measured = [row for row in rows if row[2] != "not measured"]
    reached = sum(not row[2].startswith("0") for row in measured)
    row = _row("What do small models learn")
    assert f"{reached} of the {len(measured)} default configurations measured so far reached 0.99" in row
    twice = [float(row[6].split()[0]) for row in measured if row[6]]
    right, wrong = sum(x >= 0.9 for x in twice), sum(x <= 0.05 for x in twice)
    assert f"at twice the length {right} of {len(twice)} are right on 0.9 or more, {wrong} on 0.05 or less" in row
