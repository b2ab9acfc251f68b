"""Looking at tasks: the list, and examples of every format and split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genlab.runs import Store
from genlab.tasks import make, names, task_class
from genlab.tasks.maze_making import cache_folder

MAZE = ["show", "maze", "--length", "3", "-n", "1", "--param", "test_blocks=1", "--param", "train_blocks=1"]


def test_the_list_groups_tasks_by_family(lab):
    _, out, _ = lab("tasks")
    lines = out.splitlines()
    families = {task_class(name).family for name in names()}
    headings = [line.strip() for line in lines if line and not line.startswith(" ")][:-1]
    assert headings == sorted(families)
    at = lines.index("Chomsky hierarchy")
    name, class_, *asks = lines[at + 1].split()
    assert (name, class_) == ("binary-multiplication", "(context-sensitive)")
    assert " ".join(asks) == "what is the product of two binary numbers?"
    assert lines[at + 2].strip() == "formats: reversed, forward"
    assert lines[at + 3].strip() == "splits: id, halves, sparse, dense"
    assert lines[at + 4].strip().endswith("arXiv 2207.02098")


@pytest.mark.parametrize(
    "name", ["parity", "brackets", "max-retrieval", "repeats", "modular", "modular-icl", "needle"]
)
def test_examples_of_every_format_and_split(lab, name: str):
    status, out, _ = lab("show", name)
    assert status == 0
    cls = task_class(name)
    for format, about in cls.formats.items():
        assert f"format {format}: {about}" in out
    for split in list(cls.splits.values())[1:]:
        assert f"split {split.name}: {split.about}" in out
    assert "exact match by chance" in out
    document = json.loads(lab("show", name, "--json")[1])
    assert {(row["format"], row["split"]) for row in document} == {
        *((format, "id") for format in cls.formats),
        *((next(iter(cls.formats)), split) for split in cls.splits),
    }


def test_every_task_can_be_shown_without_options(lab):
    for name in sorted(set(names()) - {"maze"}):
        status, out, err = lab("show", name, "--json")
        assert (status, err) == (0, ""), name
        assert all(row["answer"] for row in json.loads(out)), name


def test_a_named_format_or_split_is_shown_alone(lab):
    _, out, _ = lab("show", "parity", "--split", "dense", "-n", "2", "--length", "5", "--json")
    rows = json.loads(out)
    assert [(row["format"], row["split"], row["length"]) for row in rows] == [("plain", "dense", 5)] * 2
    task = make("parity", 5)
    assert all(task.solve(row["prompt"].split()) == (row["answer"],) for row in rows)
    _, out, _ = lab("show", "parity", "--format", "running")
    assert "split id" in out
    assert "sparse" not in out


def test_splits_that_cannot_make_the_length_are_left_out(lab):
    _, out, _ = lab("show", "brackets", "--length", "8", "--json")
    shown = {row["split"] for row in json.loads(out)}
    assert {"matched-unnested", "first-symbol"} <= shown
    assert not {"longer", "deeper"} & shown
    _, out, _ = lab("show", "brackets", "--json")
    lengths = {row["split"]: row["length"] for row in json.loads(out)}
    assert (lengths["id"], lengths["longer"]) == (8, 42)


def test_baselines_are_those_of_the_split(lab):
    _, out, _ = lab("show", "brackets", "--split", "length-matched", "--length", "8")
    assert "length alone 0.5" in out
    assert "EQUAL-COUNT" not in out.splitlines()[-1]


def test_mazes_are_drawn_and_kept_as_a_figure(lab, tmp_path: Path):
    file = tmp_path / "maze.png"
    status, out, err = lab(*MAZE, "--split", "id", "--png", str(file))
    assert (status, err) == (0, "")
    assert "<ADJLIST_START>" in out
    assert "┌─" in out
    assert "S" in out.split("<PATH_START>")[1]
    assert file.read_bytes().startswith(b"\x89PNG")
    svg = tmp_path / "maze.svg"
    assert lab(*MAZE, "--format", "directions", "--png", str(svg))[0] == 0
    assert svg.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*MAZE, "--png", "maze.txt"], "names that end in .png, .svg or .pdf"),
        (["show", "sort", "--png", "sort.png"], "task 'sort' has no figure"),
        (["show", "maze", "--length", "1"], "a maze of side 1 has no path"),
        (["show", "sort", "-n", "0"], "-n 0 is not allowed"),
        (["show", "sort", "--seed", "-1"], "--seed -1 is not allowed"),
        (["show", "brackets", "--split", "longer", "--length", "8"], "its shortest has 42"),
        (["show", "associative-recall", "--length", "0"], "length 0 on split 'id': its shortest has 1 pairs"),
        (["show", "modular-icl", "--length", "-1"], "its shortest has 0 shots"),
        (["show", "sort", "--max-len", "0"], "it must be between 1 and 1,000,000"),
        (["show", "parity", "--length", "9999999999"], "it must be between 1 and 1,000,000"),
        (["show", "needle", "--param", "keys=1000000000"], "less than or equal to 100000"),
    ],
    ids=lambda x: x if isinstance(x, str) else " ".join(x[-2:]),
)
def test_what_cannot_be_shown_is_one_line(lab, monkeypatch, tmp_path: Path, words: list[str], said: str):
    monkeypatch.chdir(tmp_path)
    status, out, err = lab(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not list(tmp_path.glob("*.*"))


def test_pools_of_mazes_are_kept_under_the_store_that_is_named(lab, monkeypatch, tmp_path: Path):
    monkeypatch.delenv("GENLAB_CACHE")
    lab("runs", "--store", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "cache"


def test_a_directory_that_holds_only_pools_becomes_a_store(tmp_path: Path):
    (tmp_path / "cache").mkdir()
    Store(tmp_path).ready()
    assert (tmp_path / "store.json").exists()
