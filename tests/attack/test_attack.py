"""A few cases of the campaign in each run of the tests, the whole of it when asked (`-m slow`), and its own eyes."""

from __future__ import annotations

import ast
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mutate
import pytest
from mutate import Mutant, Naming, mutants, sample

from .calls import commands, draw
from .damage import CASES, must_notice
from .harness import Ended, Fault
from .inputs import grid_text, plugin_text, table_bytes
from .template import KINDS

ROOT = Path(__file__).parents[2]


def campaign(folder: Path, *words: str) -> dict[str, dict[str, object]]:
    """Run a campaign in a process of its own, since it forks; returns its counts."""
    table = folder / "counts.json"
    line = [sys.executable, "-m", "tests.attack", *words, "--json", str(table)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return json.loads(table.read_text())


def test_a_few_cases_do_no_harm(tmp_path: Path):
    """Parts without tests: test_kills.py, test_damage.py and test_plugins.py have those of the others."""
    counts = campaign(tmp_path, "calls", "grids", "tables", "--n", "1")
    assert {name: part["faults"] for name, part in counts.items()} == {name: {} for name in counts}
    assert sum(int(str(part["calls"])) for part in counts.values()) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "damage", "calls", "grids", "tables", "plugins"])
def test_a_whole_campaign_does_no_harm(tmp_path: Path, part: str):
    counts = campaign(tmp_path, part)[part]
    assert counts["faults"] == {}
    assert int(str(counts["planted"])) >= int(str(counts["cases"]))


# -- What it would see


def ended(status: int | None, err: str = "lab: no\n", interrupted: int | None = None) -> list[str]:
    return [fault.kind for fault in Ended(("runs",), status, "", err, 1.0, interrupted).faults()]


def test_each_bad_end_is_told_from_a_good_one():
    assert ended(0, "") == ended(1) == ended(2) == []
    assert ended(None) == ["hang"]
    assert ended(1, "Traceback (most recent call last):\n") == ["traceback"]
    assert ended(-signal.SIGSEGV) == ended(134) == ["abort"]
    assert ended(3) == ended(130) == ended(1, "") == ["status"]
    assert ended(-signal.SIGKILL, "", signal.SIGKILL) == ended(130, "", signal.SIGINT) == []
    assert ended(-signal.SIGSEGV, "", signal.SIGKILL) == ["abort"]
    assert ended(130, "Traceback (most recent call last):\n", signal.SIGINT) == ["traceback"]
    assert Fault("hang", "x") != Fault("abort", "x")


def test_damage_is_of_every_kind_in_every_way_and_must_mostly_be_noticed():
    assert {kind for kind, _ in CASES} == set(KINDS)
    assert len(CASES) == len(set(CASES)) >= 22 * 7 - 3
    assert must_notice("weights", "flipped")
    assert must_notice("entry of the ledger", "removed")
    assert not must_notice("tag", "removed")
    assert sum(must_notice(*case) for case in CASES) > 100


def test_command_lines_are_of_every_command_and_depend_on_the_seed_alone():
    found = commands()
    assert {"train", "store check", "forecast evaluate", "rasp run"} <= set(found)
    lines = [draw(random.Random(n), found) for n in range(1500)]
    assert lines == [draw(random.Random(n), found) for n in range(1500)]
    begun = {name for name in found if any(line[: len(name.split())] == name.split() for line in lines)}
    assert begun == set(found)


def test_files_depend_on_the_seed_alone():
    for make in (grid_text, table_bytes):
        made = [make(random.Random(n)) for n in range(50)]
        assert made == [make(random.Random(n)) for n in range(50)]
        assert len(set(made)) > 40
    assert plugin_text(0) != plugin_text(1)


# -- Mutants


SOURCE = '''
def f(x: int = 3) -> bool:
    """Not 1 == 2."""
    for i in range(2, x):
        if x < 4 and not i or x is None:
            return x + 1
    return f"{x + 1}" == "x"
'''


def test_mutants_are_single_changes_that_python_reads(tmp_path: Path):
    file = tmp_path / "f.py"
    file.write_text(SOURCE)
    found = mutants(file, tmp_path)
    changed = [m.apply(SOURCE.encode()).decode() for m in found]
    assert len(set(changed)) == len(changed)
    for text in changed:
        ast.parse(text)
    kinds = Counter(m.kind for m in found)
    assert kinds == {"number": 4, "range": 1, "boolean": 3, "comparison": 3, "arithmetic": 1, "return": 2}
    assert "range(2, x - 1)" in "".join(changed)
    assert '"""Not 1 == 2."""' in changed[0]
    assert all(isinstance(m, Mutant) and m.line >= 2 for m in found)


def test_a_sample_of_mutants_is_fixed_by_its_seed():
    assert sample(20, 0) == sample(20, 0) != sample(20, 1)


def test_tests_that_name_a_function_are_found_through_callers_and_helpers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mutate, "SUITE", ("training", "runs"))
    files = {
        "genlab/training/m.py": "def f(x):\n    return _g(x)\n\n\ndef _g(x):\n    return x + 1\n",
        "tests/training/test_m.py": "from genlab.training import m\n\ndef helper():\n    return m.f(1)\n\n"
        "def test_by_helper():\n    assert helper() == 2\n\ndef test_of_nothing():\n    pass\n",
        "tests/runs/test_far.py": "def test_far():\n    f = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    inside = [m for m in mutants(tmp_path / "genlab/training/m.py", tmp_path) if m.line == 6]
    near, far = "tests/training/test_m.py::test_by_helper", "tests/runs/test_far.py::test_far"
    assert [Naming(tmp_path).tests(m) for m in inside] == [[near, far]] * 3


def test_the_fastest_tests_are_run_within_bounds():
    found = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 50.0}
    assert mutate._within(found, {"b"}, 5.0, 9) == ["a", "c"]
    assert mutate._within(found, set(), 5.0, 2) == ["a", "b"]
    assert mutate._within({"d": 50.0}, set(), 5.0, 2) == ["d"]  # one at least, while there is time
    assert mutate._within({"d": 50.0}, set(), 0.0, 2) == []


TESTS = """
import pytest
from m import f

@pytest.fixture
def missing():
    raise OSError("no such file")

def test_that_fails_by_itself(missing):
    assert f(1) == 2

def test_that_notices():
    assert f(1) == 2
"""


def test_what_fails_without_a_mutant_has_not_noticed_it(tmp_path: Path):
    file = tmp_path / "m.py"
    file.write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "test_m.py").write_text(TESTS)
    (tmp_path / "test_n.py").write_text("import nowhere_to_be_found\n")
    place = object.__new__(mutate.Copy)
    place.place, place.broken = tmp_path, set()
    (mutant,) = (m for m in mutants(file, tmp_path) if m.kind == "arithmetic")
    alone, notices = (f"test_m.py::test_that_{what}" for what in ("fails_by_itself", "notices"))
    assert place._tried(file, mutant, [alone], 60.0) == ("passed", "")
    assert place._tried(file, mutant, ["test_n.py"], 60.0) == ("passed", "")
    assert place.broken == {alone, "test_n.py"}
    assert place._tried(file, mutant, [alone, "test_n.py", notices], 60.0)[0] == "killed"
